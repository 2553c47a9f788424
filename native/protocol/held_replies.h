// The replies of one connection that may not leave yet, in order.
//
//   bytes of   |  STORED  |  VALUE a ... END  |  STORED  |  ERROR  |        one buffer, in the order of the requests
//   marks      ^ shard 2, version 71          ^ shard 0, version 88         each where the reply begins that must wait
//
// Bytes before the first uncommitted mark leave; ready replies behind it wait too. Not thread-safe: it is its
// session's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "protocol/byte_buffer.h"
#include "protocol/limits.h"
#include "store/commit_marks.h"

namespace cairn {

class HeldReplies {
 public:
  // No reply is held: replies may leave at once.
  bool empty() const { return next_ == marks_.size(); }
  size_t bytes() const { return bytes_.size(); }
  bool full() const { return marks_.size() - next_ >= kHeldMarksMax; }
  ByteBuffer* buffer() { return &bytes_; }

  // The bytes in the buffer from `begin` on wait for the version. REQUIRES: `begin` is not before that of an earlier
  // mark.
  void Hold(uint32_t shard, uint64_t version, size_t begin);

  // Discards all held replies: their versions will never be committed.
  void Drop();

  // Moves the replies that may leave to `out`. True if no reply is held any more.
  bool Release(const CommitMarks& marks, ByteBuffer* out);

 private:
  struct Mark {
    size_t begin;  // in bytes_
    uint64_t version;
    uint32_t shard;
  };
  ByteBuffer bytes_;
  std::vector<Mark> marks_;
  size_t next_ = 0;  // the first mark that is not yet committed
};

}  // namespace cairn
