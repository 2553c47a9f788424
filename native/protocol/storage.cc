#include "protocol/storage.h"

#include <cstring>
#include <memory>
#include <utility>

#include "protocol/execute.h"
#include "protocol/heard_requests.h"
#include "protocol/limits.h"

namespace cairn {

namespace {

constexpr std::string_view kLineEnd = "\r\n";

// The times that an append which may make its entry, and an add of that entry, are tried one after the other, because
// other clients make and remove it in between.
constexpr int kConcatTriesMax = 8;

uint64_t BlockBytes(const StorageLine& line) { return uint64_t{line.body_bytes} + kLineEnd.size(); }

}  // namespace

Progress Storage::Run(const StorageLine& line, StorageReplies* replies, const char* at, const char* block,
                      const char* end) {
  replies_ = replies;
  if (line.has_error) {
    if (line.has_body) return Swallow(BlockBytes(line), line.error, line.no_reply, block);
    Append(line.error, line.no_reply);
    return {block, Why::kDone};
  }
  const Request& request = line.request;
  if (gate_->refuses(request.key)) [[unlikely]]
    return Swallow(BlockBytes(line), gate_->CountRefusal(), line.no_reply, block);
  if (ItemBytes(request.key.size(), request.client_flags, line.body_bytes) > service_->options().item_bytes_max) {
    return RefuseTooLarge(line, at, block);
  }
  if (line.body_bytes > kBodyBufferedBytesMax && !IsConcat(request.verb)) return BeginLarge(line, at, block);
  if (static_cast<uint64_t>(end - block) < BlockBytes(line)) {
    stream_->Need(static_cast<size_t>(block - at) + BlockBytes(line));
    return {at, Why::kMore};
  }
  return StoreInLine(line, at, block);
}

// Inlined: each set goes through it.
[[gnu::always_inline]] inline void Storage::Execute(const Request& request, Outcome* outcome) {
  *outcome = Outcome();
  if (request.meta == nullptr || !request.meta->vivifies) [[likely]]
    return ExecuteHeard(bench_, gate_->client(), request, *now_, nullptr, outcome);
  const EntryBefore before = LookIfHeard(bench_, request.key, *now_);
  store_->Execute(request, *now_, nullptr, outcome);
  Request add = request;
  add.verb = Verb::kAdd;
  add.has_compare = false;
  add.expires_ms = request.keep_else_ms;
  for (int i = 0; i < kConcatTriesMax && outcome->status == Status::kNotStored; i++) {
    *outcome = Outcome();
    store_->Execute(i % 2 == 0 ? add : request, *now_, nullptr, outcome);
  }
  // As one request: the expiry is told if the entry is new.
  Request told = request;
  told.expires_ms = request.keep_else_ms;
  if (bench_->events()->hears(kRequestStreams)) [[unlikely]]
    TellChange(bench_, gate_->client(), told, request.value.size(), *now_, before, *outcome);
}

Progress Storage::StoreInLine(const StorageLine& line, const char* at, const char* block) {
  const char* after = block + BlockBytes(line);
  if (std::memcmp(after - kLineEnd.size(), kLineEnd.data(), kLineEnd.size()) != 0) {
    Append(Reply::kBadChunk, line.no_reply);
    CountPrefix(line.request);
    return {after, Why::kDone};
  }
  Request request = line.request;
  if (gate_->ParkForSlowdown(request.key, *now_)) [[unlikely]]
    return {at, Why::kParked};
  request.value = {block, line.body_bytes};
  Outcome outcome;
  if (IsConcat(request.verb) &&
      !FitsItem(request, line.body_bytes, service_->options().item_bytes_max, *now_, store_, &outcome)) {
    // The reply tells of the value that is there.
    const EntryBefore before{true, outcome.value_bytes, outcome.expires_ms};
    outcome.status = Status::kNotStored;
    if (bench_->events()->hears(kRequestStreams)) [[unlikely]]
      TellChange(bench_, gate_->client(), request, request.value.size(), *now_, before, outcome);
  } else {
    Execute(request, &outcome);
  }
  if (outcome.status >= Status::kLogFull) [[unlikely]] {
    const Why why = ParkOrRefuse(request, outcome.status, line.no_reply);
    return {why == Why::kParked ? at : after, why};
  }
  CountStorage(outcome);
  replies_->AppendOutcome(request, outcome, line.no_reply);
  bench_->observer()->Observe(request, line.body_bytes);
  CountPrefix(request);
  return {after, Why::kDone};
}

Progress Storage::BeginLarge(const StorageLine& line, const char* at, const char* block) {
  Request request = line.request;
  if (gate_->ParkForSlowdown(request.key, *now_)) [[unlikely]]
    return {at, Why::kParked};
  auto large = std::make_unique<LargeBody>();
  std::memcpy(large->key, request.key.data(), request.key.size());
  request.key = {large->key, request.key.size()};
  replies_->Keep(&request);
  large->request = request;
  large->end_bytes = kLineEnd.size();
  large->no_reply = line.no_reply;
  const EntryBefore before = LookIfHeard(bench_, request.key, *now_);
  const Status status = store_->Reserve(request, line.body_bytes, *now_, &large->body);
  if (status != Status::kLogFull) CountPrefix(request);
  if (status == Status::kStored) {
    stream_->Receive(std::move(large));
    return {block, Why::kDone};
  }
  if (status == Status::kLogFull) {
    if (gate_->ParkForRoom()) return {at, Why::kParked};
    return Swallow(BlockBytes(line), gate_->CountRefusal(), line.no_reply, block);
  }
  TellRefused(bench_, gate_->client(), request, status, *now_, before);
  swallow_delete_.Find(request.key, *now_, store_, *gate_);
  const Reply reply = status == Status::kNoMemory ? Reply::kNoMemoryToStore : Reply::kTooLarge;
  return Swallow(BlockBytes(line), reply, line.no_reply, block);
}

Progress Storage::RefuseTooLarge(const StorageLine& line, const char* at, const char* block) {
  const EntryBefore before = LookIfHeard(bench_, line.request.key, *now_);
  // Not even the old value may be served any more: the client meant to replace it.
  if (line.drops_old && !swallow_delete_.Delete(line.request.key, *now_, store_, *gate_)) {
    if (gate_->ParkForRoom()) return {at, Why::kParked};
    return Swallow(BlockBytes(line), gate_->CountRefusal(), line.no_reply, block);
  }
  bench_->counters()->Add(Counter::kTooLarge, 1);
  CountPrefix(line.request);
  TellRefused(bench_, gate_->client(), line.request, Status::kTooLarge, *now_, before);
  return Swallow(BlockBytes(line), Reply::kTooLarge, line.no_reply, block);
}

void Storage::CountStorage(const Outcome& outcome) {
  if (outcome.status != Status::kStored) bench_->counters()->Add(Counter::kNotStored, 1);
}

Why Storage::ParkOrRefuse(const Request& request, Status status, bool no_reply) {
  Reply reply;
  if (gate_->ParkOrRefuse(request.key, status, *now_, &reply)) return Why::kParked;
  Append(reply, no_reply);
  return Why::kDone;
}

// ---- large values ----

Why Storage::FinishBody(LargeBody* large) {
  if (std::memcmp(large->end, kLineEnd.data(), kLineEnd.size()) != 0) {
    store_->Abandon(&large->body);
    Append(Reply::kBadChunk, large->no_reply);
    return Why::kDone;
  }
  if (gate_->refuses(large->request.key)) {
    store_->Abandon(&large->body);
    Append(gate_->CountRefusal(), large->no_reply);
    return Why::kDone;
  }
  Outcome outcome;
  const uint64_t value_bytes = large->body.value_bytes;
  const EntryBefore before = LookIfHeard(bench_, large->request.key, *now_);
  store_->Link(&large->body, large->request, *now_, &outcome);
  if (bench_->events()->hears(kRequestStreams)) [[unlikely]]
    TellChange(bench_, gate_->client(), large->request, value_bytes, *now_, before, outcome);
  if (outcome.status >= Status::kLogFull) [[unlikely]] {
    const Why why = ParkOrRefuse(large->request, outcome.status, large->no_reply);
    if (why != Why::kParked) store_->Abandon(&large->body);
    return why;
  }
  CountStorage(outcome);
  replies_->AppendOutcome(large->request, outcome, large->no_reply);
  bench_->observer()->Observe(large->request, value_bytes);
  return Why::kDone;
}

void Storage::LoseBody(const LargeBody& large, uint64_t left_bytes) {
  Swallow(left_bytes, Reply::kNoMemoryToStore, large.no_reply, nullptr);
}

// ---- blocks that are thrown away ----

Progress Storage::Swallow(uint64_t bytes, Reply reply, bool no_reply, const char* block) {
  swallow_reply_ = reply;
  swallow_no_reply_ = no_reply;
  stream_->Swallow(bytes);
  return {block, Why::kDone};
}

void Storage::FinishSwallow() {
  if (swallow_no_reply_) return swallow_delete_.Forget();
  const size_t begin = gate_->sink()->size();
  Append(swallow_reply_, false);
  swallow_delete_.Settle(begin, gate_);
}

}  // namespace cairn
