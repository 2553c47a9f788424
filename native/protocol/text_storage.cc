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
  if (IsConcat(*request) && !FitsItem(*request, line.body_bytes, &outcome)) {
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
  // The old value is gone, which the reply tells too; its record is the last of its shard at the latest.
  if (gate_->marks_are_active()) {
    const uint64_t version = store_->LastChangeOf(line.key, *now_);
    RevealDelete(line.key, version != 0 ? version : store_->LastVersion(store_->ShardOf(line.key)), version != 0);
  }
  const Reply reply = status == Status::kNoMemory ? Reply::kNoMemoryToStore : Reply::kTooLarge;
  return Swallow(BlockBytes(line), reply, line.no_reply, block);
}

Progress TextDialect::RefuseTooLarge(const TextRequest& line, const char* at, const char* block) {
  if (line.info->command == Command::kSet) {
    // Not even the old value may be served any more: the client meant to replace it.
    Request remove;
    remove.verb = Verb::kDelete;
    remove.key = line.key;
    Outcome outcome;
    store_->Execute(remove, *now_, nullptr, &outcome);
    if (outcome.status == Status::kLogFull) {
      if (gate_->ParkForRoom()) return {at, Why::kParked};
      return Swallow(BlockBytes(line), Refusal(), line.no_reply, block);
    }
    if (gate_->marks_are_active()) RevealDelete(line.key, outcome.commit_version, outcome.record_version != 0);
  }
  bench_->counters()->Add(Counter::kTooLarge, 1);
  return Swallow(BlockBytes(line), Reply::kTooLarge, line.no_reply, block);
}

// Whether the entry stays within the item size with `more_bytes` added to its value. Between this check and the append
// another client may append too; the store's own limit holds in any case.
bool TextDialect::FitsItem(const Request& request, size_t more_bytes, Outcome* present) {
  Request look;
  look.verb = Verb::kPeek;
  look.no_value = true;
  look.key = request.key;
  Scratch scratch;
  store_->Execute(look, *now_, &scratch, present);
  if (present->status != Status::kFound) return true;
  return ItemBytes(request.key.size(), present->client_flags, uint64_t{present->value_bytes} + more_bytes) <=
         service_->options().item_bytes_max;
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

void TextDialect::RevealDelete(std::string_view key, uint64_t version, bool is_record) {
  swallow_shard_ = store_->ShardOf(key);
  swallow_version_ = version;
  // Of other versions the backend may never hear.
  swallow_key_ = is_record ? key : std::string_view();
}

void TextDialect::FinishSwallow() {
  const uint64_t version = std::exchange(swallow_version_, 0);
  if (swallow_no_reply_) return;
  const size_t begin = gate_->sink()->size();
  Append(swallow_reply_);
  if (version == 0) return;
  if (swallow_key_.empty()) {
    (void)gate_->Settle(begin, swallow_shard_, version, /*may_refuse=*/false);
  } else {
    gate_->SettleChange(begin, swallow_shard_, swallow_key_, version);
  }
}

}  // namespace cairn
