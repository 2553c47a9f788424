// An atomic batch: sets and deletes of some keys that take effect at one moment, all of them or none (store_atomic.cc).
#pragma once

#include <cstddef>
#include <cstdint>

#include "store/entry.h"
#include "store/record.h"
#include "store/request.h"

namespace cairn {

// What an atomic batch does not fit into, whenever it is tried. The numbers are known to src/native.ts.
enum class AtomicBound : uint8_t {
  kNone = 0,
  kValue = 1,    // a value is larger than value_bytes_max
  kRecords = 2,  // its records together: kAtomicBatchBytesMax
  kRing = 3,     // the records of one shard: the shard's ring
  kMemory = 4,   // the entries of one shard: the shard's limit
  kEntries = 5,  // the entries of one shard: the shard's share of entries_max
};

struct AtomicOutcome {
  // kStored: all was done. Otherwise nothing was: kTooLarge (it never fits, see `bound`), kNoMemory or kLogFull (not
  // now), kExists (a ticket is void).
  Status status = Status::kStored;
  AtomicBound bound = AtomicBound::kNone;
  uint64_t wanted = 0;  // of the bound
  uint64_t limit = 0;
  size_t index = 0;  // kValue: of the request
};

// The size of a part's record.
inline uint64_t AtomicRecordBytes(const Request& request) {
  const uint16_t fields = request.fresh_until_ms != kAlwaysFresh ? kFieldBatch | kFieldFreshness : kFieldBatch;
  return RecordBytes(request.key.size(), request.verb == Verb::kDelete ? 0 : request.value.size(),
                     RecordFieldBytes(fields));
}

// One request of an atomic batch.
struct AtomicPart {
  Request* request;
  uint64_t hash;
  uint32_t shard;
  uint32_t index;  // in the batch
};

// The parts that are one shard's, in their order.
struct AtomicRun {
  const AtomicPart* parts;
  uint32_t count;
  Ref* staged;           // a place for each part's entry or stub, before it enters
  uint32_t* buckets;     // places for as many numbers
  uint64_t charge = 0;   // of its entries and stubs
  uint64_t entries = 0;  // sets
};

}  // namespace cairn
