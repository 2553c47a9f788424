#include "addon/feed_binding.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "addon/cache_binding.h"
#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/thread_waker.h"
#include "base/check.h"
#include "process/change_feed.h"
#include "store/record.h"
#include "store/store.h"

namespace cairn {
namespace {

// A handle's place among those who hear of commits.
class FeedPart final : public HandlePart {
 public:
  FeedPart(ChangeFeed* feed, std::shared_ptr<Waker> waker) : feed_(feed), watch_(feed->Watch(std::move(waker))) {}
  ~FeedPart() override { feed_->Unwatch(watch_.get()); }
  void Arm() { watch_->Arm(); }

 private:
  ChangeFeed* const feed_;
  const std::shared_ptr<CommitWatch> watch_;
};

// A call on the feed of a handle; null where there is none (any more).
template <size_t kCount>
struct FeedCall : HandleCall<kCount> {
  ChangeFeed* feed;
  FeedCall(napi_env env, napi_callback_info info) : HandleCall<kCount>(env, info) {
    feed = this->handle->Usable() ? this->handle->instance->feed() : nullptr;
  }
};

// The numbers of a Float64Array; null if it is none.
double* DoublesOf(napi_env env, napi_value array, size_t* count) {
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, array, &type, count, &data, nullptr, nullptr) != napi_ok) return nullptr;
  return type == napi_float64_array ? static_cast<double*>(data) : nullptr;
}

// The versions of a BigUint64Array with one place per shard; null if it is none.
uint64_t* VersionsOf(napi_env env, napi_value array, const Store* store) {
  napi_typedarray_type type;
  size_t count;
  void* data;
  if (napi_get_typedarray_info(env, array, &type, &count, &data, nullptr, nullptr) != napi_ok) return nullptr;
  return type == napi_biguint64_array && count == store->shard_count() ? static_cast<uint64_t*>(data) : nullptr;
}

ChangeFeed::Target TargetOf(const uint64_t* versions, const Store* store) {
  ChangeFeed::Target target{};
  std::copy_n(versions, store->shard_count(), target.begin());
  return target;
}

// ---- the scribe ----

napi_value StartFeed(napi_env env, napi_callback_info info) {
  FeedCall<2> call(env, info);
  if (call.feed == nullptr) return Undefined(env);
  call.handle->store->StartEpoch(static_cast<uint32_t>(NumberOr(env, call[0], 0)));
  call.handle->store->SetRecovering(true);
  call.handle->instance->RaiseWallClock(static_cast<int64_t>(NumberOr(env, call[1], 0)));
  return Undefined(env);
}

// renumber(epoch): records of another generation come, or none any more; and what startFeed says of the epoch.
napi_value Renumber(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed == nullptr) return Undefined(env);
  call.handle->store->Renumber();
  call.handle->store->StartEpoch(static_cast<uint32_t>(NumberOr(env, call[0], 0)));
  return Undefined(env);
}

napi_value ApplyRecords(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed == nullptr) return Double(env, -2);
  char* data;
  size_t bytes;
  if (!BytesOf(env, call[0], &data, &bytes)) return Double(env, -1);
  const Now now = call.handle->instance->ReadBothClocks();
  uint64_t applied = 0;
  for (size_t at = 0; at < bytes;) {
    RecordView record;
    if (DecodeRecord(std::string_view(data + at, bytes - at), &record) != DecodeStatus::kOk ||
        (record.codec & 0x0F) >= kCodecCount) {
      return Double(env, -1);
    }
    at += record.record_bytes;
    const Status status = call.handle->store->Apply(record, now, true);
    if (status == Status::kStored || status == Status::kFound) applied++;
  }
  return Double(env, static_cast<double>(applied));
}

napi_value FinishRecovery(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed == nullptr) return Undefined(env);
  call.feed->Activate();
  call.handle->store->SetRecovering(false);
  // Before anybody looks: a clear whose time came while there was no process. Behind Activate(), so that what it leaves
  // is waited for.
  call.handle->store->Maintain(call.handle->instance->ReadBothClocks());
  call.feed->SetState(ChangeFeed::State::kRunning);
  Registry::Get().MarkReady(call.handle->pointer);
  return Undefined(env);
}

// dumpPendingClear(target): bytes of the record of the clear that is to come; 0: none is, or there is no room.
napi_value DumpPendingClear(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  char* data;
  size_t bytes;
  RecordView record;
  if (call.feed == nullptr || !BytesOf(env, call[0], &data, &bytes) || bytes < kRecordHeaderBytes ||
      !call.handle->store->PendingClear(call.handle->instance->ReadBothClocks(), &record)) {
    return Double(env, 0);
  }
  return Double(env, static_cast<double>(EncodeRecord(record, data)));
}

napi_value Drain(napi_env env, napi_callback_info info) {
  FeedCall<2> call(env, info);
  char* data;
  size_t bytes;
  if (call.feed == nullptr || !BytesOf(env, call[0], &data, &bytes)) return Double(env, -1);
  const ChangeFeed::Turn turn = call.feed->Drain(data, bytes, static_cast<uint32_t>(NumberOr(env, call[1], 0)));
  Environment* environment = call.handle->environment;
  environment->Set(Word::kNumber, turn.record_count);
  environment->Set(Word::kVersion, turn.epoch);
  environment->Set(Word::kValueBytes, turn.bytes_needed);
  if (turn.bytes == 0 && call.feed->state() == ChangeFeed::State::kClosed) return Double(env, -1);
  return Double(env, static_cast<double>(turn.bytes));
}

napi_value CommitDrained(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed != nullptr) call.feed->Commit();
  return Undefined(env);
}

napi_value RewindDrained(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed != nullptr) call.feed->Rewind();
  return Undefined(env);
}

napi_value SetFeedState(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  const uint64_t state = NumberOr(env, call[0], 0);
  CHECK(state <= static_cast<uint64_t>(ChangeFeed::State::kStuck));
  if (call.feed != nullptr) call.feed->SetState(static_cast<ChangeFeed::State>(state));
  return Undefined(env);
}

napi_value SetLogMetrics(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  size_t count;
  double* numbers = DoublesOf(env, call[0], &count);
  if (call.feed != nullptr && numbers != nullptr) call.feed->SetMetrics(numbers, count);
  return Undefined(env);
}

// ---- everybody ----

napi_value Poke(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed != nullptr) call.feed->Poke();
  return Undefined(env);
}

napi_value RingBell(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed != nullptr) call.feed->Ring();
  return Undefined(env);
}

napi_value FeedStats(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  size_t count;
  double* numbers = DoublesOf(env, call[0], &count);
  if (call.feed == nullptr || numbers == nullptr || count < kFeedStatCount) return Double(env, 0);
  const ChangeFeed::Numbers from = call.feed->ReadNumbers();
  numbers[kFeedState] = static_cast<double>(from.state);
  numbers[kFeedRingBytes] = static_cast<double>(from.ring_bytes);
  numbers[kFeedRingCapacityBytes] = static_cast<double>(from.ring_capacity_bytes);
  numbers[kFeedRingFillWorst] = from.ring_fill_worst;
  numbers[kFeedRecords] = static_cast<double>(from.records);
  numbers[kFeedRecordsCommitted] = static_cast<double>(from.records_committed);
  numbers[kFeedLagMs] = static_cast<double>(from.lag_ms);
  return Double(env, kFeedStatCount);
}

napi_value LogMetrics(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  size_t count;
  double* numbers = DoublesOf(env, call[0], &count);
  if (call.feed != nullptr && numbers != nullptr) call.feed->ReadMetrics(numbers, count);
  return Undefined(env);
}

napi_value ReadTargets(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed == nullptr) return Undefined(env);
  uint64_t* versions = VersionsOf(env, call[0], call.handle->store);
  CHECK(versions != nullptr);
  ChangeFeed::Target target{};
  call.feed->ReadTarget(&target);
  std::copy_n(target.begin(), call.handle->store->shard_count(), versions);
  return Undefined(env);
}

napi_value Covered(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed == nullptr) return Boolean(env, false);
  const uint64_t* versions = VersionsOf(env, call[0], call.handle->store);
  CHECK(versions != nullptr);
  return Boolean(env, call.feed->Covers(TargetOf(versions, call.handle->store)));
}

napi_value WaitCommitted(napi_env env, napi_callback_info info) {
  FeedCall<2> call(env, info);
  if (call.feed == nullptr) return Boolean(env, false);
  const uint64_t* versions = VersionsOf(env, call[0], call.handle->store);
  CHECK(versions != nullptr);
  const auto timeout_ms = static_cast<uint32_t>(NumberOr(env, call[1], 0));
  return Boolean(env, call.feed->WaitCommitted(TargetOf(versions, call.handle->store), timeout_ms));
}

napi_value WatchCommits(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed == nullptr) return Undefined(env);
  auto& part = call.handle->parts[static_cast<size_t>(PartId::kLog)];
  if (part == nullptr) {
    std::shared_ptr<ThreadWaker> waker = ThreadWaker::Of(call.handle->environment);
    CHECK(waker != nullptr);
    part = std::make_unique<FeedPart>(call.feed, std::move(waker));
  }
  static_cast<FeedPart*>(part.get())->Arm();
  return Undefined(env);
}

napi_value CommitMark(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  napi_value mark = nullptr;
  const uint64_t shard = NumberOr(env, call[0], 0);
  const bool is_there = call.feed != nullptr && shard < call.handle->store->shard_count();
  napi_create_bigint_uint64(env, is_there ? call.feed->marks()->Mark(static_cast<uint32_t>(shard)) : 0, &mark);
  return mark;
}

napi_value FeedState(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  const ChangeFeed::State state = call.feed == nullptr ? ChangeFeed::State::kClosed : call.feed->state();
  return Double(env, static_cast<double>(state));
}

napi_value Epoch(napi_env env, napi_callback_info info) {
  FeedCall<1> call(env, info);
  if (call.feed == nullptr) return Double(env, 0);
  ChangeFeed::Target target{};
  call.feed->ReadTarget(&target);
  uint64_t highest = 0;
  for (uint64_t version : target) highest = std::max(highest, version);
  return Double(env, EpochOf(highest));
}

void ExtendHandle(napi_env env, CacheHandle* handle, napi_value object) {
  if (handle->instance->feed() == nullptr) return;
  AddHandleFunction(env, handle, object, "startFeed", StartFeed);
  AddHandleFunction(env, handle, object, "applyRecords", ApplyRecords);
  AddHandleFunction(env, handle, object, "renumber", Renumber);
  AddHandleFunction(env, handle, object, "finishRecovery", FinishRecovery);
  AddHandleFunction(env, handle, object, "dumpPendingClear", DumpPendingClear);
  AddHandleFunction(env, handle, object, "drain", Drain);
  AddHandleFunction(env, handle, object, "commitDrained", CommitDrained);
  AddHandleFunction(env, handle, object, "rewindDrained", RewindDrained);
  AddHandleFunction(env, handle, object, "setFeedState", SetFeedState);
  AddHandleFunction(env, handle, object, "setLogMetrics", SetLogMetrics);
  AddHandleFunction(env, handle, object, "poke", Poke);
  AddHandleFunction(env, handle, object, "ringBell", RingBell);
  AddHandleFunction(env, handle, object, "feedStats", FeedStats);
  AddHandleFunction(env, handle, object, "logMetrics", LogMetrics);
  AddHandleFunction(env, handle, object, "readTargets", ReadTargets);
  AddHandleFunction(env, handle, object, "covered", Covered);
  AddHandleFunction(env, handle, object, "waitCommitted", WaitCommitted);
  AddHandleFunction(env, handle, object, "watchCommits", WatchCommits);
  AddHandleFunction(env, handle, object, "commitMark", CommitMark);
  AddHandleFunction(env, handle, object, "feedState", FeedState);
  AddHandleFunction(env, handle, object, "epoch", Epoch);
}

// attachForScribe(cacheId): a handle to a cache that may not be ready yet, or a code.
napi_value AttachForScribe(napi_env env, napi_callback_info info) {
  napi_value id;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &id, nullptr, nullptr);
  CachePointer cache;
  const AttachStatus status = Registry::Get().AttachUnready(NumberOr(env, id, 0), &cache);
  if (status != AttachStatus::kAttached) return CodeValue(env, Code::kNoSuchCache);
  return MakeHandle(env, std::move(cache), false);
}

}  // namespace

void InitFeedBinding(napi_env env, napi_value exports) {
  Environment::Of(env)->extenders.push_back(ExtendHandle);
  AddFunction(env, exports, "attachForScribe", AttachForScribe);
}

}  // namespace cairn
