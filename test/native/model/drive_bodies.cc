#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"

namespace cairn::model {

// Whether another body may begin; takes those away that have stalled, the one that was written to first before others,
// if that is what it takes.
bool Harness::HasBodyPlace(uint32_t shard_index, uint64_t charge, const Now& now) {
  ModelShard& shard = shards_[shard_index];
  const auto fits = [&](uint64_t charge_less, int count_less) {
    return shard.bodies - count_less < kBodiesMax - 1 && shard.body_charge - charge_less + charge <= shard.limit / 2;
  };
  std::vector<BodyHandle*> stalled;
  uint64_t stalled_charge = 0;
  for (BodyHandle& handle : bodies_) {
    const bool slow = handle.written_ms != 0 && handle.written_ms + kBodyStalledMs <= now.boot_ms;
    if (handle.lost || handle.body.shard != shard_index || !slow) continue;
    stalled.push_back(&handle);
    stalled_charge += handle.charge;
  }
  if (stalled.empty() || !fits(stalled_charge, static_cast<int>(stalled.size()))) return fits(0, 0);
  std::sort(stalled.begin(), stalled.end(), [](const BodyHandle* a, const BodyHandle* b) {
    return std::pair(a->written_ms, a->body.ref) < std::pair(b->written_ms, b->body.ref);
  });
  for (BodyHandle* handle : stalled) {
    if (fits(0, 0)) break;
    handle->lost = true;
    shard.body_charge -= handle->charge;
    --shard.bodies;
    ++coverage_.bodies_lost;
  }
  return fits(0, 0);
}

bool Harness::DoReserve(const Op& op) {
  static constexpr Verb kBodyVerbs[] = {Verb::kSet, Verb::kSet, Verb::kAdd, Verb::kReplace, Verb::kCas};
  if (bodies_.size() > 70) return true;
  Op one = op;
  one.verb = kBodyVerbs[static_cast<int>(op.verb) % 5];
  const std::string& key = KeyName(op.key);
  std::string value = ValueOf(one);
  Request request = MakeRequest(one, key, {});
  // Not for bodies that may be small.
  if (request.expires_ms == kKeepExpiry && value.size() <= kBodyKeepsExpiryBytesMin) request.expires_ms = kNeverExpires;
  const bool timed = request.expires_ms != kNeverExpires && request.expires_ms != kKeepExpiry;
  Body body;
  BeforeCall();
  const Now now = store_->uses_time() || timed ? now_ : Now{};
  const Status actual = store_->Reserve(request, static_cast<uint32_t>(value.size()), now, &body);
  RunScheduledClear();
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  const Layout layout = LayoutOf(key.size(), value.size(), request.expires_ms, request.client_flags);
  Status expected = Status::kStored;
  if (value.size() > store_->value_bytes_max() || layout.charge > shard.limit) {
    expected = Status::kTooLarge;
  } else if (RingHoldsRoom(shard, layout.charge)) {
    Refused(shard_index);
    expected = Status::kLogFull;
  } else if (!HasBodyPlace(shard_index, layout.charge, now)) {
    ++shard.counters.no_memory;
    ++coverage_.bodies_refused;
    if (actual != Status::kNoMemory) Fail(std::string("expected no-memory, got ") + NameOf(actual));
    return AfterCall("reserve");
  } else if (!MakeRoom(shard, layout.charge, false, false)) {
    expected = Status::kNoMemory;
  }
  if (expected == Status::kTooLarge || expected == Status::kNoMemory) {
    ++coverage_.bodies_refused;
    ++(expected == Status::kTooLarge ? shard.counters.too_large : shard.counters.no_memory);
    const List::iterator old = Find(shard, key);
    const bool other_version =
        request.has_compare && old != shard.lru.end() && !IsExpired(*old) && old->version != request.compare;
    if (request.verb == Verb::kSet && !other_version) {
      VoidFills(key);
      if (old != shard.lru.end() || life_.records) {
        if (ReserveRecord(shard_index, key.size())) {
          if (life_.records) ExpectDelete(shard_index, key, nullptr);
          if (old != shard.lru.end()) Unlink(shard, old, Reason::kReplaced, true);
        } else {
          expected = Status::kLogFull;
        }
      }
    }
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  if (static_cast<bool>(body) != (actual == Status::kStored)) Fail("a body that does not fit the status");
  if (body) {
    ++shard.bodies;
    shard.body_charge += layout.charge;
    request.key = {};
    bodies_.push_back({body, request, op.key, std::move(value), layout.charge, layout, 0, now.boot_ms, false});
  }
  return AfterCall("reserve");
}

bool Harness::DoWriteBody(const Op& op) {
  if (bodies_.empty()) return true;
  BodyHandle& handle = bodies_[op.number % bodies_.size()];
  const size_t bytes = std::min<size_t>(handle.value.size() - handle.written, op.bytes);
  BeforeCall();
  const Now now = store_->uses_time() ? now_ : Now{};
  const bool written =
      store_->WriteBody(handle.body, handle.written, std::string_view(handle.value).substr(handle.written, bytes), now);
  if (bytes > 0 && written == handle.lost) Fail(written ? "a lost body was written to" : "a body was lost");
  if (bytes > 0 && now.boot_ms != 0) handle.written_ms = now.boot_ms;
  handle.written += bytes;
  return AfterCall("writeBody");
}

bool Harness::DoLink(const Op& op, bool abandon) {
  if (bodies_.empty()) return true;
  const size_t which = op.number % bodies_.size();
  BodyHandle& handle = bodies_[which];
  const std::string& key = KeyName(handle.key);
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  BeforeCall();
  if (handle.lost) {
    Request request = handle.request;
    request.key = key;
    Outcome actual;
    if (abandon) {
      store_->Abandon(&handle.body);
    } else {
      store_->Link(&handle.body, request, store_->uses_time() ? now_ : Now{}, &actual);
      RunScheduledClear();
      if (actual.status != Status::kNoMemory) Fail(std::string("expected no-memory, got ") + NameOf(actual.status));
    }
    if (handle.body) Fail("a lost body was not taken");
    bodies_.erase(bodies_.begin() + static_cast<ptrdiff_t>(which));
    return AfterCall("lost");
  }
  if (abandon) {
    store_->Abandon(&handle.body);
    shard.body_charge -= handle.charge;
    --shard.bodies;
    bodies_.erase(bodies_.begin() + static_cast<ptrdiff_t>(which));
    return AfterCall("abandon");
  }
  if (handle.written < handle.value.size()) {
    (void)store_->WriteBody(handle.body, handle.written, std::string_view(handle.value).substr(handle.written));
    handle.written = handle.value.size();
  }
  Request request = handle.request;
  request.key = key;
  Outcome actual;
  store_->Link(&handle.body, request, store_->uses_time() ? now_ : Now{}, &actual);
  RunScheduledClear();
  Expected expected;
  const List::iterator old = Lookup(shard, key, false);
  const bool present = old != shard.lru.end();
  expected.status = Condition(request, shard, old);
  if (request.verb == Verb::kCas) {
    if (expected.status == Status::kNotFound) ++shard.counters.cas_misses;
    if (expected.status == Status::kExists) ++shard.counters.cas_exists;
  }
  bool keeps_body = false;
  Entry from;
  from.key = key;
  from.value = handle.value;
  from.codec = request.codec;
  from.client_flags = request.client_flags;
  from.expires_ms = request.expires_ms;
  if (from.expires_ms == kKeepExpiry) from.expires_ms = present ? old->expires_ms : kNeverExpires;
  if (expected.status != Status::kStored) {
    if (present) DescribeEntry(*old, &expected);
    shard.body_charge -= handle.charge;
    --shard.bodies;
  } else if (!ReserveEntry(shard_index, from, true)) {
    expected.status = Status::kLogFull;
    keeps_body = true;
    handle.written_ms = 0;
  } else {
    from.charge = handle.charge;
    from.size_class = handle.layout.size_class;
    from.chunked = handle.layout.chunked;
    from.nonwhole_chunks = handle.layout.nonwhole_chunks;
    from.access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
    from.filed_ms = now_.boot_ms;
    if (present) Unlink(shard, old, Reason::kReplaced, true, true);
    MakeRoom(shard, 0, true, false);
    shard.body_charge -= handle.charge;
    --shard.bodies;
    PinForRing(shard_index, &from);
    ExpectRecord(shard_index, RecordKind::kSet, from);
    if (!life_.records) expected_records_[shard_index].clear();
    DescribeEntry(*LinkFront(shard, std::move(from)), &expected);
    expected.mutates = true;
    expected.new_version = true;
    ++shard.counters.sets;
    if (request.verb == Verb::kCas) ++shard.counters.cas_hits;
    VoidFills(key);
    ++coverage_.bodies_linked;
  }
  if (!CompareOutcome(request, key, actual, expected, nullptr)) return AfterCall("link");
  if (static_cast<bool>(handle.body) != keeps_body) return Fail("link: the body was not taken, or it was");
  if (!keeps_body) bodies_.erase(bodies_.begin() + static_cast<ptrdiff_t>(which));
  return AfterCall("link");
}

bool Harness::DoReadPin(const Op& op, bool release) {
  if (pins_.empty()) return true;
  const size_t which = op.number % pins_.size();
  PinHandle& handle = pins_[which];
  const std::string& value = handle.held->value;
  const size_t offset = op.bytes % (value.size() + 1);
  const size_t bytes = release ? value.size() - offset : (op.number >> 8) % (value.size() - offset + 1);
  std::string read(bytes, '\0');
  store_->ReadPinned(handle.pin, offset, read.data(), bytes);
  if (read != std::string_view(value).substr(offset, bytes)) return Fail("a pinned value changed");
  if (!release) return true;
  BeforeCall();
  store_->Unpin(handle.pin);
  Held& held = *handle.held;
  if (--held.pins == 0 && held.left) shards_[handle.shard].zombie_charge -= held.charge;
  pins_.erase(pins_.begin() + static_cast<ptrdiff_t>(which));
  return AfterCall("unpin");
}

bool Harness::DoFill(const Op& op) {
  if (op.kind == OpKind::kEndFill) {
    if (tickets_.empty()) return true;
    const size_t which = op.number % tickets_.size();
    store_->EndFill(KeyName(tickets_[which].key), tickets_[which].ticket.get());
    if (tickets_[which].ticket->voided() != tickets_[which].voided)
      return Fail("endFill: the ticket forgot whether it is void");
    tickets_.erase(tickets_.begin() + static_cast<ptrdiff_t>(which));
    return true;
  }
  if (tickets_.size() >= 20) return true;
  const std::string& key = KeyName(op.key);
  const bool if_absent = op.number % 2 == 0;
  Ticket ticket{op.key, std::make_unique<FillTicket>()};
  BeforeCall();
  const bool began = store_->BeginFill(key, if_absent, store_->uses_time() ? now_ : Now{}, ticket.ticket.get());
  RunScheduledClear();
  ModelShard& shard = ShardFor(key);
  const bool expected = !if_absent || Lookup(shard, key, false) == shard.lru.end();
  if (began != expected) Fail(began ? "a fill began though the entry is there" : "a fill did not begin");
  if (began) tickets_.push_back(std::move(ticket));
  return AfterCall("beginFill");
}

}  // namespace cairn::model
