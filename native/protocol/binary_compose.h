// Writes replies of the binary protocol: outcomes -> bytes. Functions over bytes; no store, no I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "protocol/binary_parse.h"
#include "protocol/byte_buffer.h"
#include "protocol/response.h"
#include "store/request.h"

namespace cairn {

// The numbers are on the wire. Those up to kNoMemory are memcached's; it never sends the others, which its document of
// the protocol has.
enum class BinaryStatus : uint16_t {
  kOk = 0,
  kNotFound = 1,
  kExists = 2,
  kTooLarge = 3,
  kInvalid = 4,
  kNotStored = 5,
  kNonNumeric = 6,
  kAuthFailure = 0x20,
  kAuthContinue = 0x21,
  kUnknownCommand = 0x81,
  kNoMemory = 0x82,
  kInternalError = 0x84,
  kTemporaryFailure = 0x86,
};

struct BinaryError {
  BinaryStatus status;
  std::string_view message;
};

inline constexpr BinaryError kNotFoundError{BinaryStatus::kNotFound, "Not found"};
inline constexpr BinaryError kTooLargeError{BinaryStatus::kTooLarge, "Too large."};
inline constexpr BinaryError kInvalidError{BinaryStatus::kInvalid, "Invalid arguments"};
inline constexpr BinaryError kNoMemoryError{BinaryStatus::kNoMemory, "Out of memory allocating item"};
// memcached's answer to what its owner does not allow, and to clients that have not logged in.
inline constexpr BinaryError kNotAllowedError{BinaryStatus::kAuthFailure, "Auth failure."};
inline constexpr BinaryError kUnknownCommandError{BinaryStatus::kUnknownCommand, "Unknown command"};

// What a Reply of the text protocol is here. REQUIRES: it is an error that a request of the binary protocol can have.
BinaryError ErrorOf(Reply reply);
// The error of an outcome of the store. REQUIRES: the verb can have this status, and it is no success.
BinaryError ErrorOf(Verb verb, Status status);

struct ResponseHead {
  PacketId id;
  BinaryStatus status = BinaryStatus::kOk;
  uint64_t cas = 0;
  size_t extras_bytes = 0;
  size_t key_bytes = 0;
  size_t value_bytes = 0;
};

// Writes kPacketHeaderBytes to `to`.
void WriteResponseHead(const ResponseHead& head, char* to);
// Writes a number of the extras or of a value in network order; returns its end.
char* WriteUint32(uint32_t number, char* to);
char* WriteUint64(uint64_t number, char* to);

// A whole response: header, extras, key and value.
struct Response {
  PacketId id;
  BinaryStatus status = BinaryStatus::kOk;
  uint64_t cas = 0;
  std::string_view extras = {};
  std::string_view key = {};
  std::string_view value = {};
};
void AppendResponse(const Response& response, ByteBuffer* out);
void AppendError(PacketId id, const BinaryError& error, ByteBuffer* out);

// An id in one number, and the error reply to its request: see ReplyGate::SetErrorForm().
inline constexpr uint64_t TagOf(PacketId id) { return uint64_t{id.opcode} << 32 | id.opaque; }
void AppendTaggedError(Reply reply, uint64_t tag, ByteBuffer* out);

}  // namespace cairn
