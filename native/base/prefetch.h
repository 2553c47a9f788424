// Prefetches a cache line for writing, so that this core owns it.
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
  // Compilers prefetch for reading unless they know that the processor has this instruction; every 64-bit processor has
  // it or ignores it. After a prefetch for reading, the write would wait a second time for a line that other cores
  // share.
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
#else
  __builtin_prefetch(address, 1);
#endif
}

}  // namespace cairn
