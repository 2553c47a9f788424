// Every native bound with its reason. src/limits.ts repeats those that users meet and compares them with the addon's
// when it loads it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cairn {

// The longest key that the memcached protocol allows; such keys lie inline behind the entry's header.
inline constexpr size_t kKeyBytesInlineMax = 250;
// The longest key of the API. Keys of 251 bytes and more continue in chunks.
inline constexpr size_t kKeyBytesMax = 64 * 1024;
// The largest value: sizes are 32-bit, and one copy of a value must not hold a thread for seconds.
inline constexpr uint64_t kValueBytesMax = uint64_t{1} << 30;
// The smallest memory limit: below it the index, the reserves and one value of each size class do not fit.
inline constexpr uint64_t kMemoryBytesMin = uint64_t{4} << 20;
// A reference has 32 bits in units of 8 bytes, so that a shard spans 32 GiB; one page is kept free of the end.
inline constexpr uint64_t kShardBytesMax = uint64_t{32} << 30;
inline constexpr uint64_t kGranuleBytes = 8;
inline constexpr uint32_t kShardCountMax = 256;
// A shard below this quota cannot hold a useful mix of sizes; see StoreOptions.
inline constexpr uint64_t kShardQuotaBytesMin = uint64_t{4} << 20;
// As a limit on entries: none. As many as JavaScript can count.
inline constexpr uint64_t kEntriesUnlimited = (uint64_t{1} << 53) - 1;
// With fewer entries per shard than this, cutting one LRU order into shards costs visible misses.
inline constexpr uint64_t kShardEntriesMin = 16384;

inline constexpr uint64_t kPageBytesMin = 4 * 1024;
inline constexpr uint64_t kPageBytesMax = 256 * 1024;
// Pages per shard aimed at: all partly filled pages together are then about two per cent of the quota.
inline constexpr uint64_t kPagesPerShard = 3072;

// A hash chain is at most so many buckets of 12 slots long; beyond it a new entry takes the place of one of the chain.
inline constexpr int kChainBucketsMax = 8;
// Values up to this size are copied under the lock; larger ones are pinned and copied outside it.
inline constexpr size_t kCopyUnderLockBytesMax = 4 * 1024;
// An append or prepend copies so much under one hold of the lock at most, and what does not fill a page; otherwise it
// goes in steps.
inline constexpr size_t kConcatCopiedBytesMax = 128 * 1024;
// Values above this are chunked whatever the pages are, and can be received before it is known when they expire.
inline constexpr size_t kBodyKeepsExpiryBytesMin = kPageBytesMax / 8;
// A value that is being received, and of which nothing has come for so long, gives way where others cannot begin.
inline constexpr uint64_t kBodyStalledMs = 1000;
// incr and decr take no longer value for a number. Twenty digits are enough for 64 bits; memcached reads any number of
// zeros before them and of blanks behind them, which padding leaves.
inline constexpr size_t kDecimalBytesMax = 128;
// Pins per entry and time (a nibble).
inline constexpr int kPinsPerEntryMax = 15;
// Pages with pins that a shard can afford to leave where they are; part of its reserve.
inline constexpr uint32_t kPinnedPagesMax = 24;
// The change ring of one shard, at least: a ring must have room for any record wherever it stands, twice the largest
// key with the largest value that is copied in.
inline constexpr uint64_t kRingBytesMin = 256 * 1024;
// All rings together take at most this share of the memory.
inline constexpr uint64_t kRingShareMax = 4;
// Larger values stay where they are, pinned, until the log has them.
inline constexpr size_t kRingInlineValueBytesMax = 16 * 1024;
// Values up to here are copied in all the same where no more can be pinned: tens of microseconds under the lock.
inline constexpr size_t kRingCopiedValueBytesMax = 128 * 1024;
// Pages with pins for readers and the ring together; what goes beyond those for readers is part of the reserve of a
// shard with a ring. A value takes at most ten: its head, up to eight large chunks, the rest.
inline constexpr uint32_t kRingPinnedPagesMax = kPinnedPagesMax + 32;
// What the ring may pin of a shard's limit, in all; a single value may be larger.
inline constexpr uint64_t kRingPinnedShareMax = 4;
// The largest value of a cache with rings: what is drained holds a whole record.
inline constexpr uint64_t kLoggedValueBytesMax = uint64_t{64} << 20;
// Groups of records that are on their way to the log at once: enough to fill the way to one that answers late, few
// enough to be kept in memory by the scribe.
inline constexpr uint32_t kLogTurnsMax = 16;

// Walks over one shard that are registered at the same time.
inline constexpr int kCursorsPerShard = 4;
// Entries that a step of a walk, of the timer wheel or of the reclaiming of cleared entries visits under one hold.
inline constexpr int kStepEntriesMax = 64;
// Requests of one batch that are staged together so that their cache misses overlap.
inline constexpr int kGroupRequests = 32;

// Loads in flight at once in one cache, over all threads. A fetch beyond it loads for itself alone and stores nothing.
inline constexpr uint32_t kFlightsMax = 64 * 1024;
// Bytes of their keys, so that long keys cannot make the table large; beyond it as above.
inline constexpr uint64_t kFlightKeyBytesMax = uint64_t{16} << 20;
// Bytes of loaded values on their way to the threads that wait for them. Beyond it a waiter is sent to the cache
// instead.
inline constexpr uint64_t kFlightCarriedBytesMax = uint64_t{64} << 20;

// Removal events of one cache that wait to be read. 1 MiB is some 20,000 events with keys of 20 bytes: what a busy
// cache makes in the tens of milliseconds for which a listener's event loop may be held up.
inline constexpr size_t kRemovalRingBytes = size_t{1} << 20;
// Listening handles of one cache, over all threads.
inline constexpr uint32_t kRemovalListenersMax = 256;
// Larger values are left out of removal events: they are copied under a shard's lock.
inline constexpr size_t kRemovalValueBytesMax = 4 * 1024;

}  // namespace cairn
