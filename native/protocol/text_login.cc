#include "protocol/text_login.h"

#include <cstring>

#include "protocol/authentication.h"
#include "protocol/limits.h"
#include "protocol/response.h"
#include "protocol/text_parse.h"

namespace cairn {

namespace {

// memcached looks at no fewer bytes, and ends the session at a shorter line, its end included.
constexpr size_t kLookedAtBytesMin = 3;
constexpr size_t kLoginLineBytesMin = 6;

// Whether the line, without its end, begins a login with a block of `bytes` bytes.
bool BeginsLogin(std::string_view line, uint32_t* bytes) {
  constexpr std::string_view kSet = "set ";
  if (!line.starts_with(kSet)) return false;
  line.remove_prefix(kSet.size());
  for (int i = 0; i < 3; i++) {  // Key, flags and time.
    if (NextWord(&line).empty()) return false;
  }
  return ParseUint32(NextWord(&line), bytes);
}

}  // namespace

Progress TextLogin::Run(const char* at, const char* end) {
  Progress progress{at, Why::kDone};
  while (progress.at != end && progress.why == Why::kDone && !has_logged_in_) {
    progress = RunLine(progress.at, end);
    if (progress.why == Why::kDone && gate_->IsFull()) progress.why = Why::kFull;
  }
  return progress;
}

Progress TextLogin::RunLine(const char* at, const char* end) {
  const size_t there = static_cast<size_t>(end - at);
  if (there < kLookedAtBytesMin) {
    stream_->Need(kLookedAtBytesMin);
    return {at, Why::kMore};
  }
  const char* newline = static_cast<const char*>(std::memchr(at, '\n', there));
  if (newline == nullptr) return {at, Why::kMore};
  const char* block = newline + 1;
  const size_t line_bytes = static_cast<size_t>(block - at);
  if (line_bytes < kLoginLineBytesMin) return {at, Why::kClosing};
  const bool has_return = newline[-1] == '\r';
  uint32_t token_bytes = 0;
  if (!BeginsLogin({at, line_bytes - (has_return ? 2 : 1)}, &token_bytes)) {
    gate_->CountRequest();
    gate_->sink()->Append(TextOf(Reply::kUnauthenticated));
    return {block, Why::kDone};
  }
  if (token_bytes > kLoginBytesMax) {
    gate_->CountRequest();
    gate_->sink()->Append(TextOf(Reply::kTokenTooLong));
    return {block, Why::kDone};
  }
  const size_t block_bytes = size_t{token_bytes} + 2;
  if (static_cast<size_t>(end - block) < block_bytes) {
    stream_->Need(line_bytes + block_bytes);
    return {at, Why::kMore};
  }
  gate_->CountRequest();
  RunToken({block, block_bytes});
  return {block + block_bytes, Why::kDone};
}

void TextLogin::RunToken(std::string_view block) {
  Account account;
  Reply reply = Reply::kStored;
  if (!block.ends_with("\r\n")) {
    reply = Reply::kBadTermination;
  } else if (block.remove_suffix(2); !ReadToken(block, &account)) {
    reply = Reply::kBadAuthToken;
  } else {
    bench_->counters()->Add(Counter::kLogins, 1);
    has_logged_in_ = service_->authentication()->Allows(account);
    if (has_logged_in_) {
      stream_->SetDialect(next_);
    } else {
      bench_->counters()->Add(Counter::kLoginsFailed, 1);
      reply = Reply::kAuthenticationFailure;
    }
  }
  gate_->sink()->Append(TextOf(reply));
}

}  // namespace cairn
