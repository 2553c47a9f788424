#include "protocol/binary_parse.h"

#include <array>

#include "base/limits.h"

namespace cairn {

namespace {

using Opcodes = std::array<OpcodeInfo, 0x25>;

constexpr Opcodes MakeOpcodes() {
  Opcodes table;
  const auto put = [&table](uint8_t loud, uint8_t quiet, OpcodeInfo info) {
    table[loud] = info;
    info.is_quiet = true;
    table[quiet] = info;
  };
  constexpr Operation kGet = Operation::kGet;
  put(0x00, 0x09, {kGet, Verb::kGet, 0, Part::kSome, Part::kNone, false, false});
  put(0x0c, 0x0d, {kGet, Verb::kGet, 0, Part::kSome, Part::kNone, false, true});
  put(0x1d, 0x1e, {kGet, Verb::kGetAndTouch, kTouchExtrasBytes, Part::kSome, Part::kNone, false, false});
  put(0x23, 0x24, {kGet, Verb::kGetAndTouch, kTouchExtrasBytes, Part::kSome, Part::kNone, false, true});
  put(0x01, 0x11, {Operation::kStore, Verb::kSet, 8, Part::kSome, Part::kAny, false, false});
  put(0x02, 0x12, {Operation::kStore, Verb::kAdd, 8, Part::kSome, Part::kAny, false, false});
  put(0x03, 0x13, {Operation::kStore, Verb::kReplace, 8, Part::kSome, Part::kAny, false, false});
  put(0x0e, 0x19, {Operation::kConcat, Verb::kAppend, 0, Part::kSome, Part::kAny, false, false});
  put(0x0f, 0x1a, {Operation::kConcat, Verb::kPrepend, 0, Part::kSome, Part::kAny, false, false});
  put(0x04, 0x14, {Operation::kKeyed, Verb::kDelete, 0, Part::kSome, Part::kNone, false, false});
  put(0x05, 0x15, {Operation::kKeyed, Verb::kIncr, 20, Part::kSome, Part::kNone, false, false});
  put(0x06, 0x16, {Operation::kKeyed, Verb::kDecr, 20, Part::kSome, Part::kNone, false, false});
  put(0x07, 0x17, {Operation::kQuit, Verb::kGet, 0, Part::kNone, Part::kNone, false, false});
  // Its extras may be left out.
  put(0x08, 0x18, {Operation::kFlush, Verb::kGet, kTouchExtrasBytes, Part::kNone, Part::kNone, false, false});
  table[0x1c] = {Operation::kKeyed, Verb::kTouch, kTouchExtrasBytes, Part::kSome, Part::kNone, false, false};
  table[0x0a] = {Operation::kNoop, Verb::kGet, 0, Part::kNone, Part::kNone, false, false};
  table[0x0b] = {Operation::kVersion, Verb::kGet, 0, Part::kNone, Part::kNone, false, false};
  table[0x10] = {Operation::kStats, Verb::kGet, 0, Part::kAny, Part::kNone, false, false};
  table[0x20] = {Operation::kSasl, Verb::kGet, 0, Part::kNone, Part::kNone, false, false};
  table[0x21] = table[0x22] = {Operation::kSasl, Verb::kGet, 0, Part::kSome, Part::kAny, false, false};
  return table;
}

constexpr Opcodes kOpcodes = MakeOpcodes();
constexpr OpcodeInfo kUnknownOpcode;

template <class Number>
Number Read(const char* at) {
  Number number = 0;
  for (size_t i = 0; i < sizeof(Number); i++) {
    number = static_cast<Number>(number << 8 | static_cast<unsigned char>(at[i]));
  }
  return number;
}

constexpr bool Meets(Part part, uint64_t bytes) { return part == Part::kAny || (part == Part::kNone) == (bytes == 0); }

bool IsWellFormed(const OpcodeInfo& info, size_t extras_bytes, size_t key_bytes, uint64_t value_bytes) {
  if (info.operation == Operation::kUnknown) return true;
  const bool has_extras =
      extras_bytes == info.extras_bytes || (info.operation == Operation::kFlush && extras_bytes == 0);
  return has_extras && Meets(info.key, key_bytes) && Meets(info.value, value_bytes);
}

void ReadExtras(const char* extras, size_t extras_bytes, BinaryRequest* request) {
  if (request->info->operation == Operation::kUnknown) return;
  switch (extras_bytes) {
    case kTouchExtrasBytes:
      request->exptime = Read<uint32_t>(extras);
      break;
    case 8:
      request->client_flags = Read<uint32_t>(extras);
      request->exptime = Read<uint32_t>(extras + 4);
      break;
    case 20:
      request->delta = Read<uint64_t>(extras);
      request->initial = Read<uint64_t>(extras + 8);
      request->exptime = Read<uint32_t>(extras + 16);
      break;
    default:
      break;
  }
}

}  // namespace

const OpcodeInfo& InfoOf(uint8_t opcode) { return opcode < kOpcodes.size() ? kOpcodes[opcode] : kUnknownOpcode; }

PacketId ReadPacketId(const char* header) { return {static_cast<uint8_t>(header[1]), Read<uint32_t>(header + 12)}; }

Packet ParsePacket(const char* at, const char* end, BinaryRequest* request, size_t* bytes_needed) {
  if (*at != kBinaryRequestMagic) return Packet::kForeign;
  const size_t there = static_cast<size_t>(end - at);
  *bytes_needed = kPacketHeaderBytes;
  if (there < kPacketHeaderBytes) return Packet::kPartial;
  const size_t key_bytes = Read<uint16_t>(at + 2);
  const size_t extras_bytes = static_cast<unsigned char>(at[4]);
  const uint32_t body_bytes = Read<uint32_t>(at + 8);
  *bytes_needed = kPacketHeaderBytes + extras_bytes + key_bytes;
  if (there < *bytes_needed) return Packet::kPartial;
  request->id = ReadPacketId(at);
  request->info = &InfoOf(request->id.opcode);
  request->cas = Read<uint64_t>(at + 16);
  request->key = {at + kPacketHeaderBytes + extras_bytes, key_bytes};
  if (extras_bytes + key_bytes > body_bytes) return Packet::kTooShort;
  request->value_bytes = body_bytes - static_cast<uint32_t>(extras_bytes + key_bytes);
  if (key_bytes > kKeyBytesInlineMax || body_bytes > kPacketBodyBytesMax ||
      !IsWellFormed(*request->info, extras_bytes, key_bytes, request->value_bytes)) {
    return Packet::kMalformed;
  }
  ReadExtras(at + kPacketHeaderBytes, extras_bytes, request);
  return Packet::kWhole;
}

}  // namespace cairn
