// BinaryDialect: get-type requests. Their keys are looked up in groups, over requests that follow one another.
#include <algorithm>
#include <cstring>

#include "protocol/binary_dialect.h"
#include "protocol/execute.h"
#include "protocol/exptime.h"
#include "protocol/heard_requests.h"
#include "protocol/limits.h"

namespace cairn {

namespace {

// The packet of a request of the group, whose key is in it.
const char* PacketOf(const Request& request) {
  const size_t extras_bytes = request.verb == Verb::kGetAndTouch ? kTouchExtrasBytes : 0;
  return request.key.data() - extras_bytes - kPacketHeaderBytes;
}

// Client flags are the extras of a hit.
constexpr size_t kFlagsBytes = 4;

// Everything of the reply to a hit up to its value.
void WriteHitHead(PacketId id, const Outcome& outcome, std::string_view key, char* to) {
  WriteResponseHead({.id = id,
                     .cas = outcome.version,
                     .extras_bytes = kFlagsBytes,
                     .key_bytes = key.size(),
                     .value_bytes = outcome.value_bytes},
                    to);
  to = WriteUint32(outcome.client_flags, to + kPacketHeaderBytes);
  if (!key.empty()) std::memcpy(to, key.data(), key.size());
}

}  // namespace

Progress BinaryDialect::AddToGroup(const BinaryRequest& packet, const char* at, const char* next) {
  const Verb verb = packet.info->verb;
  if (verb == Verb::kGetAndTouch && (gate_->refuses(packet.key) || gate_->slows(packet.key))) [[unlikely]] {
    if (group_->count != 0) {
      const Progress flushed = FlushGroup({at, Why::kDone});
      if (flushed.why != Why::kDone) return flushed;
    }
    if (gate_->refuses(packet.key)) {
      gate_->CountRequest();
      Fail(packet.id, Refusal());
      return {next, Why::kDone};
    }
    if (gate_->ParkForSlowdown(packet.key, *now_)) return {at, Why::kParked};
  }
  Request* request = &group_->requests[group_->count++];
  request->verb = verb;
  request->key = packet.key;
  request->expires_ms = ExpiryOfSeconds(packet.exptime, *now_);
  if (group_->count == kGroupKeysMax) return FlushGroup({next, Why::kDone});
  return {next, Why::kDone};
}

Progress BinaryDialect::FlushGroup(Progress done) {
  if (gate_->IsFull()) {
    group_->count = 0;
    return StopGroup(0, Why::kFull);
  }
  const size_t count = group_->LookUp(*now_, store_);
  const Request* requests = group_->requests;
  Outcome* outcomes = group_->outcomes;
  const bool is_heard = bench_->events()->hears(kFetchers) || service_->prefixes()->is_on();
  for (size_t i = 0; i < count; i++) {
    // The rest of a group is asked for again when replies have left. That is safe: a read has no effect, and setting an
    // expiry twice is setting it once. Only a request by itself is ever pinned.
    if (gate_->IsFull()) [[unlikely]]
      return StopGroup(i, Why::kFull);
    const PacketId id = ReadPacketId(PacketOf(requests[i]));
    switch (Answer(requests[i], &outcomes[i])) {
      case Told::kYes:
        break;
      case Told::kNoRoom:
        if (gate_->ParkForRoom()) return StopGroup(i, Why::kParked);
        Fail(id, Refusal());
        break;
      case Told::kNotResident: {
        Reply reply;
        if (gate_->ParkForLoad(requests[i].key, *now_, &reply)) {
          group_->Prefetch(i + 1, count, *now_, store_, service_->loads());
          return StopGroup(i, Why::kParked);
        }
        if (gate_->is_unknown() && requests[i].verb == Verb::kGet) {
          AppendMiss(id, requests[i].key);
        } else {
          Fail(id, ErrorOf(reply));
        }
        break;
      }
    }
    gate_->CountRequest();
    if (is_heard) [[unlikely]]
      HearKey(bench_, gate_->client(), requests[i], *now_, outcomes[i]);
    if (requests[i].verb == Verb::kGetAndTouch) bench_->CountGat(outcomes[i].status);
    bench_->observer()->Observe(requests[i], SentBytes(outcomes[i]));
  }
  return done;
}

// Leaves the group from `index` on for later.
Progress BinaryDialect::StopGroup(size_t index, Why why) {
  const Request& request = group_->requests[index];
  // It has waited.
  if (request.verb == Verb::kGetAndTouch) gate_->KeepSlowed();
  return {PacketOf(request), why};
}

BinaryDialect::Told BinaryDialect::Answer(const Request& request, Outcome* outcome) {
  const bool has_no_place = outcome->status == Status::kNeedsRoom;
  // A read stands only behind a touch of its shard that found no room in the log.
  const bool stands_behind = outcome->status == Status::kLogFull && request.verb == Verb::kGet;
  return has_no_place || stands_behind ? FetchIntoReply(request, outcome) : AppendEntry(request, outcome);
}

BinaryDialect::Told BinaryDialect::AppendEntry(const Request& request, Outcome* outcome) {
  if (outcome->status == Status::kLogFull) return Told::kNoRoom;
  if (outcome->status == Status::kNotResident) return Told::kNotResident;
  const PacketId id = ReadPacketId(PacketOf(request));
  ByteBuffer* to = gate_->sink();
  const size_t begin = to->size();
  if (outcome->status != Status::kFound) {
    AppendMiss(id, request.key);
    Tell(id, begin, request, *outcome);
    return Told::kYes;
  }
  const std::string_view key = InfoOf(id.opcode).tells_key ? request.key : std::string_view();
  const size_t value_bytes = outcome->value_bytes;
  const size_t before_value = kPacketHeaderBytes + kFlagsBytes + key.size();
  char* room = to->Room(before_value + value_bytes);
  if (room != nullptr) {
    WriteHitHead(id, *outcome, key, room);
    char* value = room + before_value;
    if (outcome->pin.ref != 0) {
      store_->ReadPinned(outcome->pin, 0, value, value_bytes);
    } else {
      std::memcpy(value, group_->scratch.get() + outcome->value_offset, value_bytes);
    }
    to->Advance(before_value + value_bytes);
  }
  if (outcome->pin.ref != 0) {
    store_->Unpin(outcome->pin);
    outcome->pin = Pin();
  }
  Tell(id, begin, request, *outcome);
  return Told::kYes;
}

// For a request that found no room with its group, or whose value is large and may not be pinned: the value is copied
// straight to where it leaves from. The outcome may say nothing yet, because the store stops at the first request of a
// group that finds no room.
BinaryDialect::Told BinaryDialect::FetchIntoReply(const Request& request, Outcome* outcome) {
  const PacketId id = ReadPacketId(PacketOf(request));
  const std::string_view key = InfoOf(id.opcode).tells_key ? request.key : std::string_view();
  const size_t before_value = kPacketHeaderBytes + kFlagsBytes + key.size();
  for (;;) {
    // A larger value is pinned, or its outcome says how large it is.
    const size_t value_bytes = std::max<size_t>(outcome->value_bytes, kCopyUnderLockBytesMax);
    ByteBuffer* to = gate_->sink();
    const size_t begin = to->size();
    char* room = to->Room(before_value + value_bytes);
    if (room == nullptr) return Told::kYes;  // the connection ends for it
    Scratch scratch{room + before_value, value_bytes, 0};
    *outcome = Outcome();
    store_->Execute(request, *now_, &scratch, outcome);
    if (outcome->status == Status::kNeedsRoom) continue;
    if (outcome->status != Status::kFound || outcome->pin.ref != 0) return AppendEntry(request, outcome);
    WriteHitHead(id, *outcome, key, room);
    to->Advance(before_value + outcome->value_bytes);
    Tell(id, begin, request, *outcome);
    return Told::kYes;
  }
}

// A miss that tells its key tells nothing else.
void BinaryDialect::AppendMiss(PacketId id, std::string_view key) {
  const OpcodeInfo& info = InfoOf(id.opcode);
  if (info.is_quiet) return;
  if (!info.tells_key) return Fail(id, kNotFoundError);
  AppendResponse({.id = id, .status = BinaryStatus::kNotFound, .key = key}, gate_->sink());
}

}  // namespace cairn
