// Clang's thread safety analysis; empty for other compilers. Every clang build has -Werror=thread-safety; `npm run
// check:annotations` runs one.
#pragma once

#if defined(__clang__)
#define CAIRN_TSA(x) __attribute__((x))
#else
#define CAIRN_TSA(x)
#endif

#define CAPABILITY(name) CAIRN_TSA(capability(name))
#define SCOPED_CAPABILITY CAIRN_TSA(scoped_lockable)
#define GUARDED_BY(lock) CAIRN_TSA(guarded_by(lock))
#define PT_GUARDED_BY(lock) CAIRN_TSA(pt_guarded_by(lock))
#define REQUIRES_LOCK(lock) CAIRN_TSA(requires_capability(lock))
#define ACQUIRE(...) CAIRN_TSA(acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) CAIRN_TSA(try_acquire_capability(__VA_ARGS__))
#define RELEASE(...) CAIRN_TSA(release_capability(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS CAIRN_TSA(no_thread_safety_analysis)

// For a read that races by design, with a result that is only a hint.
#if defined(__GNUC__)
#define NO_SANITIZE_THREAD __attribute__((no_sanitize("thread")))
#else
#define NO_SANITIZE_THREAD
#endif
