#include "protocol/session.h"

#include <utility>

namespace cairn {

Session::Session(Workbench* bench, std::shared_ptr<const ConnectionNames> names, const Now& now, Ack ack)
    : service_(bench->service()),
      bench_(bench),
      names_(std::move(names)),
      last_command_ms_(service_->Time(now).boot_ms),
      gate_(bench, ack),
      stream_(service_->store(), &gate_, &now_),
      text_(bench, &stream_, &gate_, &now_) {
  stream_.SetDialect(&text_);
  if (service_->authentication()->login() == Login::kText) [[unlikely]] {
    login_ = std::make_unique<TextLogin>(bench, &stream_, &gate_, &text_);
    stream_.SetDialect(login_.get());
  }
  service_->CountConnection();
  {
    OsLockGuard guard(&service_->lock_);
    id_ = ++service_->last_session_id_;
    service_->session_count_++;
    next_ = service_->sessions_;
    link_ = &service_->sessions_;
    if (next_ != nullptr) next_->link_ = &next_;
    *link_ = this;
  }
  gate_.SetClient(id_);
  now_ = service_->Time(now);
  if (bench_->events()->hears(kConnectionEvents)) [[unlikely]]
    TellConnection(Event::Kind::kConnected);
}

Session::~Session() {
  if (bench_->events()->hears(kConnectionEvents)) [[unlikely]]
    TellConnection(Event::Kind::kDisconnected);
  OsLockGuard guard(&service_->lock_);
  service_->session_count_--;
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
}

// Inlined: each call goes through it.
[[gnu::always_inline]] inline void Session::Begin(size_t backlog_bytes, const Now& now, ByteBuffer* out) {
  now_ = service_->Time(now);
  kept_bytes_before_ = stream_.kept_bytes();
  bench_->observer()->BeginCall(&names_->peer, &now_);
  if (!gate_.BeginCall(backlog_bytes, out)) stream_.Close();
}

Session::Next Session::Feed(std::string_view bytes, size_t backlog_bytes, const Now& now, ByteBuffer* out) {
  Begin(backlog_bytes, now, out);
  bench_->counters()->Add(Counter::kBytesRead, bytes.size());
  last_command_ms_.store(now_.boot_ms, std::memory_order_relaxed);
  if (!has_begun_ && !bytes.empty()) [[unlikely]]
    LookAtFirst(bytes[0]);
  stream_.Feed(bytes);
  return Finish();
}

void Session::Landed(size_t bytes, const Now& now) {
  bench_->counters()->Add(Counter::kBytesRead, bytes);
  stream_.Landed(bytes, service_->Time(now));
}

Session::Next Session::Continue(size_t backlog_bytes, const Now& now, ByteBuffer* out) {
  Begin(backlog_bytes, now, out);
  if (waiting_ticks_ == 0) [[likely]] {
    stream_.Resume();
    return Finish();
  }
  const uint64_t woken_ticks = bench_->observer()->BeginWakeUpAt(waiting_ticks_);
  stream_.Resume();
  const Next next = Finish();
  bench_->observer()->BeginWakeUpAt(woken_ticks);
  return next;
}

Session::Next Session::End(size_t backlog_bytes, const Now& now, ByteBuffer* out) {
  ended_ = true;
  return Continue(backlog_bytes, now, out);
}

// Where clients log in, only the protocol that has that way is served, whatever else the options say.
Protocols Session::ServedProtocols() const {
  switch (service_->authentication()->login()) {
    case Login::kText:
      return Protocols::kAscii;
    case Login::kSasl:
      return Protocols::kBinary;
    case Login::kNone:
      break;
  }
  return names_->protocols.value_or(service_->options().protocols);
}

// The first byte tells the protocol. Binary requests and TLS begin with a byte that no command begins with, and hold no
// line end to answer at: where they are not served, their clients would wait for their timeout.
void Session::LookAtFirst(char byte) {
  constexpr char kTlsHandshake = '\x16';
  has_begun_ = true;
  const Protocols protocols = ServedProtocols();
  if (byte == kTlsHandshake) {
    foreign_ = Foreign::kTls;
  } else if (byte == kBinaryRequestMagic && protocols == Protocols::kAscii) {
    foreign_ = Foreign::kBinary;
  } else if (byte == kBinaryRequestMagic || protocols == Protocols::kBinary) {
    binary_ = std::make_unique<BinaryDialect>(bench_, &stream_, &gate_, &now_);
    stream_.SetDialect(binary_.get());
  }
  if (foreign_ != Foreign::kNone) stream_.Close();
}

// Lines stand behind all replies. Those that the client has not taken yet are not added to.
Session::Next Session::Watch() {
  const bool takes_lines = !gate_.has_held() && !gate_.has_backlog();
  ByteBuffer* const out = gate_.sink();
  const size_t begin = out->size();
  text_.watcher()->Proceed(takes_lines, now_, out);
  if (takes_lines) bench_->counters()->Add(Counter::kBytesWritten, out->size() - begin);
  return gate_.failed() ? Next::kClose : Next::kRead;
}

void Session::TellConnection(Event::Kind kind) {
  Event event;
  event.kind = kind;
  const bool is_normal = close_reason_ == CloseReason::kError && (ended_ || stream_.has_quit());
  event.reason = is_normal ? CloseReason::kNormal : close_reason_;
  event.client = id_;
  // That of its end is not known here.
  event.wall_ms = kind == Event::Kind::kConnected ? now_.wall_ms : 0;
  bench_->events()->Append(event, names_->peer);
}

Session::Next Session::Finish() {
  stream_.Trim();
  bench_->observer()->EndCall();
  if (ended_ && (stream_.state() == Stream::State::kOpen || is_watching())) stream_.Close();
  gate_.EndCall(stream_.kept_bytes() < kept_bytes_before_);
  // Without memory for a reply nothing that follows could be trusted.
  if (gate_.failed() || stream_.failed()) {
    stream_.Close();
    return Next::kClose;
  }
  switch (stream_.state()) {
    case Stream::State::kOpen:
      waiting_ticks_ = 0;
      return Next::kRead;
    case Stream::State::kWatching:
      return Watch();
    case Stream::State::kParked:
      // More bytes may come while it waits.
      if (waiting_ticks_ == 0) waiting_ticks_ = bench_->observer()->woken_ticks();
      return Next::kWait;
    case Stream::State::kFull:
      waiting_ticks_ = 0;
      if (!gate_.IsOutputFull()) return Next::kYield;
      bench_->counters()->Add(Counter::kYields, 1);
      // With nothing on its way to the client, flushing cannot help: only a commit can.
      return gate_.has_backlog() ? Next::kFlush : Next::kWait;
    case Stream::State::kClosing:
      break;
  }
  return gate_.has_held() || gate_.has_remote() ? Next::kWait : Next::kClose;
}

}  // namespace cairn
