// The counters and sizes of a store, or of one of its shards.
#pragma once

#include <cstdint>

namespace cairn {

// Counters since opening, and present sizes. Of one shard, or summed over all.
struct StoreStats {
  uint64_t entries = 0;           // live: not cleared; includes expired ones that were not found yet
  uint64_t stubs = 0;             // keys whose newest record the backend does not have, and whose entry left memory
  uint64_t stub_bytes = 0;        // what they are charged
  uint64_t negative_entries = 0;  // keys of which the backend has said that it has no value
  uint64_t cleared_entries = 0;   // cleared, memory not yet freed
  uint64_t entries_max = 0;
  uint64_t charged_bytes = 0;    // the charge of the entries against limit_bytes
  uint64_t limit_bytes = 0;      // charged_bytes never exceeds it; memory_bytes less index, reserves, descriptors
  uint64_t payload_bytes = 0;    // key and value bytes of linked entries
  uint64_t memory_bytes = 0;     // the cap
  uint64_t committed_bytes = 0;  // of the mapping, touched so far and not returned
  uint64_t index_bytes = 0;
  uint64_t pages_used = 0;
  uint64_t pages_free = 0;
  uint64_t pinned_pages = 0;
  uint64_t buckets = 0;
  uint64_t gets = 0, hits = 0, misses = 0;  // get-type verbs
  uint64_t sets = 0;                        // stored by any storing verb
  uint64_t touches = 0, touch_hits = 0;
  uint64_t deletes = 0, delete_hits = 0;
  uint64_t incr_hits = 0, incr_misses = 0, decr_hits = 0, decr_misses = 0;
  uint64_t cas_hits = 0, cas_misses = 0, cas_exists = 0;
  uint64_t evictions = 0, evicted_unfetched = 0;
  uint64_t expirations = 0, expired_unfetched = 0, get_expired = 0;
  uint64_t too_large = 0, no_memory = 0, log_full = 0;
  uint64_t clears = 0;
  uint64_t relocations = 0;         // chunks moved to empty a page
  uint64_t splits = 0, merges = 0;  // of hash buckets
  uint64_t hash_flood_evictions = 0;
  uint64_t reserve_evictions = 0;  // evictions below the limit because there was no page: expected to stay 0

  void Add(const StoreStats& other);
};

}  // namespace cairn
