#include "addon/removal_binding.h"

#include <cstdint>
#include <memory>
#include <utility>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/thread_waker.h"
#include "base/check.h"
#include "process/removal_ring.h"

namespace cairn {
namespace {

struct ListenerPart final : HandlePart {
  ListenerPart(RemovalRing* ring, std::shared_ptr<Waker> waker) : listener(ring, std::move(waker)) {}
  RemovalListener listener;
};

std::unique_ptr<HandlePart>& PartOf(CacheHandle* handle) {
  return handle->parts[static_cast<size_t>(PartId::kRemovals)];
}

// listenRemovals(reasons, values): the events that the handle wants from now on. reasons 0: none, and the ring's memory
// is freed if no other handle listens. Returns kStored, kClosed or kRefused (too many listeners).
Napi::Value ListenRemovals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  std::unique_ptr<HandlePart>& part = PartOf(handle);
  const auto reasons = static_cast<uint32_t>(NumberOr(info[0], 0));
  if (reasons == 0) {
    part.reset();
    return CodeNumber(env, Code::kStored);
  }
  if (part == nullptr) {
    RemovalRing* ring = handle->instance->removals();
    if (ring->listener_count() >= kRemovalListenersMax) return CodeNumber(env, Code::kRefused);
    std::shared_ptr<ThreadWaker> waker = ThreadWaker::Of(handle->environment);
    CHECK(waker != nullptr);
    part = std::make_unique<ListenerPart>(ring, std::move(waker));
  }
  static_cast<ListenerPart*>(part.get())->listener.SetInterest({reasons, BooleanOr(info[1], false)});
  return CodeNumber(env, Code::kStored);
}

// takeRemovals(bytes): copies events into a Uint8Array of at least removalBytesMax and returns how many bytes; the
// words (Word::kNumber) have how many events were lost before them. -1: the handle does not listen any more.
Napi::Value TakeRemovals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  const auto& part = PartOf(handle);
  if (part == nullptr) return Napi::Number::New(env, -1);
  char* data;
  size_t bytes;
  CHECK(BytesOf(info[0], &data, &bytes));
  uint64_t lost = 0;
  const size_t taken = static_cast<ListenerPart*>(part.get())->listener.Take(data, bytes, &lost);
  handle->environment->Set(Word::kNumber, lost);
  return Napi::Number::New(env, static_cast<double>(taken));
}

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction<ListenRemovals>(handle, object, "listenRemovals");
  AddHandleFunction<TakeRemovals>(handle, object, "takeRemovals");
}

}  // namespace

void InitRemovalBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(ExtendHandle); }

}  // namespace cairn
