// A lock that one process at a time has, and one thread of it: a file that the system keeps locked for as long as it is
// open, so that no lock outlives its owner, however that ends. The directory that the file lies in is locked with it,
// where the system and the file system can do that: a file that is removed by hand does not let a second owner in.
#pragma once

#include <cstdint>
#include <string>

namespace cairn {

// At most one lock in a directory. Not thread-safe: each thread has its own objects, which lock one another out like
// those of different processes.
//
// The file holds the owner's process id in text, to be named to those who come too late. It is made if it is not there
// and never removed, because whoever had opened it before would lock a file that nobody else finds. Where the process
// may not write it (another user's, a read-only disk), it is locked all the same and names nobody.
class OsLockFile {
 public:
  enum class Result : uint8_t {
    kLocked,
    kTaken,   // by another process or thread
    kFailed,  // the file could not be opened or locked
  };
  struct Answer {
    Result result;
    // kTaken: of whoever has it; 0: the file does not say. In another namespace of process ids it may mean nothing
    // here.
    uint64_t owner_pid = 0;
    // kFailed: what the system says.
    std::string message;
  };

  OsLockFile() = default;
  ~OsLockFile() { Release(); }
  OsLockFile(const OsLockFile&) = delete;
  OsLockFile& operator=(const OsLockFile&) = delete;

  // Takes the lock if it is free; waits for nobody, but up to a tenth of a second for a new owner to write its id.
  // `path`: UTF-8. REQUIRES: not held.
  [[nodiscard]] Answer Acquire(const std::string& path);
  // Idempotent.
  void Release();
  bool held() const { return file_ != kNoFile; }
  // No other process can have the directory while this is held, even if the file is removed. False on file systems that
  // do not lock directories: there the owner has to look whether the file is still its own. REQUIRES: held.
  bool excludes_others() const;

 private:
  static constexpr intptr_t kNoFile = -1;
  intptr_t file_ = kNoFile;       // descriptor or HANDLE; open and locked
  intptr_t directory_ = kNoFile;  // the same of the directory, where it could be locked
  bool writable_ = false;
};

}  // namespace cairn
