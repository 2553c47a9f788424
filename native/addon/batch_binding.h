// A batch: requests that a lane's thread executes in one native call. src/request/batch.ts writes and reads the same
// bytes, in this layout.
//
// A batch travels in a block: memory that both threads see (a SharedArrayBuffer of BATCH_BLOCK_BYTES), so nothing is
// copied or allocated on the way. One side at a time uses a block: the sender until the task is posted, then the lane's
// thread until it answers. Numbers are in the byte order of the machine; 32-bit words are aligned.
//
//   offset
//        0   BatchHeader                           kBatchHeaderBytes
//       64   requests, one behind the other        up to kBatchRequestsEnd
//   96 KiB   answers: AnswerRow[request_count]     at most kBatchRowsMax
//            values of hits, up to the end of the block
//
// A request: RequestHeader | those 64-bit fields that its flags announce, in the order of the flags | key | value,
// padded to a multiple of 4. A value too large for a block is not in it: the request has the index of a piece (a
// Uint8Array that travels with the block) instead of the bytes. A hit whose value has no room in the block waits for
// more room (below); its row then says in which of the answer's pieces the value is.
//
// The functions of a handle object:
//
//   beginBatch(block, pieces | undefined) -> need      executes as far as the values of hits have room
//   continueBatch(target, pieceNumber) -> need         gives values without room a new place and goes on
//
// need: 0: the batch is done. > 0: a value found no room; call continueBatch with a target of at least `need` bytes.
// -1: the handle or the cache is closed. BatchHeader::rows_done is the number of rows that may be read; rows with
// kNeedsRoom wait.
//
// A request that finds no room in the log waits for it here while the log is running and commits; otherwise it answers
// kLogFull.
//
// Order: requests for one key are executed in their order in the batch, including those that waited for room.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>

namespace cairn {

inline constexpr size_t kBatchHeaderBytes = 64;
inline constexpr size_t kBatchBlockBytes = 256 * 1024;
inline constexpr size_t kBatchRequestsEnd = 96 * 1024;
inline constexpr uint32_t kBatchRowsMax = 2048;
// Identifies the layout: a change of the layout changes it.
inline constexpr uint32_t kBatchMagic = 0x43420005;

struct BatchHeader {
  uint32_t magic;
  uint32_t request_count;
  uint32_t requests_end;  // offset behind the last request
  uint32_t rows_done;     // written by the addon
};

// In place of a verb of the store: a request that its caller withdrew before it was sent.
inline constexpr uint8_t kVerbNothing = 255;

enum RequestFlag : uint16_t {
  kFlagTtl = 1,          // u64: milliseconds from now, 0: never expires. Without it: the cache's time to live
  kFlagCompare = 2,      // u64: cas token
  kFlagDelta = 4,        // u64
  kFlagInitial = 8,      // u64
  kFlagPiece = 16,       // u64: the value is pieces[index]
  kFlagKeepExpiry = 32,  // keep the entry's expiry
  kFlagHold = 64,        // the answer says which version must be in the log before the caller may see it
};

struct RequestHeader {
  uint8_t verb;   // Verb or kVerbNothing
  uint8_t codec;  // Codec
  uint16_t flags;
  uint32_t key_bytes;
  uint32_t value_bytes;  // of a value in line; 0 with kFlagPiece
  uint32_t client_flags;
};
static_assert(sizeof(RequestHeader) == 16);

struct AnswerRow {
  uint8_t status;  // Status
  uint8_t codec;
  uint8_t fetched;
  uint8_t reserved;
  uint32_t client_flags;
  uint32_t value_bytes;
  uint32_t value_offset;  // in the block or in the piece
  uint32_t piece;         // 0: in the block; n: in the n-th piece of the answer
  uint32_t idle_s;
  uint64_t version;
  // incr, decr: the result. Others: milliseconds until the entry expires, 0: never.
  uint64_t number;
  // With kFlagHold: the version of that shard which the answer reveals, if it is not committed yet. Otherwise 0.
  uint64_t commit_version;
  uint32_t shard;
  uint32_t
      changed;  // 0: the request has left no record; otherwise 1 + the milliseconds that its answer waits: Slowdown
};
static_assert(sizeof(AnswerRow) == 56 && offsetof(AnswerRow, version) == 24);
static_assert(kBatchRequestsEnd + kBatchRowsMax * sizeof(AnswerRow) < kBatchBlockBytes);

void InitBatchBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
