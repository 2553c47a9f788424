#include "addon/flight_binding.h"

#include <memory>
#include <string>
#include <string_view>

#include "addon/answer.h"
#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/payload.h"
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

// joinFlight(key, ifAbsent): id and role, or a negative code.
Napi::Value JoinFlight(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  KeyArgument key;
  const Code code = handle->Usable() ? key.Read(env, info[0]) : Code::kClosed;
  if (code != Code::kFound) return Napi::Number::New(env, -static_cast<double>(code));
  FlightSeat* seat = SeatOf(handle);
  if (seat == nullptr) {
    std::shared_ptr<ThreadWaker> waker = ThreadWaker::Of(handle->environment);
    CHECK(waker != nullptr);
    PartOf(handle) = std::make_unique<SeatPart>(handle->instance, std::move(waker));
    seat = SeatOf(handle);
  }
  const FlightJoin join = seat->Join(key.view(), BooleanOr(info[1], true), handle->instance->ReadNow(false));
  return Napi::Number::New(env, static_cast<double>(join.id * kRoles + static_cast<uint64_t>(join.role)));
}

// fillFlight(id, payload, codec, ttl, keep, freshMs): stores what was loaded, if `keep`, and gives it to the waiters.
// `freshMs` undefined: the entry is fresh until it expires. A code: kStored; kExists: the key was written meanwhile,
// nothing was stored; or why it could not be stored. The waiters get the value in any case, except with
// kValueMaybeIllFormed: then nothing has happened, and it is to be called again with bytes. `codec` undefined: text.
Napi::Value FillFlight(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  FlightSeat* seat = SeatOf(handle);
  if (seat == nullptr) return CodeNumber(env, Code::kClosed);
  const uint64_t id = NumberOr(info[0], 0);
  Payload payload;
  Request request;
  request.verb = Verb::kSet;
  const Code code = payload.ReadInto(env, handle, info[1], info[2], &request);
  if (code != Code::kFound) {
    // The value cannot be read: waiters load for themselves.
    if (code != Code::kValueMaybeIllFormed) seat->SettleAgain(id);
    return CodeNumber(env, code);
  }
  Outcome outcome;
  outcome.status = Status::kNotStored;
  request.fill = seat->ticket(id);
  if (request.fill != nullptr && BooleanOr(info[4], false)) {
    request.key = seat->key(id);
    const Expiry expiry = Expiry::Read(env, handle, info[3]);
    double fresh_ms = 0;
    const bool becomes_stale = napi_get_value_double(env, info[5], &fresh_ms) == napi_ok;
    const Now now = handle->instance->ReadNow(expiry.timed() || becomes_stale);
    request.expires_ms = expiry.At(now);
    if (becomes_stale) request.fresh_until_ms = now.boot_ms + static_cast<uint64_t>(fresh_ms);
    ExecuteStore(handle->store, request, now, &outcome);
  }
  seat->Settle(id, FlightAnswer::Kind::kValue, request.codec, request.value);
  return CodeNumber(env, CodeOf(outcome.status));
}

// settleFlight(id, kind, message, name, code): ends a load without a value: FlightAnswer::Kind, or 0: the waiters look
// again for themselves.
void SettleFlight(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  FlightSeat* seat = SeatOf(handle);
  if (seat == nullptr) return;
  const uint64_t id = NumberOr(info[0], 0);
  const uint64_t kind = NumberOr(info[1], 0);
  if (kind == 0) {
    seat->SettleAgain(id);
  } else if (static_cast<FlightAnswer::Kind>(kind) == FlightAnswer::Kind::kNothing) {
    seat->Settle(id, FlightAnswer::Kind::kNothing, Codec::kRaw, {});
  } else {
    CHECK(static_cast<FlightAnswer::Kind>(kind) == FlightAnswer::Kind::kError);
    seat->Settle(id, FlightAnswer::Kind::kError, Codec::kRaw, StringOf(info[2]), StringOf(info[3]), StringOf(info[4]));
  }
}

// leaveFlight(id): FlightLeave.
Napi::Value LeaveFlight(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  FlightSeat* seat = SeatOf(handle);
  if (seat == nullptr) return Napi::Number::New(env, static_cast<uint32_t>(FlightLeave::kLeft));
  return Napi::Number::New(env, static_cast<uint32_t>(seat->Leave(NumberOr(info[0], 0))));
}

// The value of an answer: a string or a number where it is one, otherwise a Buffer; undefined if there is no memory.
Napi::Value AnswerValue(Napi::Env env, const FlightAnswer& answer) {
  napi_value value = DirectValue(env, answer.codec, answer.bytes.data(), answer.bytes.size());
  if (value != nullptr) return Napi::Value(env, value);
  const auto buffer = Napi::Buffer<char>::Copy(env, answer.bytes.data(), answer.bytes.size());
  if (!buffer.IsEmpty()) return buffer;
  env.GetAndClearPendingException();
  return env.Undefined();
}

// takeFlightNews(): some rows of news in one array; empty: there is no more; undefined: the handle has no flights (it
// was closed, if it ever had any).
Napi::Value TakeFlightNews(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  FlightSeat* seat = SeatOf(handle);
  if (seat == nullptr) return env.Undefined();
  FlightNews news[kNewsPerCall];
  const size_t count = seat->TakeNews(news, kNewsPerCall);
  Napi::Array rows = Napi::Array::New(env, count * kNewsFields);
  for (size_t i = 0; i < count; ++i) {
    const FlightNews& row = news[i];
    const uint32_t at = static_cast<uint32_t>(i) * kNewsFields;
    rows.Set(at, static_cast<double>(row.id));
    rows.Set(at + 1, static_cast<uint32_t>(row.kind));
    if (row.answer == nullptr) continue;
    const FlightAnswer& answer = *row.answer;
    rows.Set(at + 2, static_cast<uint32_t>(answer.kind));
    if (answer.kind == FlightAnswer::Kind::kValue) {
      rows.Set(at + 3, AnswerValue(env, answer));
      rows.Set(at + 4, static_cast<uint32_t>(answer.codec));
    } else if (answer.kind == FlightAnswer::Kind::kError) {
      rows.Set(at + 3, answer.bytes);
      rows.Set(at + 4, answer.name);
      rows.Set(at + 5, answer.code);
    }
  }
  return rows;
}

// flightCounts(): [loads led, calls that joined one, flights now], of the whole cache; undefined once closed.
Napi::Value FlightCounts(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return env.Undefined();
  const FlightTable* table = handle->instance->flights();
  Napi::Array counts = Napi::Array::New(env, 3);
  counts.Set(0u, static_cast<double>(table->led_count()));
  counts.Set(1u, static_cast<double>(table->joined_count()));
  counts.Set(2u, table->flight_count());
  return counts;
}

// getAged(key, acceptsStale): as get; with `acceptsStale` it gives an entry that is stale, too. The words have the
// milliseconds for which the value is still fresh (kExpiresIn; 0: without end), and for a stale one the milliseconds
// since the end of its freshness, and 1 (kNumber; 0: it is fresh).
Napi::Value GetAged(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  KeyArgument key;
  const Code code = handle->Usable() ? key.Read(env, info[0]) : Code::kClosed;
  if (code != Code::kFound) return Napi::Value(env, Refuse(env, handle, code));
  Request request;
  request.key = key.view();
  request.accepts_stale = BooleanOr(info[1], false);
  Outcome outcome;
  const Now now = handle->instance->ReadNow(false);
  const Napi::Value value(env, Answer(env, handle, request, now, &outcome));
  const bool stale = outcome.fresh_until_ms != kAlwaysFresh && outcome.fresh_until_ms <= now.boot_ms;
  const uint64_t end_ms = EndMs(outcome.expires_ms, outcome.fresh_until_ms);
  handle->environment->Set(Word::kExpiresIn, stale || end_ms == kNeverExpires ? 0 : end_ms - now.boot_ms);
  handle->environment->Set(Word::kNumber, stale ? now.boot_ms - outcome.fresh_until_ms + 1 : 0);
  return value;
}

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction<JoinFlight>(handle, object, "joinFlight");
  AddHandleFunction<FillFlight>(handle, object, "fillFlight");
  AddHandleFunction<SettleFlight>(handle, object, "settleFlight");
  AddHandleFunction<LeaveFlight>(handle, object, "leaveFlight");
  AddHandleFunction<TakeFlightNews>(handle, object, "takeFlightNews");
  AddHandleFunction<FlightCounts>(handle, object, "flightCounts");
  AddHandleFunction<GetAged>(handle, object, "getAged");
}

}  // namespace

void InitFlightBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(ExtendHandle); }

}  // namespace cairn
