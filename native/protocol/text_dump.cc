// Dumps: `lru_crawler metadump`, `lru_crawler mgdump` and `stats cachedump` list every entry, and `stats sizes` counts
// them by their sizes; each visits a part of the entries per call of the session.
//
// A dump is a walk of the store. An entry is looked up again when its line is written, so that the line tells of an
// entry that is there at that moment. Lines that tell of a change which the log does not have yet are held, as replies
// are.
#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/base64.h"
#include "protocol/execute.h"
#include "protocol/key_display.h"
#include "protocol/limits.h"
#include "protocol/meta_compose.h"
#include "protocol/text_compose.h"
#include "protocol/text_dialect.h"
#include "protocol/text_parse.h"

namespace cairn {

namespace {

// `stats items` shows all entries as one class.
constexpr std::string_view kOnlyClass = "1";
constexpr uint32_t kClassMax = 63;
// Sizes are counted in steps of these bytes.
constexpr uint64_t kSizeStepBytes = 32;

void AppendField(std::string_view name, uint64_t value, ByteBuffer* out) {
  char digits[20];
  const char* const end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  out->Append(name);
  out->Append({digits, static_cast<size_t>(end - digits)});
}

// Unix seconds of an expiry, to the nearest, because the clocks may have moved by milliseconds.
uint64_t UnixSeconds(uint64_t expires_ms, const Now& now) {
  return (expires_ms + static_cast<uint64_t>(now.WallOffset()) + 500) / 1000;
}

// A client can ask for it: other keys cannot stand in an ITEM line.
bool IsTextKey(std::string_view key) { return key.size() <= kKeyBytesInlineMax && IsPlainKey(key); }

// key=a exp=-1 la=1764446400 cas=7 fetch=no cls=1 size=63 flags=0
void AppendMetaLine(std::string_view key, const KeyDisplay& keys, const Outcome& outcome, const Now& now,
                    ByteBuffer* out) {
  out->Append("key=");
  keys.Append(key, out);
  if (outcome.expires_ms == kNeverExpires) {
    out->Append(" exp=-1");
  } else {
    AppendField(" exp=", UnixSeconds(outcome.expires_ms, now), out);
  }
  AppendField(" la=", static_cast<uint64_t>(now.wall_ms / 1000) - outcome.idle_s, out);
  AppendField(" cas=", outcome.version, out);
  out->Append(outcome.fetched ? " fetch=yes" : " fetch=no");
  AppendField(" cls=1 size=", ItemBytes(key.size(), outcome.client_flags, outcome.value_bytes), out);
  AppendField(" flags=", outcome.client_flags, out);
  out->Append(" \n");
}

// mg a, or mg AAEC b: the request for the entry. There is none for a key that is too long, also as base64.
void AppendMetaGet(std::string_view key, const KeyDisplay& keys, const Outcome&, const Now&, ByteBuffer* out) {
  const bool is_plain = IsPlainKey(key);
  const size_t bytes = is_plain ? key.size() : Base64Bytes(key.size());
  if (bytes > kKeyBytesInlineMax) return;
  out->Append("mg ");
  if (keys.hides()) {
    keys.Append(key, out);
  } else if (is_plain) {
    out->Append(key);
  } else if (char* to = out->Room(bytes); to != nullptr) {
    EncodeBase64(key, to);
    out->Advance(bytes);
    out->Append(" b");
  }
  out->Append("\r\n");
}

// ITEM a [3 b; 0 s]
void AppendItemLine(std::string_view key, const KeyDisplay& keys, const Outcome& outcome, const Now& now,
                    ByteBuffer* out) {
  if (!IsTextKey(key)) return;
  out->Append("ITEM ");
  if (keys.hides()) {
    keys.Append(key, out);
  } else {
    out->Append(key);
  }
  AppendField(" [", outcome.value_bytes, out);
  AppendField(" b; ", outcome.expires_ms == kNeverExpires ? 0 : UnixSeconds(outcome.expires_ms, now), out);
  out->Append(" s]\r\n");
}

}  // namespace

struct TextDialect::Dump {
  Store* store;
  Cursor cursor = {};
  // Writes the line of an entry, or none. Null: the entries are counted by size.
  LineWriter* append = nullptr;
  Reply end = Reply::kEnd;
  // Entries by the upper end of their step. Their number is bounded by memory: n steps need entries of 16 n^2 bytes.
  std::map<uint64_t, uint64_t> counts = {};
  // Lines that may still come.
  uint64_t left = UINT64_MAX;
  WalkedEntry entries[kStepEntriesMax];
  char keys[kKeyBytesMax];
};

void TextDialect::DumpDeleter::operator()(Dump* dump) const {
  dump->store->CloseCursor(&dump->cursor);
  delete dump;
}

// lru_crawler metadump|mgdump all|hash|1. The other commands of memcached's crawler tune a thread that is not here.
Why TextDialect::RunCrawler(const TextRequest& line) {
  if (dump_ != nullptr) return ContinueDump();
  std::string_view words = line.words;
  const std::string_view command = NextWord(&words);
  const std::string_view classes = NextWord(&words);
  const bool is_of_keys = command == "mgdump";
  if ((command != "metadump" && !is_of_keys) || classes.empty()) {
    Append(Reply::kError, LastWord(line.words) == "noreply");
    return Why::kDone;
  }
  if (service_->options().disable_dumping) {
    Append(is_of_keys ? Reply::kKeyDumpNotAllowed : Reply::kCrawlNotAllowed);
    return Why::kDone;
  }
  if (classes != "all" && classes != "hash" && classes != kOnlyClass) {
    Append(Reply::kBadClass);
    return Why::kDone;
  }
  Append(Reply::kOk);
  BeginDump();
  dump_->append = is_of_keys ? &AppendMetaGet : &AppendMetaLine;
  if (is_of_keys) dump_->end = Reply::kEndOfKeys;
  return ContinueDump();
}

// stats sizes. The entries are counted when it is asked for, so that storing them costs nothing.
Why TextDialect::RunSizes() {
  if (dump_ == nullptr) BeginDump();
  return ContinueDump();
}

// stats cachedump CLASS LIMIT; a limit of 0 is none.
Why TextDialect::RunCacheDump(std::string_view words) {
  if (dump_ != nullptr) return ContinueDump();
  if (service_->options().disable_dumping) {
    Append(Reply::kDumpNotAllowed);
    return Why::kDone;
  }
  const std::string_view class_word = NextWord(&words);
  const std::string_view limit_word = NextWord(&words);
  uint32_t class_number = 0;
  uint32_t limit = 0;
  if (limit_word.empty()) {
    Append(Reply::kBadLine);
  } else if (!ParseUint32(class_word, &class_number) || !ParseUint32(limit_word, &limit)) {
    Append(Reply::kBadFormat);
  } else if (class_number > kClassMax) {
    Append(Reply::kIllegalClass);
  } else if (class_word != kOnlyClass) {
    Append(Reply::kEnd);
  } else {
    BeginDump();
    dump_->append = &AppendItemLine;
    if (limit != 0) dump_->left = limit;
    return ContinueDump();
  }
  return Why::kDone;
}

void TextDialect::BeginDump() {
  dump_.reset(new Dump);
  dump_->store = store_;
  store_->OpenCursor(Cursor::Order::kNewestFirst, &dump_->cursor);
}

// kFull: the same line goes on with the dump.
Why TextDialect::ContinueDump() {
  for (bool done = false; !done && dump_->left != 0;) {
    if (gate_->IsFull()) return Why::kFull;
    Scratch scratch{dump_->keys, sizeof(dump_->keys), 0};
    size_t bytes_needed = 0;
    const size_t count = store_->StepCursor(&dump_->cursor, *now_, Emits::kKeys, dump_->entries, kStepEntriesMax,
                                            &scratch, &done, &bytes_needed);
    for (size_t i = 0; i < count && dump_->left != 0; i++) {
      AppendDumped({dump_->keys + dump_->entries[i].key_offset, dump_->entries[i].key_bytes});
    }
  }
  for (const auto& [bytes, count] : dump_->counts) {
    AppendStat(std::to_string(bytes), std::to_string(count), gate_->sink());
  }
  const Reply end = dump_->end;
  dump_ = nullptr;
  Append(end);
  return Why::kDone;
}

void TextDialect::AppendDumped(std::string_view key) {
  gate_->CountRequest();
  const Outcome outcome = PeekOnly(key, *now_, store_);
  if (outcome.status != Status::kFound) return;
  if (dump_->append == nullptr) {
    const uint64_t bytes = ItemBytes(key.size(), outcome.client_flags, outcome.value_bytes);
    dump_->counts[(bytes + kSizeStepBytes - 1) / kSizeStepBytes * kSizeStepBytes]++;
    return;
  }
  if (AppendLine(key, outcome, dump_->append)) dump_->left--;
}

bool TextDialect::AppendLine(std::string_view key, const Outcome& outcome, LineWriter* write) {
  ByteBuffer* to = gate_->sink();
  const size_t begin = to->size();
  write(key, service_->keys(), outcome, *now_, to);
  if (to->size() == begin) return false;
  Request request;
  request.key = key;
  if (gate_->Settle(begin, request, outcome) != ReplyGate::Slot::kRefused) return true;
  // The log will not have it: the client must not see it.
  to->Truncate(begin);
  return false;
}

// scan CURSOR [count [prefix]]
Why TextDialect::RunScan(std::string_view words) {
  if (gate_->IsFull()) return Why::kFull;
  const std::string_view cursor = NextWord(&words);
  const std::string_view count_word = NextWord(&words);
  const std::string_view prefix_word = NextWord(&words);
  uint32_t left = kScanKeysDefault;
  KeyPlace place;
  char prefix[kLineBytesMax];
  size_t prefix_bytes = 0;
  Reply error = Reply::kOk;
  if (service_->options().disable_dumping) {
    error = Reply::kScanNotAllowed;
  } else if ((!count_word.empty() && (!ParseUint32(count_word, &left) || left == 0)) || !NextWord(&words).empty() ||
             prefix_word.size() > sizeof prefix || !ReadEncoded(prefix_word, prefix, &prefix_bytes)) {
    error = Reply::kBadFormat;
  } else if (service_->keys().hides() && prefix_bytes != 0) {
    // A client could ask whether a key is there that it has guessed, a letter at a time.
    error = Reply::kPrefixNotAllowed;
  } else if (!service_->scan_cursors().Read(cursor, store_->shard_count(), &place)) {
    error = Reply::kBadCursor;
  }
  if (error != Reply::kOk) {
    Append(error);
    return Why::kDone;
  }
  left = std::min(left, kScanKeysMax);
  const std::unique_ptr<char[]> keys(new char[kKeyBytesMax]);
  bool done = false;
  for (uint32_t work = 0; !done && left != 0 && work < kScanWorkMax && !gate_->IsFull();) {
    KeyListStep step;
    step.prefix = {prefix, prefix_bytes};
    step.count = std::min<size_t>(left, kStepEntriesMax);
    step.scratch = {keys.get(), kKeyBytesMax, 0};
    done = store_->ListKeys(*now_, &place, &step);
    work += step.work;
    const char* key = keys.get();
    for (size_t i = 0; i < step.emitted; key += step.key_bytes[i++]) {
      const std::string_view found{key, step.key_bytes[i]};
      const Outcome outcome = PeekOnly(found, *now_, store_);
      if (outcome.status == Status::kFound && AppendLine(found, outcome, &AppendMetaLine)) left--;
    }
    // So that a pipeline of scans takes turns with other clients.
    for (uint32_t visits = step.work / kListEntryWork; visits != 0; visits--) gate_->CountRequest();
  }
  if (done) {
    Append(Reply::kEnd);
    return Why::kDone;
  }
  char word[kScanCursorBytes];
  service_->scan_cursors().Write(place, word);
  gate_->sink()->Append("CURSOR ");
  gate_->sink()->Append({word, sizeof word});
  gate_->sink()->Append("\r\n");
  return Why::kDone;
}

}  // namespace cairn
