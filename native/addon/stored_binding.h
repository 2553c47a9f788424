// What the backend of a cache has, for its writer and for calls that wait for it. Functions of a handle whose cache has
// a log; src/native.ts declares their types.
//
// The writer, and the loader, of one of several backends:
//
//   useBackend(number)                    before the others: this handle is that of the backend of this number, not of
//                                         the first one. Every cache has it
//
// The writer:
//
//   collectVersions(records, BigUint64Array) -> boolean
//                                         raises the versions, by shard, to those of the records; false: the bytes are
//                                         not whole records
//   refuseStored(key, version, reason)    the backend has put this change aside; before markStored() of its batch
//   markStored(BigUint64Array)            the backend has everything up to these versions, by shard
//   dropStored(key, version)              evicts the entry of the key if it has this version
//   tellStored()                          wakes waiters
//   setStoredHealth(number, from, end)    StoredChanges::Health of the shards from the first to before the second, or
//                                         of all; wakes waiters
//   listenWanted()                        this thread is woken when a caller begins to wait
//   takeWanted() -> boolean               a caller waits for a change that the backend does not have
//   isWanted(from, end) -> boolean        the same of the shards from the first to before the second
//   setSlowdown(milliseconds)             how long changes wait from now on, by Slowdown; 0 wakes waiters
//   slowedChanges() -> [changes, milliseconds]
//                                         those that have been made to wait, and the sum of their times
//
// Any thread:
//
//   wantStored(shard, key, version) -> number
//                                         a caller is about to wait for this version; which backend the key is of
//   storedOutcome(shard, key, version) -> number or string
//                                         StoredChanges::Outcome; a string: the reason for which it was refused
//   storedHealth(key) -> number           of the backend of a key, and its shard; without one: the worst of all
//   slowDown() -> milliseconds            that a change of this thread waits, by the slowest backend; it is counted
#pragma once

#include <napi.h>

namespace cairn {

void InitStoredBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
