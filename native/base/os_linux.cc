#if defined(__linux__)

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/cgroup.h"
#include "base/check.h"
#include "base/os.h"

namespace cairn {

// ---- memory ----

void* OsReserve(size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, /*fd=*/-1,
                       /*offset=*/0);
  return address == MAP_FAILED ? nullptr : address;
}

bool OsCommit(void*, size_t) { return true; }

// Fails for locked memory (mlockall) only: then the range keeps its memory, and only the statistics are wrong.
void OsDecommit(void* address, size_t bytes) { madvise(address, bytes, MADV_DONTNEED); }

void OsDiscard(void* address, size_t bytes) { OsDecommit(address, bytes); }

void OsRelease(void* address, size_t bytes) { CHECK(munmap(address, bytes) == 0); }

void OsAdviseHugePages(void* address, size_t bytes) { madvise(address, bytes, MADV_HUGEPAGE); }

// By touching it. MADV_POPULATE_WRITE would do it too, but holds the lock of the whole address space meanwhile, which
// every other thread needs that maps memory; a fault takes that of the one mapping.
NO_SANITIZE_THREAD void OsPopulate(void* address, size_t bytes) {
  char* const begin = static_cast<char*>(address);
  // Atomically adds 0 to a byte of each page, so that no write of another thread is undone. The compiler must not know
  // that it is 0: it would only read.
  char nothing = 0;
  asm volatile("" : "+r"(nothing));
  for (size_t at = 0; at < bytes; at += OsPageBytes()) __atomic_fetch_add(begin + at, nothing, __ATOMIC_RELAXED);
}

size_t OsPageBytes() {
  static const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return page_bytes;
}

void OsRandom(void* data, size_t bytes) {
  char* out = static_cast<char*>(data);
  while (bytes > 0) {
    ssize_t count = getrandom(out, bytes, 0);
    if (count < 0 && errno == EINTR) continue;
    // Kernels since 3.17 have it; a sandbox that forbids it leaves us without secrets, so there is no going on.
    CHECK(count > 0);
    out += count;
    bytes -= static_cast<size_t>(count);
  }
}

// ---- processors and memory of this process ----

namespace {

// The contents of a small file of /proc or /sys; empty if it cannot be read.
std::string ReadSmallFile(const std::string& path) {
  std::string text;
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[4096];
  for (;;) {
    ssize_t count = read(fd, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    text.append(buffer, static_cast<size_t>(count));
  }
  close(fd);
  return text;
}

// Takes the next word off `text`; words end at a space or a line feed.
std::string_view TakeWord(std::string_view* text) {
  size_t start = std::min(text->find_first_not_of(" \n"), text->size());
  size_t end = std::min(text->find_first_of(" \n", start), text->size());
  std::string_view word = text->substr(start, end - start);
  text->remove_prefix(end);
  return word;
}

// False for "max", "-1" and whatever else is not a natural number.
bool ParseNumber(std::string_view word, uint64_t* number) {
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), *number);
  return error == std::errc() && end == word.data() + word.size();
}

bool ReadNumber(const std::string& path, uint64_t* number) {
  std::string text = ReadSmallFile(path);
  std::string_view rest = text;
  return ParseNumber(TakeWord(&rest), number);
}

void LimitCpu(uint64_t quota_us, uint64_t period_us, CgroupLimits* limits) {
  if (period_us == 0) return;
  uint64_t count = quota_us / period_us + (quota_us % period_us != 0);
  limits->cpu_count = std::min(limits->cpu_count, std::max<uint64_t>(count, 1));
}

void ReadUnified(const std::string& folder, CgroupLimits* limits) {
  uint64_t number;
  if (ReadNumber(folder + "/memory.max", &number)) limits->memory_bytes = std::min(limits->memory_bytes, number);
  std::string text = ReadSmallFile(folder + "/cpu.max");
  std::string_view rest = text;
  uint64_t quota_us, period_us;
  if (ParseNumber(TakeWord(&rest), &quota_us) && ParseNumber(TakeWord(&rest), &period_us)) {
    LimitCpu(quota_us, period_us, limits);
  }
}

void ReadMemoryV1(const std::string& folder, CgroupLimits* limits) {
  uint64_t number;  // without a limit it is 2^63 less a page, which is larger than any memory
  if (ReadNumber(folder + "/memory.limit_in_bytes", &number)) {
    limits->memory_bytes = std::min(limits->memory_bytes, number);
  }
}

void ReadCpuV1(const std::string& folder, CgroupLimits* limits) {
  uint64_t quota_us, period_us;
  if (ReadNumber(folder + "/cpu.cfs_quota_us", &quota_us) && ReadNumber(folder + "/cpu.cfs_period_us", &period_us)) {
    LimitCpu(quota_us, period_us, limits);
  }
}

// Calls `read` for the group at `path` and its ancestors up to the root of the mount.
template <typename Read>
void ForGroupAndAncestors(const std::string& mount, std::string_view path, const Read& read) {
  for (;;) {
    while (path.ends_with('/')) path.remove_suffix(1);
    read(mount + std::string(path));
    if (path.empty()) return;
    size_t slash = path.rfind('/');
    path = path.substr(0, slash == std::string_view::npos ? 0 : slash);
  }
}

}  // namespace

CgroupLimits ReadCgroupLimits(const char* membership_file, const char* mount) {
  CgroupLimits limits;
  std::string text = ReadSmallFile(membership_file);
  std::string_view rest = text;
  const std::string root = mount;
  while (!rest.empty()) {
    size_t line_end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, line_end);
    rest.remove_prefix(std::min(line_end + 1, rest.size()));
    // <hierarchy>:<controllers separated by commas, none for version 2>:<path>
    size_t first = line.find(':');
    if (first == std::string_view::npos) continue;
    size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    std::string_view controllers = line.substr(first + 1, second - first - 1);
    std::string_view path = line.substr(second + 1);
    if (controllers.empty()) {
      auto read = [&](const std::string& folder) { ReadUnified(folder, &limits); };
      ForGroupAndAncestors(root, path, read);
      continue;
    }
    // Version 1 mounts a hierarchy under the list of its controllers, in this or another order, with a link per name.
    while (!controllers.empty()) {
      size_t comma = std::min(controllers.find(','), controllers.size());
      std::string_view controller = controllers.substr(0, comma);
      controllers.remove_prefix(std::min(comma + 1, controllers.size()));
      const std::string hierarchy = root + "/" + std::string(controller);
      if (controller == "memory") {
        ForGroupAndAncestors(hierarchy, path, [&](const std::string& folder) { ReadMemoryV1(folder, &limits); });
      } else if (controller == "cpu") {
        ForGroupAndAncestors(hierarchy, path, [&](const std::string& folder) { ReadCpuV1(folder, &limits); });
      }
    }
  }
  return limits;
}

namespace {

CgroupLimits ReadOwnCgroupLimits() { return ReadCgroupLimits("/proc/self/cgroup", "/sys/fs/cgroup"); }

// Processors that the scheduler may put this thread on; machines can have more than cpu_set_t has bits.
uint64_t AffinityCount() {
  std::vector<unsigned long> mask(16);
  while (mask.size() <= 4096) {
    long bytes = syscall(SYS_sched_getaffinity, 0, mask.size() * sizeof(mask[0]), mask.data());
    if (bytes >= 0) {
      uint64_t count = 0;
      for (unsigned long word : mask) count += static_cast<uint64_t>(std::popcount(word));
      return count;
    }
    if (errno != EINVAL) break;
    mask.resize(mask.size() * 4);
  }
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 ? static_cast<uint64_t>(count) : 1;
}

}  // namespace

unsigned OsCpuCount() {
  uint64_t count = std::min(AffinityCount(), ReadOwnCgroupLimits().cpu_count);
  return static_cast<unsigned>(std::clamp<uint64_t>(count, 1, UINT_MAX));
}

uint64_t OsMemoryBytes() {
  uint64_t bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * OsPageBytes();
  return std::min(bytes, ReadOwnCgroupLimits().memory_bytes);
}

// ---- clocks ----

namespace {

int64_t ReadMs(clockid_t clock) {
  timespec time;
  CHECK(clock_gettime(clock, &time) == 0);
  return static_cast<int64_t>(time.tv_sec) * 1000 + time.tv_nsec / 1'000'000;
}

}  // namespace

uint64_t OsBootMs() { return static_cast<uint64_t>(ReadMs(CLOCK_BOOTTIME)); }

int64_t OsWallMs() { return ReadMs(CLOCK_REALTIME); }

// ---- waiting on a word ----

// Without FUTEX_PRIVATE_FLAG, as the word may be shared with another process. Every reason to return is a good one
// (woken, timed out, word changed, signal): callers look at the word again.
void OsWaitOnWord(const std::atomic<uint32_t>* word, uint32_t expected, int timeout_ms) {
  // What SYS_futex takes, whatever the C library's time_t is.
  struct {
    long seconds;
    long nanoseconds;
  } timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1'000'000L};
  syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout_ms < 0 ? nullptr : &timeout, nullptr, 0);
}

void OsWakeWord(std::atomic<uint32_t>* word, bool all) {
  syscall(SYS_futex, word, FUTEX_WAKE, all ? INT_MAX : 1, nullptr, nullptr, 0);
}

// ---- what a lock needs ----

namespace {

// Of linux/membarrier.h, which may be older than the kernel. Since 4.16; a sandbox may have none of it.
constexpr int kGlobalExpedited = 1 << 1;
constexpr int kRegisterGlobalExpedited = 1 << 2;

bool Membarrier(int command) {
#if defined(SYS_membarrier)
  return syscall(SYS_membarrier, command, 0, 0) == 0;
#else
  (void)command;
  return false;
#endif
}

}  // namespace

// Registering waits until every processor has passed through the scheduler. The others, of processes that have
// registered, are interrupted from then on, also by processes that have not.
void OsLightenUnlock() {
  if (Membarrier(kRegisterGlobalExpedited) && Membarrier(kGlobalExpedited)) os_internal::unlock_is_light.store(true);
}

// Where it always fails, OsLightenUnlock() has failed too. It may begin to, in a process that puts itself into a
// sandbox, or for want of memory.
bool os_internal::InterruptAll() {
  static std::atomic<bool> refused{false};
  if (Membarrier(kGlobalExpedited)) return true;
  if (unlock_is_light.exchange(false)) refused.store(true);
  return !refused.load();
}

// ---- threads ----

namespace {

// Our threads run loops of ours with flat call stacks. Only pages that are touched take memory.
constexpr size_t kStackBytes = 512 * 1024;

struct ThreadStart {
  char name[16];
  void (*run)(void*);
  void* argument;
};

void* RunThread(void* raw) {
  ThreadStart start = *static_cast<ThreadStart*>(raw);
  delete static_cast<ThreadStart*>(raw);
  pthread_setname_np(pthread_self(), start.name);
  start.run(start.argument);
  return nullptr;
}

}  // namespace

OsThread OsStartThread(const char* name, void (*run)(void*), void* argument) {
  // The new thread inherits the mask. The signals that a thread raises by its own fault stay open: blocked, they would
  // end the process past the handlers that report a crash.
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&blocked, fault);
  auto* start = new ThreadStart{{}, run, argument};
  std::snprintf(start->name, sizeof(start->name), "%s", name);

  pthread_attr_t attributes;
  CHECK(pthread_attr_init(&attributes) == 0);
  CHECK(pthread_attr_setstacksize(&attributes, kStackBytes) == 0);
  CHECK(pthread_sigmask(SIG_SETMASK, &blocked, &before) == 0);
  pthread_t thread;
  int error = pthread_create(&thread, &attributes, RunThread, start);
  CHECK(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    delete start;
    return 0;
  }
  return std::bit_cast<OsThread>(thread);
}

void OsJoinThread(OsThread thread) { CHECK(pthread_join(std::bit_cast<pthread_t>(thread), nullptr) == 0); }

// ---- process ----

void OsKeepLoaded(void (*)()) {}

void OsCpuTimes(uint64_t* user_us, uint64_t* system_us) {
  rusage usage;
  CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  *user_us = static_cast<uint64_t>(usage.ru_utime.tv_sec) * 1000000 + static_cast<uint64_t>(usage.ru_utime.tv_usec);
  *system_us = static_cast<uint64_t>(usage.ru_stime.tv_sec) * 1000000 + static_cast<uint64_t>(usage.ru_stime.tv_usec);
}

}  // namespace cairn

#endif  // defined(__linux__)
