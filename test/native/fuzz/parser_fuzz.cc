// Bytes of clients -> sessions over a tiny real store. The input is cut into pieces that two connections are fed in
// turn, with test commands on, so that parking, holding and the moving of the clock happen too; or with a log, which
// commits now and then, is full at times, and may fail; or with a database, which answers loads now and then. What is
// looked for: crashes, CHECKs, reads outside a chunk (each is a separate heap block), memory over the bounds, a store
// that does not Verify(), and replies that stay behind when everything is committed.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/check.h"
#include "protocol/limits.h"
#include "support/protocol_client.h"

namespace {

using cairn::Session;
using cairn::test::ProtocolClient;
using cairn::test::ProtocolServer;
using cairn::test::TestDatabase;
using cairn::test::TestLog;

cairn::StoreOptions TinyStore(bool has_log, bool has_backend) {
  cairn::StoreOptions options = ProtocolServer::SmallStore();
  options.memory_bytes = cairn::kMemoryBytesMin;
  options.value_bytes_max = 128 * 1024;
  if (has_log) options.ring_bytes = options.shard_count * cairn::kRingBytesMin;
  options.has_backend = has_backend;
  return options;
}

// What happens to the log between two pieces.
void Move(TestLog* log, ProtocolServer* server, unsigned what) {
  if (log->health() == TestLog::Health::kFailed) return;
  if (what % 4 == 0) log->Commit(server->store());
  if (what % 16 == 5) log->SetHealth(TestLog::Health::kFull);
  if (what % 16 == 6) log->SetHealth(TestLog::Health::kRunning);
  if (what == 77) log->SetHealth(TestLog::Health::kFailed);
}

// Feeds a piece as a front would, with output that leaves at once.
void Drive(ProtocolServer* server, std::unique_ptr<ProtocolClient>* client, std::string_view piece) {
  std::string reply = (*client)->Send(piece);
  CHECK(reply.size() < 64 * cairn::kOutputBytesHigh);
  if ((*client)->next == Session::Next::kWait) reply = (*client)->ContinueOnce();
  if ((*client)->next == Session::Next::kClose) *client = std::make_unique<ProtocolClient>(server);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  TestLog log(ProtocolServer::SmallStore().shard_count);
  const unsigned kind = size == 0 ? 0 : data[0] % 4;
  cairn::Service::Options options = ProtocolServer::DefaultOptions();
  if (kind != 0) options.log = &log;
  options.ack = kind >= 2 ? cairn::Ack::kLogged : cairn::Ack::kMemory;
  const bool has_backend = size != 0 && (data[0] & 4) != 0;
  ProtocolServer server(options, TinyStore(kind != 0, has_backend));
  std::unique_ptr<TestDatabase> database;
  if (has_backend) {
    database = std::make_unique<TestDatabase>(&server);
    database->rows = {{"a", "1"}, {"b", "two"}, {"k", std::string(5000, 'k')}, {"key", std::string(70'000, 'y')}};
  }
  std::unique_ptr<ProtocolClient> clients[2] = {std::make_unique<ProtocolClient>(&server),
                                                std::make_unique<ProtocolClient>(&server)};
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  // The length of each piece is taken from the input itself: a byte that says how many bytes follow it.
  int turn = 0;
  while (!bytes.empty()) {
    size_t length = static_cast<unsigned char>(bytes[0]);
    bytes.remove_prefix(1);
    std::string_view piece = bytes.substr(0, length == 255 ? bytes.size() : length);
    bytes.remove_prefix(piece.size());
    Drive(&server, &clients[turn], piece);
    turn = 1 - turn;
    server.Pass(10);
    if (has_backend && length % 3 == 0) database->Serve();
    if (kind != 0) Move(&log, &server, static_cast<unsigned>(length));
  }
  if (kind >= 2 && log.health() != TestLog::Health::kFailed) {
    log.SetHealth(TestLog::Health::kRunning);
    // What is parked for room finds it, fills it, and waits for the next commit, a few times over.
    for (int i = 0; i < 64 && (clients[0]->session()->waits() || clients[1]->session()->waits()); i++) {
      log.Commit(server.store());
      if (has_backend) database->Serve();
      for (auto& client : clients) {
        do client->ContinueOnce();
        while (client->goes_on());
      }
    }
    for (auto& client : clients) CHECK(!client->session()->waits() || server.service()->test_loads()->size() > 0);
  }
  for (auto& client : clients) client.reset();
  while (has_backend && database->Serve()) continue;
  CHECK(!has_backend || server.loads()->load_count() == 0);
  server.store()->Verify();
  return 0;
}
