// The replies of one connection that may not leave yet, in order.
//
//   bytes of   |  STORED  |  VALUE a ... END  |  STORED  |  ERROR  |        one buffer, in the order of the requests
//   marks      ^ shard 2, version 71          ^ shard 0, version 88         each where the reply begins that must wait
//
// Bytes before the first mark that waits leave; ready replies behind it wait too. Not thread-safe: it is its
// session's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/byte_buffer.h"
#include "protocol/limits.h"
#include "protocol/response.h"
#include "store/backends.h"
#include "store/commit_marks.h"

namespace cairn {

// Writes an error in place of a reply. `tag`: what the dialect has given with the reply, to tell its request by.
using ErrorForm = void (*)(Reply reply, uint64_t tag, ByteBuffer* out);

class HeldReplies {
 public:
  // Without a form, errors are lines.
  void SetErrorForm(ErrorForm form) { error_form_ = form; }

  // No reply is held: replies may leave at once.
  bool empty() const { return next_ == marks_.size(); }
  size_t bytes() const { return bytes_.size(); }
  size_t count() const { return marks_.size() - next_; }
  ByteBuffer* buffer() { return &bytes_; }

  // The bytes in the buffer from `begin` on wait for the version. REQUIRES: `begin` is not before that of an earlier
  // mark.
  void Hold(uint32_t shard, uint64_t version, size_t begin);
  // The bytes from `begin` to the end of the buffer are the reply to a change of the key, and wait for the backend to
  // have it. `is_whole`: they may be replaced by an error, which is told by `tag`, if the backend does not get it.
  void HoldForBackend(uint32_t shard, std::string_view key, uint64_t version, size_t begin, bool is_whole,
                      uint64_t tag);

  // Takes over the replies of `more`, which stand behind these; `more` is empty then. Those that wait neither for these
  // nor for a mark go to `out`.
  void Follow(HeldReplies* more, ByteBuffer* out);

  // Discards all held replies: their versions will never be committed.
  void Drop();

  enum class Released : uint8_t {
    kAll,
    kSome,    // others are held
    kBroken,  // the outcome of a change is unknown or bad, and its reply cannot say so
  };
  // Moves the replies that may leave to `out`. `backends`: null if no reply waits for one.
  Released Release(const CommitMarks& marks, const Backends* backends, ByteBuffer* out);

 private:
  struct Change {
    size_t end;  // of the reply, in bytes_
    bool is_whole;
    uint64_t tag;
    std::string key;
  };
  struct Mark {
    size_t begin;  // in bytes_
    uint64_t version;
    uint32_t shard;
    std::unique_ptr<Change> change;  // null: it waits for the log
  };
  ErrorForm error_form_ = nullptr;
  ByteBuffer bytes_;
  std::vector<Mark> marks_;
  size_t next_ = 0;  // the first mark that waits
};

}  // namespace cairn
