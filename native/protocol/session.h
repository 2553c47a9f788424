// A Session is one client of a service: it takes bytes, gives bytes, and says what its front does next. It does no I/O
// and never waits; a front (native loops, node:net, TLS) drives it.
//
//   client -> front -> Feed(bytes) -> Stream -> Dialect: parse, execute, compose -> ReplyGate -> out -> front -> client
//
// Stream knows which bytes have come, Dialect what they mean, ReplyGate which replies may leave. A session joins the
// three, and has a place in the service. A front acts by this table:
//
//   What a front does              kRead     kFlush     kWait     kYield                     kClose
//   bytes come                     Feed      do not read                                     nothing
//   the other sessions had a turn  -         -          -         Continue                   -
//   all output has left            -         Continue   -         Continue                   close the connection
//   it is woken                    Continue those with waits()                               nothing
//   the client has ended its side  End       End        End       End                        nothing
//   a write fails                  destroy the session and close the connection, whatever was said last
//
// A session stops executing while kOutputBytesHigh of replies have not left. One call executes at most
// kRequestsPerCallMax requests and one group, so that a front can serve others in between.
//
// Thread safety: none. It belongs to the thread of its workbench.
// Limits of one session's memory: the rest of a request (kLineBytesMax, kGetLineBytesMax, kBodyBufferedBytesMax; for
// append and prepend the item size) and the bytes fed last; held replies and remote slots, with the replies behind
// them, up to kOutputBytesHigh and one value.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "protocol/binary_dialect.h"
#include "protocol/byte_buffer.h"
#include "protocol/event_log.h"
#include "protocol/reply_gate.h"
#include "protocol/service.h"
#include "protocol/stream.h"
#include "protocol/text_dialect.h"
#include "protocol/text_login.h"

namespace cairn {

class Session {
 public:
  enum class Next : uint8_t {
    kRead,   // feed it what comes
    kFlush,  // feed nothing; Continue() when the output has left
    kWait,   // feed nothing; Continue() when woken
    kClose,  // send what is in `out`, then close
    kYield,  // feed nothing; Continue() after other sessions had a turn
  };

  // `ack`: the level of the client's listener; see Service::Options.
  Session(Workbench* bench, std::shared_ptr<const ConnectionNames> names, const Now& now, Ack ack);
  // With the service's own level.
  Session(Workbench* bench, std::shared_ptr<const ConnectionNames> names, const Now& now)
      : Session(bench, std::move(names), now, bench->service()->options().ack) {}
  // Discards unfinished work: held replies, remote slots, pending loads, an incomplete value.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Takes all of `bytes` and appends replies to `out`. `backlog_bytes`: bytes of earlier replies that the front has not
  // sent. Bytes that come after an answer other than kRead are kept, not executed.
  Next Feed(std::string_view bytes, size_t backlog_bytes, const Now& now, ByteBuffer* out);
  // For a front that lets the system write: see Stream. With kRead only; Landed() follows, then Feed() of what has come
  // behind those bytes.
  size_t Landing(std::span<char>* places, size_t count) { return stream_.Landing(places, count); }
  void Landed(size_t bytes, const Now& now);
  // Continues as far as possible: output has left, a mark has advanced, a load has ended, or the time is over that the
  // session waits. Harmless at any time.
  Next Continue(size_t backlog_bytes, const Now& now, ByteBuffer* out);
  // The client sends no more: kClose once every complete request has been answered.
  Next End(size_t backlog_bytes, const Now& now, ByteBuffer* out);

  // True: call Continue() when the service wakes its fronts (a load, a commit, room in the log, events for
  // a client that watches).
  bool waits() const {
    return stream_.state() == Stream::State::kParked || gate_.has_held() || gate_.has_remote() || is_watching();
  }
  // Not 0: call Continue() after this time, too.
  uint64_t continue_in_ms() const {
    if (is_watching()) [[unlikely]]
      return text_.watcher()->interval_ms();
    return gate_.SlowedForMs(now_);
  }
  // The client watches: what it sends is dropped, and it gets lines as far as it takes them. It is neither idle, nor
  // stalled if it takes none.
  bool is_watching() const { return stream_.state() == Stream::State::kWatching; }
  // Why the session ends, if not because the client has ended it.
  void SetCloseReason(CloseReason reason) { close_reason_ = reason; }
  // The client speaks a protocol that is not served: nothing was executed, and the connection is to be closed.
  enum class Foreign : uint8_t { kNone, kBinary, kTls };
  Foreign foreign() const { return foreign_; }
  // When the thread was woken for the request that is parked, in ticks; 0: none is.
  uint64_t waiting_ticks() const { return waiting_ticks_; }
  // The client is in the middle of a large value or line, which takes memory of the store or of the session: close the
  // connection if no byte comes for long.
  bool is_in_large_request() const { return stream_.is_in_large_request(); }

 private:
  friend class Service;

  void Begin(size_t backlog_bytes, const Now& now, ByteBuffer* out);
  Protocols ServedProtocols() const;
  void LookAtFirst(char byte);
  Next Watch();
  void TellConnection(Event::Kind kind);
  Next Finish();

  Service* const service_;
  Workbench* const bench_;
  const std::shared_ptr<const ConnectionNames> names_;
  uint64_t id_ = 0;
  Session* next_ = nullptr;  // list of the service, guarded by its lock
  Session** link_ = nullptr;
  std::atomic<uint64_t> last_command_ms_{0};

  Now now_;  // of the call in progress
  ReplyGate gate_;
  Stream stream_;
  TextDialect text_;
  std::unique_ptr<BinaryDialect> binary_;  // of a client that speaks it
  std::unique_ptr<TextLogin> login_;       // of a client that has to log in to the text protocol

  size_t kept_bytes_before_ = 0;
  uint64_t waiting_ticks_ = 0;
  bool has_begun_ = false;
  bool ended_ = false;
  CloseReason close_reason_ = CloseReason::kError;
  Foreign foreign_ = Foreign::kNone;
};

}  // namespace cairn
