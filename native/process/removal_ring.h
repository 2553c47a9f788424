// Removal events on their way from the threads that caused them to the threads that listen: one bounded ring of bytes
// per cache, with one read position per listener.
//
//      tail_                 a listener's position                     head_
//        |  events it has lost no more  |   events it has still to read  |
//   -----+------------------------------+--------------------------------+-----
//
// No thread waits for the ring. When it is full, the oldest events are overwritten; a listener that had not read them
// is told how many of its wanted events are lost.
//
// Order: events of one key are in the order in which the entries left, because both the shard and the ring append under
// their lock. Events of different keys are in the order in which they reached the ring.
//
// Thread safety: any thread may call the ring; a RemovalListener belongs to one thread.
// Lock order: lock_ is a leaf, taken under a shard's lock. Under it bytes are copied and nothing else happens; memory
// is allocated before it is taken, and Wakers are called after it was released (OnUnlocked). Cost without listeners:
// RemovalSink::wanted(), one load and one branch per removal, and no memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/limits.h"
#include "base/os.h"
#include "base/waker.h"
#include "store/removal.h"

namespace cairn {

class RemovalListener;

// The layout of an event in the ring and in the buffer of Take(); little-endian. src/removals.ts reads it.
//
//   offset size
//     0     4  event_bytes   with padding to a multiple of 8
//     4     1  reason        Reason; 255: filler at the end of the ring, no further fields, never in Take()
//     5     1  codec         of the value
//     6     1  has_value     1: value_bytes bytes of value follow the key
//     7     1  reserved      0
//     8     4  key_bytes
//    12     4  value_bytes   of the entry, whether the value follows or not
//    16     8  number        kCleared: how many entries; otherwise the client flags
//    24        key, value, padding
struct RemovalEventHeader {
  uint32_t event_bytes;
  uint8_t reason;
  uint8_t codec;
  uint8_t has_value;
  uint8_t reserved;
  uint32_t key_bytes;
  uint32_t value_bytes;
  uint64_t number;
};
static_assert(sizeof(RemovalEventHeader) == 24);

// The size of the longest event.
inline constexpr size_t kRemovalEventBytesMax =
    (sizeof(RemovalEventHeader) + kKeyBytesMax + kRemovalValueBytesMax + 7) & ~size_t{7};

// The events that a listener wants. Bits of `reasons` are 1 << Reason.
struct RemovalInterest {
  uint32_t reasons = 0;
  // Values of up to kRemovalValueBytesMax are wanted too.
  bool values = false;
};

class RemovalRing final : public RemovalSink {
 public:
  // REQUIRES: ring_bytes is a multiple of 8 and at least 2 x kRemovalEventBytesMax.
  explicit RemovalRing(size_t ring_bytes = kRemovalRingBytes);
  // REQUIRES: no listener is left.
  ~RemovalRing() override;

  void OnRemoved(Reason reason, const RemovedEntry& entry) override;
  void OnCleared(uint64_t entry_count) override;
  void OnGrowing() override { CallJanitor(); }
  void OnShrinking() override { CallJanitor(); }
  // Wakes listeners that have new events and were not woken since they last read everything; and the janitor, if the
  // cache is growing or shrinking.
  void OnUnlocked() override;

  // The cache has ended: no event is wanted any more. Listeners can still take the present events.
  void Close();

  uint32_t listener_count();

 private:
  friend class RemovalListener;
  static constexpr uint8_t kFiller = 255;

  void CallJanitor();
  // The event's place, with its header written; null if there is no listener.
  char* AppendLocked(const RemovalEventHeader& header) REQUIRES_LOCK(lock_);
  void AppendedLocked(Reason reason) REQUIRES_LOCK(lock_);
  RemovalEventHeader HeaderAtLocked(uint64_t position) const REQUIRES_LOCK(lock_);
  void UpdateWantedLocked() REQUIRES_LOCK(lock_);

  const size_t ring_bytes_;
  OsLock lock_;
  // Null without listeners.
  std::unique_ptr<char[]> ring_ GUARDED_BY(lock_);
  // Positions count all bytes that were ever written; an event lies at its position modulo ring_bytes_, in one piece.
  uint64_t head_ GUARDED_BY(lock_) = 0;
  uint64_t tail_ GUARDED_BY(lock_) = 0;
  // Events before head_ and before tail_, by reason.
  uint64_t written_[kReasonCount] GUARDED_BY(lock_) = {};
  uint64_t overwritten_[kReasonCount] GUARDED_BY(lock_) = {};
  RemovalListener* listeners_ GUARDED_BY(lock_) = nullptr;
  uint32_t listener_count_ GUARDED_BY(lock_) = 0;
  // Reasons wanted by listeners that have read everything and sleep.
  uint32_t sleepers_want_ GUARDED_BY(lock_) = 0;
  // Reasons whose values a listener wants.
  uint32_t values_wanted_ GUARDED_BY(lock_) = 0;
  bool closed_ GUARDED_BY(lock_) = false;
  std::atomic<bool> janitor_called_{false};  // the janitor is to be woken
};

class RemovalListener {
 public:
  // `ring` outlives the listener, which gets the events from now on.
  RemovalListener(RemovalRing* ring, std::shared_ptr<Waker> waker);
  ~RemovalListener();
  RemovalListener(const RemovalListener&) = delete;
  RemovalListener& operator=(const RemovalListener&) = delete;

  // Events of other reasons are skipped from now on, those that were written before included.
  void SetInterest(RemovalInterest interest);

  // Copies whole events, oldest first, as many as fit into `capacity`. *lost: wanted events that were overwritten
  // before they could be read, since the last call; they came before those that are copied. Returns the bytes copied.
  // 0, and none lost: there is no more, and the waker will be woken when there is. REQUIRES: capacity >=
  // kRemovalEventBytesMax.
  [[nodiscard]] size_t Take(char* buffer, size_t capacity, uint64_t* lost);

 private:
  friend class RemovalRing;
  // Copied under one hold of the ring's lock, so that a reader holds up writers for microseconds.
  static constexpr size_t kTakenBytesPerHold = 16 * 1024;

  RemovalRing* const ring_;
  const std::shared_ptr<Waker> waker_;
  // All guarded by the ring's lock.
  RemovalListener* next_ = nullptr;
  RemovalInterest interest_;
  uint64_t position_ = 0;
  uint64_t passed_[kReasonCount] = {};  // events before position_
  bool asleep_ = true;                  // has read everything; is to be woken by the next event it wants
};

}  // namespace cairn
