#include "protocol/binary_dialect.h"

#include "protocol/execute.h"
#include "protocol/exptime.h"
#include "protocol/heard_requests.h"
#include "protocol/limits.h"
#include "protocol/stats.h"

namespace cairn {

namespace {

// Each statistic is a response with a key; one without ends them.
class StatPackets final : public StatSink {
 public:
  StatPackets(PacketId id, ByteBuffer* out) : id_(id), out_(out) {}
  void Add(std::string_view name, std::string_view value) override {
    AppendResponse({.id = id_, .key = name, .value = value}, out_);
  }

 private:
  const PacketId id_;
  ByteBuffer* const out_;
};

constexpr std::string_view kDetail = "detail ";

}  // namespace

BinaryDialect::BinaryDialect(Workbench* bench, Stream* stream, ReplyGate* gate, const Now* now)
    : service_(bench->service()),
      store_(service_->store()),
      bench_(bench),
      group_(bench->group()),
      stream_(stream),
      gate_(gate),
      now_(now),
      login_(service_->authentication()->login() == Login::kSasl ? LoginState::kOut : LoginState::kIn) {
  gate_->SetErrorForm(&AppendTaggedError);
}

Progress BinaryDialect::Run(const char* at, const char* end) {
  Progress progress{at, Why::kDone};
  while (progress.at != end && stream_->is_at_request()) {
    progress = RunPacket(progress.at, end);
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

Progress BinaryDialect::RunPacket(const char* at, const char* end) {
  BinaryRequest packet;
  size_t bytes_needed = 0;
  const Packet kind = ParsePacket(at, end, &packet, &bytes_needed);
  if (kind == Packet::kForeign) return {at, Why::kClosing};
  if (kind == Packet::kPartial) {
    stream_->Need(bytes_needed);
    return {at, Why::kMore};
  }
  const char* value = at + bytes_needed;
  if (login_ != LoginState::kIn && kind != Packet::kTooShort && !MayComeFirst(packet)) [[unlikely]] {
    gate_->CountRequest();
    Fail(packet.id, kNotAllowedError);
    return {value, Why::kClosing};
  }
  if (kind == Packet::kWhole && packet.info->operation == Operation::kGet) return AddToGroup(packet, at, value);
  if (group_->count != 0) {
    const Progress flushed = FlushGroup({at, Why::kDone});
    if (flushed.why != Why::kDone) return flushed;
  }
  gate_->CountRequest();
  if (kind == Packet::kWhole) return Execute(packet, at, value, end);
  // The client and the server do not agree where packets begin.
  Fail(packet.id, kind == Packet::kTooShort ? kUnknownCommandError : kInvalidError);
  return {value, Why::kClosing};
}

Progress BinaryDialect::Execute(const BinaryRequest& packet, const char* at, const char* value, const char* end) {
  switch (packet.info->operation) {
    case Operation::kStore:
    case Operation::kConcat:
      return RunStorage(packet, at, value, end);
    case Operation::kKeyed:
    case Operation::kFlush: {
      const Why why = packet.info->operation == Operation::kFlush ? RunFlush(packet) : RunKeyed(packet);
      // A request that waits comes again.
      return {why == Why::kParked ? at : value, why};
    }
    case Operation::kNoop:
      AppendResponse({.id = packet.id}, gate_->sink());
      break;
    case Operation::kVersion:
      AppendResponse({.id = packet.id, .value = service_->options().version}, gate_->sink());
      break;
    case Operation::kStats:
      RunStats(packet);
      break;
    case Operation::kQuit:
      stream_->SetQuit();
      if (!packet.info->is_quiet) AppendResponse({.id = packet.id}, gate_->sink());
      return {value, Why::kClosing};
    case Operation::kSasl:
      return RunSasl(packet, at, value, end);
    case Operation::kGet:
    case Operation::kUnknown:
      return Swallow(packet, kUnknownCommandError, value);
  }
  bench_->observer()->ObserveCommand(CommandClass::kOther);
  return {value, Why::kDone};
}

Why BinaryDialect::RunKeyed(const BinaryRequest& packet) {
  if (gate_->refuses(packet.key)) [[unlikely]] {
    Fail(packet.id, Refusal());
    return Why::kDone;
  }
  if (gate_->ParkForSlowdown(packet.key, *now_)) [[unlikely]]
    return Why::kParked;
  const Request request = StoreRequest(packet);
  Outcome outcome;
  ExecuteHeard(bench_, gate_->client(), request, *now_, nullptr, &outcome);
  if (outcome.status >= Status::kLogFull) [[unlikely]]
    return ParkOrRefuse(packet.id, request.key, outcome.status);
  AppendOutcome(packet.id, request, outcome);
  bench_->observer()->Observe(request, 0);
  if (request.verb == Verb::kDelete) service_->prefixes()->Count(request.key, PrefixStats::Event::kDelete);
  return Why::kDone;
}

Why BinaryDialect::RunFlush(const BinaryRequest& packet) {
  if (service_->options().disable_flush_all) {
    Fail(packet.id, kNotAllowedError);
    return Why::kDone;
  }
  if (gate_->refuses_reads()) [[unlikely]] {
    Fail(packet.id, Refusal());
    return Why::kDone;
  }
  uint64_t version = 0;
  if (!FlushAll(packet.exptime, *now_, store_, &version)) return ParkOrRefuse(packet.id, {}, Status::kLogFull);
  bench_->counters()->Add(Counter::kFlushes, 1);
  const size_t begin = gate_->sink()->size();
  if (!packet.info->is_quiet) AppendResponse({.id = packet.id}, gate_->sink());
  // Each shard has a record of it with this version, and one of them in the log makes the clear whole.
  if (version != 0 && gate_->marks_are_active()) (void)gate_->Settle(begin, 0, version, /*may_refuse=*/false);
  return Why::kDone;
}

void BinaryDialect::RunStats(const BinaryRequest& packet) {
  if (packet.key.starts_with(kDetail)) return RunDetail(packet);
  StatPackets packets(packet.id, gate_->sink());
  // Without a word it does nothing.
  if (packet.key != "detail" &&
      AppendStats(packet.key, service_, gate_->ack(), *now_, &packets) == StatsAnswer::kUnknown)
    return Fail(packet.id, kNotFoundError);
  AppendResponse({.id = packet.id}, gate_->sink());
}

// The list is one statistic, with the lines of the text protocol as its value.
void BinaryDialect::RunDetail(const BinaryRequest& packet) {
  const DetailWord asked = DetailWordOf(packet.key.substr(kDetail.size()));
  if (asked == DetailWord::kUnknown) return Fail(packet.id, kNotFoundError);
  if (service_->options().disable_dumping) return Fail(packet.id, kNotAllowedError);
  if (asked == DetailWord::kDump) {
    ByteBuffer lines;
    service_->prefixes()->AppendAll(&lines);
    AppendResponse({.id = packet.id, .key = "detailed", .value = lines.view()}, gate_->sink());
  } else {
    service_->prefixes()->Turn(asked == DetailWord::kOn);
  }
  AppendResponse({.id = packet.id}, gate_->sink());
}

// ---- replies ----

void BinaryDialect::AppendOutcome(PacketId id, const Request& request, const Outcome& outcome) {
  const bool is_count = request.verb == Verb::kIncr || request.verb == Verb::kDecr;
  const bool is_success = outcome.status == Status::kStored || outcome.status == Status::kFound;
  ByteBuffer* to = gate_->sink();
  const size_t begin = to->size();
  char number[8];
  if (!is_success) {
    Fail(id, ErrorOf(request.verb, outcome.status));
  } else if (InfoOf(id.opcode).is_quiet) {
    // A slot without bytes.
  } else if (is_count) {
    WriteUint64(outcome.number, number);
    AppendResponse({.id = id, .cas = outcome.version, .value = {number, sizeof(number)}}, to);
  } else if (request.verb == Verb::kTouch) {
    WriteUint32(outcome.client_flags, number);
    AppendResponse({.id = id, .cas = outcome.version, .extras = {number, sizeof(uint32_t)}}, to);
  } else {
    AppendResponse({.id = id, .cas = outcome.version}, to);
  }
  Tell(id, begin, request, outcome);
}

void BinaryDialect::Tell(PacketId id, size_t begin, const Request& request, const Outcome& outcome) {
  gate_->TagReply(TagOf(id));
  if (gate_->Settle(begin, request, outcome) != ReplyGate::Slot::kRefused) [[likely]]
    return;
  gate_->sink()->Truncate(begin);
  Fail(id, Refusal());
}

Why BinaryDialect::ParkOrRefuse(PacketId id, std::string_view key, Status status) {
  Reply reply;
  if (gate_->ParkOrRefuse(key, status, *now_, &reply)) return Why::kParked;
  Fail(id, ErrorOf(reply));
  return Why::kDone;
}

}  // namespace cairn
