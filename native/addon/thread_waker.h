// Wakes a JavaScript thread from other threads: one thread-safe function per environment, made when it is first needed.
// For every kind of news it calls the one function that TypeScript gave to onWake(), which asks all senders.
//
// It does not keep the thread alive, except between holdAwake(true) and holdAwake(false).
//
// Thread safety: Wake() from any thread, at any time. The rest belongs to the environment's thread.
#pragma once

#include <napi.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/os.h"
#include "base/thread_annotations.h"
#include "base/waker.h"

namespace cairn {

struct Environment;

class ThreadWaker final : public Waker {
 public:
  // The waker of this environment; null before onWake().
  static std::shared_ptr<ThreadWaker> Of(Environment* environment);

  void Wake() override;

 private:
  friend void InitThreadWaker(Napi::Env env, Napi::Object exports);
  static void OnWake(const Napi::CallbackInfo& info);
  static void HoldAwake(const Napi::CallbackInfo& info);
  static void WakeSelf(const Napi::CallbackInfo& info);
  static void CallJavaScript(Napi::Env env, Napi::Function callback, ThreadWaker* waker, void*);
  static void CleanUp(ThreadWaker* waker);

  using Function = Napi::TypedThreadSafeFunction<ThreadWaker, void, CallJavaScript>;

  // True: a wake-up is under way, so another one is not needed.
  std::atomic<bool> pending_{false};
  // Guards function_ against the end of the environment, which frees it: a waking thread holds it across Node's own
  // queue and at most one write to a pipe. No other lock is taken under it, and none of Cairn's is held when it is
  // taken.
  OsLock lock_;
  Function function_ GUARDED_BY(lock_);
  bool is_open_ GUARDED_BY(lock_) = false;  // false once the environment ends
  uint32_t hold_count_ = 0;                 // holdAwake(true) less holdAwake(false)
};

// Exports onWake(function), holdAwake(boolean), wakeSelf().
void InitThreadWaker(Napi::Env env, Napi::Object exports);

}  // namespace cairn
