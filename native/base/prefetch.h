// Fetching a cache line that is about to be written, for this core alone.
#pragma once

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif

namespace cairn {

// The address need not be one that may be accessed.
inline void PrefetchForWrite(const void* address) {
#if defined(_MSC_VER) && !defined(__clang__)
#if defined(_M_X64)
  _m_prefetchw(address);
#else
  __prefetch(address);
#endif
#elif defined(__x86_64__)
  // Compilers fetch for reading unless they are told that the processor knows this instruction: all of 64 bits do, or
  // take it for none. A line that others have too would then be waited for a second time, by the write.
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
#else
  __builtin_prefetch(address, 1);
#endif
}

}  // namespace cairn
