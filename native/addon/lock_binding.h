// Lock files (base/os_lock_file.h) for TypeScript: src/native/directory-lock.ts is the other side.
//
//   lockFile(path) -> number        from 1: the lock's number; words[Word.number] is 1 if it keeps others out even when
//                                   the file is removed. 0: another has it, whose process id is in
//                                   words[Word.number] (0: not known). -1: takeMessage() says why it cannot be locked
//   unlockFile(number)              of a lock that this thread has
//
// A lock belongs to the thread that took it, and is released when that thread ends.
#pragma once

#include <napi.h>

namespace cairn {

void InitLockBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
