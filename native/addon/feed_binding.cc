#include "addon/feed_binding.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

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
  const std::shared_ptr<LogWatch> watch_;
};

// A call on a handle with a log. `feed`: null once the handle is closed.
struct FeedCall {
  explicit FeedCall(const Napi::CallbackInfo& info)
      : handle(HandleOf(info)), feed(handle->Usable() ? handle->instance->feed() : nullptr) {}
  CacheHandle* const handle;
  ChangeFeed* const feed;
};

double* DoublesOf(Napi::Value array, size_t* count) { return NumbersOf<double>(array, napi_float64_array, count); }

// The versions of a BigUint64Array that has a place for each shard.
uint64_t* VersionsOf(Napi::Value array, const Store* store) {
  size_t count = 0;
  uint64_t* versions = NumbersOf<uint64_t>(array, napi_biguint64_array, &count);
  CHECK(versions != nullptr && count == store->shard_count());
  return versions;
}

ChangeFeed::Target TargetOf(const uint64_t* versions, const Store* store) {
  ChangeFeed::Target target{};
  std::copy_n(versions, store->shard_count(), target.begin());
  return target;
}

uint64_t PositionOf(Napi::Value value) {
  bool lossless = false;
  const uint64_t position = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  CHECK(lossless);
  return position;
}

// The versions of the records of one group, by shard, for its place in the log.
class GroupVersions {
 public:
  explicit GroupVersions(const Store* store) : store_(store), versions_(store->shard_count()) {}
  void Add(const RecordView& record) {
    if (!record.key.empty()) versions_[store_->ShardOf(record.key)].push_back(record.version);
  }
  void AddTo(LogPlaces* places, const LogRange& range) {
    for (uint32_t shard = 0; shard < store_->shard_count(); shard++) {
      std::vector<uint64_t>* versions = &versions_[shard];
      std::sort(versions->begin(), versions->end());
      if (!versions->empty()) places->AddRecovered(shard, *versions, range);
    }
  }

 private:
  const Store* const store_;
  std::vector<std::vector<uint64_t>> versions_;
};

// ---- the scribe ----

void StartFeed(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed == nullptr) return;
  call.handle->store->StartEpoch(static_cast<uint32_t>(NumberOr(info[0], 0)));
  call.handle->store->SetRecovering(true);
  call.handle->instance->RaiseWallClock(static_cast<int64_t>(NumberOr(info[1], 0)));
}

// renumber(epoch): records of another generation come, or none any more; and what startFeed says of the epoch.
void Renumber(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed == nullptr) return;
  call.handle->store->Renumber();
  // Their versions are other ones now.
  if (call.feed->places() != nullptr) call.feed->places()->DropBefore(~uint64_t{0});
  call.handle->store->StartEpoch(static_cast<uint32_t>(NumberOr(info[0], 0)));
}

Napi::Value ApplyRecords(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  if (call.feed == nullptr) return Napi::Number::New(env, -2);
  char* data;
  size_t bytes;
  if (!BytesOf(info[0], &data, &bytes)) return Napi::Number::New(env, -1);
  const Now now = call.handle->instance->ReadBothClocks();
  uint64_t applied = 0;
  bool parts_are_whole = false;
  LogPlaces* const places = info[1].IsBigInt() ? call.feed->places() : nullptr;
  GroupVersions versions(call.handle->store);
  for (size_t at = 0; at < bytes;) {
    RecordView record;
    if (DecodeRecord(std::string_view(data + at, bytes - at), &record) != DecodeStatus::kOk ||
        record.codec >= kCodecCount) {
      return Napi::Number::New(env, -1);
    }
    // Of the first part of an atomic batch: all of them are here, or none is applied.
    if ((record.optional.fields & kFieldBatch) && !std::exchange(parts_are_whole, true)) {
      if (!PartsAreWhole(std::string_view(data + at, bytes - at))) return Napi::Number::New(env, -1);
    }
    at += record.record_bytes;
    if (places != nullptr) versions.Add(record);
    const Origin origin = places != nullptr ? Origin::kLogOwed : Origin::kLog;
    const Status status = call.handle->store->Apply(record, now, origin);
    if (status == Status::kLogFull) return Napi::Number::New(env, -3);
    if (status == Status::kStored || status == Status::kFound) applied++;
  }
  if (places != nullptr) versions.AddTo(places, {.begin = PositionOf(info[1]), .end = PositionOf(info[2])});
  return Napi::Number::New(env, static_cast<double>(applied));
}

void SettleRecovered(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed != nullptr) call.handle->store->SettleRecovered();
}

void FinishRecovery(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed == nullptr) return;
  call.feed->Activate();
  call.handle->store->SetRecovering(false);
  // Before anybody looks: a clear whose time came while there was no process. Behind Activate(), so that what it leaves
  // is waited for.
  call.handle->store->Maintain(call.handle->instance->ReadBothClocks());
  call.feed->SetState(ChangeFeed::State::kRunning);
  Registry::Get().MarkReady(call.handle->pointer);
}

// dumpPendingClear(target): bytes of the record of the clear that is to come; 0: none is, or there is no room.
Napi::Value DumpPendingClear(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  char* data;
  size_t bytes;
  RecordView record;
  if (call.feed == nullptr || !BytesOf(info[0], &data, &bytes) || bytes < kRecordHeaderBytes ||
      !call.handle->store->PendingClear(call.handle->instance->ReadBothClocks(), &record)) {
    return Napi::Number::New(env, 0);
  }
  return Napi::Number::New(env, static_cast<double>(EncodeRecord(record, data)));
}

Napi::Value Drain(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  char* data;
  size_t bytes;
  if (call.feed == nullptr || !BytesOf(info[0], &data, &bytes)) return Napi::Number::New(env, -1);
  const ChangeFeed::Turn turn = call.feed->Drain(data, bytes, static_cast<uint32_t>(NumberOr(info[1], 0)));
  Environment* environment = call.handle->environment;
  environment->Set(Word::kNumber, turn.record_count);
  environment->Set(Word::kVersion, turn.epoch);
  environment->Set(Word::kValueBytes, turn.bytes_needed);
  environment->Set(Word::kPlace, turn.number);
  if (turn.bytes == 0 && call.feed->state() == ChangeFeed::State::kClosed) return Napi::Number::New(env, -1);
  return Napi::Number::New(env, static_cast<double>(turn.bytes));
}

void CommitDrained(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed == nullptr) return;
  LogRange range;
  if (info[1].IsBigInt()) range = {.begin = PositionOf(info[1]), .end = PositionOf(info[2])};
  call.feed->Commit(NumberOr(info[0], 0), range);
}

void DropPlaces(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed != nullptr && call.feed->places() != nullptr) call.feed->places()->DropBefore(PositionOf(info[0]));
}

void RewindDrained(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed != nullptr) call.feed->Rewind();
}

void SetFeedState(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  const uint64_t state = NumberOr(info[0], 0);
  CHECK(state <= static_cast<uint64_t>(ChangeFeed::State::kStuck));
  if (call.feed != nullptr) call.feed->SetState(static_cast<ChangeFeed::State>(state));
}

void SetLogMetrics(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  size_t count;
  double* numbers = DoublesOf(info[0], &count);
  const auto place = static_cast<size_t>(NumberOr(info[1], 0));
  if (call.feed != nullptr && numbers != nullptr) call.feed->SetMetrics(numbers, count, place);
}

// ---- everybody ----

void Poke(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed != nullptr) call.feed->Poke();
}

void RingBell(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed != nullptr) call.feed->Ring();
}

Napi::Value FeedStats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  size_t count;
  double* numbers = DoublesOf(info[0], &count);
  if (call.feed == nullptr || numbers == nullptr || count < kFeedStatCount) return Napi::Number::New(env, 0);
  const LogView::Numbers from = call.feed->ReadNumbers();
  numbers[kFeedState] = static_cast<double>(call.feed->state());
  numbers[kFeedRingBytes] = static_cast<double>(from.ring_bytes);
  numbers[kFeedRingCapacityBytes] = static_cast<double>(from.ring_capacity_bytes);
  numbers[kFeedRingFillWorst] = from.ring_fill_worst;
  numbers[kFeedRecords] = static_cast<double>(from.records);
  numbers[kFeedRecordsCommitted] = static_cast<double>(from.records_committed);
  numbers[kFeedLagMs] = static_cast<double>(from.lag_ms);
  return Napi::Number::New(env, kFeedStatCount);
}

void LogMetrics(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  size_t count;
  double* numbers = DoublesOf(info[0], &count);
  if (call.feed != nullptr && numbers != nullptr) call.feed->ReadMetrics(numbers, count);
}

void ReadTargets(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed == nullptr) return;
  uint64_t* versions = VersionsOf(info[0], call.handle->store);
  ChangeFeed::Target target{};
  call.feed->ReadTarget(&target);
  std::copy_n(target.begin(), call.handle->store->shard_count(), versions);
}

Napi::Value Covered(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  if (call.feed == nullptr) return Napi::Boolean::New(env, false);
  const uint64_t* versions = VersionsOf(info[0], call.handle->store);
  return Napi::Boolean::New(env, call.feed->Covers(TargetOf(versions, call.handle->store)));
}

Napi::Value WaitCommitted(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  if (call.feed == nullptr) return Napi::Boolean::New(env, false);
  const uint64_t* versions = VersionsOf(info[0], call.handle->store);
  const auto timeout_ms = static_cast<uint32_t>(NumberOr(info[1], 0));
  return Napi::Boolean::New(env, call.feed->WaitCommitted(TargetOf(versions, call.handle->store), timeout_ms));
}

void WatchCommits(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  if (call.feed == nullptr) return;
  auto& part = call.handle->parts[static_cast<size_t>(PartId::kLog)];
  if (part == nullptr) {
    std::shared_ptr<ThreadWaker> waker = ThreadWaker::Of(call.handle->environment);
    CHECK(waker != nullptr);
    part = std::make_unique<FeedPart>(call.feed, std::move(waker));
  }
  static_cast<FeedPart*>(part.get())->Arm();
}

Napi::Value PlacesOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  char* key;
  size_t key_bytes;
  size_t count;
  uint64_t* numbers = NumbersOf<uint64_t>(info[2], napi_biguint64_array, &count);
  if (call.feed == nullptr || call.feed->places() == nullptr || !BytesOf(info[0], &key, &key_bytes) ||
      numbers == nullptr) {
    return Napi::Number::New(env, 0);
  }
  const uint32_t shard = call.handle->store->ShardOf({key, key_bytes});
  const std::vector<LogRange> ranges = call.feed->places()->Find(shard, PositionOf(info[1]));
  for (size_t i = 0; i < std::min(ranges.size(), count / 2); i++) {
    numbers[2 * i] = ranges[i].begin;
    numbers[2 * i + 1] = ranges[i].end;
  }
  return Napi::Number::New(env, static_cast<double>(ranges.size()));
}

Napi::Value FindInRing(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  char* key;
  size_t key_bytes;
  char* data;
  size_t capacity;
  if (call.feed == nullptr || !BytesOf(info[0], &key, &key_bytes) || !BytesOf(info[2], &data, &capacity)) {
    return Napi::Number::New(env, 0);
  }
  size_t bytes = 0;
  switch (call.handle->store->FindInRing({key, key_bytes}, PositionOf(info[1]), data, capacity, &bytes)) {
    case InRing::kNone:
      return Napi::Number::New(env, 0);
    case InRing::kNeedsRoom:
      call.handle->environment->Set(Word::kValueBytes, bytes);
      return Napi::Number::New(env, -1);
    case InRing::kBusy:
      return Napi::Number::New(env, -2);
    case InRing::kCopied:
      break;
  }
  return Napi::Number::New(env, static_cast<double>(bytes));
}

Napi::Value CommitMark(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  const uint64_t shard = NumberOr(info[0], 0);
  const bool is_there = call.feed != nullptr && shard < call.handle->store->shard_count();
  return Napi::BigInt::New(info.Env(), is_there ? call.feed->marks()->Mark(static_cast<uint32_t>(shard)) : uint64_t{0});
}

Napi::Value FeedState(const Napi::CallbackInfo& info) {
  const FeedCall call(info);
  const ChangeFeed::State state = call.feed == nullptr ? ChangeFeed::State::kClosed : call.feed->state();
  return Napi::Number::New(info.Env(), static_cast<double>(state));
}

Napi::Value Epoch(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FeedCall call(info);
  if (call.feed == nullptr) return Napi::Number::New(env, 0);
  ChangeFeed::Target target{};
  call.feed->ReadTarget(&target);
  uint64_t highest = 0;
  for (uint64_t version : target) highest = std::max(highest, version);
  return Napi::Number::New(env, EpochOf(highest));
}

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  if (handle->instance->feed() == nullptr) return;
  AddHandleFunction<StartFeed>(handle, object, "startFeed");
  AddHandleFunction<ApplyRecords>(handle, object, "applyRecords");
  AddHandleFunction<SettleRecovered>(handle, object, "settleRecovered");
  AddHandleFunction<Renumber>(handle, object, "renumber");
  AddHandleFunction<FinishRecovery>(handle, object, "finishRecovery");
  AddHandleFunction<DumpPendingClear>(handle, object, "dumpPendingClear");
  AddHandleFunction<Drain>(handle, object, "drain");
  AddHandleFunction<CommitDrained>(handle, object, "commitDrained");
  AddHandleFunction<DropPlaces>(handle, object, "dropPlaces");
  AddHandleFunction<RewindDrained>(handle, object, "rewindDrained");
  AddHandleFunction<SetFeedState>(handle, object, "setFeedState");
  AddHandleFunction<SetLogMetrics>(handle, object, "setLogMetrics");
  AddHandleFunction<Poke>(handle, object, "poke");
  AddHandleFunction<RingBell>(handle, object, "ringBell");
  AddHandleFunction<FeedStats>(handle, object, "feedStats");
  AddHandleFunction<LogMetrics>(handle, object, "logMetrics");
  AddHandleFunction<ReadTargets>(handle, object, "readTargets");
  AddHandleFunction<Covered>(handle, object, "covered");
  AddHandleFunction<WaitCommitted>(handle, object, "waitCommitted");
  AddHandleFunction<WatchCommits>(handle, object, "watchCommits");
  AddHandleFunction<PlacesOf>(handle, object, "placesOf");
  AddHandleFunction<FindInRing>(handle, object, "findInRing");
  AddHandleFunction<CommitMark>(handle, object, "commitMark");
  AddHandleFunction<FeedState>(handle, object, "feedState");
  AddHandleFunction<Epoch>(handle, object, "epoch");
}

// attachForScribe(cacheId): a handle to a cache that may not be ready yet, or a code.
Napi::Value AttachForScribe(const Napi::CallbackInfo& info) {
  CachePointer cache;
  const AttachStatus status = Registry::Get().AttachUnready(NumberOr(info[0], 0), &cache);
  if (status != AttachStatus::kAttached) return CodeNumber(info.Env(), Code::kNoSuchCache);
  return MakeHandle(info.Env(), std::move(cache), false);
}

}  // namespace

void InitFeedBinding(Napi::Env env, Napi::Object exports) {
  Environment::Of(env)->extenders.push_back(ExtendHandle);
  AddFunction<AttachForScribe>(exports, "attachForScribe");
}

}  // namespace cairn
