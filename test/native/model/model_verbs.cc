#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "model/harness.h"
#include "model/values.h"
#include "model/words.h"
#include "store/shard.h"

namespace cairn::model {

bool Harness::GiveValue(ModelShard& shard, List::iterator entry, bool may_pin, const Outcome* actual, Scratch* scratch,
                        Expected* expected) {
  const bool large = entry->value.size() > kCopyUnderLockBytesMax;
  if (large && may_pin) {
    // Whether the pages of its chunks are pinned already is not known here: within the budget for sure, beyond it for
    // sure, or as the store says.
    const uint64_t pages = before_[static_cast<size_t>(&shard - shards_.data())].pinned_pages;
    const bool certain = pages + 1 + entry->nonwhole_chunks <= kPinnedPagesMax;
    const bool impossible = entry->pins() == kPinsPerEntryMax;
    // What refuses a get-and-touch comes behind its value, and takes the pin back. The value is chunked: whether it was
    // pinned or copied makes no difference to what is refused.
    const bool taken_back = actual->status == Status::kNoMemory || actual->status == Status::kLogFull;
    const bool pinned = actual->pin.ref != 0 || taken_back;
    if (!impossible && (certain || pinned)) {
      if (entry->held == nullptr || entry->held->pins == 0) {
        entry->held = std::make_shared<Held>();
        entry->held->value = entry->value;
        entry->held->charge = entry->charge;
      }
      expected->pinned = entry->held;
      expected->has_value = true;
      expected->value = entry->value;
      return true;
    }
    ++coverage_.copies_of_large;
  }
  if (scratch->capacity - scratch->used < entry->value.size()) {
    expected->status = Status::kNeedsRoom;
    expected->value_bytes = static_cast<uint32_t>(entry->value.size());
    ++coverage_.needs_room;
    return false;
  }
  scratch->used += entry->value.size();
  expected->has_value = true;
  expected->value = entry->value;
  return true;
}

void Harness::ExecuteGet(ModelShard& shard, const Request& request, const std::string& key, const Outcome* actual,
                         Scratch* scratch, Expected* expected) {
  const bool may_pin = scratch != nullptr && actual->pin.shard != ~0u;
  if (request.verb != Verb::kGet) {
    const List::iterator entry = Find(shard, key);
    if (entry == shard.lru.end()) return;
    if (IsExpired(*entry)) {
      shard.gone_version = std::max(shard.gone_version, entry->version);
      return;
    }
    if (request.verb == Verb::kPeek && !request.no_value &&
        !GiveValue(shard, entry, may_pin, actual, scratch, expected))
      return;
    DescribeEntry(*entry, expected);
    expected->status = Status::kFound;
    return;
  }
  const List::iterator entry = Lookup(shard, key, true);
  if (entry == shard.lru.end()) {
    ++shard.counters.gets;
    ++shard.counters.misses;
    return;
  }
  if (!request.no_value && !GiveValue(shard, entry, may_pin, actual, scratch, expected)) return;
  ++shard.counters.gets;
  ++shard.counters.hits;
  DescribeEntry(*entry, expected);
  expected->status = Status::kFound;
  if (request.no_bump) return;
  entry->fetched = true;
  entry->access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
  shard.lru.splice(shard.lru.begin(), shard.lru, entry);
}

Status Harness::Condition(const Request& request, ModelShard& shard, List::iterator entry) const {
  const bool present = entry != shard.lru.end();
  if (request.verb == Verb::kAdd && present) return Status::kNotStored;
  const bool needs = request.verb == Verb::kReplace || request.verb == Verb::kAppend || request.verb == Verb::kPrepend;
  if (needs && !present) return Status::kNotStored;
  if (request.verb == Verb::kCas && !present) return Status::kNotFound;
  if ((request.has_compare || request.verb == Verb::kCas) && present && entry->version != request.compare) {
    return Status::kExists;
  }
  if (request.fill != nullptr) {
    for (const Ticket& ticket : tickets_) {
      if (ticket.ticket.get() == request.fill && ticket.voided) return Status::kExists;
    }
  }
  return Status::kStored;
}

void Harness::Execute(const Request& request, const std::string& key, bool may_pin, const Outcome* actual,
                      Scratch* scratch, Expected* expected) {
  uint32_t shard_index;
  ModelShard& shard = ShardFor(key, &shard_index);
  StoreStats& counters = shard.counters;
  Outcome oracle = *actual;
  oracle.pin.shard = may_pin ? 0 : ~0u;
  switch (request.verb) {
    case Verb::kGet:
    case Verb::kPeek:
    case Verb::kHas:
      return ExecuteGet(shard, request, key, &oracle, scratch, expected);
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kReplace:
    case Verb::kCas: {
      const List::iterator old = Lookup(shard, key, false);
      const bool present = old != shard.lru.end();
      expected->status = Condition(request, shard, old);
      if (request.verb == Verb::kCas) {
        if (expected->status == Status::kNotFound) ++counters.cas_misses;
        if (expected->status == Status::kExists) ++counters.cas_exists;
      }
      if (expected->status != Status::kStored) {
        if (present) DescribeEntry(*old, expected);
        if (request.fill != nullptr && expected->status == Status::kExists) ++coverage_.fills_voided;
        return;
      }
      Entry from;
      from.key = key;
      from.value = std::string(request.value);
      from.codec = request.codec;
      from.client_flags = request.client_flags;
      from.expires_ms = request.expires_ms;
      if (from.expires_ms == kKeepExpiry) from.expires_ms = present ? old->expires_ms : kNeverExpires;
      expected->status = Put(shard, std::move(from), old, true, expected);
      if (expected->status == Status::kStored) {
        ++counters.sets;
        if (request.verb == Verb::kCas) ++counters.cas_hits;
        if (request.fill != nullptr) ++coverage_.fills_stored;
        VoidFills(key);
      } else if (expected->status == Status::kNoMemory) {
        ++coverage_.no_memory;
        VoidFills(key);
        // What was evicted may still be in the log.
        if (request.verb == Verb::kSet && !present && life_.records) ExpectDelete(shard_index, key, expected);
      } else if (expected->status == Status::kTooLarge) {
        ++coverage_.too_large;
        ++counters.too_large;
        if (request.verb != Verb::kSet) return;
        VoidFills(key);
        if (!present && !life_.records) return;
        if (!ReserveRecord(shard_index, key.size())) {
          expected->status = Status::kLogFull;
          return;
        }
        ExpectDelete(shard_index, key, expected);
        if (present) Unlink(shard, old, Reason::kReplaced, true);
      }
      return;
    }
    case Verb::kAppend:
    case Verb::kPrepend: {
      List::iterator entry = Lookup(shard, key, false);
      expected->status = Condition(request, shard, entry);
      const std::string added(request.value);
      Codec codec = Codec::kRaw;
      if (expected->status == Status::kStored && !JoinedCodec(entry->codec, request.codec, added, &codec)) {
        expected->status = Status::kNotStored;
      }
      if (expected->status != Status::kStored) {
        if (entry != shard.lru.end()) DescribeEntry(*entry, expected);
        return;
      }
      Entry changed = *entry;
      changed.value = request.verb == Verb::kAppend ? changed.value + added : added + changed.value;
      changed.codec = codec;
      changed.access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
      if (changed.value.size() > store_->value_bytes_max()) {
        ++counters.too_large;
        ++coverage_.too_large;
        expected->status = Status::kTooLarge;
        return;
      }
      if (!ReserveEntry(shard_index, changed, false)) {
        expected->status = Status::kLogFull;
        return;
      }
      const bool extends = request.verb == Verb::kAppend && entry->chunked && entry->pins() == 0 &&
                           added.size() <= kConcatCopiedBytesMax;
      if (!extends && may_pin && changed.value.size() > kConcatCopiedBytesMax) ++coverage_.concats_in_steps;
      expected->status =
          extends ? Extend(shard, &entry, std::move(changed)) : Rebuild(shard, &entry, std::move(changed), true);
      if (expected->status != Status::kStored) {
        if (expected->status == Status::kTooLarge) {
          ++counters.too_large;
        } else {
          expected->status = NoMemory(shard, expected->status);
          ++coverage_.no_memory;
        }
        return;
      }
      ++counters.sets;
      PinForRing(shard_index, &*entry);
      ExpectRecord(shard_index, RecordKind::kSet, *entry);
      expected->mutates = true;
      expected->new_version = true;
      DescribeEntry(*entry, expected);
      VoidFills(key);
      return;
    }
    case Verb::kIncr:
    case Verb::kDecr: {
      const bool incr = request.verb == Verb::kIncr;
      const List::iterator old = Lookup(shard, key, false);
      Entry from;
      from.key = key;
      if (old == shard.lru.end()) {
        ++(incr ? counters.incr_misses : counters.decr_misses);
        if (!request.has_initial) return;
        from.value = std::to_string(request.initial);
        from.codec = request.codec;
        from.client_flags = request.client_flags;
        from.expires_ms = request.expires_ms == kKeepExpiry ? kNeverExpires : request.expires_ms;
        expected->status = Put(shard, std::move(from), old, true, expected);
        if (expected->status == Status::kStored) {
          expected->check_number = true;
          expected->number = request.initial;
          VoidFills(key);
        }
        return;
      }
      if (request.has_compare && old->version != request.compare) {
        DescribeEntry(*old, expected);
        expected->status = Status::kExists;
        return;
      }
      uint64_t number = 0;
      if (old->codec == Codec::kJson || old->codec == Codec::kStructured || !NumberOf(old->value, &number)) {
        expected->status = Status::kNonNumeric;
        return;
      }
      number = incr ? number + request.delta : number - std::min(number, request.delta);
      from.value = std::to_string(number);
      if (request.pad_decimal && from.value.size() < old->value.size()) from.value.resize(old->value.size(), ' ');
      from.codec = old->codec;
      from.client_flags = old->client_flags;
      from.expires_ms = old->expires_ms;
      from.fetched = old->fetched;
      expected->status = Put(shard, std::move(from), old, true, expected);
      if (expected->status == Status::kNoMemory) VoidFills(key);
      if (expected->status != Status::kStored) return;
      ++(incr ? counters.incr_hits : counters.decr_hits);
      expected->status = Status::kFound;
      expected->check_number = true;
      expected->number = number;
      VoidFills(key);
      return;
    }
    case Verb::kTouch:
    case Verb::kGetAndTouch: {
      const bool get = request.verb == Verb::kGetAndTouch;
      List::iterator entry = Lookup(shard, key, get);
      if (entry == shard.lru.end()) {
        ++counters.touches;
        if (get) {
          ++counters.gets;
          ++counters.misses;
        }
        return;
      }
      if (request.has_compare && entry->version != request.compare) {
        DescribeEntry(*entry, expected);
        expected->status = Status::kExists;
        return;
      }
      if (!ReserveRecord(shard_index, key.size())) {
        expected->status = Status::kLogFull;
        return;
      }
      const size_t scratch_used = scratch == nullptr ? 0 : scratch->used;
      if (get && !request.no_value && !GiveValue(shard, entry, may_pin, &oracle, scratch, expected)) return;
      DescribeEntry(*entry, expected);
      // The pin comes first, so that the entry that is read is the one that is held.
      const std::shared_ptr<Held> pinned = expected->pinned;
      if (pinned != nullptr) ++pinned->pins;
      const Status status = SetExpiry(shard, &entry, request.expires_ms);
      if (pinned != nullptr) --pinned->pins;
      if (status != Status::kStored) {
        if (scratch != nullptr) scratch->used = scratch_used;
        ++coverage_.no_memory;
        expected->status = NoMemory(shard, status);
        expected->check_entry = false;
        expected->has_value = false;
        expected->pinned = nullptr;
        return;
      }
      ++counters.touches;
      ++counters.touch_hits;
      if (get) {
        ++counters.gets;
        ++counters.hits;
        if (!request.no_bump) {
          entry->fetched = true;
          entry->access_s = static_cast<uint32_t>(now_.boot_ms / 1000);
        }
      }
      if (!(get && request.no_bump)) shard.lru.splice(shard.lru.begin(), shard.lru, entry);
      ExpectRecord(shard_index, RecordKind::kTouch, *entry);
      expected->mutates = true;
      expected->expires_ms = entry->expires_ms;
      expected->status = Status::kFound;
      return;
    }
    case Verb::kDelete:
    case Verb::kTake:
    case Verb::kEvict: {
      const bool evict = request.verb == Verb::kEvict;
      const List::iterator entry = Lookup(shard, key, false);
      if (entry == shard.lru.end()) {
        if (request.verb == Verb::kDelete && !request.has_compare && life_.records) {
          if (!ReserveRecord(shard_index, key.size())) {
            expected->status = Status::kLogFull;
            return;
          }
          ExpectDelete(shard_index, key, expected);
        }
        if (!evict) ++counters.deletes;
        VoidFills(key);
        return;
      }
      if (request.has_compare && entry->version != request.compare) {
        DescribeEntry(*entry, expected);
        expected->status = Status::kExists;
        return;
      }
      if (!evict && !ReserveRecord(shard_index, key.size())) {
        expected->status = Status::kLogFull;
        return;
      }
      if (request.verb == Verb::kTake && !request.no_value &&
          !GiveValue(shard, entry, may_pin, &oracle, scratch, expected))
        return;
      DescribeEntry(*entry, expected);
      expected->version = 0;
      expected->status = Status::kFound;
      if (!evict) {
        ++counters.deletes;
        ++counters.delete_hits;
        ExpectRecord(shard_index, RecordKind::kDelete, *entry);
        expected->mutates = true;
      }
      VoidFills(key);
      if (expected->pinned != nullptr) ++expected->pinned->pins;
      Unlink(shard, entry, evict ? Reason::kEvicted : Reason::kDeleted, true);
      if (expected->pinned != nullptr) --expected->pinned->pins;
      return;
    }
  }
}

}  // namespace cairn::model
