// What the fuzz targets of the protocols have in common: two connections of a server over a tiny real store, with a log
// that commits now and then, is full at times, and may fail; or with a database that answers loads now and then.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "protocol/limits.h"
#include "support/protocol_client.h"

namespace cairn::test {

class FuzzedServer {
 public:
  // `kind`: its lowest two bits say whether there is a log and what replies wait for, the third whether there is a
  // database.
  explicit FuzzedServer(unsigned kind)
      : has_log_(kind % 4 != 0),
        has_backend_((kind & 4) != 0),
        is_logged_(kind % 4 >= 2),
        log_(ProtocolServer::SmallStore().shard_count),
        server_(Options(), Store()) {
    if (has_backend_) {
      database_ = std::make_unique<TestDatabase>(&server_);
      database_->rows = {{"a", "1"}, {"b", "two"}, {"k", std::string(5000, 'k')}, {"key", std::string(70'000, 'y')}};
    }
    for (auto& client : clients_) client = std::make_unique<ProtocolClient>(&server_);
  }

  // Feeds a piece as a front would, with output that leaves at once, to a connection: 0 or 1. Then time passes, and
  // `chance` says what happens to the database and the log. False: the connection was closed, and is another one now.
  bool Feed(int connection, std::string_view piece, unsigned chance) {
    std::unique_ptr<ProtocolClient>* client = &clients_[connection];
    std::string reply = (*client)->Send(piece);
    CHECK(reply.size() < 64 * kOutputBytesHigh);
    if ((*client)->next == Session::Next::kWait) reply = (*client)->ContinueOnce();
    const bool is_closed = (*client)->next == Session::Next::kClose;
    if (is_closed) *client = std::make_unique<ProtocolClient>(&server_);
    server_.Pass(10);
    if (has_backend_ && chance % 3 == 0) database_->Serve();
    if (has_log_) MoveLog(chance);
    return !is_closed;
  }

  // Everything is committed and loaded: no reply may stay behind, and the store is sound.
  void End() {
    if (is_logged_ && log_.health() != TestLog::Health::kFailed) {
      log_.SetHealth(TestLog::Health::kRunning);
      // What is parked for room finds it, fills it, and waits for the next commit, a few times over.
      for (int i = 0; i < 64 && (clients_[0]->session()->waits() || clients_[1]->session()->waits()); i++) {
        log_.Commit(server_.store());
        if (has_backend_) database_->Serve();
        for (auto& client : clients_) {
          do client->ContinueOnce();
          while (client->goes_on());
        }
      }
      for (auto& client : clients_) CHECK(!client->session()->waits() || server_.service()->test_loads()->size() > 0);
    }
    for (auto& client : clients_) client.reset();
    while (has_backend_ && database_->Serve()) continue;
    CHECK(!has_backend_ || server_.loads()->load_count() == 0);
    server_.store()->Verify();
  }

 private:
  Service::Options Options() {
    Service::Options options = ProtocolServer::DefaultOptions();
    if (has_log_) options.log = &log_;
    options.ack = is_logged_ ? Ack::kLogged : Ack::kMemory;
    return options;
  }
  StoreOptions Store() const {
    StoreOptions options = ProtocolServer::SmallStore();
    options.memory_bytes = kMemoryBytesMin;
    options.value_bytes_max = 128 * 1024;
    if (has_log_) options.ring_bytes = options.shard_count * kRingBytesMin;
    options.has_backend = has_backend_;
    return options;
  }
  void MoveLog(unsigned chance) {
    if (log_.health() == TestLog::Health::kFailed) return;
    if (chance % 4 == 0) log_.Commit(server_.store());
    if (chance % 16 == 5) log_.SetHealth(TestLog::Health::kFull);
    if (chance % 16 == 6) log_.SetHealth(TestLog::Health::kRunning);
    if (chance == 77) log_.SetHealth(TestLog::Health::kFailed);
  }

  const bool has_log_;
  const bool has_backend_;
  const bool is_logged_;
  TestLog log_;
  ProtocolServer server_;
  std::unique_ptr<TestDatabase> database_;
  std::unique_ptr<ProtocolClient> clients_[2];
};

}  // namespace cairn::test
