#include "protocol/reply_gate.h"

#include <algorithm>

#include "base/check.h"
#include "protocol/execute.h"
#include "protocol/limits.h"

namespace cairn {

namespace {

// The version that must be committed before a client may see the outcome; 0: none.
uint64_t RevealedBy(const Outcome& outcome) {
  if (outcome.commit_version != 0) return outcome.commit_version;
  // A store without records has none to commit. There debughold counts the versions themselves.
  return outcome.record_version != 0 ? outcome.record_version : outcome.version;
}

}  // namespace

ReplyGate::ReplyGate(Workbench* bench, Ack ack)
    : service_(bench->service()),
      bench_(bench),
      pinned_(bench->pinned()),
      ack_(ack),
      commits_(service_->commits(ack)),
      backends_(ack == Ack::kStored ? &service_->store()->backends() : nullptr),
      slowdown_(service_->store()->backends().is_one() ? service_->store()->stored()->slowdown() : nullptr) {}

ReplyGate::~ReplyGate() { EndLoad(); }

// ---- a call ----

bool ReplyGate::LookAtLog() {
  if (const LogView* log = service_->log()) {
    log_progress_ = log->progress();
    log_health_ = log->health();
  }
  is_backend_away_ = backends_ != nullptr && backends_->health() != StoredChanges::Health::kRunning;
  const bool is_well = held_.empty() || ReleaseHeld();
  if (!is_well) {
    // No later reply can be sent either.
    held_.Drop();
    EndLoad();
    remote_.reset();
    wait_ = RequestWait();
    is_in_slot_ = false;
  }
  Turn(is_at_front_);
  return is_well;
}

bool ReplyGate::ReleaseHeld() {
  const HeldReplies::Released released = held_.Release(*commits_, backends_, out_);
  if (released == HeldReplies::Released::kAll) return true;
  if (released == HeldReplies::Released::kBroken) return false;
  return log_health_ != LogView::Health::kFailed && log_health_ != LogView::Health::kStuck;
}

// Looked at again: a request of another key may be one of a backend, or of a shard, whose changes are confirmed.
bool ReplyGate::IsAway(std::string_view key) const {
  const uint32_t shard = service_->store()->ShardOf(key);
  return key.empty() || backends_->For(key)->health(shard) != StoredChanges::Health::kRunning;
}

void ReplyGate::WaitForLog(bool has_advanced) {
  LogView* log = service_->log();
  if (log == nullptr) return;
  service_->ArmLogWatch();
  // What came between reading the progress and arming has woken no front.
  if (log->progress() != log_progress_) service_->WakeAll();
  // A request that was parked before and is still the first one is not counted twice.
  const bool is_newly_parked = wait_.is_for_room && (!was_parked_for_room_ || has_advanced);
  if (is_newly_parked) bench_->counters()->Add(Counter::kParked, 1);
  if (is_newly_parked || has_new_holds_) log->marks()->RingBell();
}

// ---- replies ----

bool ReplyGate::IsReady(const Request& request, const Outcome& outcome) const {
  if (sink_ != out_) return false;
  if (!commits_->active()) return true;
  const uint64_t version = RevealedBy(outcome);
  if (version == 0) return true;
  if (backends_ != nullptr && outcome.record_version != 0) return false;
  return commits_->Covers(service_->store()->ShardOf(request.key), version);
}

ReplyGate::Slot ReplyGate::SettleOutcome(size_t begin, const Request& request, const Outcome& outcome) {
  const uint64_t version = RevealedBy(outcome);
  if (version == 0) return Slot::kReady;
  const uint32_t shard = service_->store()->ShardOf(request.key);
  if (backends_ != nullptr && outcome.record_version != 0) {
    // Of a line for many keys, the reply is one of many pieces.
    HoldForBackend(begin, shard, request.key, version, has_error_form_ || request.verb != Verb::kGetAndTouch);
    return Slot::kHeld;
  }
  return Settle(begin, shard, version, outcome.record_version == 0);
}

void ReplyGate::SettleChange(size_t begin, uint32_t shard, std::string_view key, uint64_t version) {
  if (backends_ != nullptr) return HoldForBackend(begin, shard, key, version, /*is_whole=*/true);
  (void)Settle(begin, shard, version, /*may_refuse=*/false);
}

void ReplyGate::HoldForBackend(size_t begin, uint32_t shard, std::string_view key, uint64_t version, bool is_whole) {
  const bool is_first = sink_ == out_;
  MoveToHeld(begin);
  line_->HoldForBackend(shard, key, version, is_first ? 0 : begin, is_whole, tag_);
  backends_->For(key)->Want(shard, version);
}

ReplyGate::Slot ReplyGate::Settle(size_t begin, uint32_t shard, uint64_t version, bool may_refuse) {
  if (commits_->Covers(shard, version)) return Slot::kReady;
  if (may_refuse && refuses_reads()) return Slot::kRefused;
  const bool is_first = sink_ == out_;
  MoveToHeld(begin);
  line_->Hold(shard, version, is_first ? 0 : begin);
  return Slot::kHeld;
}

// The reply that was appended from `begin` on is to be held.
void ReplyGate::MoveToHeld(size_t begin) {
  has_new_holds_ = true;
  bench_->counters()->Add(Counter::kHeld, 1);
  if (sink_ != out_) return;
  sink_ = held_.buffer();
  sink_->Append(out_->view().substr(begin));
  out_->Truncate(begin);
}

bool ReplyGate::IsLineFull(size_t leaving) const {
  size_t bytes = leaving + held_.bytes();
  size_t held = held_.count();
  if (line_ != &held_) {
    bytes += remote_->bytes();
    held += remote_->held_count();
  }
  return bytes >= kOutputBytesHigh || held >= kHeldMarksMax;
}

// ---- executing ----

Reply ReplyGate::CountRefusal() {
  bench_->counters()->Add(Counter::kRefused, 1);
  if (log_health_ == LogView::Health::kFailed) return Reply::kLogFailed;
  return is_backend_away_ && log_health_ == LogView::Health::kRunning ? Reply::kBackendAway : Reply::kLogFull;
}

bool ReplyGate::ParkSlowed(Slowdown* slowdown, const Now& now) {
  if (wait_.has_slowed) return false;
  const uint32_t ms = slowdown->ms();
  if (ms == 0) return false;
  slowdown->Count(ms);
  wait_.slowed_by = slowdown;
  wait_.slow_until_ms = now.boot_ms + ms;
  wait_.has_slowed = true;
  return true;
}

bool ReplyGate::ParkForRoom() {
  log_health_ = service_->LogHealth();
  if (log_health_ != LogView::Health::kRunning) return false;
  wait_.is_for_room = true;
  return true;
}

bool ReplyGate::ParkOrRefuse(std::string_view key, Status status, const Now& now, Reply* reply) {
  if (status == Status::kNotResident) return ParkForLoad(key, now, reply);
  if (ParkForRoom()) return true;
  *reply = CountRefusal();
  return false;
}

bool ReplyGate::ParkForLoad(std::string_view key, const Now& now, Reply* reply) {
  ReadThrough* loads = service_->loads();
  *reply = Reply::kNotResident;
  is_unknown_ = false;
  if (loads == nullptr) return false;
  for (;;) {
    const bool is_new = !AwaitsLoad(loads, key);
    switch (AwaitLoad(loads, key, now)) {
      case ReadThrough::Load::kPending:
        if (is_new) bench_->counters()->Add(Counter::kParked, 1);
        wait_.may_stand_aside = true;
        return true;
      case ReadThrough::Load::kFailed:
        if (wait_.load == 0 && line_ != &held_) {
          // The session has loads: it waits for those before it is refused one.
          ParkBehindSlots();
          return true;
        }
        *reply = wait_.load == 0 ? Reply::kTooManyLoads : Reply::kLoadFailed;
        return RefuseForLoad();
      case ReadThrough::Load::kUnknown:
        *reply = Reply::kLoadFailed;
        is_unknown_ = true;
        return RefuseForLoad();
      case ReadThrough::Load::kLoaded:
        // The value has left memory again, or a write and a removal have overtaken it.
        if (++wait_.load_tries == kLoadTriesMax) return RefuseForLoad();
        loads->Leave(wait_.load);
        wait_.load = 0;
    }
  }
}

bool ReplyGate::RefuseForLoad() {
  EndLoad();
  bench_->counters()->Add(Counter::kRefused, 1);
  return false;
}

ReadThrough::Load ReplyGate::AwaitLoad(ReadThrough* loads, std::string_view key, const Now& now) {
  ReadThrough::Load state = ReadThrough::Load::kPending;
  wait_.may_stand_aside = false;
  if (AwaitsLoad(loads, key)) {
    state = loads->Poll(wait_.load);
  } else {
    // The load of another key: its request has its answer. The tries are counted per key.
    if (wait_.load != 0 || wait_.load_key != key) EndLoad();
    wait_.loads = loads;
    wait_.load_key = key;
    wait_.load = loads->Begin(key, now);
    if (wait_.load == 0) state = ReadThrough::Load::kFailed;
  }
  wait_.is_for_load = state == ReadThrough::Load::kPending;
  return state;
}

// ---- remote slots ----

void ReplyGate::Turn(bool to_front) {
  is_at_front_ = to_front;
  line_ = to_front || remote_ == nullptr ? &held_ : remote_->end();
  sink_ = line_ == &held_ && held_.empty() ? out_ : line_->buffer();
}

bool ReplyGate::StandAside(const char* bytes, const Scope& scope, const Now& now, Place* place) {
  const size_t slot_bytes = RemoteReplies::SlotBytes(scope);
  if (remote_ == nullptr) remote_ = std::make_unique<RemoteReplies>();
  if (!remote_->Fits(slot_bytes)) {
    if (remote_->empty()) remote_.reset();
    // One that waits for a load waits for that alone.
    if (!wait_.is_for_load) wait_.slot_bytes = slot_bytes;
    return false;
  }
  CountRequest();
  RemoteSlot* const slot = remote_->Add({bytes, scope.bytes}, scope);
  slot->woken_ticks = bench_->observer()->woken_ticks();
  std::swap(slot->wait, wait_);
  std::swap(slot->place, *place);
  TurnToEnd();
  if (slot->wait.is_for_load || scope.keys.size() == 1) return true;
  // Behind the request that has one of its keys, the others are loaded meanwhile.
  const size_t count = std::min(scope.keys.size(), kPrefetchKeysMax);
  for (size_t i = 0; i < count; i++) Prefetch(scope.keys[i], now, service_->store(), service_->loads());
  return true;
}

RemoteSlot* ReplyGate::EnterSlot() {
  RemoteSlot* const slot = remote_->first();
  if (is_in_slot_) return slot;
  if (slot->wait.IsPendingLoad()) return nullptr;
  is_in_slot_ = true;
  std::swap(slot->wait, wait_);
  Unpark();
  return slot;
}

void ReplyGate::LeaveSlot() {
  is_in_slot_ = false;
  std::swap(remote_->first()->wait, wait_);
}

void ReplyGate::FillSlot() {
  EndLoad();
  LeaveSlot();
  has_filled_ = true;
  remote_->RemoveFirst(&held_, out_);
  if (remote_->empty()) remote_.reset();
  TurnToFront();
}

}  // namespace cairn
