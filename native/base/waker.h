// Wakes another thread (a JavaScript thread or a front) because there is news for it: an answer of a flight, a commit,
// a removal event, sessions whose held replies may leave. The call says only "look"; the woken thread asks the sender
// for the news.
#pragma once

namespace cairn {

class Waker {
 public:
  virtual ~Waker() = default;
  // May be called by any thread at any time, also after the woken thread has ended. Calls coalesce; none calls back. It
  // may make a system call, so it is never called under a shard's lock, nor under any lock that is taken under a
  // shard's lock.
  virtual void Wake() = 0;
};

}  // namespace cairn
