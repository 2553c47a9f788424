// Reads packets of the binary protocol: bytes -> BinaryRequest. Functions over bytes; no store, no I/O, no allocation.
//
//   0      1       2       4       5         6         8      12      16      24
//   | 0x80 | opcode| key   | extras| data    | vbucket | body | opaque| cas   | extras | key | value |
//   |      |       | bytes | bytes | type, 0 |         | bytes|       |       |        |     |       |
//
// Numbers are in network order. The body is extras, key and value together. Data type and vbucket are ignored, as
// memcached does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/request.h"

namespace cairn {

inline constexpr char kBinaryRequestMagic = '\x80';
inline constexpr char kBinaryResponseMagic = '\x81';
inline constexpr size_t kPacketHeaderBytes = 24;
// Extras of get-and-touch: the expiry.
inline constexpr size_t kTouchExtrasBytes = 4;
// incr and decr with this expiry store no initial value.
inline constexpr uint32_t kNoInitialValue = 0xffffffff;
// memcached counts the bytes of a value in an int; a larger body is malformed.
inline constexpr uint32_t kPacketBodyBytesMax = 0x7fffffff;

enum class Operation : uint8_t {
  kUnknown,
  kGet,  // and get-and-touch
  kStore,
  kConcat,
  kKeyed,  // touch, delete, incr, decr
  kFlush,
  kNoop,
  kVersion,
  kStats,
  kQuit,
  kSasl,  // without logins it is answered as unknown, and malformed where memcached finds it so
};

// Which parts a packet has.
enum class Part : uint8_t { kNone, kSome, kAny };

struct OpcodeInfo {
  Operation operation = Operation::kUnknown;
  Verb verb = Verb::kGet;
  uint8_t extras_bytes = 0;
  Part key = Part::kAny;
  Part value = Part::kAny;
  // Success is not told, nor is a miss of a get; errors are.
  bool is_quiet = false;
  bool tells_key = false;
};

const OpcodeInfo& InfoOf(uint8_t opcode);

// What a response repeats of its request.
struct PacketId {
  uint8_t opcode = 0;
  uint32_t opaque = 0;
};

// A parsed packet. The views point into it.
struct BinaryRequest {
  const OpcodeInfo* info = nullptr;
  PacketId id;
  uint64_t cas = 0;
  uint32_t client_flags = 0;
  uint32_t exptime = 0;
  uint64_t delta = 0;
  uint64_t initial = 0;
  std::string_view key;
  // Of the value; for an unknown opcode, of everything behind the key.
  uint32_t value_bytes = 0;
};

enum class Packet : uint8_t {
  kWhole,      // up to the value
  kPartial,    // `bytes_needed` are needed to read on
  kForeign,    // not a packet
  kTooShort,   // extras and key are longer than the body
  kMalformed,  // an opcode without the parts that it must have, or with others
};

// Reads the packet that begins at `at`. REQUIRES: at != end.
Packet ParsePacket(const char* at, const char* end, BinaryRequest* request, size_t* bytes_needed);

// The id in a header.
PacketId ReadPacketId(const char* header);

}  // namespace cairn
