// The promises of base/os.h and base/clock.h, on whatever system this runs. The tests of the lock and of the wait prove
// by ending: a lost wake-up hangs them. Run under the thread sanitizer, the lock tests also prove that what one holder
// wrote the next one sees, as the counters are plain integers.
#include "base/os.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "test.h"

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#endif
#if defined(__linux__)
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#endif

namespace cairn {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

TEST(OsMemory, ReservedMemoryIsUsableOnceCommitted) {
  const size_t page_bytes = OsPageBytes();
  ASSERT_TRUE(page_bytes >= 4096 && (page_bytes & (page_bytes - 1)) == 0);
  // Far more than is ever touched.
  const size_t bytes = size_t{8} << 30;
  auto* memory = static_cast<char*>(OsReserve(bytes));
  ASSERT_TRUE(memory != nullptr);
  for (size_t offset : {size_t{0}, bytes / 2, bytes - kMiB}) {
    ASSERT_TRUE(OsCommit(memory + offset, kMiB));
    std::memset(memory + offset, 0x5a, kMiB);
    ASSERT_TRUE(OsCommit(memory + offset, kMiB)) << "again";
    EXPECT_EQ(memory[offset + kMiB - 1], 0x5a) << "a second commit keeps the contents";
    OsDecommit(memory + offset, kMiB);
    OsDecommit(memory + offset, kMiB);
    ASSERT_TRUE(OsCommit(memory + offset, kMiB)) << "after decommit";
    OsAdviseHugePages(memory + offset, kMiB);
    std::memset(memory + offset, 0x33, kMiB);
    EXPECT_EQ(memory[offset + kMiB / 2], 0x33);
  }
  OsRelease(memory, bytes);
}

TEST(OsMemory, ReservingMoreThanTheAddressSpaceIsRefused) {
  EXPECT_TRUE(OsReserve(size_t{1} << (sizeof(size_t) * 8 - 2)) == nullptr);
}

#if defined(__linux__)
size_t ResidentBytes() {
  unsigned long total = 0, resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%lu %lu", &total, &resident) != 2) resident = 0;
  if (file != nullptr) std::fclose(file);
  return resident * OsPageBytes();
}

TEST(OsMemory, DecommitGivesMemoryBackAtOnce) {
  constexpr size_t kBytes = 64 * kMiB;
  auto* memory = static_cast<char*>(OsReserve(kBytes));
  ASSERT_TRUE(memory != nullptr);
  const size_t before = ResidentBytes();
  std::memset(memory, 1, kBytes);
  const size_t touched = ResidentBytes();
  EXPECT_GT(touched, before + kBytes * 3 / 4);
  OsDecommit(memory, kBytes);
  EXPECT_LT(ResidentBytes(), touched - kBytes * 3 / 4);
  OsRelease(memory, kBytes);
}
#endif

TEST(OsMachine, SaysWhatThisProcessMayUse) {
  EXPECT_GE(OsCpuCount(), 1u);
  EXPECT_LE(OsCpuCount(), 1u << 16);
  EXPECT_GE(OsMemoryBytes(), 16 * kMiB);
  EXPECT_LT(OsMemoryBytes(), uint64_t{1} << 50);
}

TEST(OsRandom, FillsExactlyTheBytes) {
  // Over 40 rounds a byte inside stays as it was in all of them with probability 2^-320.
  for (size_t size : {0, 1, 7, 8, 33, 255, 256, 257, 1000}) {
    std::vector<bool> changed(size);
    for (int round = 0; round < 40; ++round) {
      std::string bytes(size + 16, '\x5a');
      OsRandom(bytes.data() + 8, size);
      for (size_t i = 0; i < size; ++i) changed[i] = changed[i] || bytes[8 + i] != '\x5a';
      EXPECT_EQ(bytes.substr(0, 8), std::string(8, '\x5a'));
      EXPECT_EQ(bytes.substr(8 + size), std::string(8, '\x5a'));
    }
    EXPECT_TRUE(std::all_of(changed.begin(), changed.end(), [](bool was) { return was; })) << size << " bytes";
  }
}

// ---- clocks ----

TEST(Clock, BootClockNeverGoesBackAndMovesOn) {
  const uint64_t start = ReadBootMs();
  uint64_t last = start;
  while (last < start + 3) {
    const uint64_t now = ReadBootMs();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(Clock, WallClockIsUnixTimeInMilliseconds) {
  const auto system_ms = [] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  // Again if the clock was set back in between.
  for (;;) {
    const int64_t before = system_ms();
    const Now now = ReadClock();
    const int64_t after = system_ms();
    if (after < before) continue;
    EXPECT_GE(now.wall_ms, before - 1);
    EXPECT_LE(now.wall_ms, after + 1);
    break;
  }
}

TEST(Clock, BothClocksAreReadAtOneMoment) {
  const uint64_t before = ReadBootMs();
  const Now now = ReadClock();
  const uint64_t after = ReadBootMs();
  EXPECT_GE(now.boot_ms, before);
  EXPECT_LE(now.boot_ms, after);
  EXPECT_EQ(static_cast<int64_t>(now.boot_ms) + now.WallOffset(), now.wall_ms);
  EXPECT_EQ((Now{.boot_ms = 7, .wall_ms = 5}.WallOffset()), -2);
}

// ---- waiting on a word ----

TEST(OsWait, ReturnsAtOnceIfTheWordIsAnother) {
  std::atomic<uint32_t> word{1};
  OsWaitOnWord(&word, 0, -1);
  OsWaitOnWord(&word, 2, -1);
}

TEST(OsWait, EndsWithItsTimeout) {
  std::atomic<uint32_t> word{1};
  OsWaitOnWord(&word, 1, 0);
  OsWaitOnWord(&word, 1, 1);
  OsWaitOnWord(&word, 1, 20);
}

TEST(OsWait, WakingWithoutSleepersIsHarmless) {
  std::atomic<uint32_t> word{1};
  OsWakeWord(&word, false);
  OsWakeWord(&word, true);
}

TEST(OsWait, TwoThreadsPassAWordToAndFro) {
  constexpr uint32_t kTurns = 2000;
  std::atomic<uint32_t> turn{0};
  auto play = [&turn](uint32_t mine) {
    for (uint32_t next = mine; next < kTurns; next += 2) {
      for (uint32_t now = turn.load(); now != next; now = turn.load()) OsWaitOnWord(&turn, now, -1);
      turn.store(next + 1);
      OsWakeWord(&turn, false);
    }
  };
  std::thread other(play, 1);
  play(0);
  other.join();
  EXPECT_EQ(turn.load(), kTurns);
}

TEST(OsWait, AllSleepersWakeUp) {
  constexpr int kThreads = 8;
  constexpr uint32_t kRounds = 50;
  std::atomic<uint32_t> round{0}, arrived{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (uint32_t r = 0; r < kRounds; ++r) {
        arrived.fetch_add(1);
        OsWakeWord(&arrived, false);
        while (round.load() == r) OsWaitOnWord(&round, r, -1);
      }
    });
  }
  for (uint32_t r = 0; r < kRounds; ++r) {
    for (uint32_t now = arrived.load(); now != kThreads * (r + 1); now = arrived.load()) {
      OsWaitOnWord(&arrived, now, -1);
    }
    round.store(r + 1);
    OsWakeWord(&round, true);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(arrived.load(), kThreads * kRounds);
}

// ---- the lock ----

static_assert(sizeof(OsLock) == 8 && std::is_trivially_destructible_v<OsLock>);

TEST(OsLock, OneThreadAtATimeHoldsIt) {
  struct {
    OsLock lock;
    uint64_t first = 0;   // guarded by lock
    uint64_t second = 0;  // guarded by lock; equal to first whenever the lock is free
  } shared;
  constexpr int kThreads = 4;
  constexpr uint64_t kTurns = 20000;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&shared, i] {
      for (uint64_t turn = 0; turn < kTurns; ++turn) {
        OsLockGuard guard(&shared.lock);
        EXPECT_EQ(shared.first, shared.second) << "two threads hold the lock";
        ++shared.first;
        // Now and then the holder loses its processor, so that the others go to sleep.
        if (turn % 1000 == static_cast<uint64_t>(i)) std::this_thread::yield();
        ++shared.second;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shared.first, kThreads * kTurns);
  EXPECT_EQ(shared.second, kThreads * kTurns);
}

// Waiters go to sleep as often as they can, while unlocking becomes light. Where a wake-up is lost, this never ends.
TEST(OsLock, NoSleeperIsForgotten) {
  for (int round = 0; round < 2; ++round) {
    struct {
      OsLock lock;
      uint64_t count = 0;  // guarded by lock
    } shared;
    constexpr int kThreads = 3;
    constexpr uint64_t kTurns = 30000;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&shared] {
        for (uint64_t turn = 0; turn < kTurns; ++turn) {
          OsLockGuard guard(&shared.lock);
          ++shared.count;
          // Held for longer than anybody spins, now and then.
          if (turn % 64 == 0) std::this_thread::yield();
        }
      });
    }
    if (round == 0) OsLightenUnlock();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(shared.count, kThreads * kTurns);
  }
}

#if defined(__linux__)
// In a child process, as there is no way back from a filter.
TEST(OsLock, ASandboxThatRefusesTheInterruptEndsLightUnlocks) NO_THREAD_SAFETY_ANALYSIS {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Ends a test that would hang.
    alarm(60);
    OsLightenUnlock();
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{sizeof(filter) / sizeof(filter[0]), filter};
    // Where there is no membarrier, or no filter, there is nothing to be seen.
    if (!os_internal::unlock_is_light.load() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
      _exit(0);
    }
    OsLock lock;
    lock.Lock();
    std::thread sleeper([&lock]() NO_THREAD_SAFETY_ANALYSIS {
      lock.Lock();
      lock.Unlock();
    });
    while (os_internal::unlock_is_light.load()) std::this_thread::yield();
    lock.Unlock();
    sleeper.join();
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}
#endif

TEST(OsLock, TryLockDoesNotWait) NO_THREAD_SAFETY_ANALYSIS {
  OsLock lock;
  ASSERT_TRUE(lock.TryLock());
  EXPECT_FALSE(lock.TryLock());
  std::thread([&lock]() NO_THREAD_SAFETY_ANALYSIS { EXPECT_FALSE(lock.TryLock()); }).join();
  lock.Unlock();
  std::thread([&lock]() NO_THREAD_SAFETY_ANALYSIS {
    EXPECT_TRUE(lock.TryLock());
    lock.Unlock();
  }).join();
  EXPECT_TRUE(lock.TryLock());
  lock.Unlock();
}

TEST(OsLock, SleepersGetItOneAfterTheOther) NO_THREAD_SAFETY_ANALYSIS {
  constexpr int kThreads = 6;
  OsLock lock;
  int holders = 0;  // guarded by lock
  std::atomic<int> coming{0};
  lock.Lock();
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      coming.fetch_add(1);
      OsLockGuard guard(&lock);
      ++holders;
    });
  }
  // All of them are at the lock or about to be, and long enough for some to have stopped spinning.
  while (coming.load() != kThreads) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_EQ(holders, 0);
  lock.Unlock();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(holders, kThreads);
  EXPECT_TRUE(lock.TryLock());
  lock.Unlock();
}

#if defined(__linux__)
// Memory of zeros shared by two processes: neither constructs the lock.
TEST(OsLock, WorksBetweenProcesses) {
  struct Shared {
    OsLock lock;
    volatile uint64_t count;
  };
  void* memory = mmap(nullptr, OsPageBytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_TRUE(memory != MAP_FAILED);
  auto* shared = static_cast<Shared*>(memory);
  constexpr uint64_t kTurns = 100000;
  auto work = [shared] {
    for (uint64_t turn = 0; turn < kTurns; ++turn) {
      OsLockGuard guard(&shared->lock);
      const uint64_t count = shared->count;
      if (turn % 5000 == 0) std::this_thread::yield();
      shared->count = count + 1;
    }
  };
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    work();
    _exit(0);
  }
  work();
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(shared->count, 2 * kTurns);
  munmap(memory, OsPageBytes());
}
#endif

// ---- threads ----

TEST(OsThread, RunsWithItsArgumentAndCanBeJoined) {
  std::atomic<int> ran{0};
  std::vector<OsThread> threads;
  for (int i = 0; i < 10; ++i) {
    threads.push_back(OsStartThread(
        "cairn-test", [](void* argument) { static_cast<std::atomic<int>*>(argument)->fetch_add(1); }, &ran));
    ASSERT_NE(threads.back(), 0u);
  }
  for (OsThread thread : threads) OsJoinThread(thread);
  EXPECT_EQ(ran.load(), 10);
}

#if !defined(_WIN32)
TEST(OsThread, HasItsNameAndBlocksSignals) {
  struct Seen {
    char name[32] = {};
    sigset_t mask;
  };
  sigset_t before, after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  for (const char* name : {"cairn-short", "cairn-a-name-too-long"}) {
    Seen seen;
    const OsThread thread = OsStartThread(
        name,
        [](void* argument) {
          auto* seen = static_cast<Seen*>(argument);
          pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
          pthread_sigmask(SIG_SETMASK, nullptr, &seen->mask);
        },
        &seen);
    ASSERT_NE(thread, 0u);
    OsJoinThread(thread);
    EXPECT_EQ(std::string(seen.name), std::string(name).substr(0, 15));
    for (int blocked : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2, SIGCHLD, SIGALRM, SIGPROF}) {
      EXPECT_EQ(sigismember(&seen.mask, blocked), 1) << "signal " << blocked;
    }
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
      EXPECT_EQ(sigismember(&seen.mask, fault), 0) << "signal " << fault;
    }
  }
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    EXPECT_EQ(sigismember(&before, signal), sigismember(&after, signal)) << "the caller's mask is as it was";
  }
}
#endif

}  // namespace
}  // namespace cairn
