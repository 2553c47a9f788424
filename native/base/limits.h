// Every native limit with its reason. src/limits.ts repeats those that users meet; src/native.ts compares them when it
// loads the addon.
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
// The largest value, where none was given, is lowered with the memory limit; a limit that would lower it below this is
// refused.
inline constexpr uint64_t kValueBytesMaxLowest = 64 * 1024;
// The smallest memory limit: below it the index, the reserves and one value of each size class do not fit.
inline constexpr uint64_t kMemoryBytesMin = uint64_t{4} << 20;
// A reference has 32 bits in units of 8 bytes, so a shard spans 32 GiB; one page before the end stays unused.
inline constexpr uint64_t kShardBytesMax = uint64_t{32} << 30;
inline constexpr uint64_t kGranuleBytes = 8;
inline constexpr uint32_t kShardCountMax = 256;
// Databases behind one cache: each has its thread.
inline constexpr uint32_t kBackendsMax = 8;
// A shard below this quota cannot hold a useful mix of sizes; see StoreOptions.
inline constexpr uint64_t kShardQuotaBytesMin = uint64_t{4} << 20;
// As a limit on entries: no limit, which is as many as JavaScript can count.
inline constexpr uint64_t kEntriesUnlimited = (uint64_t{1} << 53) - 1;
// Shards for each processor: two threads then seldom want the same lock at the same time.
inline constexpr uint32_t kShardsPerProcessor = 8;
// A shard has room for at least this many of the largest values, so that one of them does not evict everything else.
inline constexpr uint64_t kValuesPerShardMin = 8;
// With fewer entries per shard, one LRU order cut into shards costs visible misses. (With 1,000 entries per shard, at
// most 0.03 points of the hit ratio: traces of test/native/programs/trace_replay.cc.)
inline constexpr uint64_t kShardEntriesMin = 1024;

inline constexpr uint64_t kPageBytesMin = 4 * 1024;
inline constexpr uint64_t kPageBytesMax = 256 * 1024;
// The target number of pages per shard: all partly filled pages together are then about two per cent of the quota.
inline constexpr uint64_t kPagesPerShard = 3072;

// The most buckets, of 12 places each, in a hash chain; beyond it a new entry replaces an entry of the chain.
inline constexpr int kChainBucketsMax = 8;
// Values up to this size are copied under the lock; larger ones are pinned and copied outside it.
inline constexpr size_t kCopyUnderLockBytesMax = 4 * 1024;
// The most bytes that an append or prepend copies under one hold of the lock, besides those that do not fill a page;
// beyond it the copy is made in steps.
inline constexpr size_t kConcatCopiedBytesMax = 128 * 1024;
// Larger values are chunked for every page size, and can be received before their expiry is known.
inline constexpr size_t kBodyKeepsExpiryBytesMin = kPageBytesMax / 8;
// After this time without a byte, a value being received yields its place to one that cannot begin.
inline constexpr uint64_t kBodyStalledMs = 1000;
// incr and decr refuse longer values. Twenty digits are enough for 64 bits; memcached accepts any number of zeros
// before them and of blanks behind them, which padding leaves.
inline constexpr size_t kDecimalBytesMax = 128;
// The most pins of an entry at a time (a nibble).
inline constexpr int kPinsPerEntryMax = 15;
// The most pages with pins, which cannot be emptied; part of a shard's reserve.
inline constexpr uint32_t kPinnedPagesMax = 24;
// A pin may last while a slow client takes the value only if it leaves other readers this many pins of the entry, this
// many pages, and if all pins of the shard take at most 1/kLastingPinShareMax of its limit.
inline constexpr int kPinsPerEntrySpare = 7;
inline constexpr uint32_t kPinnedPagesSpare = 8;
inline constexpr uint64_t kLastingPinShareMax = 8;
// The smallest change ring of a shard. A ring must have room for any record at any position: twice the largest key with
// the largest value that is copied in.
inline constexpr uint64_t kRingBytesMin = 256 * 1024;
// All rings together take at most 1/kRingShareMax of the memory.
inline constexpr uint64_t kRingShareMax = 4;
// Larger values are not copied into the ring; they stay pinned until the log has them.
inline constexpr size_t kRingInlineValueBytesMax = 16 * 1024;
// If no more values can be pinned, values up to this size are copied into the ring: tens of microseconds under the
// lock.
inline constexpr size_t kRingCopiedValueBytesMax = 128 * 1024;
// The most pages with pins for readers and the ring together. Those beyond kPinnedPagesMax are part of the reserve of a
// shard with a ring. A value takes at most ten pages: its head, up to eight large chunks, the rest.
inline constexpr uint32_t kRingPinnedPagesMax = kPinnedPagesMax + 32;
// The ring pins at most 1/kRingPinnedShareMax of a shard's limit, or one value if that is larger.
inline constexpr uint64_t kRingPinnedShareMax = 4;
// The largest value of a cache with rings: a drain buffer holds a whole record.
inline constexpr uint64_t kLoggedValueBytesMax = uint64_t{64} << 20;
// The records of one atomic batch together: no more than the largest value, so that a drain buffer for any record is
// large enough for any atomic batch.
inline constexpr uint64_t kAtomicBatchBytesMax = kLoggedValueBytesMax;
// The most groups of records on their way to the log: enough for a log that answers late, few enough for the scribe to
// keep in memory.
inline constexpr uint32_t kLogTurnsMax = 16;

// A point in the table of a shard's places in the log covers at least as much of the log: a look-up reads a range.
inline constexpr uint64_t kLogPlaceBytesMin = 64 * 1024;
// Recovered versions of one shard and group that are further apart, times the number of shards, are of different shards
// of a log that had more of them. Of one shard whose keys are now shared among n, one version in n is in a given shard.
inline constexpr uint64_t kLogPlaceGapPerShard = 16;
// The most shards of such a log whose versions a shard tells apart.
inline constexpr size_t kLogTracksMax = kShardCountMax;
// The most such points of a shard, of 32 bytes each: 8 MiB for the most shards, and 1 GiB of log in ranges of 1 MiB.
inline constexpr size_t kLogPlacesPerShardMax = 1024;

// The most walks registered with one shard at a time.
inline constexpr int kCursorsPerShard = 4;
// The most entries that one step visits under one hold of the lock: of a walk, of the timer wheel, or of freeing
// cleared entries.
inline constexpr int kStepEntriesMax = 64;
// Requests of a batch that are prefetched together, so that their cache misses overlap.
inline constexpr int kGroupRequests = 32;

// The most loads in flight in one cache, over all threads. A fetch beyond it loads alone and stores nothing.
inline constexpr uint32_t kFlightsMax = 64 * 1024;
// The most bytes of their keys, so that long keys cannot make the table large; beyond it as above.
inline constexpr uint64_t kFlightKeyBytesMax = uint64_t{16} << 20;
// The most bytes of loaded values on their way to waiting threads. Beyond it a waiter reads the cache again instead.
inline constexpr uint64_t kFlightCarriedBytesMax = uint64_t{64} << 20;

// The most loads from the database in one cache, over all threads and connections. A request beyond it is refused.
inline constexpr uint32_t kLoadsMax = 64 * 1024;
// The most bytes of their keys; beyond it as above.
inline constexpr uint64_t kLoadKeyBytesMax = uint64_t{16} << 20;
// The most requests that wait for them; beyond it as above.
inline constexpr uint32_t kLoadWaitersMax = 1024 * 1024;
// A request begins at most this many loads of its key, one after the other. More are needed only if the value leaves
// memory between the end of a load and the request.
inline constexpr uint32_t kLoadTriesMax = 4;
// A key that the database does not have is known to be absent for at least this time, so that the requests which have
// waited for the load find that out.
inline constexpr uint64_t kAbsentMsMin = 1000;

// The unread removal events of one cache. 1 MiB is about 20,000 events with keys of 20 bytes: the events of a busy
// cache in the tens of milliseconds for which a listener's event loop may be busy.
inline constexpr size_t kRemovalRingBytes = size_t{1} << 20;
// The most listening handles of one cache, over all threads.
inline constexpr uint32_t kRemovalListenersMax = 256;
// Removal events omit larger values, because values are copied under a shard's lock.
inline constexpr size_t kRemovalValueBytesMax = 4 * 1024;

}  // namespace cairn
