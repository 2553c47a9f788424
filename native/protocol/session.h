// A Session is one client's place in the stream: bytes in, bytes out, and what is to happen next. It does no I/O and
// waits for nothing; a front (native loops, node:net, TLS) drives it.
//
//   client -> front -> Feed(bytes) -> parse -> execute -> reply slots -> out -> front -> client
//
// Requests are read where they lie; only the rest of an unfinished one is copied. Keys of get-type commands that follow
// one another are looked up as a group; whatever else comes ends the group, so that order holds.
//
// Replies leave in the order of the requests. A reply slot is one of
//   ready    in `out`
//   held     until a version is committed (CommitMarks); requests behind it are executed, their replies wait in line
//   parked   the request has no answer yet (a ticket, room in the log); nothing behind it is executed
// and a session stops executing while kOutputBytesHigh of replies have not left. One call executes at most
// kRequestsPerCallMax requests and one group, so that a front can serve others in between.
//
// Where the log is full or has failed (ServiceLog::State), nothing that it would have to take is executed at a level
// that waits for it, and nothing is told that it has not taken: such requests are refused with an error line. A request
// that finds no room is parked while the log runs and refused when it does not. Replies that are held when the log
// fails can neither be sent nor denied, because what they tell of was done and may or may not outlive the process: the
// connection is closed, which clients take for what it is, an outcome that they do not know.
//
//   What a front does              kRead     kFlush     kWait     kYield                     kClose
//   bytes come                     Feed      do not read                                     nothing
//   the other sessions had a turn  -         -          -         Continue                   -
//   all output has left            -         Continue   -         Continue                   close the connection
//   it is woken                    Continue those with waits()                               nothing
//   the client has ended its side  End       End        End       End                        nothing
//   a write fails                  destroy the session and close the connection, whatever was said last
//
// Thread safety: none. It belongs to the thread of its workbench.
// Bounds of one session's memory: the rest of a request (kLineBytesMax, kGetLineBytesMax, kBodyBufferedBytesMax, for
// append and prepend the item size) and the bytes that were fed last; held replies up to kOutputBytesHigh and one
// value.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/clock.h"
#include "protocol/byte_buffer.h"
#include "protocol/held_replies.h"
#include "protocol/limits.h"
#include "protocol/request.h"
#include "protocol/service.h"
#include "store/store.h"

namespace cairn {

class Session {
 public:
  enum class Next : uint8_t {
    kRead,   // feed it what comes
    kFlush,  // feed nothing; Continue() when the output has left
    kWait,   // feed nothing; Continue() when woken
    kClose,  // send what is in `out`, then close
    kYield,  // feed nothing; Continue() after other sessions had a turn
  };

  // `waits_for_log`: the level of the listener that the client came by; see Service::Options. REQUIRES: there is a log.
  Session(Workbench* bench, std::shared_ptr<const ConnectionNames> names, const Now& now, bool waits_for_log);
  // At the service's own level.
  Session(Workbench* bench, std::shared_ptr<const ConnectionNames> names, const Now& now)
      : Session(bench, std::move(names), now, bench->service()->options().waits_for_log) {}
  // Drops what is unfinished: held replies, an open ticket, a value that was not complete.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Takes all of `bytes` and appends replies to `out`. `backlog_bytes`: replies of earlier calls that the front still
  // has. Bytes that come after another answer than kRead are kept, not executed.
  Next Feed(std::string_view bytes, size_t backlog_bytes, const Now& now, ByteBuffer* out);
  // Goes on with what can: output has left, a mark was advanced, a ticket resolved. Harmless at any time.
  Next Continue(size_t backlog_bytes, const Now& now, ByteBuffer* out);
  // The client sends no more: kClose once everything it sent whole has been answered.
  Next End(size_t backlog_bytes, const Now& now, ByteBuffer* out);

  // Continue() it when the service wakes its fronts: a ticket, a commit, room in the log.
  bool waits() const { return state_ == State::kParked || !held_.empty(); }
  // The client does not speak this protocol: the connection is to be closed, and nothing has been executed.
  enum class Foreign : uint8_t { kNone, kBinary, kTls };
  Foreign foreign() const { return foreign_; }
  // The client is in the middle of a large value or line, which takes memory of the store or of the session, or is
  // thrown away: close the connection if nothing comes for long.
  bool is_in_large_request() const {
    return large_ != nullptr || (state_ == State::kOpen && std::max<uint64_t>({swallow_bytes_, rest_wanted_,
                                                                               rest_.size()}) > kBodyBufferedBytesMax);
  }

 private:
  friend class Service;

  enum class State : uint8_t { kOpen, kFull, kParked, kClosing };
  enum class Mode : uint8_t {
    kLine,     // at the start of a command
    kKeys,     // inside a get-type line whose replies were too many for one go
    kBody,     // inside a data block that goes straight into the store
    kSwallow,  // inside a data block that nobody wants
  };
  // A data block on its way into the store.
  struct LargeBody {
    Body body;
    Request request;
    char key[kKeyBytesInlineMax];
    uint64_t received = 0;  // bytes of the block, its line end included
    char line_end[2] = {};
    bool no_reply = false;
  };

  // Each returns how far it came: its `at` again if it needs more bytes or could not execute.
  const char* Run(const char* at, const char* end);
  const char* RunLine(const char* at, const char* end);
  const char* RunKeys(const char* at, const char* line_end, const char* next);
  const char* RunStorage(const TextRequest& line, const char* at, const char* block, const char* end);
  const char* RunBody(const char* at, const char* end);
  const char* RunSwallow(const char* at, const char* end);
  const char* RunCommand(const TextRequest& line, const char* at, const char* next);
  const char* RunDebug(const TextRequest& line, const char* at, const char* next);
  const char* RunFlushAll(const TextRequest& line, const char* at, const char* next);

  void LookAtFirst(char byte);
  void RunRest();
  const char* CompleteRest(const char* at, const char* end);
  const char* WantLine(const char* at, const char* end);
  const char* Swallow(uint64_t bytes, Reply reply, bool no_reply, const char* next);
  const char* SwallowRefused(const TextRequest& line, uint64_t bytes, const char* next);
  const char* Park(const char* at) {
    state_ = State::kParked;
    return at;
  }
  // The log has no room for what a request would leave; nothing has come of it. True: the session is parked until there
  // is. False: refuse the request.
  bool ParkForRoom();
  // The log takes nothing, and replies would have to wait for it.
  bool Refuses() const { return waits_for_log_ && log_state_ != ServiceLog::State::kRunning; }
  // What a refused request is told.
  Reply Refusal();

  // How an entry was told of.
  enum class Told : uint8_t {
    kYes,      // or held, or it is a miss
    kRefused,  // an error line stands in its place
    kNoRoom,   // not at all: the log has no room for the touch
  };

  // Looks the group up and appends its replies. Returns `done`, or, when that cannot be done at once, the key to go on
  // with; the session is full or parked then.
  const char* FlushGroup(const char* done);
  const char* StopGroup(size_t index, State state);
  Told AppendEntry(const Request& request, Outcome* outcome, bool with_cas);
  Told FetchIntoReply(const Request& request, Outcome* outcome, bool with_cas);
  bool FitsItem(const Request& request, size_t more_bytes, Outcome* present);
  void CountStorage(const Outcome& outcome);
  void AppendOutcome(const Request& request, const Outcome& outcome, bool no_reply);

  void Append(Reply reply) { sink()->Append(TextOf(reply)); }
  void Append(Reply reply, bool no_reply) {
    if (!no_reply) Append(reply);
  }
  ByteBuffer* sink() { return held_.empty() ? out_ : held_.buffer(); }
  size_t OutputBytes() const { return backlog_bytes_ + out_->size() + held_.bytes(); }
  bool IsOutputFull() const { return OutputBytes() >= kOutputBytesHigh || held_.full(); }
  // Nothing more is executed in this call.
  bool IsFull() const { return IsOutputFull() || requests_in_call_ >= kRequestsPerCallMax; }
  // Holds what was appended to the sink from `begin` on, if it tells of a version that is not committed. False: it was
  // replaced by a refusal.
  bool HoldFrom(size_t begin, const Request& request, const Outcome& outcome);
  bool HoldFrom(size_t begin, uint32_t shard, uint64_t version, bool may_refuse);

  void Begin(size_t backlog_bytes, const Now& now, ByteBuffer* out);
  Next Finish();
  void WaitForLog();

  Service* const service_;
  Store* const store_;
  const bool waits_for_log_;
  CommitMarks* const commits_;
  Workbench* const bench_;
  const std::shared_ptr<const ConnectionNames> names_;
  uint64_t id_ = 0;
  Session* next_ = nullptr;  // list of the service, guarded by its lock
  Session** link_ = nullptr;
  std::atomic<uint64_t> last_command_ms_{0};

  // Of the call in progress.
  ByteBuffer* out_ = nullptr;
  size_t backlog_bytes_ = 0;
  size_t out_bytes_before_ = 0;
  size_t requests_in_call_ = 0;
  size_t rest_bytes_before_ = 0;
  bool was_parked_for_room_ = false;
  bool has_new_holds_ = false;
  ServiceLog::State log_state_ = ServiceLog::State::kRunning;
  uint32_t log_progress_ = 0;
  Now now_;

  State state_ = State::kOpen;
  Mode mode_ = Mode::kLine;
  bool ended_ = false;
  bool has_begun_ = false;
  Foreign foreign_ = Foreign::kNone;
  bool has_ticket_ = false;
  bool is_parked_for_room_ = false;
  // The command whose keys are being looked at was refused: the rest of them gets no reply.
  bool keys_refused_ = false;
  // kKeys: what the keys that are left are asked with.
  bool keys_with_cas_ = false;
  Verb keys_verb_ = Verb::kGet;
  uint64_t keys_expires_ms_ = kNeverExpires;

  bool swallow_no_reply_ = false;
  Reply swallow_reply_ = Reply::kOk;
  uint64_t swallow_bytes_ = 0;
  // What the reply behind the block tells of; version 0: nothing.
  uint32_t swallow_shard_ = 0;
  uint64_t swallow_version_ = 0;

  uint64_t ticket_ = 0;
  // An unfinished request, or all that came while nothing could be executed.
  ByteBuffer rest_;
  // Bytes that the request at the start of rest_ takes; 0: up to its line end.
  size_t rest_wanted_ = 0;
  HeldReplies held_;
  std::unique_ptr<LargeBody> large_;
};

}  // namespace cairn
