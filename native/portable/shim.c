// Linked into the portable Linux addon only (scripts/prebuild.mjs). The static libstdc++ and libgcc of a new compiler
// name two things that C libraries before glibc 2.35, and musl, do not have. Both are given here, for this file alone.

#define PRIVATE __attribute__((visibility("hidden")))

struct dl_find_object;

// glibc 2.32 and later say here whether a process has one thread only, so that shared_ptr may count without atomics.
// Zero, "it may have several", is right everywhere.
PRIVATE char __libc_single_threaded = 0;

// glibc 2.35 and later find the unwind table of an address with this, for an exception that is on its way to a handler.
// Our code is compiled without exceptions, so that there is no handler; "no table" sends what the standard library
// throws to std::terminate, where it would end up all the same.
PRIVATE int _dl_find_object(void* address, struct dl_find_object* result) {
  (void)address;
  (void)result;
  return -1;
}
