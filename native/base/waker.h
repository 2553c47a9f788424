// A way to tell another thread, a JavaScript thread or a front, that there is something for it to look at: an answer
// of a flight, a commit, a removal, sessions whose held replies may go on. The call says "look"; the news lies with its
// sender.
#pragma once

namespace cairn {

class Waker {
 public:
  virtual ~Waker() = default;
  // Any thread, at any time, also after the woken thread has ended; coalesces, and does not call back. May make a
  // system call, so it is never called under a shard's lock or under a lock that a shard's lock is ever taken before.
  virtual void Wake() = 0;
};

}  // namespace cairn
