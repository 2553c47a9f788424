// The log of one shard in a test: reads the shard's change ring, and fills it so that no change finds room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "store/shard_guard.h"
#include "store/store.h"

namespace cairn::test {

// A record that was drained, owning its bytes.
struct StoredRecord {
  RecordKind kind;
  uint8_t codec;
  uint64_t version;
  int64_t expires_wall_ms;
  uint32_t client_flags;
  std::string key;
  std::string value;
  RecordFields optional = {};
};

// Everything that the ring has to give now, record by record; `version` is what the last call told, if any did.
// REQUIRES: the caller is the ring's reader. CHECKs that the bytes are whole records.
inline std::vector<StoredRecord> DrainAll(Store* store, uint32_t shard, uint64_t* version = nullptr,
                                          size_t capacity = size_t{1} << 14) {
  std::vector<StoredRecord> records;
  std::string bytes(capacity, '\0');
  for (;;) {
    const RingDrain drain = store->DrainRing(shard, bytes.data(), bytes.size());
    if (version != nullptr && drain.version != 0) *version = drain.version;
    std::string_view rest(bytes.data(), drain.bytes);
    for (uint32_t i = 0; i < drain.record_count; ++i) {
      RecordView view;
      CHECK(DecodeRecord(rest, &view) == DecodeStatus::kOk);
      rest.remove_prefix(view.record_bytes);
      records.push_back({view.kind, view.codec, view.version, view.expires_wall_ms, view.client_flags,
                         std::string(view.key), std::string(view.value), view.optional});
    }
    CHECK(rest.empty());
    if (drain.bytes == 0) {
      if (drain.bytes_needed == 0) return records;
      CHECK(drain.bytes_needed > bytes.size());
      bytes.resize(drain.bytes_needed);
    }
  }
}

class ShardLog {
 public:
  // REQUIRES: the store has rings, and nothing else reads this one.
  ShardLog(Store* store, uint32_t shard) : store_(store), shard_(shard) {}

  // The records that were not taken yet, without those of Fill().
  const std::vector<StoredRecord>& records() {
    Read();
    return records_;
  }
  std::vector<StoredRecord> Take() {
    Read();
    return std::exchange(records_, {});
  }

  // From now on no change finds room, until something is read: records of keys that no test uses fill the ring.
  void Fill() {
    Shard* shard = store_->shard(shard_);
    const ShardGuard guard(shard);
    for (size_t key_bytes = kKeyBytesMax; key_bytes >= 1; key_bytes /= 2) {
      while (shard->ring()->Reserve(RecordBytes(key_bytes, 0))) Leave(shard, key_bytes);
    }
    while (shard->ring()->ReserveBarrier(false)) Leave(shard, 1);
  }
  void MakeRoom() { Read(); }

 private:
  static constexpr char kFiller = '\x7f';

  static void Leave(Shard* shard, size_t key_bytes) REQUIRES_LOCK(shard) {
    shard->recorder()->LeaveDelete(std::string(key_bytes, kFiller));
  }
  void Read() {
    for (StoredRecord& record : DrainAll(store_, shard_)) {
      if (record.key.empty() || record.key[0] != kFiller) records_.push_back(std::move(record));
    }
    store_->CommitRing(shard_);
  }

  Store* store_;
  uint32_t shard_;
  std::vector<StoredRecord> records_;
};

}  // namespace cairn::test
