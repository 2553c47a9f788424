// Bytes of clients -> sessions over a tiny real store. The input is cut into pieces that two connections are fed in
// turn, with test commands on, so that parking, holding and the moving of the clock happen too; or with a log, or with
// a database (FuzzedServer). What is looked for: crashes, CHECKs, reads outside a chunk (each is a separate heap
// block), memory over the bounds, a store that does not Verify(), and replies that stay behind when everything is
// committed.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "support/fuzzed_server.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::test::FuzzedServer server(size == 0 ? 0 : data[0]);
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  int turn = 0;
  // The length of each piece is taken from the input itself: a byte that says how many bytes follow it.
  while (!bytes.empty()) {
    const size_t length = static_cast<unsigned char>(bytes[0]);
    bytes.remove_prefix(1);
    const std::string_view piece = bytes.substr(0, length == 255 ? bytes.size() : length);
    bytes.remove_prefix(piece.size());
    server.Feed(turn, piece, static_cast<unsigned>(length));
    turn = 1 - turn;
  }
  server.End();
  return 0;
}
