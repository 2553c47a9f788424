// TextDialect: set, add, replace, append, prepend, cas, whose data block follows the line.
//
// A block is swallowed if the request is refused, stored from the line's own bytes if it is small, and else received
// straight into the store. Its reply comes when the block is over, not before: so it is in memcached, and a client that
// is still sending does not read.
#include <cstring>
#include <memory>
#include <utility>

#include "protocol/execute.h"
#include "protocol/limits.h"
#include "protocol/text_dialect.h"

namespace cairn {

namespace {

constexpr std::string_view kLineEnd = "\r\n";

uint64_t BlockBytes(const TextRequest& line) { return uint64_t{line.body_bytes} + kLineEnd.size(); }

bool IsConcat(const Request& request) { return request.verb == Verb::kAppend || request.verb == Verb::kPrepend; }

}  // namespace

Progress TextDialect::RunStorage(const TextRequest& line, const char* at, const char* block, const char* end) {
  if (line.has_error) {
    if (line.has_body) return Swallow(BlockBytes(line), line.error, line.no_reply, block);
    Append(line.error, line.no_reply);
    return {block, Why::kDone};
  }
  if (gate_->refuses(line.key)) [[unlikely]]
    return Swallow(BlockBytes(line), Refusal(), line.no_reply, block);
  if (ItemBytes(line.key.size(), line.client_flags, line.body_bytes) > service_->options().item_bytes_max) {
    return RefuseTooLarge(line, at, block);
  }
  Request request = StoreRequestOf(line, *now_);
  if (line.body_bytes > kBodyBufferedBytesMax && !IsConcat(request)) return BeginLarge(line, request, at, block);
  if (static_cast<uint64_t>(end - block) < BlockBytes(line)) {
    stream_->Need(static_cast<size_t>(block - at) + BlockBytes(line));
    return {at, Why::kMore};
  }
  return StoreInLine(line, &request, at, block);
}

Progress TextDialect::StoreInLine(const TextRequest& line, Request* request, const char* at, const char* block) {
  const char* after = block + BlockBytes(line);
  if (std::memcmp(after - kLineEnd.size(), kLineEnd.data(), kLineEnd.size()) != 0) {
    Append(Reply::kBadChunk, line.no_reply);
    return {after, Why::kDone};
  }
  if (gate_->ParkForSlowdown(line.key, *now_)) [[unlikely]]
    return {at, Why::kParked};
  request->value = {block, line.body_bytes};
  Outcome outcome;
  if (IsConcat(*request) &&
      !FitsItem(*request, line.body_bytes, service_->options().item_bytes_max, *now_, store_, &outcome)) {
    // The reply tells of the value that is there.
    outcome.status = Status::kNotStored;
  } else {
    outcome = Outcome();
    store_->Execute(*request, *now_, nullptr, &outcome);
  }
  if (outcome.status >= Status::kLogFull) [[unlikely]] {
    const Why why = ParkOrRefuse(*request, outcome.status, line.no_reply);
    return {why == Why::kParked ? at : after, why};
  }
  CountStorage(outcome);
  AppendOutcome(*request, outcome, line.no_reply);
  return {after, Why::kDone};
}

Progress TextDialect::BeginLarge(const TextRequest& line, Request request, const char* at, const char* block) {
  if (gate_->ParkForSlowdown(line.key, *now_)) [[unlikely]]
    return {at, Why::kParked};
  auto large = std::make_unique<LargeBody>();
  std::memcpy(large->key, line.key.data(), line.key.size());
  request.key = {large->key, line.key.size()};
  large->request = request;
  large->end_bytes = kLineEnd.size();
  large->no_reply = line.no_reply;
  const Status status = store_->Reserve(request, line.body_bytes, *now_, &large->body);
  if (status == Status::kStored) {
    stream_->Receive(std::move(large));
    return {block, Why::kDone};
  }
  if (status == Status::kLogFull) {
    if (gate_->ParkForRoom()) return {at, Why::kParked};
    return Swallow(BlockBytes(line), Refusal(), line.no_reply, block);
  }
  swallow_delete_.Find(line.key, *now_, store_, *gate_);
  const Reply reply = status == Status::kNoMemory ? Reply::kNoMemoryToStore : Reply::kTooLarge;
  return Swallow(BlockBytes(line), reply, line.no_reply, block);
}

Progress TextDialect::RefuseTooLarge(const TextRequest& line, const char* at, const char* block) {
  if (line.info->command == Command::kSet && !swallow_delete_.Delete(line.key, *now_, store_, *gate_)) {
    if (gate_->ParkForRoom()) return {at, Why::kParked};
    return Swallow(BlockBytes(line), Refusal(), line.no_reply, block);
  }
  bench_->counters()->Add(Counter::kTooLarge, 1);
  return Swallow(BlockBytes(line), Reply::kTooLarge, line.no_reply, block);
}

void TextDialect::CountStorage(const Outcome& outcome) {
  if (outcome.status != Status::kStored) bench_->counters()->Add(Counter::kNotStored, 1);
}

// ---- large values ----

Why TextDialect::FinishBody(LargeBody* large) {
  if (std::memcmp(large->end, kLineEnd.data(), kLineEnd.size()) != 0) {
    store_->Abandon(&large->body);
    Append(Reply::kBadChunk, large->no_reply);
    return Why::kDone;
  }
  if (gate_->refuses(large->request.key)) {
    store_->Abandon(&large->body);
    Append(Refusal(), large->no_reply);
    return Why::kDone;
  }
  Outcome outcome;
  store_->Link(&large->body, large->request, *now_, &outcome);
  if (outcome.status >= Status::kLogFull) [[unlikely]] {
    const Why why = ParkOrRefuse(large->request, outcome.status, large->no_reply);
    if (why != Why::kParked) store_->Abandon(&large->body);
    return why;
  }
  CountStorage(outcome);
  AppendOutcome(large->request, outcome, large->no_reply);
  return Why::kDone;
}

void TextDialect::LoseBody(const LargeBody& large, uint64_t left_bytes) {
  Swallow(left_bytes, Reply::kNoMemoryToStore, large.no_reply, nullptr);
}

// ---- blocks that are thrown away ----

Progress TextDialect::Swallow(uint64_t bytes, Reply reply, bool no_reply, const char* block) {
  swallow_reply_ = reply;
  swallow_no_reply_ = no_reply;
  stream_->Swallow(bytes);
  return {block, Why::kDone};
}

void TextDialect::FinishSwallow() {
  const size_t begin = gate_->sink()->size();
  if (swallow_no_reply_) return swallow_delete_.Forget();
  Append(swallow_reply_);
  swallow_delete_.Settle(begin, gate_);
}

}  // namespace cairn
