#include "addon/load_binding.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "addon/answer.h"
#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/thread_waker.h"
#include "base/check.h"
#include "process/load_table.h"

namespace cairn {
namespace {

// A row of finishLoads(): id, LoadResult::Kind, then of a value its bytes, codec, client flags and expiry (Unix
// milliseconds, 0: never); of a failure its reason in place of the bytes; of an absence the milliseconds for which it
// holds, in place of the expiry.
constexpr uint32_t kResultFields = 6;
// The most rows of one call of takeEndedLoads() and drainLoads().
constexpr size_t kRowsPerCall = 256;

struct SeatPart final : HandlePart {
  SeatPart(LoadTable* table, std::shared_ptr<Waker> waker) : seat(table, std::move(waker)) {}
  LoadSeat seat;
};

struct LoaderPart final : HandlePart {
  LoaderPart(LoadTable* table, std::shared_ptr<Waker> waker, uint32_t backend)
      : loader(table, std::move(waker), backend) {}
  Loader loader;
};

std::unique_ptr<HandlePart>& PartOf(CacheHandle* handle, PartId id) { return handle->parts[static_cast<size_t>(id)]; }

// Null: the handle is closed, or has begun no load.
LoadSeat* SeatOf(CacheHandle* handle) {
  const auto& part = PartOf(handle, PartId::kLoads);
  return part == nullptr ? nullptr : &static_cast<SeatPart*>(part.get())->seat;
}

Loader* LoaderOf(CacheHandle* handle) {
  const auto& part = PartOf(handle, PartId::kLoader);
  return part == nullptr ? nullptr : &static_cast<LoaderPart*>(part.get())->loader;
}

std::shared_ptr<Waker> WakerOf(CacheHandle* handle) {
  std::shared_ptr<ThreadWaker> waker = ThreadWaker::Of(handle->environment);
  CHECK(waker != nullptr);
  return waker;
}

// ---- callers that wait ----

Napi::Value BeginLoads(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return env.Undefined();
  LoadSeat* seat = SeatOf(handle);
  if (seat == nullptr) {
    PartOf(handle, PartId::kLoads) = std::make_unique<SeatPart>(handle->instance->loads(), WakerOf(handle));
    seat = SeatOf(handle);
  }
  const auto keys = info[0].As<Napi::Array>();
  const uint32_t count = keys.Length();
  const LoadInto into = BooleanOr(info[1], false) ? LoadInto::kFreeRoom : LoadInto::kAnyRoom;
  const Now now = handle->instance->ReadBothClocks();
  Napi::Array ids = Napi::Array::New(env, count);
  for (uint32_t i = 0; i < count; i++) {
    KeyArgument key;
    // TypeScript has checked the keys, and gives those with U+FFFD as bytes.
    const Code code = key.Read(env, keys.Get(i));
    CHECK(code == Code::kFound);
    ids.Set(i, static_cast<double>(seat->Begin(key.view(), now, into)));
  }
  return ids;
}

void LeaveLoads(const Napi::CallbackInfo& info) {
  LoadSeat* seat = SeatOf(HandleOf(info));
  if (seat == nullptr) return;
  const auto ids = info[0].As<Napi::Array>();
  const uint32_t count = ids.Length();
  for (uint32_t i = 0; i < count; i++) seat->Leave(NumberOr(ids.Get(i), 0));
}

// A cache that its owner has closed has failed its loads, and their ends are told until the handle lets go of it.
Napi::Value TakeEndedLoads(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  LoadSeat* seat = SeatOf(HandleOf(info));
  if (seat == nullptr) return env.Undefined();
  LoadSeat::Ended ended[kRowsPerCall];
  const size_t count = seat->TakeEnded(ended, kRowsPerCall);
  Napi::Array rows = Napi::Array::New(env, 3 * count);
  for (uint32_t i = 0; i < count; i++) {
    rows.Set(3 * i, static_cast<double>(ended[i].id));
    if (ended[i].why != nullptr) rows.Set(3 * i + 1, *ended[i].why);
    rows.Set(3 * i + 2, ended[i].is_unknown);
  }
  return rows;
}

Napi::Value GetThrough(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  KeyArgument key;
  const Code code = handle->Usable() ? key.Read(env, info[0]) : Code::kClosed;
  if (code != Code::kFound) return Napi::Value(env, Refuse(env, handle, code));
  Request request;
  request.key = key.view();
  request.reads_through = true;
  Outcome outcome;
  return Napi::Value(env, Answer(env, handle, request, handle->instance->ReadNow(false), &outcome));
}

// ---- the owner ----

void FailLoads(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  if (handle->Usable()) handle->instance->loads()->FailAll(StringOf(info[0]), handle->backend);
}

Napi::Value LoadCounts(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return env.Undefined();
  const LoadTable* table = handle->instance->loads();
  const uint64_t counts[] = {table->load_count(), table->begun_count(), table->joined_count(), table->failed_count(),
                             table->refused_count()};
  Napi::Array numbers = Napi::Array::New(env, std::size(counts));
  for (uint32_t i = 0; i < std::size(counts); i++) numbers.Set(i, static_cast<double>(counts[i]));
  return numbers;
}

// ---- the loader ----

Napi::Value AttachLoader(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return Napi::Boolean::New(env, false);
  if (LoaderOf(handle) == nullptr) {
    PartOf(handle, PartId::kLoader) =
        std::make_unique<LoaderPart>(handle->instance->loads(), WakerOf(handle), handle->backend);
  }
  return Napi::Boolean::New(env, true);
}

void DetachLoader(const Napi::CallbackInfo& info) { PartOf(HandleOf(info), PartId::kLoader).reset(); }

Napi::Value DrainLoads(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  Loader* loader = LoaderOf(handle);
  if (!handle->Usable() || loader == nullptr) return env.Undefined();
  LoadTask tasks[kRowsPerCall];
  const size_t count = loader->Drain(tasks, std::min<uint64_t>(NumberOr(info[0], 0), kRowsPerCall));
  Napi::Array rows = Napi::Array::New(env, 2 * count);
  for (uint32_t i = 0; i < count; i++) {
    rows.Set(2 * i, static_cast<double>(tasks[i].id));
    rows.Set(2 * i + 1, Napi::Buffer<char>::Copy(env, tasks[i].key.data(), tasks[i].key.size()));
  }
  return rows;
}

void FinishLoads(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  Loader* loader = LoaderOf(handle);
  // A closed handle has given its loads back.
  if (!handle->Usable() || loader == nullptr) return;
  const auto rows = info[0].As<Napi::Array>();
  const uint32_t count = rows.Length() / kResultFields;
  const Now now = handle->instance->ReadBothClocks();
  std::vector<LoadResult> results(count);
  std::vector<std::string> reasons(count);
  for (uint32_t i = 0; i < count; i++) {
    const auto field = [&rows, i](uint32_t index) { return rows.Get(i * kResultFields + index); };
    LoadResult* result = &results[i];
    result->id = NumberOr(field(0), 0);
    result->kind = static_cast<LoadResult::Kind>(NumberOr(field(1), 0));
    switch (result->kind) {
      case LoadResult::Kind::kValue: {
        char* data = nullptr;
        size_t bytes = 0;
        CHECK(BytesOf(field(2), &data, &bytes));
        result->value = {data, bytes};
        result->codec = static_cast<Codec>(NumberOr(field(3), 0));
        CHECK(static_cast<int>(result->codec) < kCodecCount);
        result->client_flags = static_cast<uint32_t>(NumberOr(field(4), 0));
        result->expires_ms = BootExpiryOf(NumberOr(field(5), 0), now);
        break;
      }
      case LoadResult::Kind::kAbsent:
        result->absent_ms = NumberOr(field(5), 0);
        break;
      case LoadResult::Kind::kFailed:
      case LoadResult::Kind::kUnknown:
        reasons[i] = StringOf(field(2));
        result->why = reasons[i];
        break;
      case LoadResult::Kind::kAgain:
        break;
      default:
        CHECK(false);
    }
  }
  loader->End(results.data(), count, now);
}

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  if (handle->instance->loads() == nullptr) return;
  AddHandleFunction<BeginLoads>(handle, object, "beginLoads");
  AddHandleFunction<LeaveLoads>(handle, object, "leaveLoads");
  AddHandleFunction<TakeEndedLoads>(handle, object, "takeEndedLoads");
  AddHandleFunction<GetThrough>(handle, object, "getThrough");
  AddHandleFunction<FailLoads>(handle, object, "failLoads");
  AddHandleFunction<LoadCounts>(handle, object, "loadCounts");
  AddHandleFunction<AttachLoader>(handle, object, "attachLoader");
  AddHandleFunction<DetachLoader>(handle, object, "detachLoader");
  AddHandleFunction<DrainLoads>(handle, object, "drainLoads");
  AddHandleFunction<FinishLoads>(handle, object, "finishLoads");
}

}  // namespace

void InitLoadBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(ExtendHandle); }

}  // namespace cairn
