#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"

namespace cairn::model {

bool Harness::IsTimed(const Request& request) {
  return (request.expires_ms != kNeverExpires && request.expires_ms != kKeepExpiry) ||
         request.fresh_until_ms != kAlwaysFresh || request.keep_else_ms != kNeverExpires;
}

Request Harness::MakeRequest(const Op& op, const std::string& key, const std::string& value) {
  Request request;
  request.verb = op.verb;
  request.codec = static_cast<Codec>(op.codec % kCodecCount);
  request.key = key;
  request.value = value;
  request.expires_ms = ExpiryOf(op.ttl);
  if (request.expires_ms == kKeepExpiry && op.number % 2 == 0) request.keep_else_ms = now_.boot_ms + op.number % 500;
  request.client_flags = (op.options & kOptClientFlags) ? op.number | 1 : 0;
  if (op.options & kOptFresh) request.fresh_until_ms = now_.boot_ms + op.number % 300;
  request.accepts_stale = (op.options & kOptStale) != 0;
  request.no_bump = (op.options & kOptNoBump) && (op.verb == Verb::kGet || op.verb == Verb::kGetAndTouch);
  request.no_value = (op.options & kOptNoValue) != 0;
  request.has_initial = (op.options & kOptInitial) != 0;
  request.pad_decimal = (op.options & kOptPad) != 0;
  request.delta = op.number % 5 == 0 ? ~uint64_t{0} - op.number : op.number % 300;
  request.initial = op.number % 4 == 0 ? ~uint64_t{0} : op.number % 1000;
  ModelShard& shard = ShardFor(key);
  const ModelShard::Place entry = shard.Find(key);
  const uint64_t version = entry == shard.order.end() ? 1 : entry->version;
  request.has_compare = (op.options & (kOptCompareRight | kOptCompareWrong)) != 0;
  request.compare = (op.options & kOptCompareWrong) ? version + 1 + op.number % 3 : version;
  return request;
}

Seen Harness::SeenOf(const Outcome& outcome, bool may_pin) {
  // What refuses a get-and-touch comes behind its value, and takes the pin back. The value is in pieces: whether it was
  // pinned or copied makes no difference to what is refused.
  const bool taken_back = outcome.status == Status::kNoMemory || outcome.status == Status::kLogFull;
  return {.may_pin = may_pin, .pinned = outcome.pin.ref != 0 || taken_back};
}

bool Harness::DoRequest(const Op& op) {
  const std::string& key = KeyName(op.key);
  const std::string value = ValueOf(op);
  Request request = MakeRequest(op, key, value);
  const ModelShard::Load* load = nullptr;
  if (request.verb == Verb::kSet && (op.options & kOptFill)) {
    for (Ticket& ticket : tickets_) {
      if (KeyName(ticket.key) != key) continue;
      request.fill = ticket.ticket.get();
      load = ticket.load.get();
    }
  }
  const bool timed = IsTimed(request);
  // Until something can expire, the clock need not be read.
  const Now now = store_->uses_time() || timed ? now_ : Now{};
  size_t capacity = scratch_.size();
  if (op.options & kOptSmallScratch) capacity = op.number % 5000;
  if (op.options & kOptNoScratch) capacity = 0;
  Scratch scratch{scratch_.data(), capacity, 0};
  Scratch model_scratch = scratch;
  BeforeCall();
  Outcome actual;
  const bool plainly = op.number % 2 == 0 && AskPlainly(request, now, &scratch, &actual);
  if (!plainly) store_->Execute(request, now, &scratch, &actual);
  RunScheduledClear();
  // A plain set asks nothing about what is there.
  if (plainly && request.verb == Verb::kSet) request.accepts_stale = true;
  const Expected expected = ShardFor(key).Ask(request, key, load, SeenOf(actual, true), &model_scratch);
  if (plainly) {
    // How it was before the request cannot be looked at any more.
    actual.fetched = expected.fetched;
    actual.idle_s = expected.idle_s;
  }
  if (!CompareOutcome(request, key, actual, expected, scratch_.data())) return AfterCall("");
  if (actual.pin.ref == 0 && scratch.used != model_scratch.used) {
    Fail("scratch.used differs");
  }
  return AfterCall(NameOf(request.verb));
}

Outcome Harness::LookAt(std::string_view key) {
  Request look;
  look.verb = Verb::kHas;
  look.key = key;
  look.accepts_stale = true;
  Scratch none;
  Outcome outcome;
  store_->Execute(look, Now{}, &none, &outcome);
  return outcome;
}

bool Harness::AskPlainly(const Request& request, const Now& now, Scratch* scratch, Outcome* outcome) {
  uint32_t shard_index;
  ShardFor(std::string(request.key), &shard_index);
  if (request.verb == Verb::kGet && !request.no_bump && !request.no_value && !request.accepts_stale) {
    PlainValue value;
    const Status status =
        store_->GetPlain(request.key, now, scratch->data, std::min(scratch->capacity, kCopyUnderLockBytesMax), &value);
    if (status == Status::kNeedsRoom) return false;
    *outcome = LookAt(request.key);
    outcome->status = status;
    if (status == Status::kFound) {
      outcome->codec = value.codec;
      outcome->value_bytes = value.value_bytes;
      outcome->client_flags = value.client_flags;
      outcome->has_value = true;
      scratch->used = value.value_bytes;
    }
    ++coverage_.plain_gets;
    return true;
  }
  const bool clear_is_due = scheduled_clear_ms_ != 0 && now.boot_ms >= scheduled_clear_ms_;
  if (request.verb == Verb::kSet && !request.has_compare && request.fill == nullptr && request.client_flags == 0 &&
      request.expires_ms != kKeepExpiry && request.fresh_until_ms == kAlwaysFresh &&
      request.value.size() <= kCopyUnderLockBytesMax && !clear_is_due) {
    const uint64_t last_version = store_->LastVersion(shard_index);
    const Status status = store_->SetPlain(request.key, request.value, request.codec, request.expires_ms, now);
    const uint64_t version = store_->LastVersion(shard_index);
    *outcome = LookAt(request.key);
    outcome->status = status;
    if (version != last_version) outcome->record_version = version;
    if (version != last_version && life_.records) outcome->commit_version = version;
    ++coverage_.plain_sets;
    return true;
  }
  return false;
}

bool Harness::DoMany(const Op& op) {
  test::Random random(op.number);
  const size_t count = 1 + op.number % 80;
  // Either any keys, or neighbouring keys treated alike, which fills and empties a store.
  const bool alike = (op.options & (kOptText | kOptPad)) != 0;
  const uint32_t size = std::min(op.bytes, 9000u);
  std::vector<std::string> values(count);
  std::vector<Request> requests(count);
  std::vector<Outcome> outcomes(count);
  std::vector<const std::string*> keys(count);
  bool timed = false;
  for (size_t i = 0; i < count; ++i) {
    Op one = op;
    one.kind = OpKind::kRequest;
    one.key = static_cast<uint16_t>(alike ? op.key + i : random.OneIn(4) ? op.key : random.Below(life_.key_count));
    one.verb = alike ? op.verb : random.OneIn(2) ? Verb::kGet : static_cast<Verb>(random.Below(16));
    // In lives with overlong chains victims of a batch could not be told apart, so batches only read there.
    if (life_.colliding_keys) one.verb = Verb::kGet;
    one.number = static_cast<uint32_t>(random.Next());
    one.bytes = static_cast<uint32_t>(alike ? size + random.Below(8) : random.Below(uint64_t{1} << random.Below(15)));
    one.ttl = static_cast<uint8_t>(random.OneIn(life_.ttl_share) ? random.Next() : 0);
    one.codec = static_cast<uint8_t>(random.OneIn(3) ? random.Below(kCodecCount) : 0);
    one.options = static_cast<uint16_t>(random.Next() & random.Next() & random.Next());
    if (!random.OneIn(life_.ttl_share)) one.options &= static_cast<uint16_t>(~kOptFresh);
    one.options &= static_cast<uint16_t>(~(kOptCompareRight | kOptCompareWrong | kOptFill));
    if (has_rings()) {
      // Whether there are pages to pin for a large value is known for one request at a time.
      if (one.verb == Verb::kAppend || one.verb == Verb::kPrepend) one.verb = Verb::kSet;
      one.bytes = std::min(one.bytes, 16'000u);
    }
    if (one.verb == Verb::kCas) one.verb = Verb::kSet;  // the version to compare with is known only as it is reached
    keys[i] = &KeyName(one.key);
    values[i] = ValueOf(one);
    requests[i] = MakeRequest(one, *keys[i], values[i]);
    timed = timed || IsTimed(requests[i]);
  }
  size_t capacity = scratch_.size();
  if (op.options & kOptSmallScratch) capacity = op.number % 20'000;
  Scratch scratch{scratch_.data(), capacity, 0};
  Scratch model_scratch = scratch;
  BeforeCall();
  store_->ExecuteMany(requests.data(), count, store_->uses_time() || timed ? now_ : Now{}, &scratch, outcomes.data());
  RunScheduledClear();
  // Keys that must not be read any more, because a mutation of theirs was refused; others may share a bit with one.
  std::set<std::string> refused;
  std::set<uint64_t> refused_bits;
  const auto refuse = [&](const std::string& key) {
    refused.insert(key);
    refused_bits.insert(TableHash(life_.options.hash, key, life_.options.secrets) % 512);
  };
  for (uint32_t shard = 0; shard < shards_.size(); ++shard) {
    bool out_of_room = false;
    bool log_full = false;
    for (size_t i = 0; i < count; ++i) {
      if (store_->ShardOf(*keys[i]) != shard) continue;
      if (out_of_room) {
        // Nothing behind the first that found no room was done, so that asking again keeps the order.
        if (outcomes[i].status != Status::kNeedsRoom) Fail("done behind a request of its shard that found no room");
        continue;
      }
      if (log_full) {
        const Verb verb = requests[i].verb;
        const bool read = verb == Verb::kGet || verb == Verb::kPeek || verb == Verb::kHas;
        const bool was_refused = outcomes[i].status == Status::kLogFull;
        if (!was_refused && (!read || refused.contains(*keys[i]))) Fail("done behind a request that found no room");
        if (was_refused && read &&
            !refused_bits.contains(TableHash(life_.options.hash, *keys[i], life_.options.secrets) % 512)) {
          Fail("a read was refused that shares no bit with a refused mutation");
        }
        if (!read) refuse(*keys[i]);
        if (was_refused) continue;
      }
      out_of_room = outcomes[i].status == Status::kNeedsRoom;
      if (outcomes[i].status == Status::kLogFull) {
        log_full = true;
        refuse(*keys[i]);
      }
      const Expected expected =
          shards_[shard].Ask(requests[i], *keys[i], nullptr, SeenOf(outcomes[i], false), &model_scratch);
      if (!CompareOutcome(requests[i], *keys[i], outcomes[i], expected, scratch_.data(), true))
        return AfterCall("many");
    }
  }
  return AfterCall("many");
}

}  // namespace cairn::model
