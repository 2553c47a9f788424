// A dialect is one protocol of memcached's: it finds the requests in a client's bytes, executes them, and composes the
// replies. Stream gives it bytes that begin with a request, ReplyGate takes its replies. Text is one (text_dialect.h);
// the meta commands are lines of it, the binary protocol is another.
//
// What a dialect is given is only good during the call. It keeps nothing of it but the place in the middle of a request
// that has many replies, as a get of many keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/limits.h"
#include "store/request.h"
#include "store/store.h"

namespace cairn {

// Why bytes were not taken any further than `at`.
enum class Why : uint8_t {
  kDone,     // nothing is in the way: go on at `at`
  kMore,     // the request at `at` is not whole; see Stream::Need()
  kFull,     // replies have to leave, or other sessions have to have a turn, before the request at `at` is executed
  kParked,   // the request at `at` waits for something; it is executed again from its beginning
  kClosing,  // the session is over: nothing behind `at` is executed
};

struct Progress {
  const char* at;
  Why why;
};

// A value that is received straight into the store.
struct LargeBody {
  Body body;
  Request request;
  char key[kKeyBytesInlineMax];
  uint64_t received = 0;  // bytes of the block, its end included
  char end[2] = {};       // what came behind the value, end_bytes of it
  uint8_t end_bytes = 0;
  bool no_reply = false;
};

class Dialect {
 public:
  virtual ~Dialect() = default;

  // Executes requests from `at` on, up to the first that it cannot, or one whose block the stream is to receive or
  // swallow. kDone: up to such a block, or all of it.
  virtual Progress Run(const char* at, const char* end) = 0;

  // Whether an unfinished request of these bytes may become longer still; otherwise the session is over. Asked only for
  // requests whose length is not known.
  virtual bool MayGrow(std::string_view unfinished) const = 0;

  // The block of Stream::Receive() is here: link it or abandon it, and reply. kParked: it is still wanted, and this is
  // called again.
  virtual Why FinishBody(LargeBody* large) = 0;
  // The store has taken the place of a block that came too slowly. `left_bytes` of it are still to come.
  virtual void LoseBody(const LargeBody& large, uint64_t left_bytes) = 0;
  // All bytes of Stream::Swallow() are here: reply.
  virtual void FinishSwallow() = 0;
};

}  // namespace cairn
