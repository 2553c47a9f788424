// The way out of a session: where replies go, whether they may leave yet, whether more may be executed, and what the
// log says to both. It knows no protocol: a dialect composes replies into sink() and says what each tells of.
//
// Replies leave in the order of the requests. A reply slot is one of
//   ready    in `out`
//   held     composed, and waits until a version is committed (CommitMarks); requests behind it are executed, and their
//            replies wait in line
//   parked   the request has no answer yet: room in the log, or a load (ReadThrough); nothing behind it is executed
// A fourth kind, remote (the answer comes from another node while requests behind it go on), would be a mark of
// HeldReplies that is fulfilled with bytes instead of a version.
//
// Where the log is full or has failed, nothing that it would have to take is executed at a level that waits for it, and
// nothing is told that it has not taken: such requests are refused. A request that finds no room is parked while the
// log runs and refused when it does not. Replies that are held when the log fails can neither be sent nor denied,
// because what they tell of was done and may or may not outlive the process: the session ends, which clients take as an
// outcome that they do not know.
//
// Not thread-safe: it is its session's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "protocol/byte_buffer.h"
#include "protocol/held_replies.h"
#include "protocol/limits.h"
#include "protocol/service.h"
#include "store/commit_marks.h"
#include "store/log_view.h"
#include "store/read_through.h"
#include "store/request.h"
#include "store/store.h"

namespace cairn {

class ReplyGate {
 public:
  ReplyGate(Workbench* bench, bool waits_for_log);
  // Drops held replies, and leaves the load that is waited for.
  ~ReplyGate();
  ReplyGate(const ReplyGate&) = delete;
  ReplyGate& operator=(const ReplyGate&) = delete;

  // ---- a call ----

  // Lets out what may leave by now. False: the log can never commit what is held, and the session has to end.
  [[nodiscard]] bool BeginCall(size_t backlog_bytes, ByteBuffer* out);
  // Sees to it that the log hurries and that the front hears of it. `has_advanced`: requests that were kept have been
  // executed in this call.
  void EndCall(bool has_advanced);

  // ---- replies ----

  // Where the next reply goes.
  ByteBuffer* sink() { return held_.empty() ? out_ : held_.buffer(); }

  enum class Slot : uint8_t {
    kReady,
    kHeld,
    kRefused,  // take the reply back, and refuse the request
  };
  // Puts what was appended to the sink from `begin` on into its slot. It tells of `version` of that shard, or of an
  // outcome. `may_refuse`: the request changed nothing, so it may be denied an answer.
  [[nodiscard]] Slot Settle(size_t begin, const Request& request, const Outcome& outcome) {
    if (!commits_->active()) [[likely]]
      return Slot::kReady;
    return SettleOutcome(begin, request, outcome);
  }
  Slot Settle(size_t begin, uint32_t shard, uint64_t version, bool may_refuse);
  bool marks_are_active() const { return commits_->active(); }

  // ---- executing ----

  void CountRequest() { requests_in_call_++; }
  bool IsOutputFull() const {
    return backlog_bytes_ + out_->size() + held_.bytes() >= kOutputBytesHigh || held_.full();
  }
  // Nothing more is executed in this call.
  bool IsFull() const { return IsOutputFull() || requests_in_call_ >= kRequestsPerCallMax; }
  // Requests that the log would have to take are refused.
  bool refuses() const { return waits_for_log_ && log_health_ != LogView::Health::kRunning; }
  // Counts a refusal. True: the log has failed; false: it is full.
  bool CountRefusal();

  // The log has no room for what a request would record; nothing has come of it. True: the session is parked until
  // there is. False: refuse the request.
  bool ParkForRoom();
  // Waits for the load of a key, which begins if none is waited for. kPending: the session is parked. Else: EndLoad()
  // when the load has served its purpose. kFailed without a load: there are too many.
  ReadThrough::Load AwaitLoad(ReadThrough* loads, std::string_view key);
  uint64_t load() const { return load_; }
  void EndLoad();
  // The session goes on.
  void Unpark() { is_parked_for_room_ = false; }

  // ---- state ----

  bool waits_for_log() const { return waits_for_log_; }
  CommitMarks* commits() { return commits_; }
  bool has_held() const { return !held_.empty(); }
  // Replies have left, or are about to: a front that flushes makes progress.
  bool has_backlog() const { return backlog_bytes_ != 0 || !out_->empty(); }
  // There was no memory for a reply: the stream of replies has a hole.
  bool failed() { return out_->failed() || held_.buffer()->failed(); }

 private:
  Slot SettleOutcome(size_t begin, const Request& request, const Outcome& outcome);

  Service* const service_;
  Workbench* const bench_;
  const bool waits_for_log_;
  CommitMarks* const commits_;
  HeldReplies held_;

  ReadThrough* loads_ = nullptr;
  uint64_t load_ = 0;  // 0: none is waited for
  bool is_parked_for_room_ = false;

  // Of the call in progress.
  ByteBuffer* out_ = nullptr;
  size_t backlog_bytes_ = 0;
  size_t out_bytes_before_ = 0;
  size_t requests_in_call_ = 0;
  bool was_parked_for_room_ = false;
  bool has_new_holds_ = false;
  LogView::Health log_health_ = LogView::Health::kRunning;
  uint32_t log_progress_ = 0;
};

}  // namespace cairn
