#include "addon/batch_binding.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "addon/cache_binding.h"
#include "addon/convert.h"
#include "addon/environment.h"
#include "base/check.h"
#include "base/limits.h"
#include "process/change_feed.h"
#include "store/request.h"
#include "store/store.h"

namespace cairn {
namespace {

// Requests that are decoded, executed and answered together: few enough to stay in the caches of a core, several times
// what the store stages at once.
constexpr uint32_t kWindowRequests = 256;

// A request that finds the log full waits kLogStallMs, at most kLogStallsMax times while nothing is committed (5 s in
// all): longer than a disk takes for pending writes, shorter than one of its threads may delay the exit of a process.
constexpr uint32_t kLogStallMs = 50;
constexpr uint32_t kLogStallsMax = 100;

// The batch that a handle executes, between beginBatch and the last continueBatch. Belongs to the handle's thread.
// A begun batch that is not continued is forgotten by the next beginBatch.
class BatchRun final : public HandlePart {
 public:
  explicit BatchRun(CacheHandle* handle) : handle_(handle), store_(handle->store) {}
  ~BatchRun() override { Forget(); }

  void Begin(char* block, std::vector<std::string_view> pieces) {
    Forget();
    block_ = block;
    pieces_ = std::move(pieces);
    header_ = reinterpret_cast<BatchHeader*>(block);
    rows_ = reinterpret_cast<AnswerRow*>(block + kBatchRequestsEnd);
    CHECK(header_->magic == kBatchMagic && header_->request_count <= kBatchRowsMax);
    CHECK(header_->requests_end >= kBatchHeaderBytes && header_->requests_end <= kBatchRequestsEnd);
    header_->rows_done = 0;
    log_stalls_ = 0;
    offset_ = kBatchHeaderBytes;
    window_base_ = window_count_ = segment_begin_ = segment_end_ = 0;
    const size_t values = kBatchRequestsEnd + header_->request_count * sizeof(AnswerRow);
    scratch_ = Scratch{block + values, kBatchBlockBytes - values, 0};
    scratch_offset_ = values;
    now_ = handle_->instance->ReadNow(handle_->ttl_ms != 0);
  }

  bool begun() const { return block_ != nullptr; }

  // Executes until the end of the batch, or of a segment in which values found no room. Returns what the first of those
  // needs, or 0: the batch is done.
  uint32_t Run() {
    while (true) {
      for (uint32_t i = segment_begin_; i < segment_end_; i++) {
        const AnswerRow& row = rows_[window_base_ + i];
        if (row.status != static_cast<uint8_t>(Status::kNeedsRoom)) continue;
        // The first of its shard that finds no room knows how much it needs, and it is the first here.
        CHECK(row.value_bytes != 0);
        return row.value_bytes;
      }
      segment_begin_ = segment_end_;
      if (segment_begin_ == window_count_) {
        window_base_ += window_count_;
        if (window_base_ == header_->request_count) {
          CHECK(offset_ == header_->requests_end);
          Forget();
          return 0;
        }
        DecodeWindow();
      }
      ExecuteSegment();
    }
  }

  // Asks again for what found no room, in order, and puts the values into `target`, which JavaScript knows as `piece`.
  // A value that does not fit leaves it, and everything behind it in its shard, for the next target.
  void Answer(char* target, size_t bytes, uint32_t piece) {
    Store* store = handle_->store;
    now_ = handle_->instance->ReadNow(now_.boot_ms != 0);
    Scratch scratch{target, bytes, 0};
    std::array<bool, kShardCountMax> out_of_room{};
    for (uint32_t i = segment_begin_; i < segment_end_; i++) {
      AnswerRow* row = &rows_[window_base_ + i];
      if (row->status != static_cast<uint8_t>(Status::kNeedsRoom)) continue;
      bool* const out = &out_of_room[store->ShardOf(requests_[i].key)];
      if (*out) continue;
      Outcome outcome;
      if (!TakeHeld(i, &outcome)) ExecutePatiently(i, &scratch, &outcome);
      if (outcome.status == Status::kNeedsRoom) {
        row->value_bytes = outcome.value_bytes;
        *out = true;
        continue;
      }
      if (outcome.pin.ref != 0) {
        if (outcome.value_bytes > bytes - scratch.used) {
          // A take has taken it: it has to stay until it is read.
          held_.push_back({i, outcome});
          row->value_bytes = outcome.value_bytes;
          *out = true;
          continue;
        }
        // Outside the shard's lock, however large it is.
        store->ReadPinned(outcome.pin, 0, target + scratch.used, outcome.value_bytes);
        store->Unpin(outcome.pin);
        outcome.value_offset = scratch.used;
        scratch.used += outcome.value_bytes;
      }
      WriteRow(i, outcome, piece, 0);
    }
  }

 private:
  struct Held {
    uint32_t request;
    Outcome outcome;
  };

  // kAlone: may take several holds of the lock, so it is not executed in one with others. kRefused: the log takes
  // nothing, and the caller would wait for it.
  enum class Kind : uint8_t { kOrdinary, kLarge, kAlone, kNothing, kRefused };

  void DecodeWindow() {
    const uint32_t count = std::min(header_->request_count - window_base_, kWindowRequests);
    const ChangeFeed* const feed = handle_->instance->feed();
    const ChangeFeed::State state = feed == nullptr ? ChangeFeed::State::kRunning : feed->state();
    refuses_ =
        state == ChangeFeed::State::kFull || state == ChangeFeed::State::kStuck || state == ChangeFeed::State::kFailed;
    for (uint32_t i = 0; i < count; i++) DecodeRequest(i);
    window_count_ = count;
    segment_begin_ = segment_end_ = 0;
  }

  void DecodeRequest(uint32_t index) {
    const size_t end = header_->requests_end;
    RequestHeader head;
    CHECK(end - offset_ >= sizeof(head));
    std::memcpy(&head, block_ + offset_, sizeof(head));
    size_t at = offset_ + sizeof(head);
    const auto next_word = [&]() {
      CHECK(end - at >= sizeof(uint64_t));
      uint64_t word;
      std::memcpy(&word, block_ + at, sizeof(word));
      at += sizeof(uint64_t);
      return word;
    };

    Request* request = &requests_[index];
    *request = Request{};
    request->reads_through = reads_through_;
    uint64_t ttl_ms = handle_->ttl_ms;
    if ((head.flags & kFlagTtl) != 0) ttl_ms = next_word();
    if ((head.flags & kFlagCompare) != 0) {
      request->has_compare = true;
      request->compare = next_word();
    }
    if ((head.flags & kFlagDelta) != 0) request->delta = next_word();
    if ((head.flags & kFlagInitial) != 0) {
      request->has_initial = true;
      request->initial = next_word();
    }
    kinds_[index] = Kind::kOrdinary;
    holds_[index] = (head.flags & kFlagHold) != 0;
    if ((head.flags & kFlagPiece) != 0) {
      const uint64_t piece = next_word();
      CHECK(piece < pieces_.size() && head.value_bytes == 0);
      request->value = pieces_[piece];
      kinds_[index] = Kind::kLarge;
    }
    CHECK(head.key_bytes <= end - at && head.value_bytes <= end - at - head.key_bytes);
    request->key = std::string_view(block_ + at, head.key_bytes);
    at += head.key_bytes;
    if (kinds_[index] != Kind::kLarge) request->value = std::string_view(block_ + at, head.value_bytes);
    at += head.value_bytes;
    offset_ = (at + 3) & ~size_t{3};
    CHECK(offset_ <= end);

    if (head.verb == kVerbNothing) {
      kinds_[index] = Kind::kNothing;
      return;
    }
    CHECK(head.verb <= static_cast<uint8_t>(Verb::kEvict) && head.codec < kCodecCount);
    CHECK(head.key_bytes != 0 && head.key_bytes <= kKeyBytesMax);
    request->verb = static_cast<Verb>(head.verb);
    if (refuses_ && holds_[index] && LeavesRecord(request->verb)) [[unlikely]] {
      kinds_[index] = Kind::kRefused;
      return;
    }
    const bool is_concat = request->verb == Verb::kAppend || request->verb == Verb::kPrepend;
    if (is_concat && kinds_[index] == Kind::kOrdinary) kinds_[index] = Kind::kAlone;
    request->codec = static_cast<Codec>(head.codec);
    request->client_flags = head.client_flags;
    if ((head.flags & kFlagKeepExpiry) != 0) {
      request->expires_ms = kKeepExpiry;
      if (ttl_ms != 0) {
        if (now_.boot_ms == 0) now_ = handle_->instance->ReadNow(true);
        request->keep_else_ms = now_.boot_ms + ttl_ms;
      }
    } else if (ttl_ms != 0) {
      if (now_.boot_ms == 0) now_ = handle_->instance->ReadNow(true);
      // Saturates below kKeepExpiry: some hundred million years from now.
      request->expires_ms = ttl_ms < kKeepExpiry - 1 - now_.boot_ms ? now_.boot_ms + ttl_ms : kKeepExpiry - 1;
    }
  }

  static bool LeavesRecord(Verb verb) {
    return verb != Verb::kGet && verb != Verb::kPeek && verb != Verb::kHas && verb != Verb::kEvict;
  }

  // Executes the window from segment_begin_ on: to its end, or to where a value found no room. Beyond that, only
  // requests that were staged together with it have been executed, and the store keeps the order among those.
  void ExecuteSegment() {
    Store* store = handle_->store;
    uint32_t i = segment_begin_;
    bool out_of_room = false;
    while (i < window_count_ && !out_of_room) {
      const uint32_t begin = i;
      while (i < window_count_ && kinds_[i] == Kind::kOrdinary) i++;
      if (i > begin) {
        store->ExecuteMany(&requests_[begin], i - begin, now_, &scratch_, &outcomes_[begin]);
        // What found no room in the log was not done, nor was what came behind it in its shard.
        for (uint32_t row = begin; row < i; row++) {
          if (outcomes_[row].status == Status::kLogFull) [[unlikely]] {
            ExecuteRefused(row, i);
            break;
          }
        }
      } else {
        outcomes_[i] = Outcome{};
        if (kinds_[i] == Kind::kLarge || kinds_[i] == Kind::kAlone) ExecutePatiently(i, nullptr, &outcomes_[i]);
        if (kinds_[i] == Kind::kRefused) outcomes_[i].status = Status::kLogFull;
        i++;
      }
      for (uint32_t row = begin; row < i; row++) {
        out_of_room |= outcomes_[row].status == Status::kNeedsRoom;
        WriteRow(row, outcomes_[row], 0, scratch_offset_);
      }
    }
    segment_end_ = i;
    header_->rows_done = window_base_ + segment_end_;
  }

  // Executes those requests in [begin, end) again that found no room in the log. One whose value then finds none in the
  // block holds up what is behind it in its shard.
  void ExecuteRefused(uint32_t begin, uint32_t end) {
    std::array<uint32_t, kShardCountMax> bytes_needed{};
    for (uint32_t i = begin; i < end; i++) {
      if (outcomes_[i].status != Status::kLogFull) continue;
      uint32_t* const needed = &bytes_needed[store_->ShardOf(requests_[i].key)];
      if (*needed == 0) {
        ExecutePatiently(i, &scratch_, &outcomes_[i]);
        if (outcomes_[i].status == Status::kNeedsRoom) *needed = outcomes_[i].value_bytes;
      } else {
        outcomes_[i].status = Status::kNeedsRoom;
        outcomes_[i].value_bytes = *needed;
      }
    }
  }

  // Executes one request; if the log has no room for its record, again when it has.
  void ExecutePatiently(uint32_t index, Scratch* scratch, Outcome* outcome) {
    ChangeFeed* const feed = handle_->instance->feed();
    while (true) {
      const uint32_t seen = feed == nullptr ? 0 : feed->progress();
      *outcome = Outcome{};
      if (kinds_[index] == Kind::kLarge) {
        ExecuteStore(store_, requests_[index], now_, outcome);
      } else {
        store_->Execute(requests_[index], now_, scratch, outcome);
      }
      if (outcome->status != Status::kLogFull || feed == nullptr) return;
      if (feed->state() != ChangeFeed::State::kRunning || log_stalls_ == kLogStallsMax) return;
      feed->Ring();
      feed->WaitForRoom(seen, kLogStallMs);
      // What has expired meanwhile is not to be met.
      now_ = handle_->instance->ReadNow(now_.boot_ms != 0);
      log_stalls_ = feed->progress() == seen ? log_stalls_ + 1 : 0;
    }
  }

  // Milliseconds that the answer to a change waits.
  uint32_t SlowDown(std::string_view key) {
    Slowdown* const slowdown = store_->backends().For(key)->slowdown();
    const uint32_t ms = slowdown->ms();
    if (ms != 0) [[unlikely]]
      slowdown->Count(ms);
    return ms;
  }

  void WriteRow(uint32_t index, const Outcome& outcome, uint32_t piece, size_t base) {
    AnswerRow* row = &rows_[window_base_ + index];
    row->status = static_cast<uint8_t>(outcome.status);
    row->commit_version = 0;
    row->changed = outcome.record_version == 0 ? 0 : 1 + SlowDown(requests_[index].key);
    if (holds_[index] && outcome.commit_version != 0) {
      ChangeFeed* const feed = handle_->instance->feed();
      const uint32_t shard = store_->ShardOf(requests_[index].key);
      // Of a change the database may be waited for, which is behind the log.
      if (feed != nullptr && (outcome.record_version != 0 || !feed->marks()->Covers(shard, outcome.commit_version))) {
        row->commit_version = outcome.commit_version;
        row->shard = shard;
      }
    }
    row->codec = static_cast<uint8_t>(outcome.codec);
    row->fetched = outcome.fetched;
    row->client_flags = outcome.client_flags;
    row->value_bytes = outcome.value_bytes;
    row->value_offset = static_cast<uint32_t>(base + outcome.value_offset);
    row->piece = piece;
    row->idle_s = outcome.idle_s;
    row->version = outcome.version;
    const Verb verb = requests_[index].verb;
    if (verb == Verb::kIncr || verb == Verb::kDecr) {
      row->number = outcome.number;
    } else {
      const uint64_t end_ms = EndMs(outcome.expires_ms, outcome.fresh_until_ms);
      row->number = end_ms > now_.boot_ms ? end_ms - now_.boot_ms : 0;
    }
  }

  bool TakeHeld(uint32_t request, Outcome* outcome) {
    for (size_t i = 0; i < held_.size(); i++) {
      if (held_[i].request != request) continue;
      *outcome = held_[i].outcome;
      held_[i] = held_.back();
      held_.pop_back();
      return true;
    }
    return false;
  }

  void Forget() {
    // Not through the handle: a released handle has dropped its store pointer already, while the cache lives until the
    // handle's parts are gone.
    for (const Held& held : held_) store_->Unpin(held.outcome.pin);
    held_.clear();
    pieces_.clear();
    block_ = nullptr;
  }

  CacheHandle* const handle_;
  Store* const store_;
  char* block_ = nullptr;  // null: no batch is begun
  BatchHeader* header_ = nullptr;
  AnswerRow* rows_ = nullptr;
  std::vector<std::string_view> pieces_;
  size_t offset_ = 0;           // of the next request to decode
  uint32_t window_base_ = 0;    // row of the window's first request
  uint32_t window_count_ = 0;   // requests of the window
  uint32_t segment_begin_ = 0;  // requests of the window that are executed, some of them still without their value
  uint32_t segment_end_ = 0;
  Scratch scratch_;            // the block's room for values
  size_t scratch_offset_ = 0;  // of scratch_.data in the block
  Now now_;
  uint32_t log_stalls_ = 0;  // of this batch, one after the other
  std::vector<Held> held_;
  std::array<Kind, kWindowRequests> kinds_{};
  std::array<bool, kWindowRequests> holds_{};
  bool refuses_ = false;  // what leaves a record and would wait for the log
  const bool reads_through_ = handle_->instance->loads() != nullptr;
  std::array<Request, kWindowRequests> requests_{};
  std::array<Outcome, kWindowRequests> outcomes_{};
};

BatchRun* RunOf(CacheHandle* handle) {
  auto& part = handle->parts[static_cast<size_t>(PartId::kBatch)];
  if (part == nullptr) part = std::make_unique<BatchRun>(handle);
  return static_cast<BatchRun*>(part.get());
}

napi_value Closed(napi_env env) { return Double(env, -1); }

// beginBatch(block, pieces | undefined)
napi_value BeginBatch(napi_env env, napi_callback_info info) {
  size_t argument_count = 2;
  napi_value arguments[2];
  void* data;
  napi_get_cb_info(env, info, &argument_count, arguments, nullptr, &data);
  auto* handle = static_cast<CacheHandle*>(data);
  if (!handle->Usable()) return Closed(env);

  char* block;
  size_t block_bytes;
  CHECK(BytesOf(env, arguments[0], &block, &block_bytes) && block_bytes == kBatchBlockBytes);
  std::vector<std::string_view> pieces;
  uint32_t piece_count;
  if (napi_get_array_length(env, arguments[1], &piece_count) == napi_ok) {
    pieces.reserve(piece_count);
    for (uint32_t i = 0; i < piece_count; i++) {
      napi_value piece;
      char* bytes;
      size_t size;
      // Fails only while the thread is being terminated: the result is not used.
      if (napi_get_element(env, arguments[1], i, &piece) != napi_ok) return nullptr;
      CHECK(BytesOf(env, piece, &bytes, &size));
      pieces.emplace_back(bytes, size);
    }
  }
  BatchRun* run = RunOf(handle);
  run->Begin(block, std::move(pieces));
  return Double(env, run->Run());
}

// continueBatch(target, pieceNumber)
napi_value ContinueBatch(napi_env env, napi_callback_info info) {
  size_t argument_count = 2;
  napi_value arguments[2];
  void* data;
  napi_get_cb_info(env, info, &argument_count, arguments, nullptr, &data);
  auto* handle = static_cast<CacheHandle*>(data);
  if (!handle->Usable()) return Closed(env);

  char* target;
  size_t bytes;
  uint32_t piece;
  CHECK(BytesOf(env, arguments[0], &target, &bytes));
  CHECK(napi_get_value_uint32(env, arguments[1], &piece) == napi_ok);
  BatchRun* run = RunOf(handle);
  CHECK(run->begun());
  run->Answer(target, bytes, piece);
  return Double(env, run->Run());
}

void ExtendHandle(Napi::Env env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction(env, handle, object, "beginBatch", BeginBatch);
  AddHandleFunction(env, handle, object, "continueBatch", ContinueBatch);
}

}  // namespace

void InitBatchBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(&ExtendHandle); }

}  // namespace cairn
