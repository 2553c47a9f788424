// How a load learns that its key was written while it ran.
//
// A load reads a value somewhere else and then stores it. If the key is set, deleted or cleared in between, the loaded
// value may be older than that, and must not be stored. Versions cannot tell: a delete of an absent key leaves none,
// and it is the very case that matters. So each load registers a FillTicket with the shard of its key, and whatever
// changes a key on request voids the tickets of that key, under the same lock under which the fill looks at its ticket.
//
//   BeginFill ----------- set / delete / clear -----------> voided: the fill stores nothing
//        \--------------- nothing happened ---------------> the fill stores
//
// Nothing is allocated and there is no capacity: tickets are the list nodes, and belong to the loads. While no load is
// running a mutation pays one branch (empty()).
//
// Thread safety: a FillWatch is guarded by its shard's lock. FillTicket::voided() alone may be called without it.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/check.h"

namespace cairn {

// One load's interest in its key. Neither copied nor moved, because the watch points at it; ended before it goes away.
class FillTicket {
 public:
  FillTicket() = default;
  ~FillTicket() { DCHECK(!watched_); }
  FillTicket(const FillTicket&) = delete;
  FillTicket& operator=(const FillTicket&) = delete;

  // The key was changed since Begin(). Never becomes false again until the next Begin(). Whoever knows that the change
  // came before (it was made by this thread, or its end was seen) is told true.
  bool voided() const { return voided_.load(std::memory_order_acquire); }

 private:
  friend class FillWatch;
  uint64_t hash_ = 0;
  FillTicket* next_ = nullptr;
  FillTicket** link_ = nullptr;  // what points at this ticket
  bool watched_ = false;
  std::atomic<bool> voided_{false};
};

// The running loads of one shard, found by the hash that the shard finds entries by.
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

  // Stops watching; voided() keeps what it said. Nothing happens if the ticket is not watched.
  void End(FillTicket* ticket) {
    if (!ticket->watched_) return;
    *ticket->link_ = ticket->next_;
    if (ticket->next_ != nullptr) ticket->next_->link_ = ticket->link_;
    ticket->next_ = nullptr;
    ticket->link_ = nullptr;
    ticket->watched_ = false;
    --count_;
  }

  // A key with this hash was set, deleted or changed. Two keys of equal hash void each other's loads: that costs a
  // load, and happens once in 2^64.
  void Void(uint64_t hash) {
    for (FillTicket* ticket = heads_[hash % kHeads]; ticket != nullptr; ticket = ticket->next_) {
      if (ticket->hash_ == hash) ticket->voided_.store(true, std::memory_order_release);
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
