#include "protocol/event_log.h"

#include <cstring>
#include <new>
#include <utility>

namespace cairn {

struct EventLog::Header {
  Event event;
  size_t text_bytes;
};

bool EventLog::Hear(uint32_t streams) {
  if (streams != 0 && read_ == nullptr) {
    std::unique_ptr<char[]> filled(new (std::nothrow) char[kEventLogBytes]);
    std::unique_ptr<char[]> read(new (std::nothrow) char[kEventLogBytes]);
    if (filled == nullptr || read == nullptr) return false;
    read_ = std::move(read);
    const OsLockGuard guard(&lock_);
    filled_ = std::move(filled);
    used_ = 0;
  }
  std::unique_ptr<char[]> unused;
  {
    const OsLockGuard guard(&lock_);
    streams_.store(streams, std::memory_order_relaxed);
    if (streams == 0) unused = std::move(filled_);
  }
  if (streams == 0) {
    read_ = nullptr;
    unread_ = {};
  }
  return true;
}

char* EventLog::RoomFor(const Event& event, size_t text_bytes, bool* is_half_full) {
  if (filled_ == nullptr) return nullptr;
  const size_t bytes = sizeof(Header) + text_bytes;
  if (bytes > kEventLogBytes - used_) {
    counters_->AddShared(Counter::kLogWorkerDropped, 1);
    return nullptr;
  }
  counters_->AddShared(Counter::kLogWorkerWritten, 1);
  Header header{event, text_bytes};
  header.event.number = last_number_->fetch_add(1, std::memory_order_relaxed) + 1;
  char* at = filled_.get() + used_;
  std::memcpy(at, &header, sizeof header);
  *is_half_full = used_ < kEventLogBytes / 2 && used_ + bytes >= kEventLogBytes / 2;
  used_ += bytes;
  return at + sizeof header;
}

std::string_view* EventLog::Unread() {
  if (unread_.empty() && read_ != nullptr) {
    const OsLockGuard guard(&lock_);
    filled_.swap(read_);
    unread_ = {read_.get(), std::exchange(used_, 0)};
  }
  return &unread_;
}

std::string_view EventLog::Next(std::string_view* events, Event* event) {
  Header header;
  std::memcpy(&header, events->data(), sizeof header);
  *event = header.event;
  const std::string_view text = events->substr(sizeof header, header.text_bytes);
  events->remove_prefix(sizeof header + header.text_bytes);
  return text;
}

}  // namespace cairn
