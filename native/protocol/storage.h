// Commands whose line is followed by a data block: set and its kin of the text protocol, and ms.
//
// A block is swallowed if the request is refused, stored from the client's own bytes if it is small, and else received
// straight into the store. Its reply comes when the block is over, not before: so it is in memcached, and a client that
// is still sending does not read.
//
// Not thread-safe: it is its session's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "protocol/dialect.h"
#include "protocol/reply_gate.h"
#include "protocol/response.h"
#include "protocol/revealed_delete.h"
#include "protocol/service.h"
#include "protocol/stream.h"
#include "store/request.h"

namespace cairn {

// A line that was read.
struct StorageLine {
  // Without the value. The key points into the line.
  Request request;
  // A data block of body_bytes and a line end follow, also if the line is wrong.
  bool has_body = false;
  uint32_t body_bytes = 0;
  bool has_error = false;
  Reply error = Reply::kError;
  bool no_reply = false;
  // A value that is too large takes the old one away, which the client meant to replace.
  bool drops_old = false;
};

// How the protocol of the line replies.
class StorageReplies {
 public:
  virtual void AppendOutcome(const Request& request, const Outcome& outcome, bool no_reply) = 0;
  // The request is to outlive its line, because its value comes in pieces.
  virtual void Keep(Request* request) { (void)request; }

 protected:
  ~StorageReplies() = default;
};

class Storage {
 public:
  Storage(Workbench* bench, Stream* stream, ReplyGate* gate, const Now* now)
      : service_(bench->service()), store_(service_->store()), bench_(bench), stream_(stream), gate_(gate), now_(now) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  // The line is at `at`, its block begins at `block`. `replies` outlives the request.
  Progress Run(const StorageLine& line, StorageReplies* replies, const char* at, const char* block, const char* end);

  // See Dialect.
  Why FinishBody(LargeBody* large);
  void LoseBody(const LargeBody& large, uint64_t left_bytes);
  void FinishSwallow();

 private:
  Progress StoreInLine(const StorageLine& line, const char* at, const char* block);
  // Executes a request whose value is there. An append may make the entry that it misses.
  void Execute(const Request& request, Outcome* outcome);
  Progress BeginLarge(const StorageLine& line, const char* at, const char* block);
  Progress RefuseTooLarge(const StorageLine& line, const char* at, const char* block);
  // Replies when the block has been discarded.
  Progress Swallow(uint64_t bytes, Reply reply, bool no_reply, const char* block);
  void CountStorage(const Outcome& outcome);
  // By its prefix. The meta commands are not counted.
  void CountPrefix(const Request& request) {
    if (request.meta == nullptr) service_->prefixes()->Count(request.key, PrefixStats::Event::kSet);
  }
  void Append(Reply reply, bool no_reply) {
    if (!no_reply) gate_->sink()->Append(TextOf(reply));
  }
  Why ParkOrRefuse(const Request& request, Status status, bool no_reply);

  Service* const service_;
  Store* const store_;
  Workbench* const bench_;
  Stream* const stream_;
  ReplyGate* const gate_;
  const Now* const now_;

  // Of the line at hand, or of the value that is being received.
  StorageReplies* replies_ = nullptr;

  // The reply after the block being discarded.
  Reply swallow_reply_ = Reply::kOk;
  bool swallow_no_reply_ = false;
  // The deletion that this reply reveals.
  RevealedDelete swallow_delete_;
};

}  // namespace cairn
