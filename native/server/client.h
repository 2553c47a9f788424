// One client of a loop: its socket, and the session that knows its place in the stream. Each wake-up of a socket is one
// read, one call on the session and one send.
//
// | state   | is                                      | bytes come     | the client ends its side | ShutDown()    |
// |---------|-----------------------------------------|----------------|--------------------------|---------------|
// | open    | reading                                 | fed            | answered, then bye       | answered, bye |
// | stopped | waiting: replies to leave, a commit, a  | one read is    | answered later           | the same      |
// |         | load, or its next turn                  | kept           |                          |               |
// | ending  | the session is over, replies leave      | thrown away    | closed                   | -             |
// | closed  | the client is gone, or a send failed    | -              | -                        | -             |
//
// Memory: the session limits replies that have not left: it stops at kOutputBytesHigh, and the client continues it at
// kOutputBytesLow. The replies of all clients together are limited by the output budget (Loop::CountUnsent). Large
// values among them are pinned in the store, which limits the pins of all clients together; beyond that values are
// copied.
//
// ShutDown() first reads what has come, up to kLastReadsMax reads: a request that the machine had before is answered.
// If more comes, it is thrown away, and this side alone is closed until the client has its replies.
//
// A client that ends its side may still read, so all its requests are answered, also later. A client that resets the
// connection is gone: its session is dropped with its pending requests. A unix socket whose client has closed it cannot
// be told from one that only sends no more, until a reply fails to be sent.
//
// Not thread-safe: it is its loop's.
#pragma once

#ifdef __linux__

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "protocol/byte_buffer.h"
#include "protocol/session.h"
#include "server/front_events.h"
#include "server/intrusive_list.h"
#include "server/outgoing.h"
#include "server/socket.h"

namespace cairn {

class Loop;

// A socket that was accepted.
struct Accepted {
  Fd socket;
  std::shared_ptr<const ConnectionNames> names;
  Ack ack = Ack::kMemory;
  bool is_unix = false;
  // There were too many connections: it has been told, and is to be closed.
  bool is_rejected = false;
};

class Client {
 public:
  Client(Loop* loop, Accepted accepted);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // What epoll_wait() said of its socket.
  void OnEvents(uint32_t events);
  // Continues the session as far as possible.
  void Proceed();
  // Answers the complete requests that have come, then closes.
  void ShutDown();
  // Closes at once.
  void Destroy(Ending why = Ending::kEnded);
  // Closes it if it has taken too long.
  void CheckTimeouts(uint64_t now_ms);

  bool is_closed() const { return !socket_.is_open(); }
  bool is_rejected() const { return accepted_.is_rejected; }
  int fd() const { return socket_.get(); }
  const std::string& peer() const { return accepted_.names->peer; }

  // Closes it at once, and tells the client by a reset that replies are missing.
  void Drop(Ending why) { Reset(why); }

  // Of the loop: all clients; those that wait to be woken; those that have another turn; those with unsent replies.
  ListLink<Client> all, waiting, runnable, unsent;
  // Of one with unsent replies: when it last took some, on the boot clock.
  uint64_t taken_at_ms = 0;
  // When the loop continues it, on the boot clock; 0: at no time.
  uint64_t continue_at_ms = 0;

 private:
  // False: nothing has come.
  bool Read();
  // While the front ends: reads on, or ends the session if nothing is there.
  void ReadLast();
  // No more is read: answers complete requests, then closes.
  void End();
  bool HasUnread() const;
  // As recv(). `landed`: bytes that have come to the place of a value; the others are in the buffer.
  ssize_t Receive(std::span<char> buffer, size_t* landed);
  // Calls the session, and acts on what it says. `fed_while_waiting`: it is given what the client sent meanwhile.
  template <class Ask>
  void Call(Ask ask, bool fed_while_waiting = false);
  void Act(Session::Next next, const ByteBuffer& out, bool fed_while_waiting);
  void Yield();
  // The session has ended: sends its last replies, then closes this side.
  void Finish();
  void EndWhenFlushed();
  // The client would not understand any reply. A reset fails its requests, where after an end some wait for theirs.
  void Reset(Ending why);
  // Sends the replies of a call, or those that were kept. False: the client is gone.
  bool Send(std::string_view bytes);
  bool Flush();
  bool IsSent(Outgoing::Sent sent);
  size_t backlog() const { return outgoing_.bytes(); }
  // Tells the loop how much memory its unsent replies use. False: that was too much, and the client is closed.
  bool CountUnsent(bool has_taken);
  void ReleaseSession();
  void SetWaits(bool waits);
  // Asks epoll for the events that matter now.
  void Listen();

  Loop* const loop_;
  Accepted accepted_;
  Fd socket_;
  std::optional<Session> session_;
  Outgoing outgoing_;
  size_t counted_bytes_ = 0;   // that the loop has been told
  uint32_t armed_ = 0;         // the events that epoll is asked for
  bool is_watched_ = false;    // by epoll
  bool is_paused_ = false;     // nothing is read
  bool has_read_all_ = false;  // the client has ended its side
  bool is_hung_up_ = false;    // the client has closed both sides
  bool is_waiting_ = false;    // nothing is executed until something happens elsewhere
  bool is_flushing_ = false;   // the session goes on when the output has left
  bool is_leaving_ = false;    // ShutDown() was called
  int last_reads_ = 0;         // that it may still do then
  bool is_shut_down_ = false;
  bool is_reset_ = false;  // closing it resets the connection
  bool is_in_large_request_ = false;
  bool sends_large_ = false;  // it has just sent bytes of a large value
  uint64_t active_at_ms_;
  // Since when replies wait that it does not take.
  uint64_t stopped_at_ms_ = kNever;
  uint64_t ending_at_ms_ = kNever;
  Ending why_ = Ending::kEnded;

  static constexpr uint64_t kNever = ~uint64_t{0};
};

}  // namespace cairn

#endif  // __linux__
