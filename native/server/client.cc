#include "server/client.h"

#ifdef __linux__

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "server/loop.h"

namespace cairn {
namespace {

// How long a client may take to close its side after the server has closed its own.
constexpr uint64_t kLingerMs = 2000;
// Of a client, while the front ends: 1 MiB with the input of a loop.
constexpr int kLastReadsMax = 16;
// The places of a value that one call of the system writes to.
constexpr size_t kLandingPlacesMax = 16;
// What is read at first of a client that has sent a large value before.
constexpr size_t kShortReadBytes = 4 * 1024;

}  // namespace

Client::Client(Loop* loop, Accepted accepted)
    : loop_(loop),
      accepted_(std::move(accepted)),
      socket_(std::move(accepted_.socket)),
      outgoing_(loop->store()),
      active_at_ms_(loop->now_ms()) {
  if (accepted_.is_rejected) {
    ending_at_ms_ = loop->now_ms();
    why_ = Ending::kRejected;
  } else {
    session_.emplace(loop->bench(), accepted_.names, loop->now(), accepted_.ack);
  }
  Listen();
}

Client::~Client() {
  waiting.Unlink();
  runnable.Unlink();
  unsent.Unlink();
  all.Unlink();
}

void Client::OnEvents(uint32_t events) {
  if (is_closed()) return;
  if ((events & EPOLLOUT) != 0) {
    if (!Flush()) return;
    if (backlog() == 0 && ending_at_ms_ != kNever) return EndWhenFlushed();
    if (backlog() <= kOutputBytesLow && std::exchange(is_flushing_, false)) Proceed();
    if (is_closed()) return;
    Listen();
  }
  constexpr uint32_t kEnded = EPOLLERR | EPOLLHUP;
  // What the client had sent before it left is executed: the read that finds no more ends it.
  if ((armed_ & EPOLLIN) != 0 && (events & (EPOLLIN | kEnded)) != 0) {
    static_cast<void>(Read());
    return;
  }
  if ((events & EPOLLERR) != 0 || ((events & EPOLLHUP) != 0 && ending_at_ms_ != kNever)) return Destroy(why_);
  if ((events & EPOLLHUP) != 0) {
    is_hung_up_ = true;
    Listen();
  }
}

// Bytes of a large value go straight to its place in the store, and what follows it to the loop's buffer, in one call.
ssize_t Client::Receive(std::span<char> buffer, size_t* landed) {
  std::span<char> places[kLandingPlacesMax];
  const size_t count = session_.has_value() ? session_->Landing(places, kLandingPlacesMax) : 0;
  *landed = 0;
  if (count == 0) return recv(fd(), buffer.data(), buffer.size(), 0);
  iovec pieces[kLandingPlacesMax + 1];
  size_t landing_bytes = 0;
  for (size_t i = 0; i < count; i++) {
    pieces[i] = {places[i].data(), places[i].size()};
    landing_bytes += places[i].size();
  }
  pieces[count] = {buffer.data(), buffer.size()};
  const ssize_t received = readv(fd(), pieces, static_cast<int>(count + 1));
  *landed = std::min(landing_bytes, static_cast<size_t>(std::max<ssize_t>(received, 0)));
  const int error = errno;
  session_->Landed(*landed, loop_->now());
  errno = error;
  sends_large_ = true;
  return received;
}

bool Client::Read() {
  // The line of a large value is read with few bytes of it, so that the others need not be copied.
  const bool is_short = std::exchange(sends_large_, false);
  const std::span<char> buffer = loop_->input().first(is_short ? kShortReadBytes : loop_->input().size());
  size_t landed = 0;
  ssize_t count;
  do {
    count = Receive(buffer, &landed);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    Destroy(why_);
    return true;
  }
  if (!session_.has_value()) {
    // Ended; reading on keeps the system from resetting the connection.
    if (count > 0) return true;
    has_read_all_ = true;
    EndWhenFlushed();
    return true;
  }
  if (count == 0) {
    has_read_all_ = true;
    End();
    return true;
  }
  active_at_ms_ = loop_->now_ms();
  const bool waited = is_waiting_;
  const std::string_view input(buffer.data(), static_cast<size_t>(count) - landed);
  Call([this, input](const Now& now, ByteBuffer* out) { return session_->Feed(input, backlog(), now, out); }, waited);
  // The rest of the value has probably come with its line.
  const bool is_begun = session_.has_value() && !is_paused_ && !is_waiting_ && !is_leaving_ && is_in_large_request_;
  if (is_short && landed == 0 && input.size() == buffer.size() && is_begun) static_cast<void>(Read());
  return true;
}

void Client::Proceed() {
  if (!session_.has_value() || is_flushing_ || runnable.is_linked()) return;
  Call([this](const Now& now, ByteBuffer* out) { return session_->Continue(backlog(), now, out); });
}

void Client::ShutDown() {
  if (is_rejected()) return Destroy(why_);
  if (!session_.has_value() || is_shut_down_ || is_leaving_) return;
  is_leaving_ = true;
  last_reads_ = kLastReadsMax;
  // A session that waits reads on when it goes on.
  if (!is_paused_ && !is_waiting_) ReadLast();
}

void Client::ReadLast() {
  if (last_reads_-- <= 0 || !Read()) End();
}

void Client::End() {
  is_shut_down_ = true;
  Call([this](const Now& now, ByteBuffer* out) { return session_->End(backlog(), now, out); });
}

template <class Ask>
void Client::Call(Ask ask, bool fed_while_waiting) {
  ByteBuffer out = loop_->Output();
  const Session::Next next = loop_->is_cache_closed() ? Session::Next::kClose : ask(loop_->now(), &out);
  Act(next, out, fed_while_waiting);
}

void Client::Act(Session::Next next, const ByteBuffer& out, bool fed_while_waiting) {
  is_waiting_ = false;
  if (!Send(out.view())) return;
  SetWaits(session_->waits());
  loop_->ContinueIn(this, session_->continue_in_ms());
  is_in_large_request_ = session_->is_in_large_request();
  switch (next) {
    case Session::Next::kRead:
      is_paused_ = false;
      if (is_leaving_ && !is_shut_down_) return ReadLast();
      return Listen();
    case Session::Next::kClose:
      switch (session_->foreign()) {
        case Session::Foreign::kNone:
          return Finish();
        case Session::Foreign::kBinary:
          return Reset(Ending::kBinary);
        case Session::Foreign::kTls:
          return Reset(Ending::kTls);
      }
      return;
    case Session::Next::kWait:
      // Takes one read more, which the session keeps: only reading shows that a client has disconnected.
      is_paused_ = fed_while_waiting || is_paused_;
      is_waiting_ = true;
      return Listen();
    case Session::Next::kYield:
      return Yield();
    case Session::Next::kFlush:
      // If the system took the replies at once, they have left.
      if (backlog() <= kOutputBytesLow) return Yield();
      is_paused_ = true;
      is_flushing_ = true;
      return Listen();
  }
}

void Client::Yield() {
  is_paused_ = true;
  loop_->AddRunnable(this);
  Listen();
}

void Client::SetWaits(bool waits) {
  if (waits) {
    loop_->AddWaiting(this);
  } else {
    waiting.Unlink();
  }
}

void Client::Finish() {
  // The client, or the front, has ended, and has all: it is not waited for.
  if (backlog() == 0 && is_shut_down_ && !HasUnread()) return Destroy(why_);
  ReleaseSession();
  ending_at_ms_ = loop_->now_ms();
  is_paused_ = false;
  EndWhenFlushed();
}

// Closing a socket with such bytes resets the connection, and may take replies with it.
bool Client::HasUnread() const {
  char byte;
  return !has_read_all_ && recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void Client::EndWhenFlushed() {
  if (backlog() != 0) return Listen();
  if (has_read_all_ || is_hung_up_) return Destroy(why_);
  shutdown(fd(), SHUT_WR);
  Listen();
}

void Client::Reset(Ending why) {
  if (!accepted_.is_unix) {
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    is_reset_ = true;
  }
  Destroy(why);
}

void Client::Destroy(Ending why) {
  if (is_closed()) return;
  // A client that is not counted has no unsent replies.
  outgoing_.Drop();
  static_cast<void>(CountUnsent(false));
  // Before the session: where the statistics have one connection less, there is room for another.
  loop_->Closed(this, why);
  ReleaseSession();
  runnable.Unlink();
  // A process that is being started may have the socket too, and would keep it in epoll and its client waiting.
  if (std::exchange(is_watched_, false)) loop_->Watch(this, EPOLL_CTL_DEL, 0);
  if (!is_reset_) shutdown(fd(), SHUT_RDWR);
  socket_.Close();
}

void Client::ReleaseSession() {
  session_.reset();
  waiting.Unlink();
  loop_->ContinueIn(this, 0);
  is_flushing_ = false;
}

bool Client::Send(std::string_view bytes) { return IsSent(outgoing_.Send(fd(), bytes, loop_->pinned())); }

bool Client::CountUnsent(bool has_taken) {
  const size_t bytes = backlog() == 0 ? 0 : outgoing_.memory_bytes();
  loop_->CountUnsent(this, std::exchange(counted_bytes_, bytes), bytes, has_taken);
  return !is_closed();
}

bool Client::Flush() {
  if (backlog() == 0) return true;
  const Outgoing::Sent sent = outgoing_.Flush(fd());
  // The client takes what it is sent, however slowly.
  if (sent == Outgoing::Sent::kSome || sent == Outgoing::Sent::kAll) {
    if (stopped_at_ms_ != kNever) stopped_at_ms_ = loop_->now_ms();
    if (ending_at_ms_ != kNever) ending_at_ms_ = loop_->now_ms();
  }
  return IsSent(sent);
}

bool Client::IsSent(Outgoing::Sent sent) {
  if (sent == Outgoing::Sent::kFailed) {
    Destroy(why_);
    return false;
  }
  if (backlog() != 0) {
    if (stopped_at_ms_ == kNever) stopped_at_ms_ = loop_->now_ms();
    return CountUnsent(sent == Outgoing::Sent::kSome);
  }
  stopped_at_ms_ = kNever;
  return counted_bytes_ == 0 || CountUnsent(true);
}

void Client::Listen() {
  if (is_closed()) return;
  uint32_t wanted = 0;
  if (!is_paused_ && !has_read_all_) wanted |= EPOLLIN;
  if (backlog() != 0) wanted |= EPOLLOUT;
  // The system says again and again that a client has hung up, whatever else is asked for.
  const bool is_to_be_watched = !is_hung_up_ || wanted != 0;
  if (is_watched_ == is_to_be_watched && wanted == armed_) return;
  const int operation = !is_watched_ ? EPOLL_CTL_ADD : is_to_be_watched ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
  is_watched_ = is_to_be_watched;
  armed_ = wanted;
  loop_->Watch(this, operation, wanted);
}

void Client::CheckTimeouts(uint64_t now_ms) {
  const auto [idle_ms, stall_ms] = loop_->timeouts();
  if (ending_at_ms_ != kNever) {
    if (now_ms - ending_at_ms_ < (backlog() == 0 ? kLingerMs : stall_ms)) return;
    // A client that has its replies and does not close is not a fault.
    return Destroy(backlog() == 0 ? why_ : Ending::kStalled);
  }
  if (session_.has_value() && session_->is_watching()) return;
  if (stopped_at_ms_ != kNever && now_ms - stopped_at_ms_ >= stall_ms) return Destroy(Ending::kStalled);
  if (backlog() != 0) return;
  if (is_in_large_request_) {
    if (now_ms - active_at_ms_ >= stall_ms) Destroy(Ending::kStalled);
  } else if (idle_ms != 0 && !is_paused_ && !waiting.is_linked() && now_ms - active_at_ms_ >= idle_ms) {
    // A client whose replies wait for the server is not idle.
    loop_->CountIdleKick();
    session_->SetCloseReason(CloseReason::kIdleTimeout);
    Destroy(Ending::kIdle);
  }
}

}  // namespace cairn

#endif  // __linux__
