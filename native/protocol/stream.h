// One client's place in its stream of bytes: bytes that could not be executed yet, and the data block being received or
// discarded. It knows no protocol: a Dialect finds the requests.
//
// Requests are read in place; only the rest of an unfinished request is copied.
//
// State        Feed()                                  Resume()
// kOpen        executes                                executes what is kept
// kFull        keeps the bytes                         kOpen if the gate is no longer full
// kParked      keeps the bytes                         kOpen: the request is executed again, unless it waits for a
//                                                      load, a slowdown or remote slots that have not ended
// kClosing     drops the bytes                         nothing
// kWatching    drops the bytes                         nothing
//
// A request that waits for an answer from elsewhere stands aside: it gets a remote slot (remote_replies.h), and the
// stream goes on behind it. While there are slots, requests are executed one by one, each after a look at what it is
// about. Resume() first executes those of the slots whose answers have come, in any state. If one of them is then
// parked or full, so is the stream. While there is a slot, no block is received or discarded in pieces.
//
// Not thread-safe: it is its session's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "protocol/byte_buffer.h"
#include "protocol/dialect.h"
#include "protocol/limits.h"
#include "protocol/reply_gate.h"
#include "store/store.h"

namespace cairn {

class Stream {
 public:
  enum class State : uint8_t { kOpen, kFull, kParked, kClosing, kWatching };

  // `now`: the time of the call in progress. All arguments outlive the stream; the dialect is set before the first
  // Feed().
  Stream(Store* store, ReplyGate* gate, const Now* now) : store_(store), gate_(gate), now_(now) {}
  // Abandons the block that is being received.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  void SetDialect(Dialect* dialect) { dialect_ = dialect; }

  // ---- the session ----

  void Feed(std::string_view bytes);
  // For a front that lets the system write: where the next bytes go, if they are those of a value that is received, at
  // up to `count` places. They begin what is fed next, and Landed() is called before that. Returns the number of
  // places; 0: feed them.
  size_t Landing(std::span<char>* places, size_t count);
  // These bytes have come there.
  void Landed(size_t bytes, const Now& now);
  // Executes the kept bytes, if the reason for stopping is gone.
  void Resume();
  // Nothing more is executed.
  void Close() {
    state_ = State::kClosing;
    slot_state_ = State::kOpen;
  }
  // The client has asked for the end: a dialect that answers kClosing.
  void SetQuit() { has_quit_ = true; }
  bool has_quit() const { return has_quit_; }

  State state() const { return slot_state_ == State::kOpen ? state_ : slot_state_; }
  // Bytes that come are dropped, whatever they are.
  bool drops_bytes() const { return state_ == State::kClosing || state_ == State::kWatching; }
  size_t kept_bytes() const { return rest_.size(); }
  // There was no memory for bytes to be kept.
  bool failed() const { return rest_.failed(); }
  // Frees the memory of a buffer that has grown and is empty.
  void Trim() {
    if (rest_.empty() && rest_.capacity() > kIdleBufferBytesMax) rest_.Release();
  }
  // True in the middle of a block or line of more than kBodyBufferedBytesMax.
  bool is_in_large_request() const;

  // ---- the dialect, during Run() and LoseBody() ----

  // The request at the place returned with kMore takes `bytes` bytes. Without this call: up to the next line end.
  void Need(size_t bytes) { rest_wanted_ = bytes; }
  // The next bytes are the block of this value, and its line end.
  void Receive(std::unique_ptr<LargeBody> large) {
    large_ = std::move(large);
    mode_ = Mode::kBody;
  }
  // Discards the next `bytes` bytes.
  void Swallow(uint64_t bytes) {
    swallow_bytes_ = bytes;
    mode_ = Mode::kSwallow;
  }
  // True if the next bytes are the dialect's.
  bool is_at_request() const { return mode_ == Mode::kRequests; }

 private:
  enum class Mode : uint8_t { kRequests, kBody, kSwallow };

  // Takes bytes as far as possible, sets the state, and returns the end of those taken.
  const char* Run(const char* at, const char* end);
  // Executes requests and takes blocks up to `end`, or up to the first that stops.
  Progress Advance(const char* at, const char* end);
  // Executes one request, if it may be executed before those of the remote slots.
  Progress AdvanceBehindSlots(const char* at, const char* end);
  // The request at `at` gets a remote slot, or is parked.
  Progress StandAside(const char* at, const Scope& scope);
  // Executes the requests of remote slots in their order, up to the first that has no answer yet. False: nothing else
  // is executed, because a slot is parked or full, or the session must end.
  bool FillSlots();
  void RunSlots();
  Progress RunBlock(const char* at, const char* end);
  Progress RunBody(const char* at, const char* end);
  Progress RunSwallow(const char* at, const char* end);
  void RunRest();
  const char* CompleteRest(const char* at, const char* end);

  Store* const store_;
  ReplyGate* const gate_;
  const Now* const now_;
  Dialect* dialect_ = nullptr;

  State state_ = State::kOpen;
  State slot_state_ = State::kOpen;  // kFull or kParked: the request of the first remote slot is
  Mode mode_ = Mode::kRequests;
  bool has_quit_ = false;
  // An unfinished request, or all bytes that came while nothing could be executed.
  ByteBuffer rest_;
  // Bytes that the request at the start of rest_ takes; 0: up to its line end.
  size_t rest_wanted_ = 0;
  uint64_t swallow_bytes_ = 0;
  std::unique_ptr<LargeBody> large_;
  Pin landing_;  // between Landing() and Landed(); otherwise empty
};

}  // namespace cairn
