// A dialect is one of memcached's protocols: it finds the requests in a client's bytes, executes them, and composes the
// replies. Stream gives it bytes that begin with a request; ReplyGate takes its replies. Text is one dialect
// (text_dialect.h), which would also read the meta commands; the binary protocol (binary_dialect.h) is another.
//
// The bytes are valid during the call only. A dialect keeps only its place in a request with many replies, such as a
// get of many keys.
//
// Stream may execute other requests while one waits for an answer from elsewhere. It asks the dialect what each of them
// is about (Scope), and restores the dialect's place when it goes on with a request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "store/request.h"
#include "store/store.h"

namespace cairn {

// Why a dialect stopped at `at`.
enum class Why : uint8_t {
  kDone,      // not stopped: continue at `at`
  kMore,      // the request at `at` is not whole; see Stream::Need()
  kFull,      // replies must leave, or other sessions must have a turn, before the request at `at` is executed
  kParked,    // the request at `at` waits for the log or a load; it is then executed again from its beginning
  kClosing,   // the session ends: nothing behind `at` is executed
  kWatching,  // the client watches from now on: nothing behind `at` is executed
};

// Where a dialect stopped in a request for many keys.
struct Place {
  // How its keys are looked up.
  struct Asked {
    Verb verb = Verb::kGet;
    bool with_cas = false;
    uint64_t expires_ms = kNeverExpires;
  };
  Asked asked;
  // True: the bytes begin at a key in the middle of the request.
  bool is_inside = false;
  // True: the request was refused at an earlier key; its other keys get no reply.
  bool is_refused = false;
  // True: loads of the keys in the rest of the request have been begun, and it waits for them.
  bool has_prefetched = false;
};

// What a request is about, which decides whether it may be executed before an earlier one.
struct Scope {
  enum class Kind : uint8_t {
    kPart,     // not known: the request is not whole; see Stream::Need()
    kNothing,  // no entry: it may
    kKeys,     // `keys`: it may, unless the earlier one has one of them
    kAll,      // all entries, or a block that cannot be kept: it may not
  };
  Kind kind = Kind::kNothing;
  size_t bytes = 0;  // that the request takes; not of kPart and kAll
  std::vector<std::string_view> keys;
  std::string decoded;  // the key, if it is in no bytes
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
  char end[2] = {};       // the end_bytes bytes received behind the value
  uint8_t end_bytes = 0;
  bool no_reply = false;
  uint64_t tag = 0;  // what else the dialect needs for the reply
};

class Dialect {
 public:
  virtual ~Dialect() = default;

  // Executes requests from `at` on, up to the first that it cannot execute, or one whose block the stream is to receive
  // or discard. kDone: up to such a block, or to the end.
  virtual Progress Run(const char* at, const char* end) = 0;

  // What the request at `at`, or the rest of it, is about. It is not executed.
  virtual void Look(const char* at, const char* end, Scope* scope) = 0;
  // Its place in the request at hand.
  Place* place() { return &place_; }

  // Whether an unfinished request with these bytes may grow further; if not, the session ends. Asked only for requests
  // of unknown length.
  virtual bool MayGrow(std::string_view unfinished) const = 0;

  // The block of Stream::Receive() is complete: links or abandons it, and replies. kParked: the request waits, and this
  // is called again.
  virtual Why FinishBody(LargeBody* large) = 0;
  // The store took back the place of a block that came too slowly. `left_bytes` of the block are still to come.
  virtual void LoseBody(const LargeBody& large, uint64_t left_bytes) = 0;
  // All bytes of Stream::Swallow() have come: replies.
  virtual void FinishSwallow() = 0;

 protected:
  Place place_;
};

}  // namespace cairn
