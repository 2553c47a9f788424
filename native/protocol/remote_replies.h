// The remote slots of one connection: requests whose answers come from elsewhere (a load from a database), while
// requests behind them are executed.
//
//   held_ of the gate   | remote slot 1            | remote slot 2                         in the order of the requests
//   replies before it   | request  replies behind  | request  replies behind it
//                         get a    STORED MN         incr a   VALUE b ... END
//
// A slot keeps what its request needs to be executed again: its bytes, with the block of a write, and the dialect's
// place in it. It also keeps the replies to the requests that were executed between it and the next slot; some of them
// may be held. Slots are filled in order. When the answer of the first is there, its request is executed, at this
// moment, as if it had just come. Its reply goes behind those before it, the replies behind the slot follow, and the
// next slot is the first. Because replies leave in order, no client gets a reply later for that.
//
// Requests for one key keep their order: a request for a key of an unfinished slot gets a slot itself, which waits for
// nothing but its turn. Slots have no order with requests for other keys, which were executed earlier. A request that
// is about the whole cache, or has a large block, waits until no slot is left (Scope, dialect.h).
//
// Bounds: kRemoteSlotsMax, and kOutputBytesHigh for requests and replies together. A request that does not fit is
// parked, and so the connection, until slots have been filled.
//
// Another source of answers needs no other slot: it is a ReadThrough, whose answer the request finds when it is
// executed again.
//
// Not thread-safe: it is its session's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "protocol/byte_buffer.h"
#include "protocol/dialect.h"
#include "protocol/held_replies.h"
#include "protocol/limits.h"
#include "protocol/request_wait.h"

namespace cairn {

struct RemoteSlot {
  // Of the request, what has not been executed.
  std::string_view left() const { return request.view().substr(done_bytes); }

  ByteBuffer request;
  size_t done_bytes = 0;
  Place place;
  RequestWait wait;
  uint64_t woken_ticks = 0;  // when the front's thread was woken for its bytes
  HeldReplies behind;
  std::vector<size_t> hashes;  // of its keys
};

class RemoteReplies {
 public:
  RemoteReplies() = default;
  // Leaves the loads.
  ~RemoteReplies();
  RemoteReplies(const RemoteReplies&) = delete;
  RemoteReplies& operator=(const RemoteReplies&) = delete;

  // More than there is ever room for: what waits for it waits until no slot is left.
  static constexpr size_t kAllSlotBytes = kOutputBytesHigh + 1;
  // The bytes that the slot of a request counts for.
  static size_t SlotBytes(const Scope& scope) { return scope.bytes + scope.keys.size() * kRemoteKeyBytes; }
  bool Fits(size_t slot_bytes) const {
    return slots_.size() < kRemoteSlotsMax && bytes() + slot_bytes <= kOutputBytesHigh;
  }
  // A slot behind all others for a request that begins with these bytes. REQUIRES: Fits().
  RemoteSlot* Add(std::string_view bytes, const Scope& scope);

  bool empty() const { return slots_.empty(); }
  RemoteSlot* first() { return &slots_.front(); }
  // The first slot is filled: what stands behind it follows, see HeldReplies::Follow().
  void RemoveFirst(HeldReplies* held, ByteBuffer* out);
  // Where replies to requests behind all slots go. REQUIRES: !empty().
  HeldReplies* end() { return &slots_.back().behind; }
  // A slot has one of these keys. (Or another key of the same hash: then a request waits without need.)
  bool HasOneOf(const Scope& scope) const;

  // Of requests, and of replies behind slots.
  size_t bytes() const { return closed_bytes_ + (empty() ? 0 : slots_.back().behind.bytes()); }
  // Held replies behind slots.
  size_t held_count() const { return closed_held_ + (empty() ? 0 : slots_.back().behind.count()); }
  // There was no memory for a request or a reply.
  bool failed() { return failed_ || (!empty() && HasFailed(&slots_.back())); }

 private:
  static bool HasFailed(RemoteSlot* slot) { return slot->request.failed() || slot->behind.buffer()->failed(); }
  static size_t SlotBytes(const RemoteSlot& slot) { return slot.request.size() + slot.hashes.size() * kRemoteKeyBytes; }

  std::deque<RemoteSlot> slots_;
  std::unordered_map<size_t, uint32_t> keys_;  // how many slots have a key of this hash, each time it is in them
  // All slots, and the replies behind all but the last.
  size_t closed_bytes_ = 0;
  size_t closed_held_ = 0;
  bool failed_ = false;
};

}  // namespace cairn
