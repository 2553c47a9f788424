#include "protocol/meta_commands.h"

#include <charconv>
#include <cstring>
#include <memory>

#include "protocol/exptime.h"
#include "protocol/heard_requests.h"
#include "protocol/limits.h"
#include "protocol/meta_compose.h"

namespace cairn {

namespace {

constexpr std::string_view kLineEnd = "\r\n";

bool Quiet(const MetaLine& line) { return line.has('q'); }

// The expiry of a new entry: that of the last of T and N.
uint64_t ExpiryOfCreated(const MetaLine& line, const Now& now) {
  uint64_t expires_ms = kNeverExpires;
  for (size_t i = 0; i < line.flag_count; i++) {
    if (line.flags[i][0] == 'T') expires_ms = ExpiryOfTime(line.time, now);
    if (line.flags[i][0] == 'N') expires_ms = ExpiryOfTime(line.vivify_time, now);
  }
  return expires_ms;
}

// R looks at the expiry that the entry has when the flags before it have been worked through.
uint64_t RecacheBefore(const MetaLine& line, const Now& now) {
  if (!line.has('R')) return 0;
  const uint64_t before_ms = ExpiryOfTime(line.recache_time, now);
  for (size_t i = 0; i < line.flag_count && line.flags[i][0] != 'R'; i++) {
    if (line.flags[i][0] != 'T') continue;
    const uint64_t expires_ms = ExpiryOfTime(line.time, now);
    return expires_ms != kNeverExpires && expires_ms < before_ms ? kKeepExpiry : 0;
  }
  return before_ms;
}

uint64_t ExpiryOf(const MetaLine& line, const Now& now) {
  return line.has('T') ? ExpiryOfTime(line.time, now) : kKeepExpiry;
}

}  // namespace

// The line of an ms whose value comes in pieces, and what the store was asked for.
struct MetaCommands::Kept {
  std::string words;
  MetaLine line;
  MetaOptions options;
};

void MetaCommands::KeptDeleter::operator()(Kept* kept) const { delete kept; }

Progress MetaCommands::Run(const TextRequest& text, const char* at, const char* next, const char* end) {
  MetaLine line;
  ParseMetaLine(text.info->command, text.words, &line);
  Progress progress{next, Why::kDone};
  if (line.command == Command::kMetaSet) {
    set_words_ = text.words;
    progress = RunSet(line, at, next, end);
  } else if (line.has_error) {
    Append(line.error);
  } else {
    progress.why = RunLine(line);
    // The line comes again.
    if (progress.why == Why::kParked) progress.at = at;
  }
  if (progress.why == Why::kDone) bench_->counters()->Add(Counter::kMetaCommands, 1);
  return progress;
}

Why MetaCommands::RunLine(const MetaLine& line) {
  Why why = Why::kDone;
  CommandClass command = CommandClass::kOther;
  switch (line.command) {
    case Command::kMetaGet:
      return RunGet(line);
    case Command::kMetaDelete:
      command = CommandClass::kDelete;
      why = RunDelete(line);
      break;
    case Command::kMetaArithmetic:
      command = CommandClass::kArithmetic;
      why = RunArithmetic(line);
      break;
    default:
      why = RunDebug(line);
      break;
  }
  if (why == Why::kDone) bench_->observer()->ObserveCommand(command, line.key);
  return why;
}

// ---- mg ----

Why MetaCommands::RunGet(const MetaLine& line) {
  Job job(line);
  job.request.verb = Verb::kMetaGet;
  job.request.key = line.key;
  job.request.no_value = !line.has('v');
  job.request.no_bump = line.has('u');
  job.request.reads_through = bench_->service()->loads() != nullptr;
  job.request.expires_ms = ExpiryOf(line, *now_);
  job.options.vivifies = line.has('N');
  if (line.has('N')) job.request.keep_else_ms = ExpiryOfCreated(line, *now_);
  job.options.cas = line.cas;
  job.options.has_binary_key = line.is_base64 && IsPlainKey(line.key);
  job.options.recache_before_ms = RecacheBefore(line, *now_);
  Outcome outcome;
  const char* value = nullptr;
  const Done done = Fetch(job, &outcome, &value);
  if (done != Done::kYes) return done == Done::kParked ? Why::kParked : Why::kDone;
  HearGet(job, outcome);
  if (outcome.status == Status::kFound) {
    AppendHit(job, outcome, value);
  } else if (outcome.status == Status::kNotFound) {
    const MetaReply reply{.line = &line, .shown = {}, .outcome = &outcome, .is_base64 = line.is_base64};
    AppendCode("EN", reply, job.request, Quiet(line));
  } else {
    Append(Reply::kNoMemory);
  }
  bench_->observer()->Observe(job.request, SentBytes(outcome));
  return Why::kDone;
}

MetaCommands::Done MetaCommands::Fetch(const Job& job, Outcome* outcome, const char** value) {
  const bool changes = job.request.expires_ms != kKeepExpiry;
  if (changes && gate_->refuses(job.request.key)) [[unlikely]] {
    Append(gate_->CountRefusal());
    return Done::kRefused;
  }
  if (changes && gate_->ParkForSlowdown(job.request.key, *now_)) [[unlikely]]
    return Done::kParked;
  Scratch scratch{bench_->group()->scratch.get(), kGroupScratchBytes, 0};
  store_->Execute(job.request, *now_, &scratch, outcome);
  while (outcome->status == Status::kNeedsRoom) {
    // Behind the room for the line. The connection ends if there is none.
    const size_t bytes = outcome->value_bytes;
    char* room = gate_->sink()->Room(kMetaLineBytesMax + bytes + kLineEnd.size());
    if (room == nullptr) return Done::kRefused;
    scratch = {room + kMetaLineBytesMax, bytes, 0};
    *outcome = Outcome();
    store_->Execute(job.request, *now_, &scratch, outcome);
  }
  *value = scratch.data + outcome->value_offset;
  if (outcome->status < Status::kLogFull) [[likely]]
    return Done::kYes;
  Reply reply;
  if (gate_->ParkOrRefuse(job.request.key, outcome->status, *now_, &reply)) return Done::kParked;
  if (outcome->status == Status::kNotResident && gate_->is_unknown() && !changes) {
    // The backend has not answered: a miss.
    *outcome = Outcome();
    return Done::kYes;
  }
  Append(reply);
  return Done::kRefused;
}

// An entry that the request has made was missed.
void MetaCommands::HearGet(const Job& job, const Outcome& outcome) const {
  if (!bench_->events()->hears(kFetchers)) [[likely]]
    return;
  const Status status = (outcome.marks & kMarkCreated) != 0 ? Status::kNotFound : outcome.status;
  TellFetch(bench_, gate_->client(), job.request.key, *now_, status, outcome.value_bytes);
}

void MetaCommands::AppendHit(const Job& job, const Outcome& outcome, const char* value) {
  const MetaLine& line = job.line;
  const bool is_created = (outcome.marks & kMarkCreated) != 0;
  const MetaReply reply{
      .line = &line,
      .shown = "cstfhl",
      .outcome = &outcome,
      // A key that no line could hold is in base64 in any case.
      .is_base64 = (outcome.marks & kMarkBinaryKey) != 0 || (line.is_base64 && !IsPlainKey(line.key)),
      .expires_ms = is_created ? kNeverExpires : outcome.expires_ms,
      .is_created = is_created,
      .cas = outcome.version,
      .value_bytes = outcome.value_bytes,
  };
  // The client has the value already.
  const bool with_value = outcome.has_value && !(line.has('C') && outcome.version == line.compare);
  char head[kMetaLineBytesMax];
  char* to = head;
  std::memcpy(to, with_value ? "VA " : "HD", 3);
  to += with_value ? 3 : 2;
  if (with_value) to = std::to_chars(to, head + sizeof head, outcome.value_bytes).ptr;
  to = WriteMetaMarks(outcome.marks, WriteMetaFlags(reply, *now_, to));
  std::memcpy(to, kLineEnd.data(), kLineEnd.size());
  const size_t head_bytes = static_cast<size_t>(to - head) + kLineEnd.size();

  ByteBuffer* sink = gate_->sink();
  const size_t begin = sink->size();
  const size_t value_bytes = with_value ? outcome.value_bytes : 0;
  char* room = sink->Room(kMetaLineBytesMax + value_bytes + kLineEnd.size());
  if (room != nullptr) {
    if (with_value) {
      char* at = room + head_bytes;
      if (outcome.pin.ref != 0) {
        store_->ReadPinned(outcome.pin, 0, at, value_bytes);
      } else if (value_bytes != 0) {
        std::memmove(at, value, value_bytes);
      }
      std::memcpy(at + value_bytes, kLineEnd.data(), kLineEnd.size());
    }
    std::memcpy(room, head, head_bytes);
    sink->Advance(head_bytes + (with_value ? value_bytes + kLineEnd.size() : 0));
  }
  if (outcome.pin.ref != 0) store_->Unpin(outcome.pin);
  Tell(begin, job.request, outcome);
}

// ---- md ----

Why MetaCommands::RunDelete(const MetaLine& line) {
  Job job(line);
  const bool keeps_entry = line.has('I') || line.has('x');
  job.request.verb = keeps_entry ? Verb::kInvalidate : Verb::kDelete;
  job.request.key = line.key;
  job.request.has_compare = line.has('C');
  job.request.compare = line.compare;
  job.request.expires_ms = ExpiryOf(line, *now_);
  job.request.client_flags = line.client_flags;
  job.options.cas = line.cas;
  job.options.makes_stale = line.has('I');
  if (line.has('I')) job.request.keep_else_ms = now_->boot_ms;
  job.options.drops_value = line.has('x');
  Outcome outcome;
  const Done done = Change(job, &outcome);
  if (done != Done::kYes) return done == Done::kParked ? Why::kParked : Why::kDone;
  const MetaReply reply{.line = &line, .shown = {}, .outcome = &outcome, .is_base64 = line.is_base64};
  switch (outcome.status) {
    case Status::kFound:
      AppendCode("HD", reply, job.request, Quiet(line));
      break;
    case Status::kExists:
      AppendCode("EX", reply, job.request, false);
      break;
    case Status::kNotFound:
      AppendCode("NF", reply, job.request, false);
      break;
    default:
      Append(Reply::kNoMemory);
      break;
  }
  return Why::kDone;
}

// ---- ma ----

Why MetaCommands::RunArithmetic(const MetaLine& line) {
  Job job(line);
  job.request.verb = line.mode == 'D' || line.mode == '-' ? Verb::kDecr : Verb::kIncr;
  job.request.key = line.key;
  job.request.delta = line.delta;
  job.request.pad_decimal = true;
  // 0 compares nothing.
  job.request.has_compare = line.compare != 0;
  job.request.compare = line.compare;
  job.request.has_initial = line.has('N');
  job.request.initial = line.initial;
  job.request.expires_ms = ExpiryOfCreated(line, *now_);
  job.options.retimes = line.has('T');
  if (line.has('T')) job.request.keep_else_ms = ExpiryOf(line, *now_);
  job.options.cas = line.cas;
  job.options.has_binary_key = line.is_base64 && IsPlainKey(line.key);
  Outcome outcome;
  const Done done = Change(job, &outcome);
  if (done != Done::kYes) return done == Done::kParked ? Why::kParked : Why::kDone;
  MetaReply reply{.line = &line, .shown = {}, .outcome = &outcome, .is_base64 = line.is_base64};
  ByteBuffer* sink = gate_->sink();
  const size_t begin = sink->size();
  switch (outcome.status) {
    case Status::kExists:
      AppendCode("EX", reply, job.request, false);
      return Why::kDone;
    case Status::kNotFound:
      AppendCode("NF", reply, job.request, false);
      return Why::kDone;
    case Status::kNonNumeric:
      Append(Reply::kNonNumeric);
      Tell(begin, job.request, outcome);
      return Why::kDone;
    case Status::kFound:
    case Status::kStored:
      break;
    default:
      Append(Reply::kNoMemory);
      return Why::kDone;
  }
  reply.shown = "ct";
  reply.is_created = outcome.status == Status::kStored;
  reply.expires_ms = reply.is_created ? kNeverExpires : outcome.expires_ms;
  reply.cas = outcome.version;
  if (!line.has('v') || Quiet(line)) {
    AppendCode("HD", reply, job.request, Quiet(line));
    return Why::kDone;
  }
  char digits[20];
  const size_t digit_count =
      static_cast<size_t>(std::to_chars(digits, digits + sizeof digits, outcome.number).ptr - digits);
  char* const room = sink->Room(kMetaLineBytesMax + digit_count + kLineEnd.size());
  if (room == nullptr) return Why::kDone;
  std::memcpy(room, "VA ", 3);
  char* to = std::to_chars(room + 3, room + kMetaLineBytesMax, digit_count).ptr;
  to = WriteMetaFlags(reply, *now_, to);
  std::memcpy(to, kLineEnd.data(), kLineEnd.size());
  std::memcpy(to + kLineEnd.size(), digits, digit_count);
  to += kLineEnd.size() + digit_count;
  std::memcpy(to, kLineEnd.data(), kLineEnd.size());
  sink->Advance(static_cast<size_t>(to - room) + kLineEnd.size());
  Tell(begin, job.request, outcome);
  return Why::kDone;
}

// ---- me ----

Why MetaCommands::RunDebug(const MetaLine& line) {
  Job job(line);
  job.request.verb = Verb::kPeek;
  job.request.no_value = true;
  job.request.key = line.key;
  Outcome outcome;
  store_->Execute(job.request, *now_, nullptr, &outcome);
  HearFetch(bench_, gate_->client(), job.request, *now_, outcome);
  ByteBuffer* sink = gate_->sink();
  const size_t begin = sink->size();
  if (outcome.status == Status::kFound) {
    AppendMetaDebug(line, outcome, *now_, sink);
  } else {
    sink->Append("EN\r\n");
  }
  Tell(begin, job.request, outcome);
  return Why::kDone;
}

// ---- ms ----

Progress MetaCommands::RunSet(const MetaLine& line, const char* at, const char* next, const char* end) {
  StorageLine storage;
  MetaOptions options;
  storage.has_error = line.has_error;
  storage.error = line.error;
  storage.has_body = line.has_body;
  storage.body_bytes = line.body_bytes;
  storage.drops_old = true;
  if (!line.has_error) FillSet(line, &storage.request, &options);
  set_line_ = &line;
  return storage_->Run(storage, this, at, next, end);
}

void MetaCommands::FillSet(const MetaLine& line, Request* request, MetaOptions* options) const {
  request->meta = options;
  request->key = line.key;
  request->client_flags = line.client_flags;
  request->expires_ms = ExpiryOfTime(line.time, *now_);
  request->compare = line.compare;
  options->cas = line.cas;
  options->has_binary_key = line.is_base64 && IsPlainKey(line.key);
  switch (line.mode) {
    case 'E':
      // What is absent has nothing to compare.
      request->verb = Verb::kAdd;
      break;
    case 'A':
    case 'P':
      request->verb = line.mode == 'A' ? Verb::kAppend : Verb::kPrepend;
      request->expires_ms = kKeepExpiry;
      // 0 compares nothing.
      request->has_compare = line.compare != 0;
      options->vivifies = line.has('N');
      request->keep_else_ms = ExpiryOfTime(line.vivify_time, *now_);
      break;
    default:
      request->verb = line.mode == 'R' ? Verb::kReplace : Verb::kSet;
      if (line.has('C')) {
        request->verb = Verb::kCas;
        options->accepts_lower = line.has('I') && line.compare != 0;
        if (options->accepts_lower) request->keep_else_ms = now_->boot_ms;
      }
      break;
  }
}

void MetaCommands::Keep(Request* request) {
  kept_.reset(new Kept{.words = std::string(set_words_), .line = {}, .options = *request->meta});
  ParseMetaLine(Command::kMetaSet, kept_->words, &kept_->line);
  request->meta = &kept_->options;
  set_line_ = &kept_->line;
}

void MetaCommands::AppendOutcome(const Request& request, const Outcome& outcome, bool) {
  const MetaLine& line = *set_line_;
  const bool is_stored = outcome.status == Status::kStored;
  const MetaReply reply{
      .line = &line,
      .shown = "cs",
      .outcome = &outcome,
      .is_base64 = line.is_base64,
      .cas = is_stored ? outcome.version : 0,
      .value_bytes = is_stored ? outcome.value_bytes : line.body_bytes,
  };
  const bool is_concat = request.verb == Verb::kAppend || request.verb == Verb::kPrepend;
  const size_t begin = gate_->sink()->size();
  switch (outcome.status) {
    case Status::kStored:
      return AppendCode("HD", reply, request, Quiet(line));
    case Status::kExists:
      return AppendCode("EX", reply, request, false);
    case Status::kNotFound:
      return AppendCode("NF", reply, request, false);
    case Status::kTooLarge:
      // As append does.
      if (is_concat) return AppendCode("NS", reply, request, false);
      Append(Reply::kTooLarge);
      return Tell(begin, request, outcome);
    case Status::kNoMemory:
      Append(Reply::kNoMemoryToStore);
      return Tell(begin, request, outcome);
    default:
      return AppendCode("NS", reply, request, false);
  }
}

// ---- all ----

MetaCommands::Done MetaCommands::Change(const Job& job, Outcome* outcome) {
  if (gate_->refuses(job.request.key)) [[unlikely]] {
    Append(gate_->CountRefusal());
    return Done::kRefused;
  }
  if (gate_->ParkForSlowdown(job.request.key, *now_)) [[unlikely]]
    return Done::kParked;
  ExecuteHeard(bench_, gate_->client(), job.request, *now_, nullptr, outcome);
  if (outcome->status < Status::kLogFull) [[likely]]
    return Done::kYes;
  return ParkOrRefuse(job.request, outcome->status);
}

MetaCommands::Done MetaCommands::ParkOrRefuse(const Request& request, Status status) {
  Reply reply;
  if (gate_->ParkOrRefuse(request.key, status, *now_, &reply)) return Done::kParked;
  Append(reply);
  return Done::kRefused;
}

void MetaCommands::AppendCode(std::string_view code, const MetaReply& reply, const Request& request, bool hides) {
  ByteBuffer* sink = gate_->sink();
  const size_t begin = sink->size();
  if (!hides) {
    char* const room = sink->Room(kMetaLineBytesMax);
    if (room == nullptr) return;
    std::memcpy(room, code.data(), code.size());
    char* to = WriteMetaFlags(reply, *now_, room + code.size());
    std::memcpy(to, kLineEnd.data(), kLineEnd.size());
    sink->Advance(static_cast<size_t>(to - room) + kLineEnd.size());
  }
  Tell(begin, request, *reply.outcome);
}

void MetaCommands::Tell(size_t begin, const Request& request, const Outcome& outcome) {
  if (gate_->Settle(begin, request, outcome) != ReplyGate::Slot::kRefused) [[likely]]
    return;
  gate_->sink()->Truncate(begin);
  Append(gate_->CountRefusal());
}

void MetaCommands::Append(Reply reply) { gate_->sink()->Append(TextOf(reply)); }

}  // namespace cairn
