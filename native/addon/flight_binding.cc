#include "addon/flight_binding.h"

#include <memory>
#include <string>
#include <string_view>

#include "addon/answer.h"
#include "addon/cache_binding.h"
#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/thread_waker.h"
#include "base/check.h"
#include "process/flight_table.h"

namespace cairn {
namespace {

// joinFlight() returns id x kRoles + role.
constexpr uint64_t kRoles = 8;
// A row of takeFlightNews(): id, kind, answer kind, payload, codec or name, code.
constexpr uint32_t kNewsFields = 6;
constexpr size_t kNewsPerCall = 64;

struct SeatPart final : HandlePart {
  SeatPart(CacheInstance* instance, std::shared_ptr<Waker> waker)
      : seat(instance->flights(), instance->store(), std::move(waker)) {}
  FlightSeat seat;
};

std::unique_ptr<HandlePart>& PartOf(CacheHandle* handle) { return handle->parts[static_cast<size_t>(PartId::kFlight)]; }

// Null if the handle is closed or has not joined any flight. A cache that its owner has closed still has its flights to
// tell about until the handle lets go of it, so this does not ask Usable().
FlightSeat* SeatOf(CacheHandle* handle) {
  const auto& part = PartOf(handle);
  return part == nullptr ? nullptr : &static_cast<SeatPart*>(part.get())->seat;
}

napi_value Text(napi_env env, std::string_view text) {
  napi_value value = nullptr;
  return napi_create_string_utf8(env, text.data(), text.size(), &value) == napi_ok ? value : Undefined(env);
}

// joinFlight(key, ifAbsent): id and role, or a negative code.
napi_value JoinFlight(napi_env env, napi_callback_info info) {
  KeyCall<2> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return Double(env, -static_cast<double>(call.code));
  FlightSeat* seat = SeatOf(handle);
  if (seat == nullptr) {
    std::shared_ptr<ThreadWaker> waker = ThreadWaker::Of(handle->environment);
    CHECK(waker != nullptr);
    PartOf(handle) = std::make_unique<SeatPart>(handle->instance, std::move(waker));
    seat = SeatOf(handle);
  }
  const FlightJoin join = seat->Join(call.key.view(), BooleanOr(env, call[1], true), handle->instance->ReadNow(false));
  return Double(env, static_cast<double>(join.id * kRoles + static_cast<uint64_t>(join.role)));
}

// fillFlight(id, payload, codec, ttl, keep): stores what was loaded, if `keep`, and gives it to those who wait. A code:
// kStored; kExists: the key was written meanwhile, nothing was stored; or why it could not be stored. The waiters get
// the value in any case, except with kValueMaybeIllFormed: then nothing has happened, and it is to be called again with
// bytes. `codec` undefined: text.
napi_value FillFlight(napi_env env, napi_callback_info info) {
  HandleCall<5> call(env, info);
  CacheHandle* handle = call.handle;
  if (!handle->Usable()) return CodeValue(env, Code::kClosed);
  FlightSeat* seat = SeatOf(handle);
  if (seat == nullptr) return CodeValue(env, Code::kClosed);
  const uint64_t id = NumberOr(env, call[0], 0);
  Payload payload;
  Request request;
  request.verb = Verb::kSet;
  const Code code = payload.ReadInto(env, handle, call[1], call[2], &request);
  if (code != Code::kFound) {
    // It cannot even be read: whoever waits tries for itself.
    if (code != Code::kValueMaybeIllFormed) seat->SettleAgain(id);
    return CodeValue(env, code);
  }
  Outcome outcome;
  outcome.status = Status::kNotStored;
  request.fill = seat->ticket(id);
  if (request.fill != nullptr && BooleanOr(env, call[4], false)) {
    request.key = seat->key(id);
    const Expiry expiry = Expiry::Read(env, handle, call[3]);
    const Now now = handle->instance->ReadNow(expiry.timed());
    request.expires_ms = expiry.At(now);
    ExecuteStore(handle->store, request, now, &outcome);
  }
  seat->Settle(id, FlightAnswer::Kind::kValue, request.codec, request.value);
  return CodeValue(env, CodeOf(outcome.status));
}

// settleFlight(id, kind, message, name, code): ends a load without a value: FlightAnswer::Kind, or 0: the waiters look
// again for themselves.
napi_value SettleFlight(napi_env env, napi_callback_info info) {
  HandleCall<5> call(env, info);
  FlightSeat* seat = SeatOf(call.handle);
  if (seat == nullptr) return Undefined(env);
  const uint64_t id = NumberOr(env, call[0], 0);
  const uint64_t kind = NumberOr(env, call[1], 0);
  if (kind == 0) {
    seat->SettleAgain(id);
  } else if (static_cast<FlightAnswer::Kind>(kind) == FlightAnswer::Kind::kNothing) {
    seat->Settle(id, FlightAnswer::Kind::kNothing, Codec::kRaw, {});
  } else {
    CHECK(static_cast<FlightAnswer::Kind>(kind) == FlightAnswer::Kind::kError);
    seat->Settle(id, FlightAnswer::Kind::kError, Codec::kRaw, StringOf(env, call[2]), StringOf(env, call[3]),
                 StringOf(env, call[4]));
  }
  return Undefined(env);
}

// leaveFlight(id): FlightLeave.
napi_value LeaveFlight(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  FlightSeat* seat = SeatOf(call.handle);
  if (seat == nullptr) return Uint32(env, static_cast<uint32_t>(FlightLeave::kLeft));
  return Uint32(env, static_cast<uint32_t>(seat->Leave(NumberOr(env, call[0], 0))));
}

// The value of an answer: a string or a number where it is one, otherwise a Buffer; undefined if there is no memory.
napi_value AnswerValue(napi_env env, const FlightAnswer& answer) {
  napi_value value = DirectValue(env, answer.codec, answer.bytes.data(), answer.bytes.size());
  if (value != nullptr) return value;
  if (napi_create_buffer_copy(env, answer.bytes.size(), answer.bytes.data(), nullptr, &value) == napi_ok) return value;
  napi_value error;
  napi_get_and_clear_last_exception(env, &error);
  return Undefined(env);
}

// takeFlightNews(): some rows of news in one array; empty: there is no more; undefined: the handle has no flights (it
// was closed, if it ever had any).
napi_value TakeFlightNews(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  FlightSeat* seat = SeatOf(call.handle);
  if (seat == nullptr) return Undefined(env);
  FlightNews news[kNewsPerCall];
  const size_t count = seat->TakeNews(news, kNewsPerCall);
  napi_value rows = nullptr;
  CHECK(napi_create_array_with_length(env, count * kNewsFields, &rows) == napi_ok);
  for (size_t i = 0; i < count; ++i) {
    const FlightNews& row = news[i];
    const auto at = [&](uint32_t field, napi_value value) {
      napi_set_element(env, rows, static_cast<uint32_t>(i) * kNewsFields + field, value);
    };
    at(0, Double(env, static_cast<double>(row.id)));
    at(1, Uint32(env, static_cast<uint32_t>(row.kind)));
    if (row.answer == nullptr) continue;
    const FlightAnswer& answer = *row.answer;
    at(2, Uint32(env, static_cast<uint32_t>(answer.kind)));
    if (answer.kind == FlightAnswer::Kind::kValue) {
      at(3, AnswerValue(env, answer));
      at(4, Uint32(env, static_cast<uint32_t>(answer.codec)));
    } else if (answer.kind == FlightAnswer::Kind::kError) {
      at(3, Text(env, answer.bytes));
      at(4, Text(env, answer.name));
      at(5, Text(env, answer.code));
    }
  }
  return rows;
}

// flightCounts(): [loads led, calls that joined one, flights now], of the whole cache; undefined once closed.
napi_value FlightCounts(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  if (!call.handle->Usable()) return Undefined(env);
  const FlightTable* table = call.handle->instance->flights();
  napi_value counts = nullptr;
  napi_create_array_with_length(env, 3, &counts);
  napi_set_element(env, counts, 0, Double(env, static_cast<double>(table->led_count())));
  napi_set_element(env, counts, 1, Double(env, static_cast<double>(table->joined_count())));
  napi_set_element(env, counts, 2, Double(env, table->flight_count()));
  return counts;
}

// getWithExpiry(key): as get; the words have the milliseconds until expiry, 0 if there is none.
napi_value GetWithExpiry(napi_env env, napi_callback_info info) {
  KeyCall<1> call(env, info);
  CacheHandle* handle = call.handle;
  if (call.code != Code::kFound) return Refusal(env, handle, call.code);
  Request request;
  request.key = call.key.view();
  Outcome outcome;
  const Now now = handle->instance->ReadNow(false);
  napi_value value = Answer(env, handle, request, now, &outcome);
  const bool expires = outcome.expires_ms != kNeverExpires && outcome.expires_ms > now.boot_ms;
  handle->environment->Set(Word::kExpiresIn, expires ? outcome.expires_ms - now.boot_ms : 0);
  return value;
}

void ExtendHandle(napi_env env, CacheHandle* handle, napi_value object) {
  AddHandleFunction(env, handle, object, "joinFlight", JoinFlight);
  AddHandleFunction(env, handle, object, "fillFlight", FillFlight);
  AddHandleFunction(env, handle, object, "settleFlight", SettleFlight);
  AddHandleFunction(env, handle, object, "leaveFlight", LeaveFlight);
  AddHandleFunction(env, handle, object, "takeFlightNews", TakeFlightNews);
  AddHandleFunction(env, handle, object, "flightCounts", FlightCounts);
  AddHandleFunction(env, handle, object, "getWithExpiry", GetWithExpiry);
}

}  // namespace

void InitFlightBinding(napi_env env, napi_value) { Environment::Of(env)->extenders.push_back(ExtendHandle); }

}  // namespace cairn
