// Packets of clients -> sessions over a tiny real store. The input is a list of instructions. Each is a packet of the
// binary protocol that is right, or of which one byte of the header is wrong, and where it is cut; a byte behind it
// says what happens to the log and the database meanwhile. So most packets are executed, which random bytes are not.
// What is looked for is in parser_fuzz.cc.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/binary_parse.h"
#include "support/binary_packet.h"
#include "support/fuzzed_server.h"

namespace {

using cairn::test::BigEndian;
using cairn::test::PacketOf;

// Reads the input byte by byte; zeros behind its end.
class Instructions {
 public:
  Instructions(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool done() const { return at_ == end_; }
  unsigned Next() { return done() ? 0 : *at_++; }

 private:
  const uint8_t* at_;
  const uint8_t* const end_;
};

// Some keys that the database has, some that meet, and the longest.
std::string KeyOf(unsigned number) {
  constexpr std::string_view kKeys[] = {"a", "b", "k", "key", "bad", "n", "m"};
  if (number % 8 == 7) return std::string(number % 16 == 7 ? 250 : 251, 'l');
  return std::string(kKeys[number % 8]);
}

// Digits half the time, so that they can be counted; sizes on both sides of the limits.
std::string ValueOf(unsigned number) {
  constexpr size_t kSizes[] = {0, 1, 20, 1000, 5000, 65'536, 65'537, 140'000};
  if (number % 2 == 0) return std::to_string(number * number);
  return std::string(kSizes[number / 2 % 8], 'v');
}

std::string ExtrasOf(uint8_t opcode, unsigned number) {
  const cairn::OpcodeInfo& info = cairn::InfoOf(opcode);
  if (info.operation == cairn::Operation::kFlush && number % 2 == 0) return "";
  const uint32_t exptime = number % 5 == 0 ? cairn::kNoInitialValue : number % 7;
  std::string extras(info.extras_bytes, '\0');
  if (extras.size() < 4) return extras;
  return extras.replace(extras.size() - 4, 4, BigEndian(exptime, 4));
}

std::string PacketOf(Instructions* from) {
  const auto opcode = static_cast<uint8_t>(from->Next() % 0x28);
  const cairn::OpcodeInfo& info = cairn::InfoOf(opcode);
  const unsigned shape = from->Next();
  const std::string extras = ExtrasOf(opcode, shape);
  const std::string key = info.key == cairn::Part::kNone ? "" : KeyOf(from->Next());
  const std::string value = info.value == cairn::Part::kNone ? "" : ValueOf(from->Next());
  // Versions are small here: some are right.
  const uint64_t cas = shape % 8 == 1 ? (uint64_t{1} << 32) + from->Next() : 0;
  std::string packet = PacketOf(opcode, {.key = key, .value = value, .extras = extras, .cas = cas});
  if (shape % 32 == 3) packet[from->Next() % cairn::kPacketHeaderBytes] = static_cast<char>(from->Next());
  return packet;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Instructions instructions(data, size);
  cairn::test::FuzzedServer server(instructions.Next());
  std::string sent[2];  // and not fed yet
  while (!instructions.done()) {
    const int turn = static_cast<int>(instructions.Next() % 2);
    std::string* bytes = &sent[turn];
    *bytes += PacketOf(&instructions);
    const unsigned chance = instructions.Next();
    // Sometimes the next packet comes with this one; sometimes the end of this one comes later.
    if (chance % 3 == 0) continue;
    const size_t cut = chance % 3 == 1 ? bytes->size() : bytes->size() * (chance % 32) / 32;
    const bool is_open = server.Feed(turn, std::string_view(*bytes).substr(0, cut), chance);
    bytes->erase(0, is_open ? cut : bytes->size());
  }
  for (const int turn : {0, 1}) server.Feed(turn, sent[turn], 0);
  server.End();
  return 0;
}
