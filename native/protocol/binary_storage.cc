// BinaryDialect: requests with a value.
//
// A value is swallowed if the request is refused, stored from the packet's own bytes if it is small, and else received
// straight into the store. Its reply comes when the packet is over, not before: so it is in memcached, and a client
// that is still sending does not read.
#include <cstring>
#include <memory>
#include <utility>

#include "protocol/binary_dialect.h"
#include "protocol/execute.h"
#include "protocol/exptime.h"
#include "protocol/heard_requests.h"
#include "protocol/limits.h"

namespace cairn {

namespace {

PacketId IdOf(const LargeBody& large) {
  return {static_cast<uint8_t>(large.tag >> 32), static_cast<uint32_t>(large.tag)};
}

}  // namespace

Request BinaryDialect::StoreRequest(const BinaryRequest& packet) const {
  Request request;
  request.verb = packet.info->verb;
  request.key = packet.key;
  request.has_compare = packet.cas != 0;
  request.compare = packet.cas;
  request.expires_ms = ExpiryOfSeconds(packet.exptime, *now_);
  switch (packet.info->operation) {
    case Operation::kStore:
      request.client_flags = packet.client_flags;
      // add and replace too: with a cas each of them is a cas.
      if (packet.cas != 0) request.verb = Verb::kCas;
      break;
    case Operation::kConcat:
      request.expires_ms = kKeepExpiry;
      break;
    default:
      // memcached compares no cas for a touch.
      if (request.verb == Verb::kTouch) request.has_compare = false;
      request.delta = packet.delta;
      request.initial = packet.initial;
      request.has_initial = packet.exptime != kNoInitialValue;
      request.pad_decimal = true;
  }
  return request;
}

Progress BinaryDialect::RunStorage(const BinaryRequest& packet, const char* at, const char* value, const char* end) {
  if (gate_->refuses(packet.key)) [[unlikely]]
    return Swallow(packet, Refusal(), value);
  if (ItemBytes(packet.key.size(), packet.client_flags, packet.value_bytes) > service_->options().item_bytes_max) {
    return RefuseTooLarge(packet, at, value);
  }
  Request request = StoreRequest(packet);
  if (packet.value_bytes > kBodyBufferedBytesMax && !IsConcat(request.verb))
    return BeginLarge(packet, request, at, value);
  if (static_cast<uint64_t>(end - value) < packet.value_bytes) {
    stream_->Need(static_cast<size_t>(value - at) + packet.value_bytes);
    return {at, Why::kMore};
  }
  return StoreInPacket(packet, &request, at, value);
}

Progress BinaryDialect::StoreInPacket(const BinaryRequest& packet, Request* request, const char* at,
                                      const char* value) {
  const char* next = value + packet.value_bytes;
  if (gate_->ParkForSlowdown(packet.key, *now_)) [[unlikely]]
    return {at, Why::kParked};
  request->value = {value, packet.value_bytes};
  Outcome outcome;
  const bool fits = !IsConcat(request->verb) ||
                    FitsItem(*request, packet.value_bytes, service_->options().item_bytes_max, *now_, store_, &outcome);
  if (!fits) {
    // The reply tells of the value that is there.
    const EntryBefore before{true, outcome.value_bytes, outcome.expires_ms};
    outcome.status = packet.cas == 0 || packet.cas == outcome.version ? Status::kNotStored : Status::kExists;
    if (bench_->events()->hears(kRequestStreams)) [[unlikely]]
      TellChange(bench_, gate_->client(), *request, packet.value_bytes, *now_, before, outcome);
  } else {
    outcome = Outcome();
    ExecuteHeard(bench_, gate_->client(), *request, *now_, nullptr, &outcome);
  }
  if (outcome.status >= Status::kLogFull) [[unlikely]] {
    const Why why = ParkOrRefuse(packet.id, request->key, outcome.status);
    return {why == Why::kParked ? at : next, why};
  }
  CountStorage(outcome);
  AppendOutcome(packet.id, *request, outcome);
  bench_->observer()->Observe(*request, packet.value_bytes);
  service_->prefixes()->Count(packet.key, PrefixStats::Event::kSet);
  return {next, Why::kDone};
}

void BinaryDialect::CountStorage(const Outcome& outcome) {
  if (outcome.status != Status::kStored) bench_->counters()->Add(Counter::kNotStored, 1);
}

Progress BinaryDialect::RefuseTooLarge(const BinaryRequest& packet, const char* at, const char* value) {
  const EntryBefore before = LookIfHeard(bench_, packet.key, *now_);
  if (packet.info->verb == Verb::kSet && !swallow_delete_.Delete(packet.key, *now_, store_, *gate_)) {
    if (gate_->ParkForRoom()) return {at, Why::kParked};
    return Swallow(packet, Refusal(), value);
  }
  bench_->counters()->Add(Counter::kTooLarge, 1);
  service_->prefixes()->Count(packet.key, PrefixStats::Event::kSet);
  TellRefused(bench_, gate_->client(), StoreRequest(packet), Status::kTooLarge, *now_, before);
  return Swallow(packet, kTooLargeError, value);
}

// ---- large values ----

Progress BinaryDialect::BeginLarge(const BinaryRequest& packet, Request request, const char* at, const char* value) {
  if (gate_->ParkForSlowdown(packet.key, *now_)) [[unlikely]]
    return {at, Why::kParked};
  auto large = std::make_unique<LargeBody>();
  std::memcpy(large->key, packet.key.data(), packet.key.size());
  request.key = {large->key, packet.key.size()};
  large->request = request;
  large->tag = TagOf(packet.id);
  const EntryBefore before = LookIfHeard(bench_, request.key, *now_);
  const Status status = store_->Reserve(request, packet.value_bytes, *now_, &large->body);
  if (status != Status::kLogFull) service_->prefixes()->Count(packet.key, PrefixStats::Event::kSet);
  if (status == Status::kStored) {
    stream_->Receive(std::move(large));
    return {value, Why::kDone};
  }
  if (status == Status::kLogFull) {
    if (gate_->ParkForRoom()) return {at, Why::kParked};
    return Swallow(packet, Refusal(), value);
  }
  TellRefused(bench_, gate_->client(), request, status, *now_, before);
  swallow_delete_.Find(packet.key, *now_, store_, *gate_);
  return Swallow(packet, status == Status::kNoMemory ? kNoMemoryError : kTooLargeError, value);
}

Why BinaryDialect::FinishBody(LargeBody* large) {
  const PacketId id = IdOf(*large);
  if (gate_->refuses(large->request.key)) {
    store_->Abandon(&large->body);
    Fail(id, Refusal());
    return Why::kDone;
  }
  Outcome outcome;
  const uint64_t value_bytes = large->body.value_bytes;
  const EntryBefore before = LookIfHeard(bench_, large->request.key, *now_);
  store_->Link(&large->body, large->request, *now_, &outcome);
  if (bench_->events()->hears(kRequestStreams)) [[unlikely]]
    TellChange(bench_, gate_->client(), large->request, value_bytes, *now_, before, outcome);
  if (outcome.status >= Status::kLogFull) [[unlikely]] {
    const Why why = ParkOrRefuse(id, large->request.key, outcome.status);
    if (why != Why::kParked) store_->Abandon(&large->body);
    return why;
  }
  CountStorage(outcome);
  AppendOutcome(id, large->request, outcome);
  bench_->observer()->Observe(large->request, value_bytes);
  return Why::kDone;
}

void BinaryDialect::LoseBody(const LargeBody& large, uint64_t left_bytes) {
  swallow_id_ = IdOf(large);
  swallow_error_ = kNoMemoryError;
  stream_->Swallow(left_bytes);
}

// ---- values that are thrown away ----

Progress BinaryDialect::Swallow(const BinaryRequest& packet, const BinaryError& error, const char* value) {
  swallow_id_ = packet.id;
  swallow_error_ = error;
  if (packet.value_bytes != 0) {
    stream_->Swallow(packet.value_bytes);
  } else {
    FinishSwallow();
  }
  return {value, Why::kDone};
}

void BinaryDialect::FinishSwallow() {
  const size_t begin = gate_->sink()->size();
  Fail(swallow_id_, swallow_error_);
  gate_->TagReply(TagOf(swallow_id_));
  swallow_delete_.Settle(begin, gate_);
}

}  // namespace cairn
