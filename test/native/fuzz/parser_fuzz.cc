// Bytes of clients -> sessions over a tiny real store. The input is cut into pieces that two connections are fed in
// turn, with test commands on, so that parking, holding and the moving of the clock happen too. What is looked for:
// crashes, CHECKs, reads outside a chunk (each is a heap block of its own), memory over the bounds, a store that does
// not Verify().

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

cairn::StoreOptions TinyStore() {
  cairn::StoreOptions options = ProtocolServer::SmallStore();
  options.memory_bytes = cairn::kMemoryBytesMin;
  options.value_bytes_max = 128 * 1024;
  return options;
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
  ProtocolServer server(ProtocolServer::DefaultOptions(), TinyStore());
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
  }
  for (auto& client : clients) client.reset();
  server.store()->Verify();
  return 0;
}
