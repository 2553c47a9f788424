#include "addon/lock_binding.h"

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "addon/convert.h"
#include "addon/environment.h"
#include "base/check.h"
#include "base/os_lock_file.h"

namespace cairn {
namespace {

struct LockPart final : EnvironmentPart {
  // Locks that the thread has not released are released with it.
  void OnEnvironmentCleanup() override { locks.clear(); }

  // Numbers are not reused: a second unlock fails a CHECK instead of releasing another lock.
  uint32_t last_number = 0;
  std::map<uint32_t, std::unique_ptr<OsLockFile>> locks;
};

LockPart* PartOf(Environment* environment) {
  return static_cast<LockPart*>(environment->parts[static_cast<size_t>(PartId::kLock)].get());
}

// lockFile(path)
Napi::Value LockFile(const Napi::CallbackInfo& info) {
  Environment* environment = Environment::Of(info);
  auto lock = std::make_unique<OsLockFile>();
  OsLockFile::Answer answer = lock->Acquire(StringOf(info[0]));
  double number = -1;
  switch (answer.result) {
    case OsLockFile::Result::kLocked: {
      LockPart* part = PartOf(environment);
      environment->Set(Word::kNumber, lock->excludes_others() ? 1 : 0);
      number = ++part->last_number;
      part->locks.emplace(part->last_number, std::move(lock));
      break;
    }
    case OsLockFile::Result::kTaken:
      environment->Set(Word::kNumber, answer.owner_pid);
      number = 0;
      break;
    case OsLockFile::Result::kFailed:
      environment->message = std::move(answer.message);
      break;
  }
  return Napi::Number::New(info.Env(), number);
}

// unlockFile(number)
void UnlockFile(const Napi::CallbackInfo& info) {
  CHECK(PartOf(Environment::Of(info))->locks.erase(static_cast<uint32_t>(NumberOr(info[0], 0))) == 1);
}

}  // namespace

void InitLockBinding(Napi::Env env, Napi::Object exports) {
  Environment::Of(env)->parts[static_cast<size_t>(PartId::kLock)] = std::make_unique<LockPart>();
  AddFunction<LockFile>(exports, "lockFile");
  AddFunction<UnlockFile>(exports, "unlockFile");
}

}  // namespace cairn
