#include "protocol/stats_samples.h"

#include <memory>
#include <string>

#include "protocol/request_observer.h"
#include "protocol/stats_text.h"

namespace cairn {

namespace {

void AppendRanks(std::string_view rank, const RequestSamples::HotKeys& hot, const KeyDisplay& keys, StatSink* out) {
  size_t place = 0;
  for (const TopKey& top : hot.keys) {
    char shown[kEncodedKeyBytesMax];
    std::string line = "key=";
    line.append(shown, keys.Write(top.key, shown));
    line.append(" ").append(rank).append("=").append(std::to_string(top.weight * RequestObserver::kSampleRate));
    line.append(" error=").append(std::to_string(top.error * RequestObserver::kSampleRate));
    line.append(" share=").append(PerCent(top.weight, hot.total));
    out->Add(std::string(rank) + ":" + std::to_string(++place), line);
  }
}

}  // namespace

void AppendLatencies(Service* service, StatSink* out) {
  const auto latencies = std::make_unique<Latencies>();
  service->samples()->ReadLatencies(latencies.get());
  out->Add("sample_rate", uint64_t{RequestObserver::kSampleRate});
  for (size_t i = 0; i < kCommandClassCount; i++) {
    const LatencyHistogram& histogram = (*latencies)[i];
    const std::string name(NameOf(static_cast<CommandClass>(i)));
    out->Add(name + ":samples", histogram.count());
    if (histogram.count() == 0) continue;
    out->Add(name + ":p50_us", Microseconds(histogram.PercentileNs(50'000)));
    out->Add(name + ":p99_us", Microseconds(histogram.PercentileNs(99'000)));
    out->Add(name + ":p999_us", Microseconds(histogram.PercentileNs(99'900)));
    out->Add(name + ":max_us", Microseconds(histogram.max_ns()));
  }
}

void AppendTopKeys(Service* service, StatSink* out) {
  RequestSamples::HotKeys by_requests;
  RequestSamples::HotKeys by_bytes;
  service->samples()->ReadTopKeys(&by_requests, &by_bytes);
  out->Add("sample_rate", uint64_t{RequestObserver::kSampleRate});
  out->Add("requests", by_requests.total * RequestObserver::kSampleRate);
  out->Add("bytes", by_bytes.total * RequestObserver::kSampleRate);
  // It lists the keys of others.
  if (service->options().disable_dumping) return;
  AppendRanks("requests", by_requests, service->keys(), out);
  AppendRanks("bytes", by_bytes, service->keys(), out);
}

}  // namespace cairn
