#include "protocol/session.h"

#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "protocol/execute.h"
#include "protocol/exptime.h"
#include "protocol/limits.h"
#include "protocol/stats.h"
#include "protocol/text_compose.h"
#include "protocol/text_parse.h"

namespace cairn {

namespace {

constexpr std::string_view kLineEnd = "\r\n";

std::string_view Between(const char* begin, const char* end) { return {begin, static_cast<size_t>(end - begin)}; }

const char* FindNewline(const char* at, const char* end) {
  return static_cast<const char*>(std::memchr(at, '\n', static_cast<size_t>(end - at)));
}

constexpr std::string_view kGet = "get ";

// What most lines are: nothing can be wrong with a `get` that begins a key at once and is too short for one that is too
// long, so it need not be read as a line.
bool IsPlainGet(const char* at, const char* line_end) {
  size_t bytes = static_cast<size_t>(line_end - at);
  return bytes > kGet.size() && bytes <= kGet.size() + kKeyBytesInlineMax && std::memcmp(at, kGet.data(), 4) == 0 &&
         at[kGet.size()] != ' ';
}

// Where the line ends whose '\n' is at `newline`: one CR before it belongs to the end.
const char* LineEnd(const char* at, const char* newline) {
  return newline != at && newline[-1] == '\r' ? newline - 1 : newline;
}

}  // namespace

Session::Session(Workbench* bench, std::shared_ptr<const ConnectionNames> names, const Now& now, bool waits_for_log)
    : service_(bench->service()),
      store_(service_->store()),
      waits_for_log_(waits_for_log),
      commits_(service_->commits(waits_for_log)),
      bench_(bench),
      names_(std::move(names)),
      last_command_ms_(service_->Time(now).boot_ms) {
  OsLockGuard guard(&service_->lock_);
  id_ = ++service_->connections_total_;
  service_->session_count_++;
  next_ = service_->sessions_;
  link_ = &service_->sessions_;
  if (next_ != nullptr) next_->link_ = &next_;
  *link_ = this;
}

Session::~Session() {
  if (large_ != nullptr) store_->Abandon(&large_->body);
  if (has_ticket_) service_->tickets()->Abandon(ticket_);
  OsLockGuard guard(&service_->lock_);
  service_->session_count_--;
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
}

// ---- what the front calls ----

void Session::Begin(size_t backlog_bytes, const Now& now, ByteBuffer* out) {
  out_ = out;
  out_bytes_before_ = out->size();
  backlog_bytes_ = backlog_bytes;
  requests_in_call_ = 0;
  rest_bytes_before_ = rest_.size();
  was_parked_for_room_ = is_parked_for_room_;
  has_new_holds_ = false;
  now_ = service_->Time(now);
  if (service_->log() != nullptr) {
    log_progress_ = service_->log()->progress();
    log_state_ = service_->log()->state();
  }
  // What is held was done, and can neither be told nor denied: that is what the end of a connection says.
  const bool is_hopeless = log_state_ == ServiceLog::State::kFailed || log_state_ == ServiceLog::State::kStuck;
  if (!held_.empty() && !held_.Release(*commits_, out_) && is_hopeless) {
    held_.Drop();
    state_ = State::kClosing;
  }
  if (state_ == State::kFull && !IsFull()) state_ = State::kOpen;
}

Session::Next Session::Finish() {
  ProtocolCounters::Add(&bench_->counters()->bytes_written, out_->size() - out_bytes_before_);
  // Without memory for a reply the stream of replies has a hole: nothing that follows could be trusted.
  bool failed = out_->failed() || rest_.failed() || held_.buffer()->failed();
  if (rest_.empty() && rest_.capacity() > kIdleBufferBytesMax) rest_.Release();
  if (ended_ && state_ == State::kOpen) state_ = State::kClosing;
  if (service_->log() != nullptr && (is_parked_for_room_ || !held_.empty())) WaitForLog();
  bool backlog = backlog_bytes_ != 0 || !out_->empty();
  bool is_output_full = IsOutputFull();
  out_ = nullptr;
  if (failed) {
    state_ = State::kClosing;
    return Next::kClose;
  }
  switch (state_) {
    case State::kOpen:
      return Next::kRead;
    case State::kParked:
      return Next::kWait;
    case State::kFull:
      if (!is_output_full) return Next::kYield;
      ProtocolCounters::Add(&bench_->counters()->yields, 1);
      // What has left is not what is in the way if nothing is about to leave: then only a commit helps.
      return backlog ? Next::kFlush : Next::kWait;
    case State::kClosing:
      return held_.empty() ? Next::kClose : Next::kWait;
  }
  return Next::kClose;
}

// Sees to it that the log is asked to hurry, and that the front hears of what it does.
void Session::WaitForLog() {
  ServiceLog* log = service_->log();
  log->ArmWaker();
  if (log->progress() != log_progress_) service_->WakeAll();
  // Behind the first that cannot be executed nothing new comes to pass by looking again.
  const bool is_newly_parked = is_parked_for_room_ && (!was_parked_for_room_ || rest_.size() < rest_bytes_before_);
  if (is_newly_parked) ProtocolCounters::Add(&bench_->counters()->parked, 1);
  if (is_newly_parked || has_new_holds_) log->marks()->RingBell();
}

Session::Next Session::Feed(std::string_view bytes, size_t backlog_bytes, const Now& now, ByteBuffer* out) {
  Begin(backlog_bytes, now, out);
  ProtocolCounters::Add(&bench_->counters()->bytes_read, bytes.size());
  last_command_ms_.store(now_.boot_ms, std::memory_order_relaxed);
  const char* at = bytes.data();
  const char* end = at + bytes.size();
  if (!has_begun_ && at != end) [[unlikely]]
    LookAtFirst(*at);
  while (at != end && state_ == State::kOpen && !rest_.empty()) at = CompleteRest(at, end);
  if (at != end && state_ == State::kOpen) at = Run(at, end);
  if (at != end && state_ != State::kClosing) rest_.Append(Between(at, end));
  return Finish();
}

Session::Next Session::Continue(size_t backlog_bytes, const Now& now, ByteBuffer* out) {
  Begin(backlog_bytes, now, out);
  if (state_ == State::kParked) {
    state_ = State::kOpen;
    is_parked_for_room_ = false;
  }
  if (state_ == State::kOpen && !rest_.empty()) RunRest();
  return Finish();
}

Session::Next Session::End(size_t backlog_bytes, const Now& now, ByteBuffer* out) {
  ended_ = true;
  return Continue(backlog_bytes, now, out);
}

// ---- the stream ----

const char* Session::Run(const char* at, const char* end) {
  rest_wanted_ = 0;
  while (at != end && state_ == State::kOpen) {
    const char* next = at;
    switch (mode_) {
      case Mode::kLine:
        next = RunLine(at, end);
        break;
      case Mode::kKeys: {
        // The line was whole when its first key was looked at.
        const char* newline = FindNewline(at, end);
        CHECK(newline != nullptr);
        next = RunKeys(at, LineEnd(at, newline), newline + 1);
        break;
      }
      case Mode::kBody:
        next = RunBody(at, end);
        break;
      case Mode::kSwallow:
        next = RunSwallow(at, end);
        break;
    }
    if (next == at) break;
    at = next;
    if (IsFull()) [[unlikely]] {
      if (state_ == State::kOpen) state_ = State::kFull;
    }
  }
  // The keys of a group lie in these bytes, so it ends with them at the latest.
  return bench_->group_count_ == 0 ? at : FlushGroup(at);
}

// Binary requests and TLS begin with a byte that no command begins with, and hold no line end to answer at: their
// clients would wait for as long as they can.
void Session::LookAtFirst(char byte) {
  constexpr char kBinaryRequest = '\x80';
  constexpr char kTlsHandshake = '\x16';
  has_begun_ = true;
  if (byte == kBinaryRequest) foreign_ = Foreign::kBinary;
  if (byte == kTlsHandshake) foreign_ = Foreign::kTls;
  if (foreign_ != Foreign::kNone) state_ = State::kClosing;
}

void Session::RunRest() {
  const char* begin = rest_.data();
  const char* done = Run(begin, begin + rest_.size());
  rest_.DropFront(static_cast<size_t>(done - begin));
}

// Brings the request at the start of rest_ as far as these bytes go, and executes it if that is all of it.
const char* Session::CompleteRest(const char* at, const char* end) {
  size_t there = static_cast<size_t>(end - at);
  if (rest_wanted_ == 0) {
    const char* newline = FindNewline(at, end);
    rest_.Append(Between(at, newline == nullptr ? end : newline + 1));
    if (newline == nullptr) {
      if (WantLine(rest_.data(), rest_.data() + rest_.size()) != rest_.data()) rest_.Clear();
      return end;
    }
    at = newline + 1;
  } else {
    size_t missing = rest_wanted_ - rest_.size();
    size_t taken = missing < there ? missing : there;
    rest_.Append({at, taken});
    at += taken;
    if (taken < missing) return at;
  }
  RunRest();
  return at;
}

// A line whose end has not come: wait for it, or close a connection that makes it too long.
const char* Session::WantLine(const char* at, const char* end) {
  size_t bytes = static_cast<size_t>(end - at);
  if (bytes > kLineBytesMax && (bytes > kGetLineBytesMax || !IsGetLine(Between(at, end)))) {
    state_ = State::kClosing;
    return end;
  }
  return at;
}

const char* Session::RunLine(const char* at, const char* end) {
  const char* newline = FindNewline(at, end);
  if (newline == nullptr) return WantLine(at, end);
  const char* line_end = LineEnd(at, newline);
  const char* next = newline + 1;
  if (IsPlainGet(at, line_end)) [[likely]] {
    keys_verb_ = Verb::kGet;
    keys_with_cas_ = false;
    keys_expires_ms_ = kNeverExpires;
    return RunKeys(at + kGet.size(), line_end, next);
  }
  TextRequest line;
  ParseTextLine(Between(at, line_end), static_cast<size_t>(next - at), &line);
  if (line.info != nullptr && !line.has_error) [[likely]] {
    switch (line.info->shape) {
      case Shape::kKeys:
      case Shape::kSecondsKeys:
        keys_verb_ = line.info->verb;
        keys_with_cas_ = line.info->command == Command::kGets || line.info->command == Command::kGats;
        keys_expires_ms_ =
            line.info->shape == Shape::kSecondsKeys ? ExpiryOfSeconds(line.seconds, now_) : kNeverExpires;
        return RunKeys(line.words.data(), line_end, next);
      default:
        break;
    }
  }
  if (bench_->group_count_ != 0) {
    const char* done = FlushGroup(at);
    if (state_ != State::kOpen) return done;
  }
  requests_in_call_++;
  if (line.info != nullptr && line.info->shape == Shape::kStorage) return RunStorage(line, at, next, end);
  if (line.info != nullptr && IsTestCommand(line.info->command) && !service_->options().test_commands) {
    ParseUnknownLine(Between(at, line_end), &line);
  }
  if (line.has_error) {
    if (line.is_http) {
      state_ = State::kClosing;
      return next;
    }
    Append(line.error, line.no_reply);
    return next;
  }
  return RunCommand(line, at, next);
}

// Puts the keys from `at` on into the group. A line in the middle of which the replies became too many is gone on with
// here, in mode kKeys.
const char* Session::RunKeys(const char* at, const char* line_end, const char* next) {
  if (keys_verb_ == Verb::kGetAndTouch && Refuses()) [[unlikely]] {
    if (bench_->group_count_ != 0) {
      const char* done = FlushGroup(at);
      if (state_ != State::kOpen) return done;
    }
    // Keys of the line that were told of before have theirs; the error line stands where the rest would be.
    if (!keys_refused_) Append(Refusal());
    keys_refused_ = false;
    mode_ = Mode::kLine;
    return next;
  }
  while (at != line_end && *at == ' ') at++;
  while (at != line_end) {
    const char* blank = static_cast<const char*>(std::memchr(at, ' ', static_cast<size_t>(line_end - at)));
    const char* key_end = blank == nullptr ? line_end : blank;
    const char* after = key_end;
    while (after != line_end && *after == ' ') after++;
    size_t index = bench_->group_count_++;
    Request* request = &bench_->requests_[index];
    request->verb = keys_verb_;
    request->key = Between(at, key_end);
    request->expires_ms = keys_expires_ms_;
    bench_->keys_[index] = {keys_with_cas_, after == line_end};
    at = after;
    if (bench_->group_count_ == kGroupKeysMax) {
      const char* stopped = FlushGroup(nullptr);
      if (stopped != nullptr) return stopped;
    }
  }
  mode_ = Mode::kLine;
  return next;
}

const char* Session::FlushGroup(const char* done) {
  size_t count = bench_->group_count_;
  bench_->group_count_ = 0;
  const Request* requests = bench_->requests_;
  if (IsFull()) return StopGroup(0, State::kFull);
  Outcome* outcomes = bench_->outcomes_;
  Scratch scratch{bench_->scratch_.get(), kGroupScratchBytes, 0};
  if (count == 1) {
    store_->Execute(requests[0], now_, &scratch, &outcomes[0]);
  } else {
    store_->ExecuteMany(requests, count, now_, &scratch, outcomes);
  }
  for (size_t i = 0; i < count; i++) {
    // The rest of a group is asked for again when the replies have left. Nothing else has come of it: reading twice is
    // reading, and a time that is set twice is the same time. Only a request by itself is ever pinned.
    if (IsFull()) [[unlikely]]
      return StopGroup(i, State::kFull);
    const GroupKey key = bench_->keys_[i];
    if (!keys_refused_) [[likely]] {
      Told told = AppendEntry(requests[i], &outcomes[i], key.with_cas);
      if (told == Told::kNoRoom) [[unlikely]] {
        if (ParkForRoom()) return StopGroup(i, State::kParked);
        Append(Refusal());
        told = Told::kRefused;
      }
      if (told == Told::kRefused) [[unlikely]] {
        keys_refused_ = true;
      } else if (key.is_last) {
        Append(Reply::kEnd);
      }
    } else if (outcomes[i].pin.ref != 0) {
      store_->Unpin(outcomes[i].pin);
    }
    if (key.is_last) keys_refused_ = false;
    requests_in_call_++;
    if (requests[i].verb == Verb::kGetAndTouch) {
      ProtocolCounters* counters = bench_->counters();
      ProtocolCounters::Add(outcomes[i].status == Status::kFound ? &counters->gat_hits : &counters->gat_misses, 1);
    }
  }
  return done;
}

// Leaves the group from `index` on for later: the stream goes on at that key, in mode kKeys.
const char* Session::StopGroup(size_t index, State state) {
  const Request& request = bench_->requests_[index];
  state_ = state;
  mode_ = Mode::kKeys;
  keys_verb_ = request.verb;
  keys_expires_ms_ = request.expires_ms;
  keys_with_cas_ = bench_->keys_[index].with_cas;
  return request.key.data();
}

// The VALUE line and the value of a hit; nothing of a miss, but that may have to be held too.
Session::Told Session::AppendEntry(const Request& request, Outcome* outcome, bool with_cas) {
  if (outcome->status == Status::kNeedsRoom) return FetchIntoReply(request, outcome, with_cas);
  if (outcome->status == Status::kLogFull) [[unlikely]] {
    // A read stands only behind a touch of its shard that found no room.
    return request.verb == Verb::kGet ? FetchIntoReply(request, outcome, with_cas) : Told::kNoRoom;
  }
  if (outcome->status != Status::kFound) {
    return HoldFrom(sink()->size(), request, *outcome) ? Told::kYes : Told::kRefused;
  }
  ByteBuffer* to = sink();
  size_t begin = to->size();
  size_t value_bytes = outcome->value_bytes;
  char* room = to->Room(kValueLineBytesMax + value_bytes + kLineEnd.size());
  if (room != nullptr) {
    size_t line_bytes = WriteValueLine(
        {request.key, outcome->client_flags, outcome->value_bytes, with_cas ? outcome->version : 0}, room);
    char* value = room + line_bytes;
    if (outcome->pin.ref != 0) {
      store_->ReadPinned(outcome->pin, 0, value, value_bytes);
    } else {
      std::memcpy(value, bench_->scratch_.get() + outcome->value_offset, value_bytes);
    }
    std::memcpy(value + value_bytes, kLineEnd.data(), kLineEnd.size());
    to->Advance(line_bytes + value_bytes + kLineEnd.size());
  }
  if (outcome->pin.ref != 0) {
    store_->Unpin(outcome->pin);
    outcome->pin = Pin();
  }
  return HoldFrom(begin, request, *outcome) ? Told::kYes : Told::kRefused;
}

// A request that found no room with its group, or whose value is large and may not be pinned: copied straight to where
// it leaves from. The outcome may say nothing yet: behind the first that finds no room a store does not look.
Session::Told Session::FetchIntoReply(const Request& request, Outcome* outcome, bool with_cas) {
  for (;;) {
    // What is larger than this is pinned, or says how large it is.
    size_t value_bytes = outcome->value_bytes < kCopyUnderLockBytesMax ? kCopyUnderLockBytesMax : outcome->value_bytes;
    ByteBuffer* to = sink();
    size_t begin = to->size();
    char* room = to->Room(kValueLineBytesMax + value_bytes + kLineEnd.size());
    if (room == nullptr) return Told::kYes;  // the connection ends for it
    // Where the value will begin if it is still the one that was seen; it is moved if it is not.
    size_t guess = WriteValueLine(
        {request.key, outcome->client_flags, outcome->value_bytes, with_cas ? outcome->version : 0}, room);
    Scratch scratch{room + guess, value_bytes, 0};
    *outcome = Outcome();
    store_->Execute(request, now_, &scratch, outcome);
    if (outcome->status == Status::kNeedsRoom) continue;
    if (outcome->status == Status::kLogFull) return Told::kNoRoom;
    if (outcome->status != Status::kFound || outcome->pin.ref != 0) return AppendEntry(request, outcome, with_cas);
    ValueLine line{request.key, outcome->client_flags, outcome->value_bytes, with_cas ? outcome->version : 0};
    char written[kValueLineBytesMax];
    size_t line_bytes = WriteValueLine(line, written);
    if (line_bytes != guess) std::memmove(room + line_bytes, room + guess, outcome->value_bytes);
    std::memcpy(room, written, line_bytes);
    std::memcpy(room + line_bytes + outcome->value_bytes, kLineEnd.data(), kLineEnd.size());
    to->Advance(line_bytes + outcome->value_bytes + kLineEnd.size());
    return HoldFrom(begin, request, *outcome) ? Told::kYes : Told::kRefused;
  }
}

bool Session::HoldFrom(size_t begin, const Request& request, const Outcome& outcome) {
  if (!commits_->active()) [[likely]]
    return true;
  uint64_t version = outcome.commit_version;
  // A store without records knows of none. What debughold counts there are the versions themselves.
  if (version == 0) version = outcome.record_version != 0 ? outcome.record_version : outcome.version;
  if (version == 0) return true;
  // What only looked may be denied an answer. What did something waits for it.
  return HoldFrom(begin, store_->ShardOf(request.key), version, outcome.record_version == 0);
}

bool Session::HoldFrom(size_t begin, uint32_t shard, uint64_t version, bool may_refuse) {
  if (commits_->Covers(shard, version)) return true;
  if (may_refuse && Refuses()) {
    sink()->Truncate(begin);
    Append(Refusal());
    return false;
  }
  has_new_holds_ = true;
  ProtocolCounters::Add(&bench_->counters()->held, 1);
  if (!held_.empty()) {
    held_.Hold(shard, version, begin);
    return true;
  }
  held_.Hold(shard, version, 0);
  held_.buffer()->Append(out_->view().substr(begin));
  out_->Truncate(begin);
  return true;
}

// ---- without room in the log ----

bool Session::ParkForRoom() {
  log_state_ = service_->LogState();
  if (log_state_ != ServiceLog::State::kRunning) return false;
  state_ = State::kParked;
  is_parked_for_room_ = true;
  return true;
}

Reply Session::Refusal() {
  ProtocolCounters::Add(&bench_->counters()->refused, 1);
  return log_state_ == ServiceLog::State::kFailed ? Reply::kLogFailed : Reply::kLogFull;
}

// ---- commands with a data block ----

const char* Session::RunStorage(const TextRequest& line, const char* at, const char* block, const char* end) {
  uint64_t block_bytes = uint64_t{line.body_bytes} + kLineEnd.size();
  if (line.has_error) {
    if (line.has_body) return Swallow(block_bytes, line.error, line.no_reply, block);
    Append(line.error, line.no_reply);
    return block;
  }
  if (Refuses()) [[unlikely]]
    return SwallowRefused(line, block_bytes, block);
  Request request = StoreRequestOf(line, now_);
  if (ItemBytes(line.key.size(), line.client_flags, line.body_bytes) > service_->options().item_bytes_max) {
    if (line.info->command == Command::kSet) {
      // Not even the old value may be served any more: the client meant to replace it.
      Request remove;
      remove.verb = Verb::kDelete;
      remove.key = line.key;
      Outcome outcome;
      store_->Execute(remove, now_, nullptr, &outcome);
      if (outcome.status == Status::kLogFull) {
        return ParkForRoom() ? at : SwallowRefused(line, block_bytes, block);
      }
      swallow_shard_ = store_->ShardOf(line.key);
      swallow_version_ = outcome.commit_version;
    }
    ProtocolCounters::Add(&bench_->counters()->too_large, 1);
    return Swallow(block_bytes, Reply::kTooLarge, line.no_reply, block);
  }
  bool is_concat = request.verb == Verb::kAppend || request.verb == Verb::kPrepend;
  if (line.body_bytes > kBodyBufferedBytesMax && !is_concat) {
    auto large = std::make_unique<LargeBody>();
    std::memcpy(large->key, line.key.data(), line.key.size());
    request.key = {large->key, line.key.size()};
    large->request = request;
    large->no_reply = line.no_reply;
    const Status status = store_->Reserve(request, line.body_bytes, now_, &large->body);
    if (status == Status::kStored) {
      large_ = std::move(large);
      mode_ = Mode::kBody;
      return block;
    }
    if (status == Status::kLogFull) return ParkForRoom() ? at : SwallowRefused(line, block_bytes, block);
    // The old value is gone, which is told too; its record is the last of its shard at the latest.
    swallow_shard_ = store_->ShardOf(line.key);
    swallow_version_ = commits_->active() ? store_->LastVersion(swallow_shard_) : 0;
    return Swallow(block_bytes, status == Status::kNoMemory ? Reply::kNoMemoryToStore : Reply::kTooLarge, line.no_reply,
                   block);
  }
  if (static_cast<uint64_t>(end - block) < block_bytes) {
    rest_wanted_ = static_cast<size_t>(block - at) + block_bytes;
    return at;
  }
  const char* after = block + block_bytes;
  if (std::memcmp(after - kLineEnd.size(), kLineEnd.data(), kLineEnd.size()) != 0) {
    Append(Reply::kBadChunk, line.no_reply);
    return after;
  }
  request.value = {block, line.body_bytes};
  Outcome outcome;
  if (is_concat && !FitsItem(request, line.body_bytes, &outcome)) {
    // What it tells of is the value that is there.
    outcome.status = Status::kNotStored;
  } else {
    outcome = Outcome();
    store_->Execute(request, now_, nullptr, &outcome);
  }
  if (outcome.status == Status::kLogFull) {
    if (ParkForRoom()) return at;
    Append(Refusal(), line.no_reply);
    return after;
  }
  CountStorage(outcome);
  AppendOutcome(request, outcome, line.no_reply);
  return after;
}

// Whether the entry is within the item size when so many bytes are added to its value. Between this look and the append
// another client may append too; the store's own limit holds in any case.
bool Session::FitsItem(const Request& request, size_t more_bytes, Outcome* present) {
  Request look;
  look.verb = Verb::kPeek;
  look.no_value = true;
  look.key = request.key;
  Scratch scratch;
  store_->Execute(look, now_, &scratch, present);
  if (present->status != Status::kFound) return true;
  return ItemBytes(request.key.size(), present->client_flags, uint64_t{present->value_bytes} + more_bytes) <=
         service_->options().item_bytes_max;
}

const char* Session::RunBody(const char* at, const char* end) {
  LargeBody* large = large_.get();
  uint64_t value_bytes = large->body.value_bytes;
  if (large->received < value_bytes) {
    uint64_t there = static_cast<uint64_t>(end - at);
    uint64_t taken = there < value_bytes - large->received ? there : value_bytes - large->received;
    if (!store_->WriteBody(large->body, large->received, {at, static_cast<size_t>(taken)}, now_)) {
      // It came so slowly that others have got the place.
      const uint64_t rest_bytes = value_bytes + kLineEnd.size() - large->received;
      const bool no_reply = large->no_reply;
      large_.reset();
      return RunSwallow(Swallow(rest_bytes, Reply::kNoMemoryToStore, no_reply, at), end);
    }
    large->received += taken;
    at += taken;
  }
  while (at != end && large->received < value_bytes + kLineEnd.size()) {
    large->line_end[large->received++ - value_bytes] = *at++;
  }
  if (large->received < value_bytes + kLineEnd.size()) return at;
  if (std::memcmp(large->line_end, kLineEnd.data(), kLineEnd.size()) != 0) {
    store_->Abandon(&large->body);
    Append(Reply::kBadChunk, large->no_reply);
  } else if (Refuses()) {
    store_->Abandon(&large->body);
    Append(Refusal(), large->no_reply);
  } else {
    Outcome outcome;
    store_->Link(&large->body, large->request, now_, &outcome);
    if (outcome.status != Status::kLogFull) {
      CountStorage(outcome);
      AppendOutcome(large->request, outcome, large->no_reply);
    } else if (ParkForRoom()) {
      // The last byte is given back, so that there is something to go on with.
      large->received--;
      return at - 1;
    } else {
      store_->Abandon(&large->body);
      Append(Refusal(), large->no_reply);
    }
  }
  large_.reset();
  mode_ = Mode::kLine;
  return at;
}

// The reply comes when the block is over, not before: so it is in memcached, and a client that is still sending does
// not read.
const char* Session::Swallow(uint64_t bytes, Reply reply, bool no_reply, const char* next) {
  mode_ = Mode::kSwallow;
  swallow_bytes_ = bytes;
  swallow_reply_ = reply;
  swallow_no_reply_ = no_reply;
  return next;
}

const char* Session::SwallowRefused(const TextRequest& line, uint64_t bytes, const char* next) {
  return Swallow(bytes, Refusal(), line.no_reply, next);
}

const char* Session::RunSwallow(const char* at, const char* end) {
  uint64_t there = static_cast<uint64_t>(end - at);
  uint64_t taken = there < swallow_bytes_ ? there : swallow_bytes_;
  swallow_bytes_ -= taken;
  if (swallow_bytes_ == 0) {
    mode_ = Mode::kLine;
    const uint64_t version = std::exchange(swallow_version_, 0);
    if (!swallow_no_reply_) {
      const size_t begin = sink()->size();
      Append(swallow_reply_);
      if (version != 0 && commits_->active()) HoldFrom(begin, swallow_shard_, version, /*may_refuse=*/false);
    }
  }
  return at + taken;
}

void Session::CountStorage(const Outcome& outcome) {
  if (outcome.status != Status::kStored) ProtocolCounters::Add(&bench_->counters()->not_stored, 1);
}

// ---- commands of one line ----

void Session::AppendOutcome(const Request& request, const Outcome& outcome, bool no_reply) {
  if (no_reply) return;
  ByteBuffer* to = sink();
  size_t begin = to->size();
  if (outcome.status == Status::kFound && (request.verb == Verb::kIncr || request.verb == Verb::kDecr)) {
    AppendNumber(outcome.number, to);
  } else {
    to->Append(TextOf(ReplyOf(request.verb, outcome.status)));
  }
  HoldFrom(begin, request, outcome);
}

const char* Session::RunCommand(const TextRequest& line, const char* at, const char* next) {
  switch (line.info->shape) {
    case Shape::kKey:
    case Shape::kKeyNumber:
    case Shape::kKeySeconds: {
      // All of them change something.
      if (Refuses()) [[unlikely]] {
        Append(Refusal(), line.no_reply);
        return next;
      }
      Request request = StoreRequestOf(line, now_);
      Outcome outcome;
      store_->Execute(request, now_, nullptr, &outcome);
      if (outcome.status == Status::kLogFull) [[unlikely]] {
        if (ParkForRoom()) return at;
        Append(Refusal(), line.no_reply);
        return next;
      }
      AppendOutcome(request, outcome, line.no_reply);
      return next;
    }
    default:
      break;
  }
  std::string_view words = line.words;
  switch (line.info->command) {
    case Command::kMetaNoop:
      Append(Reply::kNoop);
      return next;
    case Command::kVersion:
      sink()->Append("VERSION ");
      sink()->Append(service_->options().version);
      sink()->Append(kLineEnd);
      return next;
    case Command::kQuit:
      state_ = State::kClosing;
      return next;
    case Command::kVerbosity: {
      bool no_reply = LastWord(words) == "noreply";
      uint32_t verbosity = 0;
      if (!ParseUint32(NextWord(&words), &verbosity)) {
        Append(Reply::kBadFormat, no_reply);
        return next;
      }
      service_->SetVerbosity(verbosity);
      Append(Reply::kOk, no_reply);
      return next;
    }
    case Command::kFlushAll:
      return RunFlushAll(line, at, next);
    case Command::kStats:
      AppendStats(NextWord(&words), service_, waits_for_log_, now_, sink());
      return next;
    default:
      return RunDebug(line, at, next);
  }
}

// flush_all [delay] [noreply]. A later clear, delayed or not, takes the place of a delayed one that is still to come.
const char* Session::RunFlushAll(const TextRequest& line, const char* at, const char* next) {
  std::string_view words = line.words;
  std::string_view delay = NextWord(&words);
  bool no_reply = LastWord(line.words) == "noreply";
  bool has_delay = !delay.empty() && !(no_reply && NextWord(&words).empty());
  int32_t seconds = 0;
  if (has_delay && !ParseInt32(delay, &seconds)) {
    Append(Reply::kBadExptime, no_reply);
    return next;
  }
  ByteBuffer* to = sink();
  size_t begin = to->size();
  uint64_t version = 0;
  if (Refuses()) [[unlikely]] {
    Append(Refusal(), no_reply);
    return next;
  }
  bool is_done;
  if (seconds > 0) {
    // A Unix time that has passed clears what is older than it, which is nothing.
    uint64_t at_ms = ExpiryOfSeconds(seconds, now_);
    is_done = store_->ScheduleClear(at_ms == kAlreadyExpired ? 0 : at_ms, now_, &version);
  } else {
    version = store_->Clear(now_);
    is_done = version != 0;
  }
  if (!is_done) {
    if (ParkForRoom()) return at;
    Append(Refusal(), no_reply);
    return next;
  }
  ProtocolCounters::Add(&bench_->counters()->flushes, 1);
  Append(Reply::kOk, no_reply);
  // Each shard has a record of it with this version, and one of them in the log makes the clear whole.
  if (version != 0 && !no_reply && commits_->active()) HoldFrom(begin, 0, version, /*may_refuse=*/false);
  return next;
}

// ---- test commands ----
//
//   debugtime N|p|r          the server's clock goes N seconds forward, stops, goes on
//   debugpark TICKET         parks this connection until the ticket is resolved, then answers with its text
//   debugresume TICKET TEXT  resolves a ticket
//   debughold VERSION        from now on replies wait that tell of a later version
//   debugcommit VERSION|all  versions up to this one are committed; no reply waits any more
const char* Session::RunDebug(const TextRequest& line, const char* at, const char* next) {
  std::string_view words = line.words;
  std::string_view first = NextWord(&words);
  uint64_t number = 0;
  bool is_number = ParseUint64(first, &number);
  switch (line.info->command) {
    case Command::kDebugTime:
      if (first == "p") {
        service_->StopTime(now_);
      } else if (first == "r") {
        service_->StartTime();
      } else if (is_number && number <= UINT32_MAX) {
        service_->MoveTime(number * 1000);
      } else {
        Append(Reply::kError);
        return next;
      }
      Append(Reply::kOk);
      return next;
    case Command::kDebugPark: {
      if (!is_number) break;
      if (!has_ticket_) {
        switch (service_->tickets()->Open(number)) {
          case TicketTable::OpenStatus::kOpened:
            has_ticket_ = true;
            ticket_ = number;
            return Park(at);
          case TicketTable::OpenStatus::kTaken:
            Append(Reply::kTicketTaken);
            return next;
          case TicketTable::OpenStatus::kFull:
            Append(Reply::kNoTickets);
            return next;
        }
      }
      std::string answer;
      if (service_->tickets()->Take(ticket_, &answer) == TicketTable::TakeStatus::kPending) return Park(at);
      has_ticket_ = false;
      sink()->Append(answer);
      sink()->Append(kLineEnd);
      return next;
    }
    case Command::kDebugResume: {
      while (!words.empty() && words[0] == ' ') words.remove_prefix(1);
      if (!is_number || words.size() > kLineBytesMax) break;
      bool resolved = service_->tickets()->Resolve(number, words);
      Append(resolved ? Reply::kOk : Reply::kNotFound);
      if (resolved) service_->WakeAll();
      return next;
    }
    case Command::kDebugHold:
      if (!is_number) break;
      if (waits_for_log_) {
        Append(Reply::kHoldsForLog);
        return next;
      }
      commits_->Activate(number);
      Append(Reply::kOk);
      return next;
    case Command::kDebugCommit:
      if (waits_for_log_) {
        Append(Reply::kHoldsForLog);
        return next;
      }
      if (first == "all") {
        commits_->Deactivate();
      } else if (is_number) {
        commits_->AdvanceAll(number);
      } else {
        break;
      }
      Append(Reply::kOk);
      service_->WakeAll();
      return next;
    default:
      CHECK(false);
  }
  Append(Reply::kBadFormat);
  return next;
}

}  // namespace cairn
