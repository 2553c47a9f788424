// The replies on their way to a client: bytes, and between them large values, which leave from their entries and stay
// pinned until then.
//
// Not thread-safe: it is its client's.
#pragma once

#ifdef __linux__

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "protocol/byte_buffer.h"
#include "protocol/pinned_values.h"
#include "store/store.h"

namespace cairn {

class Outgoing {
 public:
  explicit Outgoing(Store* store) : store_(store) {}
  ~Outgoing() { Drop(); }
  Outgoing(const Outgoing&) = delete;
  Outgoing& operator=(const Outgoing&) = delete;

  // Bytes that have not left, those of values included.
  size_t bytes() const { return unsent_.size() - unsent_from_ + value_bytes_; }

  // Its own memory, and that of entries which stay for it.
  size_t memory_bytes() const { return unsent_.capacity() + value_bytes_; }

  enum class Sent : uint8_t {
    kAll,     // nothing is left
    kSome,    // the system has taken some bytes, and takes no more now
    kNone,    // the system takes no bytes now
    kFailed,  // the client is gone, or there is no memory for what it does not take
  };
  // Sends the replies of a call as far as the system takes them, and keeps the rest. Empties `values`.
  Sent Send(int fd, std::string_view bytes, PinnedValues* values);
  // Sends what was kept. REQUIRES: bytes() != 0.
  Sent Flush(int fd);
  // Discards all.
  void Drop();

 private:
  void Keep(std::string_view bytes, PinnedValues* values);
  // The pieces to send next. Returns how many; `bytes`: their sum.
  size_t PiecesOf(iovec* pieces, size_t* bytes) const;
  // These bytes have left.
  void Advance(size_t bytes);

  Store* const store_;
  ByteBuffer unsent_;
  size_t unsent_from_ = 0;
  std::vector<PinnedValue> values_;  // each at its place in unsent_
  size_t first_from_ = 0;            // bytes of the first value that have left
  size_t value_bytes_ = 0;           // of the values, without those that have left
};

}  // namespace cairn

#endif  // __linux__
