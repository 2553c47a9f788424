// CHECK(condition) ends the process if an invariant of Cairn is broken; it is always on. DCHECK does the same in debug
// and sanitizer builds, and nothing in release builds. Bad input gets an error code instead.
#pragma once

namespace cairn {

// Prints "cairn: CHECK failed: <condition> at <file>:<line>" to stderr and aborts.
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace cairn

#define CHECK(condition)                                    \
  do {                                                      \
    if (__builtin_expect(!(condition), 0)) {                \
      ::cairn::CheckFailed(#condition, __FILE__, __LINE__); \
    }                                                       \
  } while (false)

#if defined(CAIRN_DCHECK)
#define DCHECK(condition) CHECK(condition)
#else
#define DCHECK(condition)                    \
  do {                                       \
    if (false) static_cast<void>(condition); \
  } while (false)
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define __builtin_expect(expression, expected) (expression)
#endif
