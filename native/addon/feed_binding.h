// The way of a cache's records to its log, for the scribe's thread, and the news of commits, for all threads. Functions
// of a handle; for a cache without a log each does nothing, or answers as said. src/native.ts declares their types.
//
// The scribe (src/scribe), from opening to end:
//
//   startFeed(epoch, wallFloorMs)         all versions get this epoch from now on; the clock is not below this time
//   renumber(epoch)                       the log changes to another generation of epochs, and startFeed's epoch
//   applyRecords(records, begin, end) -> number
//                                         records of the log or a snapshot: how many were applied; -1: malformed; -2:
//                                         closed; -3: memory has no room for what the backend does not have yet, and
//                                         some of the records were not applied. The positions of the group that has
//                                         them, as bigints, if the backend does not have them yet: placesOf() gives
//                                         these; otherwise undefined
//   settleRecovered()                     the backend has all records that were applied: none of them takes room as one
//                                         that it does not have. After -3, when the backend has everything before the
//                                         group; the group is then applied again
//   finishRecovery()                      the cache is ready, and commit marks count
//   dumpPendingClear(target) -> bytes     the record of a clear that is due later; 0: there is none
//   drain(target, timeoutMs) -> bytes     -1: closed. The words: kNumber the count of records, kVersion their highest
//                                         epoch, kValueBytes the bytes of a record that is larger than the target,
//                                         kPlace the number of the turn
//   commitDrained(turn, begin, end)       the records of this turn are in the log, between these positions (bigints;
//                                         undefined: nothing will look for them); turns may come in any order
//   dropPlaces(before)                    placesOf() needs no range of the log before this position
//   rewindDrained()                       all that is not committed is to be drained once more
//   setFeedState(state)                   what all threads see of the log: ChangeFeed::State
//   setLogMetrics(Float64Array, place)    what logMetrics() returns from now on, from that place on; default 0
//
// Any thread:
//
//   poke()                                makes the scribe's drain() return
//   ringBell()                            tells the scribe that a thread waits for a commit
//   feedStats(Float64Array) -> number     fills in the values that FeedStat names; their count
//   logMetrics(Float64Array)              fills in what setLogMetrics() was given
//   readTargets(BigUint64Array)           one version per shard, which covers all that was done so far
//   covered(BigUint64Array) -> boolean    whether all of it is committed
//   waitCommitted(BigUint64Array, timeoutMs) -> boolean
//                                         the same, and blocks this thread until then
//   watchCommits()                        the next commit or change of state wakes this thread (thread_waker.h)
//   placesOf(key, version, BigUint64Array) -> number
//                                         the ranges of the log that may have the record of a key with this version:
//                                         fills in begin and end of each, as many as fit; how many there are
//   findInRing(key, version, target) -> number
//                                         the record, if it is not in the log yet: its bytes; 0: it is not in the ring;
//                                         -1: it needs more room, and the word kValueBytes says how many bytes; -2: too
//                                         many threads are reading it, call again
//   commitMark(shard) -> bigint           the version up to which a shard is committed
//   feedState() -> number                 ChangeFeed::State
//   epoch() -> number                     the epoch of the newest version
#pragma once

#include <napi.h>

#include <cstddef>

namespace cairn {

// The order of the values that feedStats() fills in; src/native.ts has the same table.
enum FeedStat : size_t {
  kFeedState,
  kFeedRingBytes,
  kFeedRingCapacityBytes,
  kFeedRingFillWorst,
  kFeedRecords,
  kFeedRecordsCommitted,
  kFeedLagMs,
  kFeedStatCount,
};

void InitFeedBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
