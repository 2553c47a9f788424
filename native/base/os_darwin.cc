#if defined(__APPLE__)

#include <dlfcn.h>
#include <mach/mach_time.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "base/os.h"

namespace cairn {

// ---- memory ----

namespace {

void* Map(void* address, size_t bytes, int flags) {
  return mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE | flags, /*fd=*/-1,
              /*offset=*/0);
}

}  // namespace

void* OsReserve(size_t bytes) {
  void* address = Map(nullptr, bytes, 0);
  return address == MAP_FAILED ? nullptr : address;
}

bool OsCommit(void*, size_t) { return true; }

// madvise would only promise to take the pages when memory is short, and they would count as ours until then. A fresh
// mapping in the same place gives them back at once.
void OsDecommit(void* address, size_t bytes) { CHECK(Map(address, bytes, MAP_FIXED) == address); }

void OsDiscard(void* address, size_t bytes) { OsDecommit(address, bytes); }

void OsRelease(void* address, size_t bytes) { CHECK(munmap(address, bytes) == 0); }

void OsAdviseHugePages(void*, size_t) {}

void OsPopulate(void*, size_t) {}

size_t OsPageBytes() {
  static const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return page_bytes;
}

void OsRandom(void* data, size_t bytes) { arc4random_buf(data, bytes); }

// ---- processors and memory of this process ----

unsigned OsCpuCount() {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 ? static_cast<unsigned>(count) : 1;
}

uint64_t OsMemoryBytes() {
  uint64_t bytes = 0;
  size_t size = sizeof(bytes);
  CHECK(sysctlbyname("hw.memsize", &bytes, &size, nullptr, 0) == 0);
  return bytes;
}

// ---- clocks ----

uint64_t OsBootMs() {
  static const mach_timebase_info_data_t timebase = [] {
    mach_timebase_info_data_t info;
    CHECK(mach_timebase_info(&info) == 0);
    return info;
  }();
  // Ticks of 41.67 ns (numer 125, denom 3) or 1 ns: the product wraps after 195 years or more.
  return mach_continuous_time() * timebase.numer / timebase.denom / 1'000'000;
}

int64_t OsWallMs() {
  timespec time;
  CHECK(clock_gettime(CLOCK_REALTIME, &time) == 0);
  return static_cast<int64_t>(time.tv_sec) * 1000 + time.tv_nsec / 1'000'000;
}

// ---- waiting on a word ----
//
// The kernel's own wait on an address is public since macOS 14.4 only. Here a fixed number of condition variables serve
// all words; a word maps to one by its address. Sleepers on other words of the same variable wake up too, which they
// are prepared for. Words that another process changes are looked at again every kWaitSliceMs.

namespace {

constexpr int kWaitSliceMs = 100;
constexpr size_t kParkingCount = 64;

struct Parking {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
};

// Constant-initialised and never destroyed: threads may wait while the process ends.
Parking parkings[kParkingCount];

Parking& ParkingOf(const void* word) {
  auto address = reinterpret_cast<uintptr_t>(word);
  return parkings[(address >> 2 ^ address >> 8 ^ address >> 14) % kParkingCount];
}

}  // namespace

void OsWaitOnWord(const std::atomic<uint32_t>* word, uint32_t expected, int timeout_ms) {
  int slice_ms = timeout_ms < 0 ? kWaitSliceMs : std::min(timeout_ms, kWaitSliceMs);
  timespec timeout = {slice_ms / 1000, slice_ms % 1000 * 1'000'000L};
  Parking& parking = ParkingOf(word);
  CHECK(pthread_mutex_lock(&parking.mutex) == 0);
  // Checked under the mutex that OsWakeWord takes after the change: a change that we miss here finds us asleep.
  if (word->load(std::memory_order_seq_cst) == expected) {
    pthread_cond_timedwait_relative_np(&parking.changed, &parking.mutex, &timeout);
  }
  CHECK(pthread_mutex_unlock(&parking.mutex) == 0);
}

void OsWakeWord(std::atomic<uint32_t>* word, bool) {
  Parking& parking = ParkingOf(word);
  CHECK(pthread_mutex_lock(&parking.mutex) == 0);
  // All, even for one: who sleeps here may wait for another word.
  pthread_cond_broadcast(&parking.changed);
  CHECK(pthread_mutex_unlock(&parking.mutex) == 0);
}

// ---- what a lock needs ----

void OsLightenUnlock() {}

bool os_internal::InterruptAll() { return true; }

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
  pthread_setname_np(start.name);
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
  return reinterpret_cast<OsThread>(thread);
}

void OsJoinThread(OsThread thread) { CHECK(pthread_join(reinterpret_cast<pthread_t>(thread), nullptr) == 0); }

// ---- process ----

// A handle that is never closed would do; the flag says why it is not.
void OsKeepLoaded(void (*code)()) {
  Dl_info library;
  if (dladdr(reinterpret_cast<const void*>(code), &library) == 0) return;
  dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

void OsCpuTimes(uint64_t* user_us, uint64_t* system_us) {
  rusage usage;
  CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  *user_us = static_cast<uint64_t>(usage.ru_utime.tv_sec) * 1000000 + static_cast<uint64_t>(usage.ru_utime.tv_usec);
  *system_us = static_cast<uint64_t>(usage.ru_stime.tv_sec) * 1000000 + static_cast<uint64_t>(usage.ru_stime.tv_usec);
}

}  // namespace cairn

#endif  // defined(__APPLE__)
