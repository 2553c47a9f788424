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
  // What the thread has not given up is given up with it.
  void OnEnvironmentCleanup() override { locks.clear(); }

  // Numbers are not used again: whoever unlocks twice meets a CHECK and not somebody else's lock.
  uint32_t last_number = 0;
  std::map<uint32_t, std::unique_ptr<OsLockFile>> locks;
};

LockPart* PartOf(Environment* environment) {
  return static_cast<LockPart*>(environment->parts[static_cast<size_t>(PartId::kLock)].get());
}

Environment* ReadCall(napi_env env, napi_callback_info info, napi_value* argument) {
  size_t count = 1;
  void* data;
  napi_get_cb_info(env, info, &count, argument, nullptr, &data);
  return static_cast<Environment*>(data);
}

napi_value LockFile(napi_env env, napi_callback_info info) {
  napi_value path;
  Environment* environment = ReadCall(env, info, &path);
  auto lock = std::make_unique<OsLockFile>();
  OsLockFile::Answer answer = lock->Acquire(StringOf(env, path));
  switch (answer.result) {
    case OsLockFile::Result::kLocked: {
      LockPart* part = PartOf(environment);
      environment->Set(Word::kNumber, lock->excludes_others() ? 1 : 0);
      part->locks.emplace(++part->last_number, std::move(lock));
      return Double(env, part->last_number);
    }
    case OsLockFile::Result::kTaken:
      environment->Set(Word::kNumber, answer.owner_pid);
      return Double(env, 0);
    case OsLockFile::Result::kFailed:
      break;
  }
  environment->message = std::move(answer.message);
  return Double(env, -1);
}

napi_value UnlockFile(napi_env env, napi_callback_info info) {
  napi_value number;
  Environment* environment = ReadCall(env, info, &number);
  CHECK(PartOf(environment)->locks.erase(static_cast<uint32_t>(NumberOr(env, number, 0))) == 1);
  return Undefined(env);
}

}  // namespace

void InitLockBinding(napi_env env, napi_value exports) {
  Environment::Of(env)->parts[static_cast<size_t>(PartId::kLock)] = std::make_unique<LockPart>();
  AddFunction(env, exports, "lockFile", LockFile);
  AddFunction(env, exports, "unlockFile", UnlockFile);
}

}  // namespace cairn
