// The reply slots of one connection that may not leave yet, in order.
//
//   bytes of   |  STORED  |  VALUE a ... END  |  STORED  |  ERROR  |        one buffer, in the order of the requests
//   marks      ^ shard 2, version 71          ^ shard 0, version 88         each where the reply begins that must wait
//
// What lies before the first mark that is not covered leaves; what is ready but stands behind it waits with it.
// Not thread-safe: it is its session's.
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
  // Nothing is held: replies may go straight out.
  bool empty() const { return next_ == marks_.size(); }
  size_t bytes() const { return bytes_.size(); }
  bool full() const { return marks_.size() - next_ >= kHeldMarksMax; }
  ByteBuffer* buffer() { return &bytes_; }

  // What lies in the buffer from `begin` on waits for the version. REQUIRES: `begin` is not before that of an earlier
  // mark.
  void Hold(uint32_t shard, uint64_t version, size_t begin);

  // Forgets all of it: none of it will ever be true.
  void Drop();

  // Moves to `out` what may leave. True if nothing is held any more.
  bool Release(const CommitMarks& marks, ByteBuffer* out);

 private:
  struct Mark {
    size_t begin;  // in bytes_
    uint64_t version;
    uint32_t shard;
  };
  ByteBuffer bytes_;
  std::vector<Mark> marks_;
  size_t next_ = 0;  // the first mark that still counts
};

}  // namespace cairn
