// Bytes of clients -> sessions over a tiny real store. The input is cut into pieces that two connections are fed in
// turn, with test commands on, so that parking, holding and the moving of the clock happen too; or with a log, or with
// a database (FuzzedServer). What is looked for: crashes, CHECKs, reads outside a chunk (each is a separate heap
// block), memory over the bounds, a store that does not Verify(), and replies that stay behind when everything is
// committed. Some inputs are not bytes of the clients but a choice of words, one for each byte: flags of the meta
// commands are seldom hit upon otherwise.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include "support/fuzzed_server.h"

namespace {

// A word for each byte, in pieces of a few words, each behind its length.
std::string MetaWords(std::string_view choices) {
  static constexpr std::string_view kWords[] = {"\r\nmg a ",
                                                "\r\nmg b ",
                                                "\r\nmg k v ",
                                                "\r\nms a 1 ",
                                                "\r\nms b 5 ",
                                                "\r\nms AAEC 2 b ",
                                                "\r\nmd a ",
                                                "\r\nmd b ",
                                                "\r\nma a ",
                                                "\r\nma b N0 ",
                                                "\r\nme a\r\n",
                                                "\r\nmn\r\n",
                                                "\r\n1\r\n",
                                                "\r\n12345\r\n",
                                                "\r\nms k 70000 MA\r\n",
                                                "\r\nget a b k\r\n",
                                                "\r\nflush_all\r\n",
                                                "\r\nincr a 9\r\n",
                                                "\r\n",
                                                " ",
                                                "v ",
                                                "c ",
                                                "f ",
                                                "h ",
                                                "l ",
                                                "k ",
                                                "q ",
                                                "s ",
                                                "t ",
                                                "u ",
                                                "x ",
                                                "b ",
                                                "I ",
                                                "O7 ",
                                                "C1 ",
                                                "C0 ",
                                                "E7 ",
                                                "E0 ",
                                                "F5 ",
                                                "T30 ",
                                                "T-1 ",
                                                "T0 ",
                                                "N30 ",
                                                "N-1 ",
                                                "R99 ",
                                                "R ",
                                                "J5 ",
                                                "D2 ",
                                                "ME ",
                                                "MA ",
                                                "MP ",
                                                "MR ",
                                                "MS ",
                                                "MD ",
                                                "M ",
                                                "P1 ",
                                                "L1 ",
                                                "!",
                                                "z ",
                                                "AAEC ",
                                                "bad N30 ",
                                                "none N9 ",
                                                "v v ",
                                                "S1 "};
  std::string pieces;
  std::string piece;
  for (const char choice : choices) {
    piece += kWords[static_cast<unsigned char>(choice) % std::size(kWords)];
    if (piece.size() < 100) continue;
    pieces += static_cast<char>(piece.size());
    pieces += piece;
    piece.clear();
  }
  return pieces + static_cast<char>(piece.size()) + piece;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::test::FuzzedServer server(size == 0 ? 0 : data[0]);
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string words = size != 0 && (data[0] & 8) != 0 ? MetaWords(bytes) : std::string();
  if (!words.empty()) bytes = words;
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
