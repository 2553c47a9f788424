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

Environment* EnvironmentOf(napi_env env, napi_callback_info info, napi_value* argument) {
  size_t count = 1;
  void* data;
  napi_get_cb_info(env, info, &count, argument, nullptr, &data);
  return static_cast<Environment*>(data);
}

}  // namespace

std::shared_ptr<ThreadWaker> ThreadWaker::Of(Environment* environment) {
  const auto& part = PartOf(environment);
  return part == nullptr ? nullptr : static_cast<WakerPart*>(part.get())->waker;
}

void ThreadWaker::Wake() {
  if (pending_.exchange(true)) return;
  OsLockGuard guard(&lock_);
  if (function_ == nullptr) return;
  if (napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking) == napi_closing) function_ = nullptr;
}

void ThreadWaker::CallJavaScript(napi_env env, napi_value callback, void* context, void*) {
  if (env == nullptr) return;
  // Before it looks: what happens from here on wakes it again.
  static_cast<ThreadWaker*>(context)->pending_.exchange(false);
  if (napi_call_function(env, Undefined(env), callback, 0, nullptr, nullptr) != napi_pending_exception) return;
  napi_value error;
  napi_get_and_clear_last_exception(env, &error);
  napi_fatal_exception(env, error);
}

void ThreadWaker::CleanUp(void* self) {
  auto* waker = static_cast<ThreadWaker*>(self);
  OsLockGuard guard(&waker->lock_);
  if (waker->function_ == nullptr) return;
  napi_release_threadsafe_function(waker->function_, napi_tsfn_release);
  waker->function_ = nullptr;
}

// onWake(function): what is called when there is something to see. The first one stays, and knows all who look.
napi_value ThreadWaker::OnWake(napi_env env, napi_callback_info info) {
  napi_value callback;
  Environment* environment = EnvironmentOf(env, info, &callback);
  if (PartOf(environment) != nullptr) return Undefined(env);
  auto part = std::make_unique<WakerPart>();
  part->waker = std::make_shared<ThreadWaker>();
  ThreadWaker* waker = part->waker.get();
  napi_value name;
  CHECK(napi_create_string_latin1(env, "cairn", NAPI_AUTO_LENGTH, &name) == napi_ok);
  // Node keeps the context until it frees the function, which may be after the environment's part is gone.
  auto* kept = new std::shared_ptr<ThreadWaker>(part->waker);
  const auto let_go = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<ThreadWaker>*>(data); };
  napi_threadsafe_function function;
  CHECK(napi_create_threadsafe_function(env, callback, nullptr, name, 0, 1, kept, let_go, waker, CallJavaScript,
                                        &function) == napi_ok);
  CHECK(napi_unref_threadsafe_function(env, function) == napi_ok);
  {
    OsLockGuard guard(&waker->lock_);
    waker->function_ = function;
  }
  // Registered after the function's own hook, so that it runs before it: from then on nobody uses the function.
  CHECK(napi_add_env_cleanup_hook(env, CleanUp, waker) == napi_ok);
  PartOf(environment) = std::move(part);
  return Undefined(env);
}

// holdAwake(yes): one more, or one less, for whom the thread has to stay alive.
napi_value ThreadWaker::HoldAwake(napi_env env, napi_callback_info info) {
  napi_value yes;
  const std::shared_ptr<ThreadWaker> waker = Of(EnvironmentOf(env, info, &yes));
  CHECK(waker != nullptr);
  OsLockGuard guard(&waker->lock_);
  CHECK(waker->function_ != nullptr);
  if (BooleanOr(env, yes, false)) {
    if (waker->hold_count_++ == 0) napi_ref_threadsafe_function(env, waker->function_);
  } else {
    CHECK(waker->hold_count_ > 0);
    if (--waker->hold_count_ == 0) napi_unref_threadsafe_function(env, waker->function_);
  }
  return Undefined(env);
}

// wakeSelf(): looks again in a later turn of the event loop.
napi_value ThreadWaker::WakeSelf(napi_env env, napi_callback_info info) {
  napi_value none;
  const std::shared_ptr<ThreadWaker> waker = Of(EnvironmentOf(env, info, &none));
  CHECK(waker != nullptr);
  waker->Wake();
  return Undefined(env);
}

void InitThreadWaker(napi_env env, napi_value exports) {
  AddFunction(env, exports, "onWake", ThreadWaker::OnWake);
  AddFunction(env, exports, "holdAwake", ThreadWaker::HoldAwake);
  AddFunction(env, exports, "wakeSelf", ThreadWaker::WakeSelf);
}

}  // namespace cairn
