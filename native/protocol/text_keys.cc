// TextDialect: get, gets, gat, gats. Their keys are looked up in groups, over commands that follow one another.
#include <algorithm>
#include <cstring>
#include <utility>

#include "protocol/execute.h"
#include "protocol/heard_requests.h"
#include "protocol/limits.h"
#include "protocol/text_compose.h"
#include "protocol/text_dialect.h"

namespace cairn {

namespace {

constexpr std::string_view kLineEnd = "\r\n";

// Whether a change of one of the keys, up to the end of the line, is refused.
bool RefusesOneOf(const ReplyGate& gate, const char* at, const char* line_end) {
  if (!gate.refuses()) [[likely]]
    return false;
  while (at != line_end) {
    const char* key_end = std::find(at, line_end, ' ');
    if (key_end != at && gate.refuses({at, static_cast<size_t>(key_end - at)})) return true;
    at = key_end == line_end ? line_end : key_end + 1;
  }
  return false;
}

// The whole line waits for the backend of its first key.
std::string_view FirstKey(const char* at, const char* line_end) {
  while (at != line_end && *at == ' ') at++;
  return {at, static_cast<size_t>(std::find(at, line_end, ' ') - at)};
}

}  // namespace

Progress TextDialect::RunKeys(const char* at, const char* line_end, const char* next) {
  place_.is_inside = false;
  if (place_.asked.verb == Verb::kGetAndTouch && RefusesOneOf(*gate_, at, line_end)) [[unlikely]] {
    if (group_->count != 0) {
      const Progress flushed = FlushGroup({at, Why::kDone});
      if (flushed.why != Why::kDone) return flushed;
    }
    // Keys of the line that were told of before have their replies; the error line stands where the rest would be.
    if (!place_.is_refused) Append(Refusal());
    place_.is_refused = false;
    return {next, Why::kDone};
  }
  if (place_.asked.verb == Verb::kGetAndTouch && gate_->slows(FirstKey(at, line_end))) [[unlikely]] {
    if (group_->count != 0) {
      const Progress flushed = FlushGroup({at, Why::kDone});
      if (flushed.why != Why::kDone) return flushed;
    }
    if (gate_->ParkForSlowdown(FirstKey(at, line_end), *now_)) {
      place_.is_inside = true;
      return {at, Why::kParked};
    }
  }
  while (at != line_end && *at == ' ') at++;
  while (at != line_end) {
    const char* blank = static_cast<const char*>(std::memchr(at, ' ', static_cast<size_t>(line_end - at)));
    const char* key_end = blank == nullptr ? line_end : blank;
    const char* after = key_end;
    while (after != line_end && *after == ' ') after++;
    const size_t index = group_->count++;
    Request* request = &group_->requests[index];
    request->verb = place_.asked.verb;
    request->key = {at, static_cast<size_t>(key_end - at)};
    request->expires_ms = place_.asked.expires_ms;
    group_->keys[index] = {place_.asked.with_cas, after == line_end};
    at = after;
    if (group_->count == kGroupKeysMax) {
      const Progress flushed = FlushGroup({at, Why::kDone});
      if (flushed.why == Why::kParked && gate_->load() != 0) PrefetchLine(at, line_end);
      if (flushed.why != Why::kDone) return flushed;
      group_begins_inside_ = at != line_end;
    }
  }
  return {next, Why::kDone};
}

Progress TextDialect::FlushGroup(Progress done) {
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
    const KeyGroup::Key key = group_->keys[i];
    if (!place_.is_refused) [[likely]] {
      Told told = AppendEntry(requests[i], &outcomes[i], key.with_cas);
      if (told == Told::kNoRoom) [[unlikely]] {
        if (gate_->ParkForRoom()) return StopGroup(i, Why::kParked);
        Append(Refusal());
        told = Told::kRefused;
      }
      if (told == Told::kNotResident) [[unlikely]] {
        Reply reply;
        if (gate_->ParkForLoad(requests[i].key, *now_, &reply)) {
          group_->Prefetch(i + 1, count, *now_, store_, service_->loads());
          return StopGroup(i, Why::kParked);
        }
        if (gate_->is_unknown() && requests[i].verb == Verb::kGet) {
          told = Told::kYes;
        } else {
          Append(reply);
          told = Told::kRefused;
        }
      }
      if (told == Told::kRefused) [[unlikely]] {
        place_.is_refused = true;
      } else if (key.is_last) {
        Append(Reply::kEnd);
      }
    } else if (outcomes[i].pin.ref != 0) {
      store_->Unpin(outcomes[i].pin);
    }
    if (key.is_last) place_.is_refused = false;
    gate_->CountRequest();
    if (is_heard) [[unlikely]]
      HearKey(bench_, gate_->client(), requests[i], *now_, outcomes[i]);
    if (requests[i].verb == Verb::kGetAndTouch) bench_->CountGat(outcomes[i].status);
    if (bench_->observer()->IsDue()) [[unlikely]]
      Sample(i);
    if (bench_->observer()->IsLarge(SentBytes(outcomes[i]))) [[unlikely]]
      LogLarge(i);
  }
  LogIfSlow(count);
  place_.has_prefetched = false;
  group_begins_inside_ = false;
  return done;
}

CommandClass TextDialect::ClassAt(size_t index) const {
  const Request& request = group_->requests[index];
  const KeyGroup::Key key = group_->keys[index];
  const bool is_first = index == 0 ? !group_begins_inside_ : group_->keys[index - 1].is_last;
  const bool is_many = key.with_cas || !is_first || !key.is_last;
  return request.verb == Verb::kGet && is_many ? CommandClass::kGetMany : ClassOf(request);
}

void TextDialect::Sample(size_t index) {
  const std::string_view key = group_->requests[index].key;
  const uint64_t value_bytes = SentBytes(group_->outcomes[index]);
  bench_->observer()->Sample(ClassAt(index), key, value_bytes, group_->keys[index].is_last);
}

void TextDialect::LogLarge(size_t index) {
  bench_->observer()->LogLarge(ClassAt(index), group_->requests[index].key, SentBytes(group_->outcomes[index]));
}

void TextDialect::LogSlow(size_t count) {
  const size_t last = count - 1;
  bench_->observer()->LogSlow(ClassAt(last), group_->requests[last].key, SentBytes(group_->outcomes[last]), count);
}

void TextDialect::PrefetchLine(const char* at, const char* line_end) {
  if (std::exchange(place_.has_prefetched, true)) return;
  for (size_t keys = 0; at != line_end && keys < kPrefetchKeysMax; keys++) {
    const char* blank = static_cast<const char*>(std::memchr(at, ' ', static_cast<size_t>(line_end - at)));
    const char* key_end = blank == nullptr ? line_end : blank;
    Prefetch({at, static_cast<size_t>(key_end - at)}, *now_, store_, service_->loads());
    at = key_end;
    while (at != line_end && *at == ' ') at++;
  }
}

// Leaves the group from `index` on for later: the stream goes on at that key.
Progress TextDialect::StopGroup(size_t index, Why why) {
  LogIfSlow(index);
  const Request& request = group_->requests[index];
  group_begins_inside_ = false;
  place_.is_inside = true;
  place_.asked = {request.verb, group_->keys[index].with_cas, request.expires_ms};
  // The line has waited.
  if (request.verb == Verb::kGetAndTouch) gate_->KeepSlowed();
  return {request.key.data(), why};
}

// The VALUE line and the value of a hit; nothing of a miss, which may have to be held all the same.
TextDialect::Told TextDialect::AppendEntry(const Request& request, Outcome* outcome, bool with_cas) {
  if (outcome->status == Status::kNeedsRoom) return FetchIntoReply(request, outcome, with_cas);
  if (outcome->status == Status::kLogFull) [[unlikely]] {
    // A read stands only behind a touch of its shard that found no room.
    return request.verb == Verb::kGet ? FetchIntoReply(request, outcome, with_cas) : Told::kNoRoom;
  }
  ByteBuffer* to = gate_->sink();
  const size_t begin = to->size();
  if (outcome->status == Status::kNotResident) [[unlikely]]
    return Told::kNotResident;
  if (outcome->status != Status::kFound) return Tell(begin, request, *outcome);
  const size_t value_bytes = outcome->value_bytes;
  const ValueLine line{request.key, outcome->client_flags, outcome->value_bytes, with_cas ? outcome->version : 0};
  if (outcome->pin.ref != 0 && gate_->MaySendPinned(request, *outcome)) return AppendPinned(line, outcome);
  char* room = to->Room(kValueLineBytesMax + value_bytes + kLineEnd.size());
  if (room != nullptr) {
    const size_t line_bytes = WriteValueLine(line, room);
    char* value = room + line_bytes;
    if (outcome->pin.ref != 0) {
      store_->ReadPinned(outcome->pin, 0, value, value_bytes);
    } else {
      std::memcpy(value, group_->scratch.get() + outcome->value_offset, value_bytes);
    }
    std::memcpy(value + value_bytes, kLineEnd.data(), kLineEnd.size());
    to->Advance(line_bytes + value_bytes + kLineEnd.size());
  }
  if (outcome->pin.ref != 0) {
    store_->Unpin(outcome->pin);
    outcome->pin = Pin();
  }
  return Tell(begin, request, *outcome);
}

// The same, with the value left in its entry.
TextDialect::Told TextDialect::AppendPinned(const ValueLine& line, Outcome* outcome) {
  ByteBuffer* to = gate_->sink();
  char* room = to->Room(kValueLineBytesMax);
  if (room != nullptr) to->Advance(WriteValueLine(line, room));
  gate_->SendPinned(*outcome);
  outcome->pin = Pin();
  to->Append(kLineEnd);
  return Told::kYes;
}

// For a request that found no room with its group, or whose value is large and may not be pinned: the value is copied
// straight to where it leaves from. The outcome may say nothing yet, because the store stops at the first request of a
// group that finds no room.
TextDialect::Told TextDialect::FetchIntoReply(const Request& request, Outcome* outcome, bool with_cas) {
  // A larger value is pinned, or its outcome says how large it is.
  size_t value_bytes = kCopyUnderLockBytesMax;
  for (;; value_bytes = std::max<size_t>(outcome->value_bytes, kCopyUnderLockBytesMax)) {
    ByteBuffer* to = gate_->sink();
    const size_t begin = to->size();
    char* room = to->Room(kValueLineBytesMax + value_bytes + kLineEnd.size());
    if (room == nullptr) return Told::kYes;  // the connection ends for it
    // Where the value will begin if it is still the one that was seen; it is moved if it is not.
    const size_t guess = WriteValueLine(
        {request.key, outcome->client_flags, outcome->value_bytes, with_cas ? outcome->version : 0}, room);
    Scratch scratch{room + guess, value_bytes, 0};
    *outcome = Outcome();
    store_->Execute(request, *now_, &scratch, outcome);
    if (outcome->status == Status::kNeedsRoom) continue;
    if (outcome->status == Status::kLogFull) return Told::kNoRoom;
    if (outcome->status != Status::kFound || outcome->pin.ref != 0) return AppendEntry(request, outcome, with_cas);
    const ValueLine line{request.key, outcome->client_flags, outcome->value_bytes, with_cas ? outcome->version : 0};
    char written[kValueLineBytesMax];
    const size_t line_bytes = WriteValueLine(line, written);
    if (line_bytes != guess) std::memmove(room + line_bytes, room + guess, outcome->value_bytes);
    std::memcpy(room, written, line_bytes);
    std::memcpy(room + line_bytes + outcome->value_bytes, kLineEnd.data(), kLineEnd.size());
    to->Advance(line_bytes + outcome->value_bytes + kLineEnd.size());
    return Tell(begin, request, *outcome);
  }
}

}  // namespace cairn
