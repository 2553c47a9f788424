#include "protocol/stats_requests.h"

#include <cstdio>
#include <string>
#include <string_view>

#include "protocol/request_log.h"
#include "protocol/stats_text.h"

namespace cairn {

namespace {

// Keys of others are not listed where dumps are refused.
void AppendList(const RequestLog::List& list, const Service& service, StatSink* out) {
  out->Add("total", list.total);
  size_t place = 0;
  for (const LoggedRequest& request : list.entries) {
    char text[96];
    std::snprintf(text, sizeof text, "time=%lld.%03lld us=%s requests=%llu ",
                  static_cast<long long>(request.wall_ms / 1000), static_cast<long long>(request.wall_ms % 1000),
                  Microseconds(request.ns).c_str(), static_cast<unsigned long long>(request.count));
    std::string line = text;
    line.append("command=").append(NameOf(request.command));
    line.append(" bytes=").append(std::to_string(request.bytes)).append(" client=").append(request.client);
    if (!request.key.empty() && !service.options().disable_dumping) {
      char shown[kEncodedKeyBytesMax];
      line.append(" key=").append(shown, service.keys().Write(request.key, shown));
    }
    out->Add(std::to_string(++place), line);
  }
}

// A limit that is never reached is told as 0.
void AppendLimit(std::string_view name, uint64_t limit, uint64_t unit, StatSink* out) {
  out->Add(name, limit == RequestLog::kNoLimit ? 0 : limit / unit);
}

}  // namespace

void AppendSlowRequests(Service* service, StatSink* out) {
  AppendLimit("limit_us", service->request_log()->limits().slow_ns, 1000, out);
  AppendList(service->request_log()->Slow(), *service, out);
}

void AppendLargeRequests(Service* service, StatSink* out) {
  AppendLimit("limit_bytes", service->request_log()->limits().large_bytes, 1, out);
  AppendList(service->request_log()->Large(), *service, out);
}

}  // namespace cairn
