#include "base/os_lock_file.h"

#if defined(_WIN32)
#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#else
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <iterator>
#include <string>
#include <system_error>

#include "base/check.h"
#include "base/os.h"

// ---- what differs ----

namespace cairn {
namespace {

// Enough for an id and a line feed. Always written in full, over what is there: that needs no room on a full disk.
constexpr size_t kTextBytes = 24;

enum class Taking : uint8_t { kLocked, kTaken, kFailed };

#if defined(_WIN32)

using File = HANDLE;
const File kNotOpened = INVALID_HANDLE_VALUE;

// The locked range: it cannot be read, so it is far behind the text.
constexpr DWORD kRangeOffsetHigh = 0x7FFFFFFF;

intptr_t ToWord(File file) { return std::bit_cast<intptr_t>(file); }
File ToFile(intptr_t word) { return std::bit_cast<File>(word); }

int LastError() { return static_cast<int>(GetLastError()); }
std::string MessageOf(int error) { return "Windows error " + std::to_string(error); }
bool IsForbidden(int error) { return error == ERROR_ACCESS_DENIED || error == ERROR_WRITE_PROTECT; }

File OpenFile(const std::string& path, bool writable) {
  const int length = MultiByteToWideChar(CP_UTF8, 0, path.data(), static_cast<int>(path.size()), nullptr, 0);
  std::wstring wide(static_cast<size_t>(length), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, path.data(), static_cast<int>(path.size()), wide.data(), length);
  return CreateFileW(wide.c_str(), writable ? GENERIC_READ | GENERIC_WRITE : GENERIC_READ,
                     // Not FILE_SHARE_DELETE: while it is open, neither it nor its directory can be moved or removed.
                     FILE_SHARE_READ | FILE_SHARE_WRITE, nullptr, writable ? OPEN_ALWAYS : OPEN_EXISTING,
                     FILE_ATTRIBUTE_NORMAL, nullptr);
}

// A directory cannot be locked here, and needs no lock: its lock file cannot be removed while it is open.
File OpenDirectory(const std::string&) { return kNotOpened; }
constexpr bool kKeepsLockFile = true;

void CloseFile(File file) { CloseHandle(file); }

Taking TryLock(File file) {
  OVERLAPPED range = {};
  range.OffsetHigh = kRangeOffsetHigh;
  if (LockFileEx(file, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &range)) return Taking::kLocked;
  const DWORD error = GetLastError();
  return error == ERROR_LOCK_VIOLATION || error == ERROR_IO_PENDING ? Taking::kTaken : Taking::kFailed;
}

size_t ReadText(File file, char* text) {
  OVERLAPPED start = {};
  DWORD count = 0;
  return ReadFile(file, text, static_cast<DWORD>(kTextBytes), &count, &start) ? count : 0;
}

void WriteText(File file, const char* text) {
  OVERLAPPED start = {};
  DWORD count;
  WriteFile(file, text, static_cast<DWORD>(kTextBytes), &count, &start);
}

uint64_t OwnPid() { return GetCurrentProcessId(); }

bool IsAlive(uint64_t pid) {
  HANDLE process = OpenProcess(SYNCHRONIZE, FALSE, static_cast<DWORD>(pid));
  if (process == nullptr) return GetLastError() == ERROR_ACCESS_DENIED;
  const bool runs = WaitForSingleObject(process, 0) == WAIT_TIMEOUT;
  CloseHandle(process);
  return runs;
}

#else

using File = int;
constexpr File kNotOpened = -1;

intptr_t ToWord(File file) { return file; }
File ToFile(intptr_t word) { return static_cast<File>(word); }

int LastError() { return errno; }
std::string MessageOf(int error) { return std::strerror(error); }
bool IsForbidden(int error) { return error == EACCES || error == EPERM || error == EROFS; }

File OpenFile(const std::string& path, bool writable) {
  // No symbolic link: it would be a way to have a file elsewhere written over.
  const int flags = (writable ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW;
  int file;
  do {
    file = open(path.c_str(), flags, 0600);
  } while (file < 0 && errno == EINTR);
  return file;
}

File OpenDirectory(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  File file;
  do {
    file = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  } while (file < 0 && errno == EINTR);
  return file;
}
constexpr bool kKeepsLockFile = false;

// Not repeated after EINTR, which leaves the descriptor closed on Linux, and perhaps another thread's by then.
void CloseFile(File file) { close(file); }

// Of the opened file, not of the process: threads of one process lock one another out, and closing another descriptor
// of the file does not give the lock up, as it would with fcntl().
Taking TryLock(File file) {
  int failed;
  do {
    failed = flock(file, LOCK_EX | LOCK_NB);
  } while (failed != 0 && errno == EINTR);
  return failed == 0 ? Taking::kLocked : errno == EWOULDBLOCK ? Taking::kTaken : Taking::kFailed;
}

size_t ReadText(File file, char* text) {
  const ssize_t count = pread(file, text, kTextBytes, 0);
  return count > 0 ? static_cast<size_t>(count) : 0;
}

// A full disk is no reason to refuse the lock: the file then names no owner.
void WriteText(File file, const char* text) {
  [[maybe_unused]] const ssize_t count = pwrite(file, text, kTextBytes, 0);
}

uint64_t OwnPid() { return static_cast<uint64_t>(getpid()); }

bool IsAlive(uint64_t pid) { return kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM; }

#endif

// ---- what is the same ----

// How long a new owner is waited for that has not written its id yet.
constexpr int kTurns = 50;
constexpr uint32_t kTurnUs = 2000;

void WritePid(File file, uint64_t pid) {
  char text[kTextBytes];
  std::fill(std::begin(text), std::end(text), ' ');
  if (pid != 0) std::to_chars(std::begin(text), std::end(text), pid);
  text[kTextBytes - 1] = '\n';
  WriteText(file, text);
}

// 0: none.
uint64_t ReadPid(File file) {
  char text[kTextBytes];
  const size_t bytes = ReadText(file, text);
  uint64_t pid = 0;
  const auto [end, error] = std::from_chars(text, text + bytes, pid);
  // No system gives out larger ones, and kill() takes some of those for groups.
  return error == std::errc() && pid <= INT32_MAX ? pid : 0;
}

// What a lock file says that is not opened to be locked, and not made if it is not there.
uint64_t PidIn(const std::string& path) {
  const File file = OpenFile(path, false);
  if (file == kNotOpened) return 0;
  const uint64_t pid = ReadPid(file);
  CloseFile(file);
  return pid;
}

}  // namespace

OsLockFile::Answer OsLockFile::Acquire(const std::string& path) {
  CHECK(!held());
  // The directory first: its owner may have lost the file, if that was removed by hand.
  File directory = OpenDirectory(path);
  bool is_directory_taken = false;
  bool writable = true;
  File file = kNotOpened;
  uint64_t owner_pid = 0;
  const auto give_up = [&](Answer answer) {
    if (file != kNotOpened) CloseFile(file);
    if (directory != kNotOpened) CloseFile(directory);
    return answer;
  };
  for (int turn = 0; turn < kTurns; ++turn) {
    if (directory != kNotOpened && (turn == 0 || is_directory_taken)) {
      const Taking taking = TryLock(directory);
      is_directory_taken = taking == Taking::kTaken;
      if (taking == Taking::kFailed) {
        // A file system without such locks, such as NFS. The file has to do.
        CloseFile(directory);
        directory = kNotOpened;
      }
    }
    if (file == kNotOpened && !is_directory_taken) {
      file = OpenFile(path, writable);
      if (file == kNotOpened) {
        const int error = LastError();
        writable = false;
        if (IsForbidden(error)) file = OpenFile(path, writable);
        if (file == kNotOpened) return give_up({Result::kFailed, 0, MessageOf(error)});
      }
    }
    if (!is_directory_taken) {
      const Taking taking = TryLock(file);
      if (taking == Taking::kLocked) {
        if (writable) WritePid(file, OwnPid());
        file_ = ToWord(file);
        directory_ = directory == kNotOpened ? kNoFile : ToWord(directory);
        writable_ = writable;
        return {Result::kLocked, 0, {}};
      }
      if (taking == Taking::kFailed) return give_up({Result::kFailed, 0, MessageOf(LastError())});
    }
    // The id is that of a process that is gone, or missing: the new owner is about to write its own.
    owner_pid = file != kNotOpened ? ReadPid(file) : PidIn(path);
    if (owner_pid != 0 && IsAlive(owner_pid)) break;
    OsSleepUs(kTurnUs);
  }
  return give_up({Result::kTaken, owner_pid, {}});
}

bool OsLockFile::excludes_others() const { return directory_ != kNoFile || kKeepsLockFile; }

void OsLockFile::Release() {
  if (!held()) return;
  const File file = ToFile(file_);
  if (writable_) WritePid(file, 0);
  CloseFile(file);
  file_ = kNoFile;
  if (directory_ != kNoFile) CloseFile(ToFile(directory_));
  directory_ = kNoFile;
}

}  // namespace cairn
