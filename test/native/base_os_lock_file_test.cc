// The promises of base/os_lock_file.h: one holder, among threads as among processes, and none that outlives its owner.
#include "base/os_lock_file.h"

#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>

#include "test.h"

#if defined(_WIN32)
#include <process.h>
#else
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace cairn {
namespace {

using Result = OsLockFile::Result;

std::string ReadFile(const std::string& path) {
  std::string text;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return text;
  char buffer[256];
  text.assign(buffer, std::fread(buffer, 1, sizeof(buffer), file));
  std::fclose(file);
  return text;
}

void WriteFile(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return;
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
}

int OwnPid() {
#if defined(_WIN32)
  return _getpid();
#else
  return getpid();
#endif
}

// A file in a new directory, which is gone afterwards. Other processes run these tests in the same place.
struct LockFileTest {
  LockFileTest() {
    std::filesystem::remove_all(directory);
    std::filesystem::create_directory(directory);
  }
  ~LockFileTest() { std::filesystem::remove_all(directory); }
  const std::string directory = "lock_file_test_" + std::to_string(OwnPid());
  const std::string path = directory + "/lock";
};

TEST_F(LockFileTest, OneHolderAtATime) {
  OsLockFile first;
  ASSERT_TRUE(first.Acquire(path).result == Result::kLocked);
  EXPECT_TRUE(first.held());
  OsLockFile second;
  const OsLockFile::Answer answer = second.Acquire(path);
  EXPECT_TRUE(answer.result == Result::kTaken);
  EXPECT_FALSE(second.held());
  // What the file says is who has it.
  EXPECT_EQ(std::to_string(answer.owner_pid), ReadFile(path).substr(0, ReadFile(path).find(' ')));
  first.Release();
  first.Release();
  EXPECT_TRUE(second.Acquire(path).result == Result::kLocked);
}

TEST_F(LockFileTest, ThreadsOfOneProcessLockOneAnotherOut) {
  OsLockFile mine;
  ASSERT_TRUE(mine.Acquire(path).result == Result::kLocked);
  std::thread other([this] {
    OsLockFile theirs;
    EXPECT_TRUE(theirs.Acquire(path).result == Result::kTaken);
  });
  other.join();
  mine.Release();
  std::thread later([this] {
    OsLockFile theirs;
    EXPECT_TRUE(theirs.Acquire(path).result == Result::kLocked);
  });
  later.join();
}

TEST_F(LockFileTest, NamesNobodyOnceItIsReleasedAndIsNeverRemoved) {
  for (int i = 0; i < 3; ++i) {
    OsLockFile lock;
    ASSERT_TRUE(lock.Acquire(path).result == Result::kLocked);
    EXPECT_EQ(ReadFile(path).size(), size_t{24});
    lock.Release();
    EXPECT_EQ(ReadFile(path), std::string(23, ' ') + "\n");
  }
}

TEST_F(LockFileTest, WhatTheFileSaysIsNoLock) {
  for (const char* text : {"", "1\n", "no number", "99999999999999999999999", "-1"}) {
    WriteFile(path, text);
    OsLockFile lock;
    EXPECT_TRUE(lock.Acquire(path).result == Result::kLocked) << text;
  }
}

TEST_F(LockFileTest, AFileThatNamesNobodyIsTakenByNobodyKnown) {
  OsLockFile lock;
  ASSERT_TRUE(lock.Acquire(path).result == Result::kLocked);
  WriteFile(path, "gibberish");
  OsLockFile other;
  const OsLockFile::Answer answer = other.Acquire(path);
  EXPECT_TRUE(answer.result == Result::kTaken);
  EXPECT_EQ(answer.owner_pid, uint64_t{0});
}

TEST_F(LockFileTest, AFolderThatIsNotThereIsAFailureWithTheSystemsWords) {
  OsLockFile lock;
  const OsLockFile::Answer answer = lock.Acquire("no_such_folder_of_a_test/" + path);
  EXPECT_TRUE(answer.result == Result::kFailed);
  EXPECT_FALSE(answer.message.empty());
  EXPECT_FALSE(lock.held());
}

#if !defined(_WIN32)

TEST_F(LockFileTest, AProcessThatIsKilledGivesItUp) {
  int taken[2];
  ASSERT_TRUE(pipe(taken) == 0);
  const pid_t child = fork();
  if (child == 0) {
    OsLockFile lock;
    const bool is_locked = lock.Acquire(path).result == Result::kLocked;
    [[maybe_unused]] const ssize_t written = write(taken[1], is_locked ? "y" : "n", 1);
    for (;;) pause();
  }
  char said = 0;
  ASSERT_TRUE(read(taken[0], &said, 1) == 1);
  EXPECT_EQ(said, 'y');
  {
    OsLockFile lock;
    const OsLockFile::Answer answer = lock.Acquire(path);
    EXPECT_TRUE(answer.result == Result::kTaken);
    EXPECT_EQ(answer.owner_pid, static_cast<uint64_t>(child));
  }
  ASSERT_TRUE(kill(child, SIGKILL) == 0);
  ASSERT_TRUE(waitpid(child, nullptr, 0) == child);
  OsLockFile lock;
  EXPECT_TRUE(lock.Acquire(path).result == Result::kLocked);
  close(taken[0]);
  close(taken[1]);
}

TEST_F(LockFileTest, IsForItsUserOnlyAndFollowsNoLink) {
  OsLockFile lock;
  ASSERT_TRUE(lock.Acquire(path).result == Result::kLocked);
  struct stat status;
  ASSERT_TRUE(stat(path.c_str(), &status) == 0);
  EXPECT_EQ(status.st_mode & 0177, mode_t{0});
  const std::string link = path + ".link";
  ASSERT_TRUE(symlink(path.c_str(), link.c_str()) == 0);
  lock.Release();
  OsLockFile other;
  EXPECT_TRUE(other.Acquire(link).result == Result::kFailed);
}

TEST_F(LockFileTest, AFileThatIsRemovedLetsNobodyIn) {
  OsLockFile lock;
  ASSERT_TRUE(lock.Acquire(path).result == Result::kLocked);
  if (!lock.excludes_others()) return;  // A file system that locks no directories.
  ASSERT_TRUE(unlink(path.c_str()) == 0);
  OsLockFile other;
  EXPECT_TRUE(other.Acquire(path).result == Result::kTaken);
  EXPECT_FALSE(std::filesystem::exists(path));
  lock.Release();
  EXPECT_TRUE(other.Acquire(path).result == Result::kLocked);
}

TEST_F(LockFileTest, ADirectoryThatIsRenamedIsLockedUnderItsNewName) {
  OsLockFile lock;
  ASSERT_TRUE(lock.Acquire(path).result == Result::kLocked);
  const std::string moved = directory + "_moved";
  std::filesystem::remove_all(moved);
  std::filesystem::rename(directory, moved);
  std::filesystem::create_directory(directory);
  OsLockFile other;
  EXPECT_TRUE(other.Acquire(moved + "/lock").result == Result::kTaken);
  EXPECT_TRUE(other.Acquire(path).result == Result::kLocked);
  std::filesystem::remove_all(moved);
}

#endif

}  // namespace
}  // namespace cairn
