#include "server/outgoing.h"

#ifdef __linux__

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <span>

namespace cairn {
namespace {

// The most pieces of one send. A value has more only in a cache of few MiB, whose pages are small.
constexpr size_t kPiecesMax = 128;
// An unsent reply of more bytes is freed once it has left.
constexpr size_t kKeptUnsentBytesMax = 4096;

bool IsFull(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

Outgoing::Sent Outgoing::Send(int fd, std::string_view bytes, PinnedValues* values) {
  const bool is_first = this->bytes() == 0;
  if (is_first && values->empty()) [[likely]] {
    Sent sent = Sent::kAll;
    while (!bytes.empty()) {
      const ssize_t count = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count >= 0) {
        bytes.remove_prefix(static_cast<size_t>(count));
        sent = Sent::kSome;
      } else if (IsFull(errno)) {
        break;
      } else if (errno != EINTR) {
        return Sent::kFailed;
      }
    }
    if (bytes.empty()) return Sent::kAll;
    Keep(bytes, values);
    return unsent_.failed() ? Sent::kFailed : sent;
  }
  Keep(bytes, values);
  if (unsent_.failed()) return Sent::kFailed;
  return is_first ? Flush(fd) : Sent::kNone;
}

void Outgoing::Keep(std::string_view bytes, PinnedValues* values) {
  // What has left is dropped when it is the greater part, so that each byte is moved once.
  if (unsent_from_ > unsent_.size() - unsent_from_) {
    for (PinnedValue& value : values_) value.at -= unsent_from_;
    unsent_.DropFront(unsent_from_);
    unsent_from_ = 0;
  }
  const size_t begin = unsent_.size();
  unsent_.Append(bytes);
  value_bytes_ += values->bytes();
  values->TakeAll([this, begin](PinnedValue value) {
    value.at += begin;
    values_.push_back(value);
  });
}

Outgoing::Sent Outgoing::Flush(int fd) {
  Sent sent = Sent::kNone;
  while (bytes() != 0) {
    iovec pieces[kPiecesMax];
    size_t wanted = 0;
    msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = PiecesOf(pieces, &wanted);
    const ssize_t count = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (count >= 0) {
      Advance(static_cast<size_t>(count));
      sent = Sent::kSome;
      if (static_cast<size_t>(count) < wanted) return sent;
    } else if (IsFull(errno)) {
      return sent;
    } else if (errno != EINTR) {
      return Sent::kFailed;
    }
  }
  unsent_from_ = 0;
  unsent_.Clear();
  if (unsent_.capacity() > kKeptUnsentBytesMax) unsent_.Release();
  return Sent::kAll;
}

size_t Outgoing::PiecesOf(iovec* pieces, size_t* bytes) const {
  size_t count = 0;
  const auto add = [&](const char* data, size_t size) {
    pieces[count++] = {const_cast<char*>(data), size};
    *bytes += size;
  };
  size_t from = unsent_from_;
  const auto add_bytes = [&](size_t to) {
    if (to != from) add(unsent_.data() + from, to - from);
    from = to;
  };
  size_t value_from = first_from_;
  for (const PinnedValue& value : values_) {
    // Room for the bytes before the value and for one piece of it.
    if (count + 2 > kPiecesMax) return count;
    add_bytes(value.at);
    while (value_from != value.bytes && count != kPiecesMax) {
      std::span<char> found[16];
      const size_t found_max = std::min(std::size(found), kPiecesMax - count);
      const size_t found_count =
          store_->PinnedPlaces(value.pin, value_from, value.bytes - value_from, found, found_max);
      for (size_t i = 0; i < found_count; i++) {
        add(found[i].data(), found[i].size());
        value_from += found[i].size();
      }
    }
    if (value_from != value.bytes) return count;
    value_from = 0;
  }
  if (count != kPiecesMax) add_bytes(unsent_.size());
  return count;
}

void Outgoing::Advance(size_t bytes) {
  auto value = values_.begin();
  while (bytes != 0) {
    const size_t bytes_end = value == values_.end() ? unsent_.size() : value->at;
    const size_t taken = std::min(bytes, bytes_end - unsent_from_);
    unsent_from_ += taken;
    bytes -= taken;
    if (bytes == 0) break;
    const size_t value_taken = std::min(bytes, value->bytes - first_from_);
    first_from_ += value_taken;
    value_bytes_ -= value_taken;
    bytes -= value_taken;
    if (first_from_ != value->bytes) break;
    store_->Unpin(value->pin);
    first_from_ = 0;
    ++value;
  }
  values_.erase(values_.begin(), value);
}

void Outgoing::Drop() {
  for (const PinnedValue& value : values_) store_->Unpin(value.pin);
  values_.clear();
  first_from_ = value_bytes_ = 0;
  unsent_.Release();
  unsent_from_ = 0;
}

}  // namespace cairn

#endif  // __linux__
