#include "protocol/stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace cairn {

namespace {

std::string_view Between(const char* begin, const char* end) { return {begin, static_cast<size_t>(end - begin)}; }

}  // namespace

Stream::~Stream() {
  if (landing_.ref != 0) Landed(0, Now{});
  if (large_ != nullptr) store_->Abandon(&large_->body);
}

bool Stream::is_in_large_request() const {
  if (large_ != nullptr) return true;
  const uint64_t bytes = std::max<uint64_t>({swallow_bytes_, rest_wanted_, rest_.size()});
  return state() == State::kOpen && bytes > kBodyBufferedBytesMax;
}

void Stream::Feed(std::string_view bytes) {
  const char* at = bytes.data();
  const char* end = at + bytes.size();
  while (at != end && state() == State::kOpen && !rest_.empty()) at = CompleteRest(at, end);
  if (at != end && state() == State::kOpen) at = Run(at, end);
  if (at != end && !drops_bytes()) rest_.Append(Between(at, end));
}

size_t Stream::Landing(std::span<char>* places, size_t count) {
  if (mode_ != Mode::kBody || state_ != State::kOpen || !rest_.empty()) return 0;
  // The last byte of the block is fed: it finishes the request.
  const uint64_t landing_bytes = large_->body.value_bytes - (large_->end_bytes == 0 ? 1 : 0);
  if (large_->received + kLandingBytesMin > landing_bytes) return 0;
  const uint64_t bytes = std::min<uint64_t>(landing_bytes - large_->received, kLandingBytesMax);
  return store_->PinBody(large_->body, large_->received, bytes, places, count, &landing_);
}

void Stream::Landed(size_t bytes, const Now& now) {
  store_->UnpinBody(large_->body, landing_, bytes == 0 ? Now{} : now);
  landing_ = Pin();
  large_->received += bytes;
}

void Stream::Resume() {
  if (gate_->has_remote() && !FillSlots()) return;
  if (state_ == State::kParked && !gate_->IsPending(*now_)) {
    state_ = State::kOpen;
    gate_->Unpark();
  }
  if (state_ == State::kFull && !gate_->IsFull()) state_ = State::kOpen;
  if (state_ == State::kOpen && !rest_.empty()) RunRest();
}

// Inlined: each call goes through it.
[[gnu::always_inline]] inline Progress Stream::Advance(const char* at, const char* end) {
  for (;;) {
    const Progress progress = is_at_request() ? dialect_->Run(at, end) : RunBlock(at, end);
    if (progress.why != Why::kDone || progress.at == end) return progress;
    at = progress.at;
  }
}

const char* Stream::Run(const char* at, const char* end) {
  rest_wanted_ = 0;
  Progress progress{at, Why::kDone};
  do {
    progress = gate_->has_remote() ? AdvanceBehindSlots(progress.at, end) : Advance(progress.at, end);
    if (progress.why == Why::kParked && is_at_request() && gate_->MayStandAside()) [[unlikely]] {
      Scope scope;
      dialect_->Look(progress.at, end, &scope);
      if (scope.kind == Scope::Kind::kKeys) progress = StandAside(progress.at, scope);
    }
  } while (progress.why == Why::kDone && progress.at != end);
  switch (progress.why) {
    case Why::kDone:
      break;
    case Why::kMore:
      if (rest_wanted_ == 0 && is_at_request() && !dialect_->MayGrow(Between(progress.at, end))) {
        state_ = State::kClosing;
      }
      break;
    case Why::kFull:
      state_ = State::kFull;
      break;
    case Why::kParked:
      state_ = State::kParked;
      break;
    case Why::kClosing:
      state_ = State::kClosing;
      break;
    case Why::kWatching:
      state_ = State::kWatching;
      break;
  }
  return progress.at;
}

// ---- remote slots ----

Progress Stream::AdvanceBehindSlots(const char* at, const char* end) {
  DCHECK(is_at_request());
  Scope scope;
  dialect_->Look(at, end, &scope);
  if (scope.kind == Scope::Kind::kPart) return {at, Why::kMore};
  if (scope.kind == Scope::Kind::kAll) {
    gate_->ParkBehindSlots();
    return {at, Why::kParked};
  }
  if (gate_->IsBehind(scope)) return StandAside(at, scope);
  return Advance(at, at + scope.bytes);
}

Progress Stream::StandAside(const char* at, const Scope& scope) {
  if (!gate_->StandAside(at, scope, *now_, dialect_->place())) return {at, Why::kParked};
  return {at + scope.bytes, gate_->IsFull() ? Why::kFull : Why::kDone};
}

bool Stream::FillSlots() {
  if (slot_state_ == State::kParked) {
    if (gate_->IsPending(*now_)) return false;
    gate_->Unpark();
  }
  slot_state_ = State::kOpen;
  gate_->TurnToFront();
  RunSlots();
  if (!gate_->ReleaseFilled()) {
    Close();
    return false;
  }
  if (slot_state_ != State::kOpen) return false;
  gate_->TurnToEnd();
  return true;
}

void Stream::RunSlots() {
  while (gate_->has_remote()) {
    if (gate_->IsFull()) {
      slot_state_ = State::kFull;
      return;
    }
    RemoteSlot* const slot = gate_->EnterSlot();
    if (slot == nullptr) return;
    const std::string_view left = slot->left();
    std::swap(*dialect_->place(), slot->place);
    const uint64_t woken_ticks = gate_->BeginWakeUpAt(slot->woken_ticks);
    const Progress progress = Advance(left.data(), left.data() + left.size());
    gate_->BeginWakeUpAt(woken_ticks);
    std::swap(*dialect_->place(), slot->place);
    slot->done_bytes += static_cast<size_t>(progress.at - left.data());
    if (slot->left().empty()) {
      gate_->FillSlot();
    } else if (progress.why == Why::kParked && gate_->MayStandAside()) {
      gate_->LeaveSlot();
      return;
    } else {
      slot_state_ = progress.why == Why::kFull ? State::kFull : State::kParked;
      return;
    }
  }
}

// ---- blocks ----

Progress Stream::RunBlock(const char* at, const char* end) {
  return mode_ == Mode::kBody ? RunBody(at, end) : RunSwallow(at, end);
}

void Stream::RunRest() {
  const char* begin = rest_.data();
  const char* done = Run(begin, begin + rest_.size());
  if (drops_bytes()) {
    rest_.Clear();
  } else {
    rest_.DropFront(static_cast<size_t>(done - begin));
  }
}

// Brings the request at the start of rest_ as far as these bytes go, and executes it if that is all of it.
const char* Stream::CompleteRest(const char* at, const char* end) {
  const size_t there = static_cast<size_t>(end - at);
  if (rest_wanted_ == 0) {
    const char* newline = static_cast<const char*>(std::memchr(at, '\n', there));
    rest_.Append(Between(at, newline == nullptr ? end : newline + 1));
    if (newline == nullptr) {
      if (!dialect_->MayGrow(rest_.view())) {
        state_ = State::kClosing;
        rest_.Clear();
      }
      return end;
    }
    at = newline + 1;
  } else {
    const size_t missing = rest_wanted_ - rest_.size();
    const size_t taken = std::min(missing, there);
    rest_.Append({at, taken});
    at += taken;
    if (taken < missing) return at;
  }
  RunRest();
  return at;
}

Progress Stream::RunBody(const char* at, const char* end) {
  LargeBody* large = large_.get();
  const uint64_t value_bytes = large->body.value_bytes;
  const uint64_t block_bytes = value_bytes + large->end_bytes;
  if (large->received < value_bytes) {
    const uint64_t taken = std::min<uint64_t>(static_cast<uint64_t>(end - at), value_bytes - large->received);
    if (!store_->WriteBody(large->body, large->received, {at, static_cast<size_t>(taken)}, *now_)) {
      mode_ = Mode::kRequests;
      dialect_->LoseBody(*large, block_bytes - large->received);
      large_.reset();
      return {at, Why::kDone};
    }
    large->received += taken;
    at += taken;
  }
  while (at != end && large->received < block_bytes) large->end[large->received++ - value_bytes] = *at++;
  if (large->received < block_bytes) return {at, Why::kMore};
  const Why why = dialect_->FinishBody(large);
  if (why == Why::kParked) {
    // The last byte is kept, so that Resume() has something to go on with.
    large->received--;
    return {at - 1, why};
  }
  large_.reset();
  mode_ = Mode::kRequests;
  return {at, gate_->IsFull() ? Why::kFull : why};
}

Progress Stream::RunSwallow(const char* at, const char* end) {
  const uint64_t taken = std::min<uint64_t>(static_cast<uint64_t>(end - at), swallow_bytes_);
  swallow_bytes_ -= taken;
  at += taken;
  if (swallow_bytes_ != 0) return {at, Why::kMore};
  mode_ = Mode::kRequests;
  dialect_->FinishSwallow();
  return {at, gate_->IsFull() ? Why::kFull : Why::kDone};
}

}  // namespace cairn
