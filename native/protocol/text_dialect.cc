#include "protocol/text_dialect.h"

#include <cstring>

#include "protocol/admin_commands.h"
#include "protocol/execute.h"
#include "protocol/exptime.h"
#include "protocol/heard_requests.h"
#include "protocol/limits.h"
#include "protocol/stats.h"
#include "protocol/test_commands.h"
#include "protocol/text_compose.h"
#include "protocol/text_parse.h"

namespace cairn {

namespace {

std::string_view Between(const char* begin, const char* end) { return {begin, static_cast<size_t>(end - begin)}; }

constexpr std::string_view kGet = "get ";

// Most lines are `get` and a key. Nothing can be wrong with one that begins the key at once and is too short for a key
// that is too long, so it need not be read as a line.
bool IsPlainGet(const char* at, const char* line_end) {
  const size_t bytes = static_cast<size_t>(line_end - at);
  return bytes > kGet.size() && bytes <= kGet.size() + kKeyBytesInlineMax && std::memcmp(at, kGet.data(), 4) == 0 &&
         at[kGet.size()] != ' ';
}

class StatLines final : public StatSink {
 public:
  explicit StatLines(ByteBuffer* out) : out_(out) {}
  void Add(std::string_view name, std::string_view value) override { AppendStat(name, value, out_); }

 private:
  ByteBuffer* const out_;
};

Reply EndOf(StatsAnswer answer) {
  switch (answer) {
    case StatsAnswer::kListed:
      return Reply::kEnd;
    case StatsAnswer::kReset:
      return Reply::kReset;
    case StatsAnswer::kUnknown:
      break;
  }
  return Reply::kError;
}

}  // namespace

TextDialect::TextDialect(Workbench* bench, Stream* stream, ReplyGate* gate, const Now* now)
    : service_(bench->service()),
      store_(service_->store()),
      bench_(bench),
      group_(bench->group()),
      stream_(stream),
      gate_(gate),
      now_(now),
      storage_(bench, stream, gate, now),
      meta_(bench, gate, now, &storage_) {}

Progress TextDialect::Run(const char* at, const char* end) {
  Progress progress{at, Why::kDone};
  while (progress.at != end && stream_->is_at_request()) {
    progress = RunLine(progress.at, end);
    if (progress.why != Why::kDone) break;
    if (gate_->has_slowed()) [[unlikely]]
      gate_->EndSlowed();
    if (gate_->IsFull()) [[unlikely]] {
      progress.why = Why::kFull;
      break;
    }
  }
  return group_->count == 0 ? progress : FlushGroup(progress);
}

bool TextDialect::MayGrow(std::string_view unfinished) const {
  if (unfinished.size() <= kLineBytesMax) return true;
  return unfinished.size() <= kGetLineBytesMax && IsGetLine(unfinished);
}

// ---- lines ----

Progress TextDialect::RunLine(const char* at, const char* end) {
  const char* newline = FindNewline(at, end);
  if (newline == nullptr) return {at, Why::kMore};
  const char* line_end = LineEnd(at, newline);
  const char* next = newline + 1;
  if (place_.is_inside) [[unlikely]] {
    group_begins_inside_ = true;
    return RunKeys(at, line_end, next);
  }
  if (IsPlainGet(at, line_end)) [[likely]] {
    place_.asked = Place::Asked();
    return RunKeys(at + kGet.size(), line_end, next);
  }
  TextRequest line;
  ParseTextLine(Between(at, line_end), static_cast<size_t>(next - at), &line);
  if (line.info != nullptr && !line.has_error &&
      (line.info->shape == Shape::kKeys || line.info->shape == Shape::kSecondsKeys)) {
    place_.asked.verb = line.info->verb;
    place_.asked.with_cas = line.info->command == Command::kGets || line.info->command == Command::kGats;
    place_.asked.expires_ms =
        line.info->shape == Shape::kSecondsKeys ? ExpiryOfSeconds(line.seconds, *now_) : kNeverExpires;
    return RunKeys(line.words.data(), line_end, next);
  }
  if (group_->count != 0) {
    const Progress flushed = FlushGroup({at, Why::kDone});
    if (flushed.why != Why::kDone) return flushed;
  }
  gate_->CountRequest();
  if (line.info != nullptr && line.info->shape == Shape::kStorage) return RunStorage(line, at, next, end);
  if (line.info != nullptr && line.info->shape == Shape::kMeta) return meta_.Run(line, at, next, end);
  if (line.info != nullptr && IsTestCommand(line.info->command) && !service_->options().test_commands) {
    ParseUnknownLine(Between(at, line_end), &line);
  }
  if (line.has_error) {
    if (line.is_http) return {next, Why::kClosing};
    Append(line.error, line.no_reply);
    return {next, Why::kDone};
  }
  return RunCommand(line, at, next);
}

Progress TextDialect::RunCommand(const TextRequest& line, const char* at, const char* next) {
  const bool has_key = line.info->shape != Shape::kWords;
  const Why why = has_key ? RunKeyed(line) : RunWords(line);
  if (!has_key && why == Why::kDone) bench_->observer()->ObserveCommand(CommandClass::kOther);
  // A dump that is not whole, or a request that waits: the line comes again.
  return {why == Why::kParked || why == Why::kFull ? at : next, why};
}

// ---- commands of one line ----

// Names one key and changes something.
Why TextDialect::RunKeyed(const TextRequest& line) {
  if (gate_->refuses(line.key)) [[unlikely]] {
    Append(Refusal(), line.no_reply);
    return Why::kDone;
  }
  if (gate_->ParkForSlowdown(line.key, *now_)) [[unlikely]]
    return Why::kParked;
  const Request request = StoreRequestOf(line, *now_);
  Outcome outcome;
  ExecuteHeard(bench_, gate_->client(), request, *now_, nullptr, &outcome);
  if (outcome.status >= Status::kLogFull) [[unlikely]]
    return ParkOrRefuse(line.key, outcome.status, line.no_reply);
  AppendOutcome(request, outcome, line.no_reply);
  bench_->observer()->Observe(request, 0);
  if (request.verb == Verb::kDelete) service_->prefixes()->Count(request.key, PrefixStats::Event::kDelete);
  return Why::kDone;
}

Why TextDialect::RunWords(const TextRequest& line) {
  std::string_view words = line.words;
  switch (line.info->command) {
    case Command::kMetaNoop:
      Append(Reply::kNoop);
      return Why::kDone;
    case Command::kVersion:
      gate_->sink()->Append("VERSION ");
      gate_->sink()->Append(service_->options().version);
      gate_->sink()->Append("\r\n");
      return Why::kDone;
    case Command::kQuit:
      stream_->SetQuit();
      return Why::kClosing;
    case Command::kVerbosity: {
      const bool no_reply = LastWord(words) == "noreply";
      uint32_t verbosity = 0;
      if (!ParseUint32(NextWord(&words), &verbosity)) {
        Append(Reply::kBadFormat, no_reply);
        return Why::kDone;
      }
      service_->SetVerbosity(verbosity);
      Append(Reply::kOk, no_reply);
      return Why::kDone;
    }
    case Command::kFlushAll:
      return RunFlushAll(line);
    case Command::kLruCrawler:
      return RunCrawler(line);
    case Command::kScan:
      return RunScan(words);
    case Command::kRefreshCerts:
      return RunRefresh(LastWord(words) == "noreply");
    case Command::kWatch:
      return RunWatch(line);
    case Command::kCacheMemlimit:
      Append(RunMemlimit(line, store_, *now_), LastWord(words) == "noreply");
      return Why::kDone;
    case Command::kShutdown:
      return RunShutdown(line, service_, gate_->sink());
    case Command::kStats: {
      const std::string_view topic = NextWord(&words);
      if (topic == "cachedump") return RunCacheDump(words);
      if (topic == "detail") return RunDetail(NextWord(&words));
      if (topic == "sizes" && service_->options().track_sizes) return RunSizes();
      StatLines lines(gate_->sink());
      Append(EndOf(AppendStats(topic, service_, gate_->ack(), *now_, &lines)));
      return Why::kDone;
    }
    default:
      return RunTestCommand(line, service_, gate_, *now_);
  }
}

// flush_all [delay] [noreply]
Why TextDialect::RunFlushAll(const TextRequest& line) {
  std::string_view words = line.words;
  const std::string_view delay = NextWord(&words);
  const bool no_reply = LastWord(line.words) == "noreply";
  if (service_->options().disable_flush_all) {
    Append(Reply::kFlushNotAllowed, no_reply);
    return Why::kDone;
  }
  const bool has_delay = !delay.empty() && !(no_reply && NextWord(&words).empty());
  int32_t seconds = 0;
  if (has_delay && !ParseInt32(delay, &seconds)) {
    Append(Reply::kBadExptime, no_reply);
    return Why::kDone;
  }
  if (gate_->refuses_reads()) [[unlikely]] {
    Append(Refusal(), no_reply);
    return Why::kDone;
  }
  uint64_t version = 0;
  if (!FlushAll(seconds, *now_, store_, &version)) return ParkOrRefuse({}, Status::kLogFull, no_reply);
  bench_->counters()->Add(Counter::kFlushes, 1);
  if (no_reply) return Why::kDone;
  const size_t begin = gate_->sink()->size();
  Append(Reply::kOk);
  // Each shard has a record of it with this version, and one of them in the log makes the clear whole.
  if (version != 0 && gate_->marks_are_active()) gate_->Settle(begin, 0, version, /*may_refuse=*/false);
  return Why::kDone;
}

// stats detail on|off|dump
Why TextDialect::RunDetail(std::string_view word) {
  if (service_->options().disable_dumping) {
    Append(Reply::kDetailNotAllowed);
    return Why::kDone;
  }
  const DetailWord asked = DetailWordOf(word);
  switch (asked) {
    case DetailWord::kOn:
    case DetailWord::kOff:
      service_->prefixes()->Turn(asked == DetailWord::kOn);
      Append(Reply::kOk);
      break;
    case DetailWord::kDump:
      service_->prefixes()->AppendAll(gate_->sink());
      break;
    case DetailWord::kUnknown:
      Append(Reply::kDetailUsage);
      break;
  }
  return Why::kDone;
}

// refresh_certs [noreply], which hides success only.
Why TextDialect::RunRefresh(bool no_reply) {
  if (!service_->options().tls.is_enabled) {
    gate_->sink()->Append("Error TLS not enabled\r\n");
    return Why::kDone;
  }
  CertificateRefresh* certificates = service_->certificates();
  if (gate_->AwaitLoad(certificates, CertificateRefresh::kKey, *now_) == ReadThrough::Load::kPending)
    return Why::kParked;
  gate_->EndLoad();
  const std::string answer = certificates->line();
  if (no_reply && answer == "OK") return Why::kDone;
  gate_->sink()->Append(answer);
  gate_->sink()->Append("\r\n");
  return Why::kDone;
}

// ---- commands with a data block ----

Progress TextDialect::RunStorage(const TextRequest& line, const char* at, const char* block, const char* end) {
  StorageLine storage;
  storage.has_error = line.has_error;
  storage.error = line.error;
  storage.no_reply = line.no_reply;
  storage.has_body = line.has_body;
  storage.body_bytes = line.body_bytes;
  storage.drops_old = line.info->command == Command::kSet;
  if (!line.has_error) storage.request = StoreRequestOf(line, *now_);
  return storage_.Run(storage, this, at, block, end);
}

// ---- replies ----

void TextDialect::AppendOutcome(const Request& request, const Outcome& outcome, bool no_reply) {
  if (no_reply) return;
  ByteBuffer* to = gate_->sink();
  const size_t begin = to->size();
  if (outcome.status == Status::kFound && (request.verb == Verb::kIncr || request.verb == Verb::kDecr)) {
    AppendNumber(outcome.number, to);
  } else {
    to->Append(TextOf(ReplyOf(request.verb, outcome.status)));
  }
  Tell(begin, request, outcome);
}

TextDialect::Told TextDialect::Tell(size_t begin, const Request& request, const Outcome& outcome) {
  if (gate_->Settle(begin, request, outcome) != ReplyGate::Slot::kRefused) [[likely]]
    return Told::kYes;
  gate_->sink()->Truncate(begin);
  Append(Refusal());
  return Told::kRefused;
}

Why TextDialect::ParkOrRefuse(std::string_view key, Status status, bool no_reply) {
  Reply reply;
  if (gate_->ParkOrRefuse(key, status, *now_, &reply)) return Why::kParked;
  Append(reply, no_reply);
  return Why::kDone;
}

}  // namespace cairn
