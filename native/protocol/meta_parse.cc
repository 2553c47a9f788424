#include "protocol/meta_parse.h"

#include "protocol/base64.h"
#include "protocol/text_parse.h"

namespace cairn {

namespace {

constexpr std::string_view kFlags = "bcfhklqstuvxCDEFIJLMNOPRT";

bool IsAlphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

void Fail(MetaLine* line, Reply reply) {
  line->has_error = true;
  line->error = reply;
}

bool DecodeKey(MetaLine* line, char* decoded) {
  const size_t bytes = DecodeBase64(line->key, decoded);
  if (bytes == 0) return false;
  line->key = {decoded, bytes};
  line->is_base64 = true;
  return true;
}

// Seconds, or milliseconds before "ms".
bool ParseTime(std::string_view word, FlagTime* time) {
  constexpr std::string_view kUnit = "ms";
  if (word.size() < kUnit.size() || word.substr(word.size() - kUnit.size()) != kUnit) {
    int32_t seconds = 0;
    if (!ParseInt32(word, &seconds)) return false;
    *time = {seconds, false};
    return true;
  }
  word.remove_suffix(kUnit.size());
  const bool is_negative = !word.empty() && word[0] == '-';
  if (is_negative || (!word.empty() && word[0] == '+')) word.remove_prefix(1);
  uint64_t magnitude = 0;
  if (!ParseUint64(word, &magnitude) || magnitude > uint64_t{kMillisecondsMax}) return false;
  const int64_t ms = static_cast<int64_t>(magnitude);
  *time = {is_negative ? -ms : ms, true};
  return true;
}

// Reads what follows the letter. False: *error says what is wrong.
bool ReadFlag(std::string_view flag, MetaLine* line, char* decoded, Reply* error) {
  const std::string_view rest = flag.substr(1);
  *error = Reply::kBadToken;
  switch (flag[0]) {
    case 'b':
      *error = Reply::kBadKey;
      return DecodeKey(line, decoded);
    case 'T':
      return ParseTime(rest, &line->time);
    case 'N':
      return ParseTime(rest, &line->vivify_time);
    case 'R':
      return ParseTime(rest, &line->recache_time);
    case 'C':
      return ParseUint64(rest, &line->compare);
    case 'E':
      return ParseUint64(rest, &line->cas);
    case 'F':
      *error = Reply::kBadFormat;
      return ParseClientFlags(rest, &line->client_flags);
    case 'J':
      *error = Reply::kBadInitial;
      return ParseUint64(rest, &line->initial);
    case 'D':
      *error = Reply::kBadDeltaFlag;
      return ParseUint64(rest, &line->delta);
    case 'M':
      // Without a letter it is a mode that no command has.
      line->mode = rest.empty() ? ' ' : rest[0];
      return true;
    default:
      return true;
  }
}

// What is wrong with the flags; kOk: nothing. A flag that is not known, or is there twice, is told of before the last
// of the values that are wrong; that of F only if it is the only one.
Reply ReadFlags(MetaLine* line, char* decoded) {
  Reply last = Reply::kOk;
  for (size_t i = 0; i < line->flag_count; i++) {
    const char letter = line->flags[i][0];
    if (line->has(letter)) return Reply::kDuplicateFlag;
    if (kFlags.find(letter) == std::string_view::npos) return Reply::kInvalidFlag;
    line->letters |= uint64_t{1} << (letter - 64);
    Reply error;
    if (ReadFlag(line->flags[i], line, decoded, &error)) continue;
    if (error != Reply::kBadFormat || last == Reply::kOk) last = error;
  }
  return last;
}

bool HasLongOpaque(const MetaLine& line) {
  if (!line.has('O')) return false;
  for (size_t i = 0; i < line.flag_count; i++) {
    if (line.flags[i][0] == 'O') return line.flags[i].size() > kOpaqueBytesMax;
  }
  return false;
}

bool IsModeOf(Command command, char mode) {
  constexpr std::string_view kSetModes = "EAPRS";
  constexpr std::string_view kArithmeticModes = "I+D-";
  if (mode == '\0') return true;
  if (command == Command::kMetaSet) return kSetModes.find(mode) != std::string_view::npos;
  if (command == Command::kMetaArithmetic) return kArithmeticModes.find(mode) != std::string_view::npos;
  return true;
}

// `me key [b]`: other words are not looked at. A key that is no base64 is a plain one, unless something follows the
// flag: so it is in memcached.
void ReadDebugFlags(std::string_view words, MetaLine* line, char* decoded) {
  const std::string_view flag = NextWord(&words);
  if (flag.empty() || flag[0] != 'b') return;
  if (!DecodeKey(line, decoded) && !NextWord(&words).empty()) Fail(line, Reply::kBadFormat);
}

}  // namespace

void ParseMetaLine(Command command, std::string_view words, MetaLine* line) {
  line->command = command;
  line->key = NextWord(&words);
  if (line->key.empty()) return Fail(line, Reply::kBadFormat);
  if (command == Command::kMetaSet) {
    // What the length is decides whether anything is to be swallowed; so it comes before everything else.
    if (!ParseBodyBytes(NextWord(&words), &line->body_bytes)) return Fail(line, Reply::kBadFormat);
    line->has_body = true;
  }
  const bool is_arithmetic = command == Command::kMetaArithmetic;
  if (line->key.size() > kKeyBytesInlineMax) {
    return Fail(line, is_arithmetic ? Reply::kInvalidOrDuplicateFlag : Reply::kBadFormat);
  }
  if (command == Command::kMetaDebug) return ReadDebugFlags(words, line, line->decoded_);
  const size_t words_before = line->has_body ? 3 : 2;
  for (std::string_view flag = NextWord(&words); !flag.empty(); flag = NextWord(&words)) {
    if (words_before + line->flag_count == kMetaWordsMax) return Fail(line, Reply::kTooManyFlags);
    line->flags[line->flag_count++] = flag;
  }
  for (size_t i = 0; i < line->flag_count; i++) {
    if (!IsAlphanumeric(line->flags[i][0])) return Fail(line, Reply::kBadFormat);
  }
  const Reply error = ReadFlags(line, line->decoded_);
  if (error != Reply::kOk) return Fail(line, is_arithmetic ? Reply::kInvalidOrDuplicateFlag : error);
  if (HasLongOpaque(*line)) return Fail(line, Reply::kOpaqueTooLong);
  if (!IsModeOf(command, line->mode)) {
    return Fail(line, is_arithmetic ? Reply::kBadArithmeticMode : Reply::kBadSetMode);
  }
}

}  // namespace cairn
