// The way out of a session: decides where replies go, whether they may leave yet, and whether more may be executed, by
// the state of the output and the log. It knows no protocol: a dialect composes replies into sink() and names the
// version that each reveals.
//
// Replies leave in the order of the requests. A reply slot is one of
//   ready    in `out`
//   held     composed, and waits until a version is committed (CommitMarks), or the backend has a change
//            (StoredChanges); requests behind it are executed, and their replies wait in line
//   remote   the request has no answer yet: it comes from elsewhere (a load, ReadThrough); requests behind it are
//            executed, except those for the same key, and their replies wait in line (remote_replies.h)
//   parked   the request has no answer yet: it waits for room in the log, for a time (Slowdown), or for a remote slot;
//            nothing behind it is executed
//
// While the log is full or has failed, a session that waits for it refuses requests that would leave a record, and
// reads of values that the log does not have. A request that finds no room in the ring is parked while the log runs,
// and refused otherwise. If the log fails, held replies can neither be sent nor denied: their changes were made, and
// may or may not survive the process. So the session ends, which tells the client that the outcome is unknown.
//
// At the level `stored` the reply to a change waits for the backend. If the change becomes a dead letter, or the
// backend confirms nothing any more, an error line takes the place of the reply; where it cannot, the session ends.
// While the backend confirms no change of a shard, changes of its keys are refused.
//
// While room for changes that the backend lacks gets short (Slowdown), a request that would leave a record is parked
// for a time before it is executed, with or without a reply. It waits once, whatever it is parked for then.
//
// A request whose value is not in memory waits until a load of its key has ended, and is then executed again. It is
// refused if the load failed, or if the value was not there after kLoadTriesMax loads. It waits in a remote slot, or
// parked if it cannot have one. If it then waits for room or for a time, so does the connection.
//
// The gate is turned to the front while requests of remote slots are executed: their replies go behind those before the
// first slot. Otherwise it is turned to the end, behind all slots. A wait (RequestWait) is that of the request at hand.
//
// Not thread-safe: it is its session's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "protocol/ack.h"
#include "protocol/byte_buffer.h"
#include "protocol/held_replies.h"
#include "protocol/limits.h"
#include "protocol/pinned_values.h"
#include "protocol/remote_replies.h"
#include "protocol/request_wait.h"
#include "protocol/response.h"
#include "protocol/service.h"
#include "store/commit_marks.h"
#include "store/log_view.h"
#include "store/read_through.h"
#include "store/request.h"
#include "store/slowdown.h"
#include "store/store.h"

namespace cairn {

class ReplyGate {
 public:
  ReplyGate(Workbench* bench, Ack ack);
  // Discards held replies and remote slots, and leaves the loads that the session waits for.
  ~ReplyGate();
  ReplyGate(const ReplyGate&) = delete;
  ReplyGate& operator=(const ReplyGate&) = delete;

  // The number of the session, in events.
  void SetClient(uint64_t client) { client_ = client; }
  uint64_t client() const { return client_; }

  // ---- a call ----

  // Moves the replies that may leave by now to `out`. False: the log can never commit the held replies, and the session
  // must end.
  [[nodiscard]] bool BeginCall(size_t backlog_bytes, ByteBuffer* out) {
    out_ = out;
    out_bytes_before_ = out->size();
    DCHECK(pinned_ == nullptr || pinned_->empty());
    backlog_bytes_ = backlog_bytes;
    requests_in_call_ = 0;
    was_parked_for_room_ = wait_.is_for_room;
    has_new_holds_ = false;
    if (service_->log() == nullptr && held_.empty() && remote_ == nullptr) [[likely]] {
      sink_ = out;
      return true;
    }
    return LookAtLog();
  }
  // If the session waits for the log: arms the front's wake-up, and rings the log's bell for new waits. `has_advanced`:
  // kept requests were executed in this call.
  void EndCall(bool has_advanced) {
    bench_->counters()->Add(Counter::kBytesWritten, out_->size() - out_bytes_before_ + pinned_bytes());
    if (wait_.load != 0 && !wait_.is_for_load) [[unlikely]]
      EndLoad();
    if (wait_.is_for_room || wait_.slow_until_ms != 0 || sink_ != out_) [[unlikely]]
      WaitForLog(has_advanced);
  }

  // ---- replies ----

  // The buffer for the next reply.
  ByteBuffer* sink() { return sink_; }

  enum class Slot : uint8_t {
    kReady,
    kHeld,
    kRefused,  // take the reply back, and refuse the request
  };
  // Puts the reply that was appended to the sink from `begin` on into its slot. It reveals an outcome, or `version` of
  // that shard. `may_refuse`: the request changed nothing, so it may be refused instead.
  [[nodiscard]] Slot Settle(size_t begin, const Request& request, const Outcome& outcome) {
    if (!commits_->active()) [[likely]]
      return Slot::kReady;
    return SettleOutcome(begin, request, outcome);
  }
  // A dialect whose errors are no lines, and whose replies are all whole: how it writes an error in place of a held
  // reply, by the tag that it gives before the reply is settled.
  void SetErrorForm(ErrorForm form) {
    held_.SetErrorForm(form);
    has_error_form_ = true;
  }
  void TagReply(uint64_t tag) { tag_ = tag; }
  // The same for a reply that reveals the change of a key which has this version, and cannot be refused any more.
  void SettleChange(size_t begin, uint32_t shard, std::string_view key, uint64_t version);
  // Waits for the log only: it reveals no change of a row.
  Slot Settle(size_t begin, uint32_t shard, uint64_t version, bool may_refuse);
  bool marks_are_active() const { return commits_->active(); }

  // Whether the outcome's value may leave from its entry. Not if it is small, if the front cannot send it from there,
  // if the store cannot let it be pinned for long, or if its reply must be held.
  bool MaySendPinned(const Request& request, const Outcome& outcome) const {
    return pinned_ != nullptr && outcome.pin_may_last && outcome.value_bytes >= kPinnedValueBytesMin &&
           IsReady(request, outcome);
  }
  // Takes over the pin of the value, which leaves behind the bytes in the sink. REQUIRES: MaySendPinned().
  void SendPinned(const Outcome& outcome) { pinned_->Add({out_->size(), outcome.value_bytes, outcome.pin}); }

  // ---- executing ----

  void CountRequest() { requests_in_call_++; }
  // Replies before which others must leave are too many. Turned to the front, those behind remote slots do not count.
  bool IsOutputFull() const {
    const size_t leaving = backlog_bytes_ + out_->size() + pinned_bytes();
    return leaving >= kOutputBytesHigh || (sink_ != out_ && IsLineFull(leaving));
  }
  // True: no more requests are executed in this call.
  bool IsFull() const { return IsOutputFull() || requests_in_call_ >= kRequestsPerCallMax; }
  // True: a request that would leave a record of this key is refused; without a key: of any.
  bool refuses(std::string_view key = {}) const { return refuses_reads() || (is_backend_away_ && IsAway(key)); }
  // True: what the log does not have is not told, and no clear is done.
  bool refuses_reads() const { return ack_ != Ack::kMemory && log_health_ != LogView::Health::kRunning; }
  // Counts a refusal, and returns its reply.
  Reply CountRefusal();

  // Called before a request is executed that would leave a record of this key. True: changes of its backend are slowed,
  // and the session is parked until this one has waited.
  bool ParkForSlowdown(std::string_view key, const Now& now) {
    Slowdown* const slowdown = SlowdownOf(key);
    return slowdown->ms() != 0 && ParkSlowed(slowdown, now);
  }
  // Changes of this key are slowed.
  bool slows(std::string_view key) const { return SlowdownOf(key)->ms() != 0; }
  // The request that has waited is done: the next one waits anew.
  bool has_slowed() const { return wait_.has_slowed; }
  void EndSlowed() { wait_.has_slowed = false; }
  // A request that goes on later does not wait again.
  void KeepSlowed() { wait_.has_slowed = true; }
  // Milliseconds until the session may go on that is parked for a slowdown; 0: it is not.
  uint64_t SlowedForMs(const Now& now) const {
    return wait_.slow_until_ms > now.boot_ms ? wait_.slow_until_ms - now.boot_ms : uint64_t{wait_.slow_until_ms != 0};
  }

  // The log has no room for a request's record; the request has changed nothing. True: the session is parked until
  // there is room. False: refuse the request.
  bool ParkForRoom();
  // The store has answered kNotResident to a request for this key, which has changed nothing. True: the request waits
  // until a load of the key has ended. False: refuse the request with `*reply`; if is_unknown(), and the request
  // only reads, it may be answered with a miss instead.
  bool ParkForLoad(std::string_view key, const Now& now, Reply* reply);
  // The store has answered a status from kLogFull on to a request for this key. True: it waits for room or for a load.
  // False: refuse the request with `*reply`.
  bool ParkOrRefuse(std::string_view key, Status status, const Now& now, Reply* reply);
  // The last ParkForLoad() has found that the backend did not answer.
  bool is_unknown() const { return is_unknown_; }
  // Waits for the load of a key, and begins one if the request waits for none. kPending: it waits. kFailed without a
  // load: there are too many. A load that has ended is kept to the end of the call, or up to EndLoad().
  ReadThrough::Load AwaitLoad(ReadThrough* loads, std::string_view key, const Now& now);
  // True: the request waits for the load of this key, or has waited for it in this call.
  bool AwaitsLoad(const ReadThrough* loads, std::string_view key) const {
    return wait_.load != 0 && wait_.loads == loads && wait_.load_key == key;
  }
  uint64_t load() const { return wait_.load; }
  void EndLoad() { wait_.LeaveLoad(); }
  // True: the request waits for a load, a slowdown or remote slots that have not ended.
  bool IsPending(const Now& now) const {
    if (wait_.slow_until_ms != 0) return wait_.slow_until_ms > now.boot_ms && wait_.slowed_by->ms() != 0;
    if (wait_.slot_bytes != 0) return remote_ != nullptr && !remote_->Fits(wait_.slot_bytes);
    return wait_.IsPendingLoad();
  }
  // The session is no longer parked.
  void Unpark() { wait_.Stop(); }

  // ---- remote slots ----

  bool has_remote() const { return remote_ != nullptr; }
  // The request at hand waits for an answer from elsewhere, and those behind it need not wait.
  bool MayStandAside() const { return wait_.is_for_load && wait_.may_stand_aside; }
  // A request for one of these keys has a remote slot.
  bool IsBehind(const Scope& scope) const { return remote_ != nullptr && remote_->HasOneOf(scope); }
  // The request at hand gets a remote slot, with its wait and its place. `bytes` begin with it. False: there is no
  // room, and the session is parked.
  [[nodiscard]] bool StandAside(const char* bytes, const Scope& scope, const Now& now, Place* place);
  // The request at hand waits until no remote slot is left.
  void ParkBehindSlots() { wait_.slot_bytes = RemoteReplies::kAllSlotBytes; }

  // Slots are filled next.
  void TurnToFront() { Turn(/*to_front=*/true); }
  // Other requests are executed next.
  void TurnToEnd() { Turn(/*to_front=*/false); }
  // The first slot, whose wait is that at hand from now on. Null: it has no answer yet. REQUIRES: has_remote(), turned
  // to the front.
  RemoteSlot* EnterSlot();
  // The next requests have waited since the thread was woken at that time. Returns when it was woken.
  uint64_t BeginWakeUpAt(uint64_t ticks) { return bench_->observer()->BeginWakeUpAt(ticks); }
  // Its request waits for another load.
  void LeaveSlot();
  // Its request has been executed, and its reply is in the sink.
  void FillSlot();
  // Moves the replies that may leave, now that slots have been filled, to `out`. As BeginCall().
  [[nodiscard]] bool ReleaseFilled() { return !std::exchange(has_filled_, false) || held_.empty() || LookAtLog(); }

  // ---- state ----

  Ack ack() const { return ack_; }
  CommitMarks* commits() { return commits_; }
  bool has_held() const { return !held_.empty(); }
  // Replies wait to be sent: a front that flushes makes progress.
  bool has_backlog() const { return backlog_bytes_ != 0 || !out_->empty(); }
  // There was no memory for a reply: the stream of replies is incomplete.
  bool failed() { return out_->failed() || held_.buffer()->failed() || (remote_ != nullptr && remote_->failed()); }

 private:
  size_t pinned_bytes() const { return pinned_ == nullptr ? 0 : pinned_->bytes(); }
  // Settle() would let the reply leave.
  bool IsReady(const Request& request, const Outcome& outcome) const;
  bool LookAtLog();
  bool ReleaseHeld();
  void Turn(bool to_front);
  bool IsLineFull(size_t leaving) const;
  bool IsAway(std::string_view key) const;
  void MoveToHeld(size_t begin);
  void HoldForBackend(size_t begin, uint32_t shard, std::string_view key, uint64_t version, bool is_whole);
  bool RefuseForLoad();  // false
  Slowdown* SlowdownOf(std::string_view key) const {
    return slowdown_ != nullptr ? slowdown_ : service_->store()->backends().For(key)->slowdown();
  }
  bool ParkSlowed(Slowdown* slowdown, const Now& now);
  void WaitForLog(bool has_advanced);
  Slot SettleOutcome(size_t begin, const Request& request, const Outcome& outcome);

  Service* const service_;
  Workbench* const bench_;
  PinnedValues* const pinned_;  // null: all values are copied
  const Ack ack_;
  CommitMarks* const commits_;
  const Backends* const backends_;  // null: no reply waits for a backend
  Slowdown* const slowdown_;        // of the one backend; null: there are several
  HeldReplies held_;
  bool has_error_form_ = false;
  uint64_t tag_ = 0;  // of the reply at hand
  uint64_t client_ = 0;

  RequestWait wait_;  // of the request at hand
  bool is_unknown_ = false;

  std::unique_ptr<RemoteReplies> remote_;  // null: there is no slot
  bool is_at_front_ = false;
  bool is_in_slot_ = false;  // the request at hand is that of the first slot, which keeps the other wait
  bool has_filled_ = false;  // since the last ReleaseFilled()

  // Of the call in progress.
  ByteBuffer* out_ = nullptr;
  HeldReplies* line_ = &held_;  // where replies go that cannot leave
  ByteBuffer* sink_ = nullptr;  // out_, or the buffer of line_
  size_t backlog_bytes_ = 0;
  size_t out_bytes_before_ = 0;
  size_t requests_in_call_ = 0;
  bool was_parked_for_room_ = false;
  bool has_new_holds_ = false;
  LogView::Health log_health_ = LogView::Health::kRunning;
  bool is_backend_away_ = false;
  uint32_t log_progress_ = 0;
};

}  // namespace cairn
