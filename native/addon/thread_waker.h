// How other threads get the attention of a JavaScript thread: one thread-safe function per environment, made when it is
// first needed. Whatever the reason, it calls the one function that TypeScript gave to onWake(), which looks
// everywhere.
//
// It does not keep the thread alive, except while somebody asked for it with holdAwake().
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

  // A wake-up is under way: more of them would say nothing new.
  std::atomic<bool> pending_{false};
  // Guards function_ against the end of the environment, which frees it: a thread that wakes holds it across Node's own
  // queue and at most one write to a pipe. No other lock is taken under it, and none of ours is held when it is taken.
  OsLock lock_;
  Function function_ GUARDED_BY(lock_);
  bool is_open_ GUARDED_BY(lock_) = false;  // false once the environment ends
  uint32_t hold_count_ = 0;                 // holdAwake(true) less holdAwake(false)
};

// Exports onWake(function), holdAwake(boolean), wakeSelf().
void InitThreadWaker(Napi::Env env, Napi::Object exports);

}  // namespace cairn
