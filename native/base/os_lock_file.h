// A lock that one thread of one process holds at a time: a file that the system keeps locked while it is open, so that
// no lock outlives its owner, even after a crash. If the system and the file system allow it, the directory of the file
// is locked too, so that a second owner cannot enter after the file was removed by hand.
#pragma once

#include <cstdint>
#include <string>

namespace cairn {

// At most one lock per directory. Not thread-safe: each thread has its own objects, which exclude one another like
// those of different processes.
//
// The file holds the owner's process id as text, for the message to later processes. The lock creates it if needed and
// never removes it, because a process that had opened it before would lock a file that no other process finds. If the
// process may not write it (another user's file, a read-only disk), it is locked all the same and names no owner.
class OsLockFile {
 public:
  enum class Result : uint8_t {
    kLocked,
    kTaken,   // by another process or thread
    kFailed,  // the file could not be opened or locked
  };
  struct Answer {
    Result result;
    // kTaken: the owner's process id; 0: the file does not say. An id of another namespace means nothing here.
    uint64_t owner_pid = 0;
    // kFailed: what the system says.
    std::string message;
  };

  OsLockFile() = default;
  ~OsLockFile() { Release(); }
  OsLockFile(const OsLockFile&) = delete;
  OsLockFile& operator=(const OsLockFile&) = delete;

  // Takes the lock if it is free; does not wait for it. Waits up to 0.1 s for a new owner to write its id. `path`:
  // UTF-8. REQUIRES: not held.
  [[nodiscard]] Answer Acquire(const std::string& path);
  // Idempotent.
  void Release();
  bool held() const { return file_ != kNoFile; }
  // True: no other process can take the directory while this is held, even if the file is removed. False on file
  // systems that do not lock directories: there the owner must check that the file is still its own. REQUIRES: held.
  bool excludes_others() const;

 private:
  static constexpr intptr_t kNoFile = -1;
  intptr_t file_ = kNoFile;       // descriptor or HANDLE; open and locked
  intptr_t directory_ = kNoFile;  // the same for the directory, if it could be locked
  bool writable_ = false;
};

}  // namespace cairn
