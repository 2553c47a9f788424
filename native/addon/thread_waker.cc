#include "addon/thread_waker.h"

#include <utility>

#include "addon/convert.h"
#include "addon/environment.h"
#include "base/check.h"

namespace cairn {
namespace {

struct WakerPart final : EnvironmentPart {
  // The waker's own hook has closed it already.
  void OnEnvironmentCleanup() override {}
  std::shared_ptr<ThreadWaker> waker;
};

std::unique_ptr<EnvironmentPart>& PartOf(Environment* environment) {
  return environment->parts[static_cast<size_t>(PartId::kWaker)];
}

}  // namespace

std::shared_ptr<ThreadWaker> ThreadWaker::Of(Environment* environment) {
  const auto& part = PartOf(environment);
  return part == nullptr ? nullptr : static_cast<WakerPart*>(part.get())->waker;
}

void ThreadWaker::Wake() {
  if (pending_.exchange(true)) return;
  OsLockGuard guard(&lock_);
  if (is_open_ && function_.NonBlockingCall() == napi_closing) is_open_ = false;
}

void ThreadWaker::CallJavaScript(Napi::Env env, Napi::Function callback, ThreadWaker* waker, void*) {
  if (env == nullptr) return;
  // Before it looks: what happens from here on wakes it again.
  waker->pending_.exchange(false);
  callback.Call({});
  if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

void ThreadWaker::CleanUp(ThreadWaker* waker) {
  OsLockGuard guard(&waker->lock_);
  if (!waker->is_open_) return;
  waker->function_.Release();
  waker->is_open_ = false;
}

// onWake(function): what is called when there is something to see. The first one stays, and knows all who look.
void ThreadWaker::OnWake(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Environment* environment = Environment::Of(info);
  if (PartOf(environment) != nullptr) return;
  auto part = std::make_unique<WakerPart>();
  part->waker = std::make_shared<ThreadWaker>();
  ThreadWaker* waker = part->waker.get();
  // Node calls with the waker until it frees the function, which may be after the environment's part is gone.
  const auto let_go = [](Napi::Env, std::shared_ptr<ThreadWaker>* kept, ThreadWaker*) { delete kept; };
  Function function = Function::New(env, info[0].As<Napi::Function>(), "cairn", 0, 1, waker, let_go,
                                    new std::shared_ptr<ThreadWaker>(part->waker));
  function.Unref(env);
  {
    OsLockGuard guard(&waker->lock_);
    waker->function_ = function;
    waker->is_open_ = true;
  }
  // Registered after the function's own hook, so it runs before that: from then on no thread uses the function.
  info.Env().AddCleanupHook(CleanUp, waker);
  PartOf(environment) = std::move(part);
}

// holdAwake(yes): one more, or one less, for whom the thread has to stay alive.
void ThreadWaker::HoldAwake(const Napi::CallbackInfo& info) {
  const std::shared_ptr<ThreadWaker> waker = Of(Environment::Of(info));
  CHECK(waker != nullptr);
  OsLockGuard guard(&waker->lock_);
  CHECK(waker->is_open_);
  if (BooleanOr(info[0], false)) {
    if (waker->hold_count_++ == 0) waker->function_.Ref(info.Env());
  } else {
    CHECK(waker->hold_count_ > 0);
    if (--waker->hold_count_ == 0) waker->function_.Unref(info.Env());
  }
}

// wakeSelf(): looks again in a later turn of the event loop.
void ThreadWaker::WakeSelf(const Napi::CallbackInfo& info) {
  const std::shared_ptr<ThreadWaker> waker = Of(Environment::Of(info));
  CHECK(waker != nullptr);
  waker->Wake();
}

void InitThreadWaker(Napi::Env, Napi::Object exports) {
  AddFunction<ThreadWaker::OnWake>(exports, "onWake");
  AddFunction<ThreadWaker::HoldAwake>(exports, "holdAwake");
  AddFunction<ThreadWaker::WakeSelf>(exports, "wakeSelf");
}

}  // namespace cairn
