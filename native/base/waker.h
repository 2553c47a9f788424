// A way to tell an environment (a JavaScript thread) that something waits to be taken by it. What it is told is "look";
// what there is to see lies with whoever woke it.
#pragma once

namespace cairn {

class Waker {
 public:
  virtual ~Waker() = default;
  // Any thread, at any time, also after the environment has ended; coalesces. May make a system call, so it is never
  // called under a shard's lock or under a lock that a shard's lock is ever taken before.
  virtual void Wake() = 0;
};

}  // namespace cairn
