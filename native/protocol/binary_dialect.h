// The binary protocol: packets with a header of fixed length.
//
//   binary_dialect.cc   packets, and requests without a value
//   binary_keys.cc      get-type requests
//   binary_scope.cc     what packets are about
//   binary_storage.cc   requests with a value
//   binary_sasl.cc      logins
//
// Keys of consecutive get-type requests are looked up as a group, as in the text protocol: a client asks for many keys
// with one quiet get each. Any other request ends the group. A group never outlives the call, because its keys, and the
// headers that its replies repeat, are in the bytes of that call.
//
// The success of a quiet request is told by the next reply: that no error came before it. So it has a slot
// without bytes, which is held as a reply is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "protocol/binary_compose.h"
#include "protocol/binary_parse.h"
#include "protocol/dialect.h"
#include "protocol/reply_gate.h"
#include "protocol/revealed_delete.h"
#include "protocol/service.h"
#include "protocol/stream.h"

namespace cairn {

class BinaryDialect final : public Dialect {
 public:
  BinaryDialect(Workbench* bench, Stream* stream, ReplyGate* gate, const Now* now);

  Progress Run(const char* at, const char* end) override;
  void Look(const char* at, const char* end, Scope* scope) override;
  // Asked of lines only.
  bool MayGrow(std::string_view) const override { return false; }
  Why FinishBody(LargeBody* large) override;
  void LoseBody(const LargeBody& large, uint64_t left_bytes) override;
  void FinishSwallow() override;

 private:
  Progress RunPacket(const char* at, const char* end);
  // `value`: where the value begins, behind the key.
  Progress Execute(const BinaryRequest& packet, const char* at, const char* value, const char* end);
  Why RunKeyed(const BinaryRequest& packet);
  Why RunFlush(const BinaryRequest& packet);
  void RunStats(const BinaryRequest& packet);
  void RunDetail(const BinaryRequest& packet);

  // ---- binary_keys.cc ----

  // What became of a key.
  enum class Told : uint8_t {
    kYes,          // its reply was sent or held
    kNoRoom,       // no reply: the log has no room for the touch
    kNotResident,  // no reply: the value is not in memory
  };
  // Puts the key into the group, and looks the group up if it is full.
  Progress AddToGroup(const BinaryRequest& packet, const char* at, const char* next);
  // Looks the group up and replies. kDone: returns `done`. Otherwise kFull or kParked, with the packet to continue at.
  Progress FlushGroup(Progress done);
  Progress StopGroup(size_t index, Why why);
  Told Answer(const Request& request, Outcome* outcome);
  Told AppendEntry(const Request& request, Outcome* outcome);
  Told FetchIntoReply(const Request& request, Outcome* outcome);
  void AppendMiss(PacketId id, std::string_view key);

  // ---- binary_storage.cc ----

  Progress RunStorage(const BinaryRequest& packet, const char* at, const char* value, const char* end);
  Progress StoreInPacket(const BinaryRequest& packet, Request* request, const char* at, const char* value);
  Progress BeginLarge(const BinaryRequest& packet, Request request, const char* at, const char* value);
  Progress RefuseTooLarge(const BinaryRequest& packet, const char* at, const char* value);
  // Replies when the value has been discarded.
  Progress Swallow(const BinaryRequest& packet, const BinaryError& error, const char* value);
  // The store's request, without its value.
  Request StoreRequest(const BinaryRequest& packet) const;
  void CountStorage(const Outcome& outcome);

  // ---- binary_sasl.cc ----

  // kBegun: the client has been asked for its password.
  enum class LoginState : uint8_t { kOut, kBegun, kIn };
  // Whether a client that has not logged in may send this.
  bool MayComeFirst(const BinaryRequest& packet) const;
  Progress RunSasl(const BinaryRequest& packet, const char* at, const char* value, const char* end);
  void Exchange(const BinaryRequest& packet, std::string_view message);

  // ---- replies ----

  void Fail(PacketId id, const BinaryError& error) { AppendError(id, error, gate_->sink()); }
  // The reply to an outcome of the store.
  void AppendOutcome(PacketId id, const Request& request, const Outcome& outcome);
  // Puts the reply that was appended from `begin` on into its slot.
  void Tell(PacketId id, size_t begin, const Request& request, const Outcome& outcome);
  // The store has not executed a request, kLogFull or kNotResident: parks or refuses it.
  Why ParkOrRefuse(PacketId id, std::string_view key, Status status);
  // The error of a refused request, which it counts.
  BinaryError Refusal() { return ErrorOf(gate_->CountRefusal()); }

  Service* const service_;
  Store* const store_;
  Workbench* const bench_;
  KeyGroup* const group_;
  Stream* const stream_;
  ReplyGate* const gate_;
  const Now* const now_;
  LoginState login_;

  // The reply after the value that is being discarded.
  PacketId swallow_id_;
  BinaryError swallow_error_ = kInvalidError;
  // The deletion that this reply reveals.
  RevealedDelete swallow_delete_;
};

}  // namespace cairn
