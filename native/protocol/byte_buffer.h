// A growing run of bytes: replies to send, the rest of an unfinished request. It may start in borrowed memory (a Buffer
// of JavaScript, an array of a loop) and moves to its own memory only when that is too small.
//
// Not thread-safe. Running out of memory is not fatal: failed() says so, the bytes that did not fit are left out, and
// the owner ends the connection.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace cairn {

class ByteBuffer {
 public:
  ByteBuffer() = default;
  // Starts in `lent`, which must outlive the buffer, or its last use before Release().
  ByteBuffer(char* lent, size_t capacity) : data_(lent), capacity_(capacity) {}
  ~ByteBuffer() {
    if (owned_) std::free(data_);
  }
  ByteBuffer(const ByteBuffer&) = delete;
  ByteBuffer& operator=(const ByteBuffer&) = delete;

  const char* data() const { return data_; }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  bool failed() const { return failed_; }
  // False while the bytes are in borrowed memory.
  bool owned() const { return owned_; }
  std::string_view view() const { return {data_, size_}; }

  // Room for the next `bytes` bytes; Advance() counts those written. Null if there is no memory.
  char* Room(size_t bytes) {
    if (bytes <= capacity_ - size_) [[likely]]
      return data_ + size_;
    return Grow(bytes);
  }
  void Advance(size_t bytes) { size_ += bytes; }

  void Append(std::string_view bytes) {
    char* to = Room(bytes.size());
    if (to == nullptr || bytes.empty()) return;
    std::memcpy(to, bytes.data(), bytes.size());
    size_ += bytes.size();
  }

  // Removes bytes from the front.
  void DropFront(size_t bytes) {
    size_ -= bytes;
    if (size_ != 0 && bytes != 0) std::memmove(data_, data_ + bytes, size_);
  }
  void Clear() { size_ = 0; }
  // Removes bytes from the end. REQUIRES: size <= size().
  void Truncate(size_t size) { size_ = size; }
  // Frees its own memory; the buffer is then empty.
  void Release() {
    if (owned_) std::free(data_);
    data_ = nullptr;
    size_ = capacity_ = 0;
    owned_ = false;
  }

 private:
  char* Grow(size_t bytes) {
    if (bytes > SIZE_MAX / 4 - size_) return Fail();
    size_t wanted = size_ + bytes;
    size_t doubled = capacity_ * 2;
    // Doubling a large buffer would waste more than copying it once more costs.
    if (doubled > capacity_ + kGrowBytesMax) doubled = capacity_ + kGrowBytesMax;
    if (wanted < doubled) wanted = doubled;
    if (wanted < kFirstBytes) wanted = kFirstBytes;
    char* grown = static_cast<char*>(owned_ ? std::realloc(data_, wanted) : std::malloc(wanted));
    if (grown == nullptr) return Fail();
    if (!owned_ && size_ != 0) std::memcpy(grown, data_, size_);
    data_ = grown;
    capacity_ = wanted;
    owned_ = true;
    return data_ + size_;
  }
  char* Fail() {
    failed_ = true;
    return nullptr;
  }

  static constexpr size_t kFirstBytes = 256;
  static constexpr size_t kGrowBytesMax = 1024 * 1024;

  char* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
  bool owned_ = false;
  bool failed_ = false;
};

}  // namespace cairn
