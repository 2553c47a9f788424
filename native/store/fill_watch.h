// Tells a load that its key was written while it ran.
//
// A load reads a value from elsewhere and then stores it. If the key is set, deleted or cleared meanwhile, the loaded
// value may be older than that write, and must not be stored. Versions cannot tell: a delete of an absent key leaves no
// version, and that case matters most. So each load registers a FillTicket with the shard of its key. Every requested
// change of a key voids the tickets of that key, under the same lock under which the fill checks its ticket.
//
//   BeginFill ----------- set / delete / clear -----------> voided: the fill stores nothing
//        \--------------- nothing happened ---------------> the fill stores
//
// Nothing is allocated and there is no limit: tickets are the list nodes, and belong to the loads. Without running
// loads a change pays one branch (empty()).
//
// Thread safety: a FillWatch is guarded by its shard's lock. FillTicket::voided() alone may be called without it.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/check.h"

namespace cairn {

// Whether a load that finds its key present begins.
enum class FillOf : uint8_t { kAnyKey, kAbsentKey };

// One load's watch over its key. Neither copied nor moved, because the watch points at it; ended before it is
// destroyed.
class FillTicket {
 public:
  FillTicket() = default;
  ~FillTicket() { DCHECK(!watched_); }
  FillTicket(const FillTicket&) = delete;
  FillTicket& operator=(const FillTicket&) = delete;

  // True if the key was changed since Begin(); stays true until the next Begin(). A thread that made the change, or saw
  // its end, gets true.
  bool voided() const { return voided_.load(std::memory_order_acquire); }
  // A touch of the key voids this ticket, too. Called before Begin().
  void WatchTouches() { watches_touches_ = true; }

 private:
  friend class FillWatch;
  uint64_t hash_ = 0;
  FillTicket* next_ = nullptr;
  FillTicket** link_ = nullptr;  // the pointer to this ticket
  bool watched_ = false;
  bool watches_touches_ = false;
  std::atomic<bool> voided_{false};
};

// The running loads of one shard, found by the table hash of their keys.
class FillWatch {
 public:
  FillWatch() = default;
  ~FillWatch() { DCHECK(empty()); }
  FillWatch(const FillWatch&) = delete;
  FillWatch& operator=(const FillWatch&) = delete;

  bool empty() const { return count_ == 0; }
  uint32_t count() const { return count_; }

  // Watches the key with this hash from now on. REQUIRES: the ticket is not watched.
  void Begin(uint64_t hash, FillTicket* ticket) {
    CHECK(!ticket->watched_);
    ticket->hash_ = hash;
    ticket->voided_.store(false, std::memory_order_relaxed);
    ticket->watched_ = true;
    FillTicket** head = &heads_[hash % kHeads];
    ticket->next_ = *head;
    ticket->link_ = head;
    if (*head != nullptr) (*head)->link_ = &ticket->next_;
    *head = ticket;
    ++count_;
  }

  // Stops watching; voided() keeps its answer. A no-op if the ticket is not watched.
  void End(FillTicket* ticket) {
    if (!ticket->watched_) return;
    *ticket->link_ = ticket->next_;
    if (ticket->next_ != nullptr) ticket->next_->link_ = ticket->link_;
    ticket->next_ = nullptr;
    ticket->link_ = nullptr;
    ticket->watched_ = false;
    --count_;
  }

  // A key with this hash was set, deleted or changed. Keys of equal hash void each other's loads, which costs a load
  // and is as rare as 1 in 2^64.
  void Void(uint64_t hash) {
    for (FillTicket* ticket = heads_[hash % kHeads]; ticket != nullptr; ticket = ticket->next_) {
      if (ticket->hash_ == hash) ticket->voided_.store(true, std::memory_order_release);
    }
  }

  // A key with this hash was touched.
  void VoidTouched(uint64_t hash) {
    for (FillTicket* ticket = heads_[hash % kHeads]; ticket != nullptr; ticket = ticket->next_) {
      if (ticket->hash_ == hash && ticket->watches_touches_) ticket->voided_.store(true, std::memory_order_release);
    }
  }

  // All keys were cleared.
  void VoidAll() {
    if (empty()) return;
    for (FillTicket* ticket : heads_) {
      for (; ticket != nullptr; ticket = ticket->next_) ticket->voided_.store(true, std::memory_order_release);
    }
  }

 private:
  // 2 KiB per shard. Ten thousand loads on four shards make chains of ten, walked by mutations only while they run.
  static constexpr uint64_t kHeads = 256;

  FillTicket* heads_[kHeads] = {};
  uint32_t count_ = 0;
};

}  // namespace cairn
