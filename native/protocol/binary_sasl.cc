// SASL: the packets of a client that logs in to the binary protocol.
#include <algorithm>
#include <string_view>

#include "protocol/authentication.h"
#include "protocol/binary_dialect.h"
#include "protocol/limits.h"

namespace cairn {

namespace {

constexpr std::string_view kMechanisms = "PLAIN";
// memcached's limit for the name of a mechanism.
constexpr size_t kMechanismBytesMax = 32;
constexpr uint8_t kListOpcode = 0x20;
constexpr uint8_t kStepOpcode = 0x22;
constexpr BinaryError kTokenTooLongError{BinaryStatus::kNoMemory, "Out of memory"};

// Names of mechanisms are letters, of either case.
bool IsPlain(std::string_view mechanism) {
  return std::equal(mechanism.begin(), mechanism.end(), kMechanisms.begin(), kMechanisms.end(),
                    [](char c, char capital) { return c == capital || c == capital + ('a' - 'A'); });
}

}  // namespace

bool BinaryDialect::MayComeFirst(const BinaryRequest& packet) const {
  const Operation operation = packet.info->operation;
  return operation == Operation::kSasl || operation == Operation::kVersion;
}

// As in memcached, a client that asks for the list, or logs in again, is logged out first.
Progress BinaryDialect::RunSasl(const BinaryRequest& packet, const char* at, const char* value, const char* end) {
  if (service_->authentication()->login() != Login::kSasl) return Swallow(packet, kUnknownCommandError, value);
  if (packet.id.opcode == kListOpcode) {
    if (login_ == LoginState::kIn) login_ = LoginState::kOut;
    AppendResponse({.id = packet.id, .value = kMechanisms}, gate_->sink());
    return {value, Why::kDone};
  }
  if (packet.key.size() > kMechanismBytesMax) return Swallow(packet, kInvalidError, value);
  if (packet.value_bytes > kLoginBytesMax) return Swallow(packet, kTokenTooLongError, value);
  if (static_cast<size_t>(end - value) < packet.value_bytes) {
    stream_->Need(static_cast<size_t>(value - at) + packet.value_bytes);
    return {at, Why::kMore};
  }
  Exchange(packet, {value, packet.value_bytes});
  return {value + packet.value_bytes, Why::kDone};
}

void BinaryDialect::Exchange(const BinaryRequest& packet, std::string_view message) {
  const bool is_step = packet.id.opcode == kStepOpcode;
  // A step follows a start, and need not name the mechanism again.
  const bool is_known = is_step ? login_ == LoginState::kBegun : IsPlain(packet.key);
  if (is_known && !is_step && message.empty()) {
    login_ = LoginState::kBegun;
    AppendResponse({.id = packet.id, .status = BinaryStatus::kAuthContinue}, gate_->sink());
    return;
  }
  Account account;
  bench_->counters()->Add(Counter::kLogins, 1);
  if (is_known && ReadPlain(message, &account) && service_->authentication()->Allows(account)) {
    login_ = LoginState::kIn;
    AppendResponse({.id = packet.id, .value = "Authenticated"}, gate_->sink());
    return;
  }
  // After a step that has failed, the client may try another.
  if (!is_step || !is_known) login_ = LoginState::kOut;
  bench_->counters()->Add(Counter::kLoginsFailed, 1);
  Fail(packet.id, kNotAllowedError);
}

}  // namespace cairn
