// The way of a cache's records to its log, for the scribe's thread, and the news of it, for everybody. Functions of a
// handle; each does nothing, or answers as said, where the cache has no log. src/native.ts declares their types.
//
// The scribe (src/scribe), from opening to end:
//
//   startFeed(epoch, wallFloorMs)      the epoch of all versions that are given from now on; the least time of the
//   clock applyRecords(records) -> number    what is recovered: how many were applied; -1: malformed; -2: closed
//   finishRecovery()                   the cache is ready, marks count
//   drain(target, timeoutMs) -> bytes  -1: closed. The words: kNumber records, kVersion their highest epoch,
//                                      kValueBytes what a record needs that is too large for the target
//   commitDrained(), rewindDrained()   what was drained is in the log; is to be drained again
//   setFeedState(state), setLogMetrics(Float64Array)
//
// Everybody:
//
//   poke()                             the scribe's drain() returns
//   feedStats(Float64Array) -> number of values     see FeedStat
//   logMetrics(Float64Array)
//   readTargets(BigUint64Array)        a version per shard: everything that was done so far
//   covered(BigUint64Array) -> boolean
//   waitCommitted(BigUint64Array, timeoutMs) -> boolean   blocks this thread
//   watchCommits()                     the next commit, or change of state, calls this thread's function
//   (thread_waker.h) commitMark(shard) -> bigint        what is committed of a shard ringBell() somebody waits for a
//   commit feedState() -> number, epoch() -> number
#pragma once

#include <node_api.h>

#include <cstddef>

namespace cairn {

// Places in what feedStats() fills in; src/native.ts has the same table.
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

void InitFeedBinding(napi_env env, napi_value exports);

}  // namespace cairn
