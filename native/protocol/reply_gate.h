// The way out of a session: decides where replies go, whether they may leave yet, and whether more may be executed, by
// the state of the output and the log. It knows no protocol: a dialect composes replies into sink() and names the
// version that each reveals.
//
// Replies leave in the order of the requests. A reply slot is one of
//   ready    in `out`
//   held     composed, and waits until a version is committed (CommitMarks), or the backend has a change
//            (StoredChanges); requests behind it are executed, and their replies wait in line
//   parked   the request has no answer yet: it waits for room in the log, for a load (ReadThrough), or for a time
//            (Slowdown); nothing behind it is executed
// A fourth kind, remote (the answer comes from another node while requests behind it are executed), would be a mark of
// HeldReplies that waits for bytes instead of a version.
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
// A request whose value is not in memory is parked until a load of its key has ended, and then executed again. It is
// refused if the load failed, or if the value was not there after kLoadTriesMax loads.
//
// Not thread-safe: it is its session's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "protocol/ack.h"
#include "protocol/byte_buffer.h"
#include "protocol/held_replies.h"
#include "protocol/limits.h"
#include "protocol/pinned_values.h"
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
  // Discards held replies, and leaves the load that the session waits for.
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
    was_parked_for_room_ = is_parked_for_room_;
    has_new_holds_ = false;
    if (service_->log() == nullptr && held_.empty()) [[likely]]
      return true;
    return LookAtLog();
  }
  // If the session waits for the log: arms the front's wake-up, and rings the log's bell for new waits. `has_advanced`:
  // kept requests were executed in this call.
  void EndCall(bool has_advanced) {
    bench_->counters()->Add(Counter::kBytesWritten, out_->size() - out_bytes_before_ + pinned_bytes());
    if (load_ != 0 && !is_parked_for_load_) [[unlikely]]
      EndLoad();
    if (is_parked_for_room_ || slow_until_ms_ != 0 || !held_.empty()) [[unlikely]]
      WaitForLog(has_advanced);
  }

  // ---- replies ----

  // The buffer for the next reply.
  ByteBuffer* sink() { return held_.empty() ? out_ : held_.buffer(); }

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
  bool IsOutputFull() const {
    return backlog_bytes_ + out_->size() + pinned_bytes() + held_.bytes() >= kOutputBytesHigh || held_.full();
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
  bool has_slowed() const { return has_slowed_; }
  void EndSlowed() { has_slowed_ = false; }
  // A request that goes on later does not wait again.
  void KeepSlowed() { has_slowed_ = true; }
  // Milliseconds until the session may go on that is parked for a slowdown; 0: it is not.
  uint64_t SlowedForMs(const Now& now) const {
    return slow_until_ms_ > now.boot_ms ? slow_until_ms_ - now.boot_ms : uint64_t{slow_until_ms_ != 0};
  }

  // The log has no room for a request's record; the request has changed nothing. True: the session is parked until
  // there is room. False: refuse the request.
  bool ParkForRoom();
  // The store has answered kNotResident to a request for this key, which has changed nothing. True: the session is
  // parked until a load of the key has ended. False: refuse the request with `*reply`; if is_unknown(), and the request
  // only reads, it may be answered with a miss instead.
  bool ParkForLoad(std::string_view key, const Now& now, Reply* reply);
  // The store has answered a status from kLogFull on to a request for this key. True: the session is parked, for room
  // or for a load. False: refuse the request with `*reply`.
  bool ParkOrRefuse(std::string_view key, Status status, const Now& now, Reply* reply);
  // The last ParkForLoad() has found that the backend did not answer.
  bool is_unknown() const { return is_unknown_; }
  // Waits for the load of a key, and begins one if the session waits for none. kPending: the session is parked. kFailed
  // without a load: there are too many. A load that has ended is kept to the end of the call, or up to EndLoad().
  ReadThrough::Load AwaitLoad(ReadThrough* loads, std::string_view key, const Now& now);
  // True: the session waits for the load of this key, or has waited for it in this call.
  bool AwaitsLoad(const ReadThrough* loads, std::string_view key) const {
    return load_ != 0 && loads_ == loads && load_key_ == key;
  }
  uint64_t load() const { return load_; }
  void EndLoad();
  // True: the session is parked for a load that has not ended, or for a slowdown that has not.
  bool IsPending(const Now& now) {
    if (slow_until_ms_ != 0) return slow_until_ms_ > now.boot_ms && slowed_by_->ms() != 0;
    return is_parked_for_load_ && loads_->Poll(load_) == ReadThrough::Load::kPending;
  }
  // The session is no longer parked.
  void Unpark() {
    is_parked_for_room_ = false;
    is_parked_for_load_ = false;
    slow_until_ms_ = 0;
  }

  // ---- state ----

  Ack ack() const { return ack_; }
  CommitMarks* commits() { return commits_; }
  bool has_held() const { return !held_.empty(); }
  // Replies wait to be sent: a front that flushes makes progress.
  bool has_backlog() const { return backlog_bytes_ != 0 || !out_->empty(); }
  // There was no memory for a reply: the stream of replies is incomplete.
  bool failed() { return out_->failed() || held_.buffer()->failed(); }

 private:
  size_t pinned_bytes() const { return pinned_ == nullptr ? 0 : pinned_->bytes(); }
  // Settle() would let the reply leave.
  bool IsReady(const Request& request, const Outcome& outcome) const;
  bool LookAtLog();
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

  ReadThrough* loads_ = nullptr;
  uint64_t load_ = 0;  // 0: none is waited for
  std::string load_key_;
  uint32_t load_tries_ = 0;  // loads of load_key_ that have ended
  bool is_parked_for_load_ = false;
  bool is_unknown_ = false;
  bool is_parked_for_room_ = false;
  const Slowdown* slowed_by_ = nullptr;
  uint64_t slow_until_ms_ = 0;  // boot clock; 0: the session is not parked for a slowdown
  bool has_slowed_ = false;     // the request at hand has waited

  // Of the call in progress.
  ByteBuffer* out_ = nullptr;
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
