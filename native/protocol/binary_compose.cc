#include "protocol/binary_compose.h"

#include <cstring>

#include "protocol/execute.h"

namespace cairn {

namespace {

template <class Number>
char* Write(Number number, char* to) {
  for (size_t i = 0; i < sizeof(Number); i++) {
    to[i] = static_cast<char>(number >> (8 * (sizeof(Number) - 1 - i)));
  }
  return to + sizeof(Number);
}

char* WriteText(std::string_view text, char* to) {
  if (!text.empty()) std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

// The words of an error line.
std::string_view MessageOf(Reply reply) {
  constexpr std::string_view kPrefix = "SERVER_ERROR ";
  constexpr std::string_view kLineEnd = "\r\n";
  std::string_view text = TextOf(reply);
  if (text.starts_with(kPrefix)) text.remove_prefix(kPrefix.size());
  text.remove_suffix(kLineEnd.size());
  return text;
}

}  // namespace

BinaryError ErrorOf(Reply reply) {
  switch (reply) {
    case Reply::kNotStored:
      return {BinaryStatus::kNotStored, "Not stored."};
    case Reply::kExists:
      return {BinaryStatus::kExists, "Data exists for key."};
    case Reply::kNotFound:
      return kNotFoundError;
    case Reply::kNonNumeric:
      return {BinaryStatus::kNonNumeric, "Non-numeric server-side value for incr or decr"};
    case Reply::kTooLarge:
      return kTooLargeError;
    case Reply::kNoMemoryToStore:
      return kNoMemoryError;
    case Reply::kNoMemory:
      return {BinaryStatus::kNoMemory, "Out of memory"};
    case Reply::kLogFull:
    case Reply::kLogFailed:
    case Reply::kBackendAway:
    case Reply::kNotResident:
    case Reply::kTooManyLoads:
    case Reply::kLoadFailed:
      // Nothing was done.
      return {BinaryStatus::kTemporaryFailure, MessageOf(reply)};
    default:
      return {BinaryStatus::kInternalError, MessageOf(reply)};
  }
}

BinaryError ErrorOf(Verb verb, Status status) {
  if (status == Status::kNotStored && verb == Verb::kAdd) return ErrorOf(Reply::kExists);
  if (status == Status::kNotStored && verb == Verb::kReplace) return kNotFoundError;
  if (status == Status::kNoMemory && (verb == Verb::kIncr || verb == Verb::kDecr)) {
    return {BinaryStatus::kNoMemory, "Out of memory incrementing value"};
  }
  return ErrorOf(ReplyOf(verb, status));
}

char* WriteUint32(uint32_t number, char* to) { return Write(number, to); }
char* WriteUint64(uint64_t number, char* to) { return Write(number, to); }

void WriteResponseHead(const ResponseHead& head, char* to) {
  *to++ = kBinaryResponseMagic;
  *to++ = static_cast<char>(head.id.opcode);
  to = Write(static_cast<uint16_t>(head.key_bytes), to);
  *to++ = static_cast<char>(head.extras_bytes);
  *to++ = 0;
  to = Write(static_cast<uint16_t>(head.status), to);
  to = Write(static_cast<uint32_t>(head.extras_bytes + head.key_bytes + head.value_bytes), to);
  to = Write(head.id.opaque, to);
  Write(head.cas, to);
}

void AppendResponse(const Response& response, ByteBuffer* out) {
  const auto& [id, status, cas, extras, key, value] = response;
  const size_t bytes = kPacketHeaderBytes + extras.size() + key.size() + value.size();
  char* to = out->Room(bytes);
  if (to == nullptr) return;
  WriteResponseHead({id, status, cas, extras.size(), key.size(), value.size()}, to);
  WriteText(value, WriteText(key, WriteText(extras, to + kPacketHeaderBytes)));
  out->Advance(bytes);
}

void AppendError(PacketId id, const BinaryError& error, ByteBuffer* out) {
  AppendResponse({.id = id, .status = error.status, .value = error.message}, out);
}

void AppendTaggedError(Reply reply, uint64_t tag, ByteBuffer* out) {
  AppendError({static_cast<uint8_t>(tag >> 32), static_cast<uint32_t>(tag)}, ErrorOf(reply), out);
}

}  // namespace cairn
