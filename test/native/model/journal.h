// The records that a shard has left and that the log has not taken: what a ring holds, and when it is full.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "store/record.h"

namespace cairn::model {

// A value that must not change or go while someone holds it: readers, or the journal. Shared by the entry and those who
// hold it.
struct Held {
  std::string value;
  uint64_t charge = 0;
  int pins = 0;
  bool left = false;     // no key leads to it any more
  bool cleared = false;  // it was dead when last seen: whether it has left is not known
};

struct ExpectedRecord {
  RecordKind kind;
  uint64_t version = 0;  // 0: not known
  std::string key, value;
  uint8_t codec = 0;
  uint32_t client_flags = 0;
  int64_t expires_wall_ms = 0;
  RecordFields optional;
  // Where it lies in a ring, and what it keeps in place there.
  uint64_t ring_begin = 0, ring_end = 0;
  std::shared_ptr<Held> held;
};

// Rules:
//   - a record takes its bytes, rounded up; it lies in one piece, so what is left before the ring's end is skipped;
//   - a large value may stay in its entry, which the journal then holds: the record takes a reference's bytes;
//   - room comes back in the order of the records, and only when they are committed; those that were drained are
//     drained again after a rewind;
//   - a little is left for a clear that was promised.
class Journal {
 public:
  bool keeps_records = false;
  uint64_t capacity = 0;  // of the ring; 0: there is none

  uint64_t written = 0, freed = 0;      // positions in the ring
  uint64_t count = 0;                   // of all records so far
  std::vector<ExpectedRecord> records;  // those that are not committed
  size_t drained = 0;                   // of them
  uint64_t drained_at = 0;              // the position behind those
  size_t seen = 0;                      // of them, drained at least once
  uint64_t held_charge = 0;             // of the entries that the journal holds

  bool is_ring() const { return capacity != 0; }
  uint64_t fill_bytes() const { return written - freed; }

  // Whether it takes the record of a key alone; of a key and a value, whole or with a reference; of a clear.
  bool TakesKey(size_t key_bytes, size_t field_bytes = 0) const;
  bool TakesWhole(size_t key_bytes, size_t value_bytes, size_t field_bytes) const;
  bool TakesReference(size_t key_bytes, size_t field_bytes) const;
  bool TakesBarrier(bool is_promised) const;

  // Gives the record its place in a ring. True: what was left before the ring's end is skipped.
  bool Place(ExpectedRecord* record);

 private:
  bool HasRoom(uint64_t bytes, uint64_t spare) const;
};

}  // namespace cairn::model
