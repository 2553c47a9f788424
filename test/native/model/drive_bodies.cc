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
    return shard.bodies - count_less < kEntrySlots - 1 && shard.body_charge - charge_less + charge <= shard.limit / 2;
  };
  std::vector<BodyHandle*> stalled;
  uint64_t stalled_charge = 0;
  for (BodyHandle& handle : bodies_) {
    const bool slow = handle.written_ms != 0 && handle.written_ms + kBodyStalledMs <= now.boot_ms;
    if (handle.lost || handle.body.shard != shard_index || !slow) continue;
    stalled.push_back(&handle);
    stalled_charge += handle.footprint.charge;
  }
  if (stalled.empty() || !fits(stalled_charge, static_cast<int>(stalled.size()))) return fits(0, 0);
  std::sort(stalled.begin(), stalled.end(), [](const BodyHandle* a, const BodyHandle* b) {
    return std::pair(a->written_ms, a->body.ref) < std::pair(b->written_ms, b->body.ref);
  });
  for (BodyHandle* handle : stalled) {
    if (fits(0, 0)) break;
    handle->lost = true;
    shard.body_charge -= handle->footprint.charge;
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
  const bool timed = IsTimed(request);
  Body body;
  BeforeCall();
  const Now now = store_->uses_time() || timed ? now_ : Now{};
  const Status actual = store_->Reserve(request, static_cast<uint32_t>(value.size()), now, &body);
  RunScheduledClear();
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  Entry to_come;
  to_come.key = key;
  to_come.value = value;
  to_come.client_flags = request.client_flags;
  const bool keeps_ends = request.expires_ms == kKeepExpiry;
  to_come.expires_ms = keeps_ends ? request.keep_else_ms : request.expires_ms;
  to_come.fresh_until_ms = keeps_ends ? 1 : request.fresh_until_ms;  // there is room for either end
  const Footprint footprint = shard.FootprintOf(to_come);
  Status expected = Status::kStored;
  if (shard.IsTooLarge(to_come)) {
    expected = Status::kTooLarge;
  } else if (shard.WaitsForJournal(footprint.charge)) {
    expected = shard.LogFull();
  } else if (!HasBodyPlace(shard_index, footprint.charge, now)) {
    ++shard.counters.no_memory;
    ++coverage_.bodies_refused;
    if (actual != Status::kNoMemory) Fail(std::string("expected no-memory, got ") + NameOf(actual));
    return AfterCall("reserve");
  } else if (!shard.HasRoom(footprint.charge, nullptr)) {
    expected = Status::kNoMemory;
  } else {
    shard.LetOldestLeave(footprint.charge, false, nullptr);
  }
  if (expected == Status::kTooLarge || expected == Status::kNoMemory) {
    ++coverage_.bodies_refused;
    ++(expected == Status::kTooLarge ? shard.counters.too_large : shard.counters.no_memory);
    const ModelShard::Place old = shard.Find(key);
    const bool is_live =
        old != shard.end() && !shard.IsExpired(*old) && (request.accepts_stale || !shard.IsStale(*old));
    const bool other_version = request.has_compare && is_live && old->version != request.compare;
    if (request.verb == Verb::kSet && !other_version) {
      shard.VoidLoads(key);
      if (!shard.MakeAbsent(key, old, true, nullptr)) expected = Status::kLogFull;
    }
  }
  if (actual != expected) Fail(std::string("expected ") + NameOf(expected) + ", got " + NameOf(actual));
  if (static_cast<bool>(body) != (actual == Status::kStored)) Fail("a body that does not fit the status");
  if (body) {
    ++shard.bodies;
    shard.body_charge += footprint.charge;
    request.key = {};
    bodies_.push_back({body, request, op.key, std::move(value), footprint, 0, now.boot_ms, false});
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
    shard.body_charge -= handle.footprint.charge;
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
  bool present;
  const ModelShard::Place old = shard.Meet(key, false, request.accepts_stale, &present);
  expected.status = shard.Judge(request, present ? old : shard.end(), nullptr);
  if (request.verb == Verb::kCas) {
    if (expected.status == Status::kNotFound) ++shard.counters.cas_misses;
    if (expected.status == Status::kExists) ++shard.counters.cas_exists;
  }
  bool keeps_body = false;
  if (expected.status != Status::kStored) {
    if (present) shard.Describe(*old, &expected);
    shard.body_charge -= handle.footprint.charge;
    --shard.bodies;
  } else {
    Entry next;
    next.key = key;
    next.value = handle.value;
    next.codec = request.codec;
    next.client_flags = request.client_flags;
    next.expires_ms = request.expires_ms;
    next.fresh_until_ms = request.fresh_until_ms;
    if (request.expires_ms == kKeepExpiry) {
      next.expires_ms = present ? old->expires_ms : request.keep_else_ms;
      if (present) next.fresh_until_ms = old->fresh_until_ms;
    }
    next.footprint = handle.footprint;
    keeps_body = !shard.Admit(std::move(next), old, handle.footprint.charge, &expected);
    if (keeps_body) {
      expected.status = Status::kLogFull;
      handle.written_ms = 0;
    } else {
      if (request.verb == Verb::kCas) ++shard.counters.cas_hits;
      ++shard.counters.sets;
      shard.VoidLoads(key);
    }
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
  shards_[handle.shard].LetGo(handle.held);
  pins_.erase(pins_.begin() + static_cast<ptrdiff_t>(which));
  return AfterCall("unpin");
}

bool Harness::DoFill(const Op& op) {
  if (op.kind == OpKind::kEndFill) {
    if (tickets_.empty()) return true;
    const size_t which = op.number % tickets_.size();
    store_->EndFill(KeyName(tickets_[which].key), tickets_[which].ticket.get());
    if (tickets_[which].ticket->voided() != tickets_[which].load->voided)
      return Fail("endFill: the ticket forgot whether it is void");
    std::erase(ShardFor(KeyName(tickets_[which].key)).loads, tickets_[which].load);
    tickets_.erase(tickets_.begin() + static_cast<ptrdiff_t>(which));
    return true;
  }
  if (tickets_.size() >= 20) return true;
  const std::string& key = KeyName(op.key);
  const bool if_absent = op.number % 2 == 0;
  Ticket ticket{op.key, std::make_unique<FillTicket>(), std::make_shared<ModelShard::Load>()};
  ticket.load->key = key;
  BeforeCall();
  const bool began = store_->BeginFill(key, if_absent ? FillOf::kAbsentKey : FillOf::kAnyKey,
                                       store_->uses_time() ? now_ : Now{}, ticket.ticket.get());
  RunScheduledClear();
  ModelShard& shard = ShardFor(key);
  bool is_live = false;
  if (if_absent) (void)shard.Meet(key, false, false, &is_live);
  const bool expected = !is_live;
  if (began != expected) Fail(began ? "a fill began though the entry is there" : "a fill did not begin");
  if (began) {
    shard.loads.push_back(ticket.load);
    tickets_.push_back(std::move(ticket));
  }
  return AfterCall("beginFill");
}

}  // namespace cairn::model
