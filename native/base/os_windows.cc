#if defined(_WIN32)

#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
// After windows.h, which declares what they need.
#include <bcrypt.h>
#include <process.h>

#include <algorithm>
#include <bit>
#include <climits>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "base/os.h"

namespace cairn {

// ---- memory ----

void* OsReserve(size_t bytes) { return VirtualAlloc(nullptr, bytes, MEM_RESERVE, PAGE_READWRITE); }

bool OsCommit(void* address, size_t bytes) {
  return VirtualAlloc(address, bytes, MEM_COMMIT, PAGE_READWRITE) != nullptr;
}

void OsDecommit(void* address, size_t bytes) { CHECK(VirtualFree(address, bytes, MEM_DECOMMIT)); }

// The range stays committed, so that using it again cannot fail; the pages lose their contents, and by unlocking what
// is not locked they leave the working set.
void OsDiscard(void* address, size_t bytes) {
  if (VirtualAlloc(address, bytes, MEM_RESET, PAGE_READWRITE) != nullptr) VirtualUnlock(address, bytes);
}

void OsRelease(void* address, size_t) { CHECK(VirtualFree(address, 0, MEM_RELEASE)); }

// Large pages would have to be locked in memory and need a privilege.
void OsAdviseHugePages(void*, size_t) {}

void OsPopulate(void*, size_t) {}

size_t OsPageBytes() {
  static const size_t page_bytes = [] {
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return static_cast<size_t>(info.dwPageSize);
  }();
  return page_bytes;
}

void OsRandom(void* data, size_t bytes) {
  auto* out = static_cast<unsigned char*>(data);
  while (bytes > 0) {
    auto count = static_cast<ULONG>(std::min<size_t>(bytes, 1 << 20));
    CHECK(BCryptGenRandom(nullptr, out, count, BCRYPT_USE_SYSTEM_PREFERRED_RNG) == 0);
    out += count;
    bytes -= count;
  }
}

// ---- processors and memory of this process ----

namespace {

// Limits of the job object that this process runs in (containers are jobs); false if there is none.
template <typename Information>
bool QueryJob(JOBOBJECTINFOCLASS kind, Information* information) {
  return QueryInformationJobObject(/*hJob=*/nullptr, kind, information, sizeof(*information), nullptr) != 0;
}

}  // namespace

unsigned OsCpuCount() {
  DWORD machine = std::max<DWORD>(GetActiveProcessorCount(ALL_PROCESSOR_GROUPS), 1);
  DWORD count = machine;
  DWORD_PTR process_mask = 0;
  DWORD_PTR system_mask = 0;
  // Masks of 0: the process runs in several groups of processors.
  if (GetProcessAffinityMask(GetCurrentProcess(), &process_mask, &system_mask) && process_mask != 0) {
    count = std::min<DWORD>(count, static_cast<DWORD>(std::popcount(static_cast<uint64_t>(process_mask))));
  }
  JOBOBJECT_CPU_RATE_CONTROL_INFORMATION rate = {};
  constexpr DWORD kHardCap = JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP;
  if (QueryJob(JobObjectCpuRateControlInformation, &rate) && (rate.ControlFlags & kHardCap) == kHardCap) {
    // Hundredths of a percent of the whole machine.
    uint64_t share = (uint64_t{rate.CpuRate} * machine + 9999) / 10000;
    count = static_cast<DWORD>(std::min<uint64_t>(count, share));
  }
  return std::max<unsigned>(count, 1);
}

uint64_t OsMemoryBytes() {
  MEMORYSTATUSEX status = {};
  status.dwLength = sizeof(status);
  CHECK(GlobalMemoryStatusEx(&status));
  uint64_t bytes = status.ullTotalPhys;
  JOBOBJECT_EXTENDED_LIMIT_INFORMATION job = {};
  if (QueryJob(JobObjectExtendedLimitInformation, &job)) {
    DWORD flags = job.BasicLimitInformation.LimitFlags;
    if (flags & JOB_OBJECT_LIMIT_PROCESS_MEMORY) bytes = std::min<uint64_t>(bytes, job.ProcessMemoryLimit);
    if (flags & JOB_OBJECT_LIMIT_JOB_MEMORY) bytes = std::min<uint64_t>(bytes, job.JobMemoryLimit);
  }
  return bytes;
}

// ---- looking up what older systems and import libraries lack ----

namespace {

template <typename Function>
Function FindFunction(const wchar_t* module, const char* name) {
  HMODULE handle = GetModuleHandleW(module);
  if (handle == nullptr) return nullptr;
  // Through void*, for the type of the result is made up by Windows.
  return reinterpret_cast<Function>(reinterpret_cast<void*>(GetProcAddress(handle, name)));
}

}  // namespace

// ---- clocks ----

uint64_t OsBootMs() {
  // In units of 100 ns, the time asleep included. GetTickCount64 counts the same in steps of 10 to 16 ms.
  using QueryInterruptTime = void(WINAPI*)(PULONGLONG);
  static const auto query = FindFunction<QueryInterruptTime>(L"kernelbase.dll", "QueryInterruptTimePrecise");
  if (query == nullptr) return GetTickCount64();
  ULONGLONG time = 0;
  query(&time);
  return time / 10'000;
}

int64_t OsWallMs() {
  FILETIME time;
  GetSystemTimePreciseAsFileTime(&time);
  uint64_t ticks = uint64_t{time.dwHighDateTime} << 32 | time.dwLowDateTime;
  // From 1601 to 1970, in units of 100 ns.
  constexpr int64_t kUnixEpochTicks = 116'444'736'000'000'000;
  return (static_cast<int64_t>(ticks) - kUnixEpochTicks) / 10'000;
}

// ---- waiting on a word ----

namespace {

// WaitOnAddress knows its own process only. The interval at which words that another process may change are read again.
constexpr DWORD kWaitSliceMs = 100;

}  // namespace

void OsWaitOnWord(const std::atomic<uint32_t>* word, uint32_t expected, int timeout_ms) {
  DWORD slice_ms = timeout_ms < 0 ? kWaitSliceMs : std::min(static_cast<DWORD>(timeout_ms), kWaitSliceMs);
  auto* address = const_cast<std::atomic<uint32_t>*>(word);  // the call only reads it
  WaitOnAddress(address, &expected, sizeof(expected), slice_ms);
}

void OsWakeWord(std::atomic<uint32_t>* word, bool all) {
  if (all) {
    WakeByAddressAll(word);
  } else {
    WakeByAddressSingle(word);
  }
}

// ---- what a lock needs ----

void OsLightenUnlock() {}

bool os_internal::InterruptAll() { return true; }

// ---- threads ----

namespace {

// Our threads run loops of ours with flat call stacks. Only pages that are touched take memory.
constexpr unsigned kStackBytes = 512 * 1024;

struct ThreadStart {
  wchar_t name[16];
  void (*run)(void*);
  void* argument;
};

unsigned __stdcall RunThread(void* raw) {
  ThreadStart start = *static_cast<ThreadStart*>(raw);
  delete static_cast<ThreadStart*>(raw);
  using SetName = HRESULT(WINAPI*)(HANDLE, PCWSTR);  // since Windows 10, 1607
  if (auto set_name = FindFunction<SetName>(L"kernelbase.dll", "SetThreadDescription")) {
    set_name(GetCurrentThread(), start.name);
  }
  start.run(start.argument);
  return 0;
}

}  // namespace

// Windows sends no signals to threads: there is nothing to block.
OsThread OsStartThread(const char* name, void (*run)(void*), void* argument) {
  auto* start = new ThreadStart{{}, run, argument};
  for (size_t i = 0; i + 1 < std::size(start->name) && name[i] != '\0'; ++i) {
    start->name[i] = static_cast<unsigned char>(name[i]);
  }
  uintptr_t thread = _beginthreadex(nullptr, kStackBytes, RunThread, start, STACK_SIZE_PARAM_IS_A_RESERVATION, nullptr);
  if (thread == 0) delete start;
  return thread;
}

void OsJoinThread(OsThread thread) {
  auto handle = reinterpret_cast<HANDLE>(thread);
  CHECK(WaitForSingleObject(handle, INFINITE) == WAIT_OBJECT_0);
  CHECK(CloseHandle(handle));
}

// ---- process ----

void OsKeepLoaded(void (*code)()) {
  constexpr DWORD kPin = GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS;
  HMODULE library;
  GetModuleHandleExW(kPin, reinterpret_cast<LPCWSTR>(code), &library);
}

void OsCpuTimes(uint64_t* user_us, uint64_t* system_us) {
  FILETIME created, ended, kernel, user;
  CHECK(GetProcessTimes(GetCurrentProcess(), &created, &ended, &kernel, &user));
  // In units of 100 nanoseconds.
  *user_us = ((uint64_t{user.dwHighDateTime} << 32) | user.dwLowDateTime) / 10;
  *system_us = ((uint64_t{kernel.dwHighDateTime} << 32) | kernel.dwLowDateTime) / 10;
}

}  // namespace cairn

#endif  // defined(_WIN32)
