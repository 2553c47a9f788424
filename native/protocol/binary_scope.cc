// BinaryDialect: what a packet is about, which decides its order among requests that wait for answers from elsewhere.
#include "protocol/binary_dialect.h"
#include "protocol/limits.h"

namespace cairn {

void BinaryDialect::Look(const char* at, const char* end, Scope* scope) {
  BinaryRequest packet;
  size_t bytes_needed = 0;
  const Packet kind = ParsePacket(at, end, &packet, &bytes_needed);
  if (kind == Packet::kPartial) {
    scope->kind = Scope::Kind::kPart;
    stream_->Need(bytes_needed);
    return;
  }
  if (kind != Packet::kWhole) {
    // It ends the session.
    scope->bytes = static_cast<size_t>(end - at);
    return;
  }
  scope->bytes = bytes_needed;
  switch (packet.info->operation) {
    case Operation::kNoop:
    case Operation::kVersion:
    case Operation::kQuit:
      return;
    case Operation::kGet:
    case Operation::kKeyed:
    case Operation::kStore:
    case Operation::kConcat:
      scope->kind = Scope::Kind::kKeys;
      scope->keys.push_back(packet.key);
      break;
    case Operation::kFlush:
    case Operation::kStats:
    case Operation::kSasl:
    case Operation::kUnknown:
      scope->kind = Scope::Kind::kAll;
      return;
  }
  const size_t packet_bytes = bytes_needed + packet.value_bytes;
  if (packet.value_bytes > kBodyBufferedBytesMax) {
    scope->kind = Scope::Kind::kAll;
  } else if (static_cast<size_t>(end - at) < packet_bytes) {
    scope->kind = Scope::Kind::kPart;
    stream_->Need(packet_bytes);
  } else {
    scope->bytes = packet_bytes;
  }
}

}  // namespace cairn
