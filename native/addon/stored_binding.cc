#include "addon/stored_binding.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/thread_waker.h"
#include "base/check.h"
#include "process/change_feed.h"
#include "store/record.h"
#include "store/store.h"
#include "store/stored_changes.h"

namespace cairn {
namespace {

// The thread of the writer, which is woken for callers that wait.
class WriterPart final : public HandlePart {
 public:
  WriterPart(StoredChanges* stored, std::shared_ptr<Waker> waker) : stored_(stored), waker_(std::move(waker)) {
    stored_->SetWriter(waker_);
  }
  ~WriterPart() override { stored_->RemoveWriter(waker_.get()); }

 private:
  StoredChanges* const stored_;
  const std::shared_ptr<Waker> waker_;
};

// A version for each shard.
uint64_t* VersionsOf(Napi::Value array, const Store* store) {
  size_t count = 0;
  uint64_t* versions = NumbersOf<uint64_t>(array, napi_biguint64_array, &count);
  CHECK(versions != nullptr && count == store->shard_count());
  return versions;
}

uint64_t VersionOf(Napi::Value value) {
  bool lossless = false;
  const uint64_t version = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  CHECK(lossless);
  return version;
}

uint32_t ShardNumber(Napi::Value value, const Store* store) {
  const auto shard = static_cast<uint32_t>(NumberOr(value, store->shard_count()));
  CHECK(shard < store->shard_count());
  return shard;
}

// The record of a clear is of no key, and is owed to no backend.
Napi::Value CollectVersions(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  char* data;
  size_t bytes;
  if (!handle->Usable() || !BytesOf(info[0], &data, &bytes)) return Napi::Boolean::New(env, false);
  uint64_t* versions = VersionsOf(info[1], handle->store);
  for (size_t at = 0; at < bytes;) {
    RecordView record;
    if (DecodeRecord(std::string_view(data + at, bytes - at), &record) != DecodeStatus::kOk) {
      return Napi::Boolean::New(env, false);
    }
    at += record.record_bytes;
    if (record.key.empty()) continue;
    uint64_t* version = &versions[handle->store->ShardOf(record.key)];
    *version = std::max(*version, record.version);
  }
  return Napi::Boolean::New(env, true);
}

void RefuseStored(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  char* key;
  size_t key_bytes;
  if (!handle->Usable() || !BytesOf(info[0], &key, &key_bytes)) return;
  Store* store = handle->store;
  const std::string reason = info[2].ToString().Utf8Value();
  store->stored(handle->backend)
      ->Refuse(store->ShardOf({key, key_bytes}), {key, key_bytes}, VersionOf(info[1]), reason,
               BooleanOr(info[3], false) ? StoredChanges::Of::kSomeBatches : StoredChanges::Of::kOneBatch);
}

void MarkStored(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return;
  const uint64_t* versions = VersionsOf(info[0], handle->store);
  for (uint32_t shard = 0; shard < handle->store->shard_count(); shard++) {
    handle->store->stored_marks(handle->backend)->Advance(shard, versions[shard]);
  }
}

void DropStored(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  char* key;
  size_t key_bytes;
  if (!handle->Usable() || !BytesOf(info[0], &key, &key_bytes)) return;
  const Now now = handle->instance->ReadBothClocks();
  Request request;
  request.verb = Verb::kPeek;
  request.key = {key, key_bytes};
  request.no_value = true;
  Outcome outcome;
  handle->store->Execute(request, now, nullptr, &outcome);
  // A touch of the refused change has left the entry the version that it had before.
  if (outcome.status != Status::kFound || outcome.commit_version > VersionOf(info[1])) return;
  request.verb = Verb::kEvict;
  request.has_compare = true;
  request.compare = outcome.version;
  outcome = Outcome{};
  handle->store->Execute(request, now, nullptr, &outcome);
}

void TellStored(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  if (handle->Usable()) handle->instance->feed()->TellStored();
}

void SetStoredHealth(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return;
  const auto health = static_cast<StoredChanges::Health>(static_cast<uint32_t>(NumberOr(info[0], 0)));
  const uint32_t shard_count = handle->store->shard_count();
  const auto end = static_cast<uint32_t>(NumberOr(info[2], shard_count));
  CHECK(end <= shard_count);
  handle->store->stored(handle->backend)->SetHealth(static_cast<uint32_t>(NumberOr(info[1], 0)), end, health);
  handle->instance->feed()->TellStored();
}

void SetSlowdown(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return;
  const auto ms = static_cast<uint32_t>(NumberOr(info[0], 0));
  handle->store->stored(handle->backend)->slowdown()->Set(ms);
  if (ms == 0) handle->instance->feed()->TellStored();
}

Napi::Value SlowedChanges(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  const Slowdown* slowdown = handle->Usable() ? handle->store->stored(handle->backend)->slowdown() : nullptr;
  const auto slowed = Napi::Array::New(env, 2);
  slowed.Set(0U, Napi::Number::New(env, slowdown == nullptr ? 0 : static_cast<double>(slowdown->changes())));
  slowed.Set(1U, Napi::Number::New(env, slowdown == nullptr ? 0 : static_cast<double>(slowdown->total_ms())));
  return slowed;
}

Napi::Value SlowDown(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  uint32_t ms = 0;
  if (handle->Usable()) {
    const Backends& backends = handle->store->backends();
    Slowdown* slowest = backends.At(0)->slowdown();
    for (uint32_t i = 1; i < backends.count(); i++) {
      Slowdown* const slowdown = backends.At(i)->slowdown();
      if (slowdown->ms() > slowest->ms()) slowest = slowdown;
    }
    ms = slowest->ms();
    if (ms != 0) slowest->Count(ms);
  }
  return Napi::Number::New(info.Env(), ms);
}

void ListenWanted(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  auto& part = handle->parts[static_cast<size_t>(PartId::kStored)];
  if (!handle->Usable() || part != nullptr) return;
  std::shared_ptr<ThreadWaker> waker = ThreadWaker::Of(handle->environment);
  CHECK(waker != nullptr);
  part = std::make_unique<WriterPart>(handle->store->stored(handle->backend), std::move(waker));
}

Napi::Value TakeWanted(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  return Napi::Boolean::New(info.Env(), handle->Usable() && handle->store->stored(handle->backend)->TakeWanted());
}

Napi::Value IsWanted(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return Napi::Boolean::New(info.Env(), false);
  const uint32_t from = ShardNumber(info[0], handle->store);
  const auto end = static_cast<uint32_t>(NumberOr(info[1], 0));
  CHECK(end <= handle->store->shard_count());
  return Napi::Boolean::New(info.Env(), handle->store->stored(handle->backend)->IsWanted(from, end));
}

Napi::Value WantStored(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  KeyArgument key;
  uint32_t backend = 0;
  if (handle->Usable() && key.Read(info.Env(), info[1]) == Code::kFound) {
    backend = handle->store->backends().Of(key.view());
    handle->store->stored(backend)->Want(ShardNumber(info[0], handle->store), VersionOf(info[2]));
  }
  return Napi::Number::New(info.Env(), backend);
}

Napi::Value StoredOutcome(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  KeyArgument key;
  StoredChanges::Outcome outcome = StoredChanges::Outcome::kUnknown;
  std::string reason;
  if (handle->Usable() && key.Read(env, info[1]) == Code::kFound) {
    const uint32_t shard = ShardNumber(info[0], handle->store);
    outcome = handle->store->backends().For(key.view())->OutcomeOf(shard, key.view(), VersionOf(info[2]), &reason);
  }
  if (outcome == StoredChanges::Outcome::kRefused) return Napi::String::New(env, reason);
  return Napi::Number::New(env, static_cast<double>(outcome));
}

// refusedSince(shard, key, version): the reason of a dead letter of the key that has at least this version.
Napi::Value RefusedSince(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  KeyArgument key;
  std::string reason;
  if (!handle->Usable() || key.Read(env, info[1]) != Code::kFound) return env.Undefined();
  const uint32_t shard = ShardNumber(info[0], handle->store);
  StoredChanges* stored = handle->store->backends().For(key.view());
  if (!stored->IsRefusedSince(shard, key.view(), VersionOf(info[2]), &reason)) return env.Undefined();
  return Napi::String::New(env, reason);
}

Napi::Value StoredHealth(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  auto health = StoredChanges::Health::kStopped;
  KeyArgument key;
  if (handle->Usable()) {
    const Backends& backends = handle->store->backends();
    const bool is_of_key = !info[0].IsUndefined() && key.Read(info.Env(), info[0]) == Code::kFound;
    health = is_of_key ? backends.For(key.view())->health(handle->store->ShardOf(key.view())) : backends.health();
  }
  return Napi::Number::New(info.Env(), static_cast<double>(health));
}

void UseBackend(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  const auto backend = static_cast<uint32_t>(NumberOr(info[0], 0));
  if (!handle->Usable()) return;
  CHECK(backend < handle->store->backends().count());
  handle->backend = backend;
}

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction<UseBackend>(handle, object, "useBackend");
  if (handle->instance->feed() == nullptr) return;
  AddHandleFunction<CollectVersions>(handle, object, "collectVersions");
  AddHandleFunction<RefuseStored>(handle, object, "refuseStored");
  AddHandleFunction<MarkStored>(handle, object, "markStored");
  AddHandleFunction<DropStored>(handle, object, "dropStored");
  AddHandleFunction<TellStored>(handle, object, "tellStored");
  AddHandleFunction<SetStoredHealth>(handle, object, "setStoredHealth");
  AddHandleFunction<ListenWanted>(handle, object, "listenWanted");
  AddHandleFunction<TakeWanted>(handle, object, "takeWanted");
  AddHandleFunction<IsWanted>(handle, object, "isWanted");
  AddHandleFunction<WantStored>(handle, object, "wantStored");
  AddHandleFunction<StoredOutcome>(handle, object, "storedOutcome");
  AddHandleFunction<RefusedSince>(handle, object, "refusedSince");
  AddHandleFunction<StoredHealth>(handle, object, "storedHealth");
  AddHandleFunction<SetSlowdown>(handle, object, "setSlowdown");
  AddHandleFunction<SlowedChanges>(handle, object, "slowedChanges");
  AddHandleFunction<SlowDown>(handle, object, "slowDown");
}

}  // namespace

void InitStoredBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(ExtendHandle); }

}  // namespace cairn
