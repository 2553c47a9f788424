// A client of a session without a socket between them: for tests of the protocol. Its clock is moved by hand.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "protocol/service.h"
#include "protocol/session.h"
#include "store/store.h"

namespace cairn::test {

// A store and the service over it, with a clock that stands still until it is moved.
class ProtocolServer {
 public:
  explicit ProtocolServer(Service::Options options = DefaultOptions(), StoreOptions store_options = SmallStore(),
                          RecordSink* const* sinks = nullptr) {
    std::string error;
    store_ = Store::Open(store_options, &error);
    CHECK(store_ != nullptr);
    if (sinks != nullptr) store_->SetRecordSinks(sinks);
    service_ = std::make_unique<Service>(store_.get(), std::move(options), now);
    bench_ = std::make_unique<Workbench>(service_.get());
  }

  static Service::Options DefaultOptions() {
    Service::Options options;
    options.version = "1.6.45-cairn-test";
    options.test_commands = true;
    return options;
  }
  static StoreOptions SmallStore() {
    StoreOptions options;
    options.memory_bytes = uint64_t{16} << 20;
    options.value_bytes_max = uint64_t{1} << 20;
    options.shard_count = 2;
    // Fixed, so that two servers place keys alike and give the same versions.
    for (size_t i = 0; i < options.secrets.words.size(); i++) options.secrets.words[i] = 0x9e3779b97f4a7c15 * (i + 1);
    return options;
  }

  Store* store() { return store_.get(); }
  Service* service() { return service_.get(); }
  Workbench* bench() { return bench_.get(); }

  Now now{1'000'000, 1'700'000'000'000};

  void Pass(uint64_t ms) {
    now.boot_ms += ms;
    now.wall_ms += static_cast<int64_t>(ms);
  }

 private:
  std::unique_ptr<Store> store_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Workbench> bench_;
};

class ProtocolClient {
 public:
  explicit ProtocolClient(ProtocolServer* server)
      : server_(server),
        session_(std::make_unique<Session>(
            server->bench(), std::make_shared<ConnectionNames>(ConnectionNames{"tcp:test", "tcp:here"}), server->now)) {
  }

  // Feeds the bytes and returns the reply, as a front with nothing in the way does: what is full goes on at once.
  std::string Send(std::string_view bytes) {
    std::string reply = FeedOnce(bytes);
    while (next == Session::Next::kFlush) reply += ContinueOnce();
    return reply;
  }
  std::string FeedOnce(std::string_view bytes) {
    // A copy of exactly these bytes: a sanitizer sees a parser that looks past the end of a chunk.
    std::unique_ptr<char[]> chunk(new char[bytes.size()]);
    bytes.copy(chunk.get(), bytes.size());
    ByteBuffer out;
    next = session_->Feed({chunk.get(), bytes.size()}, backlog, server_->now, &out);
    return std::string(out.view());
  }
  std::string ContinueOnce() {
    ByteBuffer out;
    next = session_->Continue(backlog, server_->now, &out);
    return std::string(out.view());
  }
  std::string End() {
    ByteBuffer out;
    next = session_->End(backlog, server_->now, &out);
    return std::string(out.view());
  }
  std::string SendInPieces(std::string_view bytes, size_t piece_bytes) {
    std::string reply;
    for (size_t i = 0; i < bytes.size() && next != Session::Next::kClose; i += piece_bytes) {
      reply += Send(bytes.substr(i, piece_bytes));
    }
    return reply;
  }

  void Disconnect() { session_.reset(); }
  Session* session() { return session_.get(); }

  Session::Next next = Session::Next::kRead;
  size_t backlog = 0;

 private:
  ProtocolServer* server_;
  std::unique_ptr<Session> session_;
};

}  // namespace cairn::test
