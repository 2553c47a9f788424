#include "protocol/text_parse.h"

#include <array>
#include <cstring>

#include "base/limits.h"
#include "protocol/limits.h"

namespace cairn {

namespace {

constexpr size_t kCommandCount = sizeof(kCommands) / sizeof(kCommands[0]);
constexpr size_t kSlotCount = 256;

// Names differ in length, first, second or last letter; the multiplier makes the slots differ too. It is found by the
// compiler, which refuses to go on if none does.
constexpr uint32_t SlotOf(std::string_view name, uint32_t multiplier) {
  uint32_t word = static_cast<uint32_t>(name.size()) | uint32_t{static_cast<unsigned char>(name[0])} << 8 |
                  uint32_t{static_cast<unsigned char>(name[1])} << 16 |
                  uint32_t{static_cast<unsigned char>(name[name.size() - 1])} << 24;
  return (word * multiplier) >> 24;
}

constexpr bool Separates(uint32_t multiplier) {
  std::array<bool, kSlotCount> taken{};
  for (const CommandInfo& info : kCommands) {
    uint32_t slot = SlotOf(info.name, multiplier);
    if (taken[slot]) return false;
    taken[slot] = true;
  }
  return true;
}

constexpr uint32_t FindMultiplier() {
  uint32_t multiplier = 0x9e3779b1;
  for (int tries = 0; tries < 4000; tries++) {
    if (Separates(multiplier)) return multiplier;
    multiplier = multiplier * 1664525 + 1013904223;
  }
  return 0;
}

constexpr uint32_t kMultiplier = FindMultiplier();
static_assert(kMultiplier != 0, "two commands of one slot: take more letters into SlotOf");

// Index in kCommands plus 1; 0: none.
constexpr std::array<uint8_t, kSlotCount> kSlots = [] {
  std::array<uint8_t, kSlotCount> slots{};
  for (size_t i = 0; i < kCommandCount; i++)
    slots[SlotOf(kCommands[i].name, kMultiplier)] = static_cast<uint8_t>(i + 1);
  return slots;
}();

constexpr std::string_view kNoReply = "noreply";

void Fail(TextRequest* request, Reply reply) {
  request->has_error = true;
  request->error = reply;
}

// noreply is the last word, after any words except the command's name.
void ReadNoReply(std::string_view rest, TextRequest* request) { request->no_reply = LastWord(rest) == kNoReply; }

// key flags exptime bytes [cas] [noreply]
void ReadStorage(std::string_view words, TextRequest* request) {
  std::string_view key = NextWord(&words);
  std::string_view flags = NextWord(&words);
  std::string_view exptime = NextWord(&words);
  std::string_view length = NextWord(&words);
  if (length.empty()) return Fail(request, Reply::kBadFormat);
  // What the length is decides whether anything is to be swallowed; so it comes before everything else.
  if (!ParseBodyBytes(length, &request->body_bytes)) return Fail(request, Reply::kBadFormat);
  request->has_body = true;
  request->key = key;
  if (!words.empty()) ReadNoReply(words, request);
  if (key.size() > kKeyBytesInlineMax) return Fail(request, Reply::kBadFormat);
  if (!ParseClientFlags(flags, &request->client_flags)) return Fail(request, Reply::kBadFormat);
  if (!ParseInt32(exptime, &request->seconds)) return Fail(request, Reply::kBadFormat);
  if (request->info->command == Command::kCas && !ParseUint64(NextWord(&words), &request->number)) {
    return Fail(request, Reply::kBadFormat);
  }
}

// key, then what the shape says, then [noreply].
void ReadKeyed(std::string_view words, TextRequest* request) {
  request->key = NextWord(&words);
  if (request->key.empty()) return Fail(request, Reply::kBadFormat);
  std::string_view argument;
  std::string_view rest = words;
  Shape shape = request->info->shape;
  if (shape != Shape::kKey) {
    argument = NextWord(&words);
    if (argument.empty()) return Fail(request, Reply::kBadFormat);
  }
  // The argument itself may be the last word: `touch a noreply` has a time that is none and says nothing of it. The key
  // may not: `delete noreply` is answered, where memcached leaves its client waiting.
  if (!rest.empty()) ReadNoReply(rest, request);
  if (request->key.size() > kKeyBytesInlineMax) return Fail(request, Reply::kBadFormat);
  if (shape == Shape::kKeyNumber && !ParseUint64(argument, &request->number)) return Fail(request, Reply::kBadDelta);
  if (shape == Shape::kKeySeconds && !ParseInt32(argument, &request->seconds)) {
    return Fail(request, Reply::kBadExptime);
  }
}

}  // namespace

void ParseUnknownLine(std::string_view line, TextRequest* request) {
  *request = TextRequest();
  Fail(request, Reply::kError);
  std::string_view last = LastWord(line);
  request->no_reply = last == kNoReply;
  // The only word of a line is not looked at.
  bool only_word = !last.empty() && last.data() == line.data();
  request->is_http = !only_word && last.substr(0, 5) == "HTTP/";
}

const CommandInfo* FindCommand(std::string_view name) {
  if (name.size() < 2) return nullptr;
  uint8_t slot = kSlots[SlotOf(name, kMultiplier)];
  if (slot == 0) return nullptr;
  const CommandInfo* info = &kCommands[slot - 1];
  return info->name == name ? info : nullptr;
}

std::string_view NextWord(std::string_view* words) {
  const char* at = words->data();
  const char* end = at + words->size();
  while (at != end && *at == ' ') at++;
  const char* begin = at;
  while (at != end && *at != ' ') at++;
  *words = {at, static_cast<size_t>(end - at)};
  return {begin, static_cast<size_t>(at - begin)};
}

std::string_view LastWord(std::string_view words) {
  size_t end = words.size();
  while (end != 0 && words[end - 1] == ' ') end--;
  size_t begin = end;
  while (begin != 0 && words[begin - 1] != ' ') begin--;
  return words.substr(begin, end - begin);
}

bool ParseUint64(std::string_view word, uint64_t* number) {
  if (word.empty()) return false;
  uint64_t sum = 0;
  for (char c : word) {
    unsigned digit = static_cast<unsigned char>(c) - unsigned{'0'};
    if (digit > 9) return false;
    if (sum > (UINT64_MAX - digit) / 10) return false;
    sum = sum * 10 + digit;
  }
  *number = sum;
  return true;
}

bool ParseUint32(std::string_view word, uint32_t* number) {
  if (word.empty()) return false;
  uint64_t sum = 0;
  for (char c : word) {
    unsigned digit = static_cast<unsigned char>(c) - unsigned{'0'};
    if (digit > 9) return false;
    sum = sum * 10 + digit;
    if (sum > UINT32_MAX) return false;
  }
  *number = static_cast<uint32_t>(sum);
  return true;
}

bool ParseInt32(std::string_view word, int32_t* number) {
  bool negative = !word.empty() && word[0] == '-';
  if (negative || (!word.empty() && word[0] == '+')) word.remove_prefix(1);
  uint32_t magnitude = 0;
  if (!ParseUint32(word, &magnitude)) return false;
  int64_t signed_number = negative ? -int64_t{magnitude} : int64_t{magnitude};
  if (signed_number < INT32_MIN || signed_number > INT32_MAX) return false;
  *number = static_cast<int32_t>(signed_number);
  return true;
}

bool ParseBodyBytes(std::string_view word, uint32_t* bytes) { return ParseUint32(word, bytes) && *bytes <= 0x7ffffffd; }

bool ParseClientFlags(std::string_view word, uint32_t* flags) {
  if (!word.empty() && word[0] == '+') word.remove_prefix(1);
  return ParseUint32(word, flags);
}

bool AreKeys(std::string_view words) {
  // No word is longer than the line.
  if (words.size() <= kKeyBytesInlineMax) return true;
  const char* at = words.data();
  const char* end = at + words.size();
  while (at != end) {
    const char* blank = static_cast<const char*>(std::memchr(at, ' ', static_cast<size_t>(end - at)));
    const char* word_end = blank == nullptr ? end : blank;
    if (static_cast<size_t>(word_end - at) > kKeyBytesInlineMax) return false;
    at = blank == nullptr ? end : blank + 1;
  }
  return true;
}

bool IsGetLine(std::string_view line) { return line.substr(0, 4) == "get " || line.substr(0, 5) == "gets "; }

void ParseTextLine(std::string_view line, size_t line_bytes, TextRequest* request) {
  *request = TextRequest();
  if (line_bytes < 4) return Fail(request, Reply::kBadFormat);
  const char* blank = static_cast<const char*>(std::memchr(line.data(), ' ', line.size()));
  size_t name_bytes = blank == nullptr ? line.size() : static_cast<size_t>(blank - line.data());
  request->info = FindCommand(line.substr(0, name_bytes));
  if (request->info == nullptr) return ParseUnknownLine(line, request);
  std::string_view words = line.substr(name_bytes);
  switch (request->info->shape) {
    case Shape::kSecondsKeys: {
      std::string_view exptime = NextWord(&words);
      std::string_view keys = words;
      if (NextWord(&words).empty()) return Fail(request, Reply::kBadFormat);
      if (!ParseInt32(exptime, &request->seconds)) return Fail(request, Reply::kBadExptime);
      if (!AreKeys(keys)) return Fail(request, Reply::kBadFormat);
      request->words = keys;
      return;
    }
    case Shape::kKeys:
      request->words = words;
      if (NextWord(&words).empty() || !AreKeys(request->words)) Fail(request, Reply::kBadFormat);
      return;
    case Shape::kStorage:
      return ReadStorage(words, request);
    case Shape::kMeta:
      request->words = words;
      return;
    case Shape::kKey:
    case Shape::kKeyNumber:
    case Shape::kKeySeconds:
      return ReadKeyed(words, request);
    case Shape::kWords: {
      request->words = words;
      std::string_view first = NextWord(&words);
      if (request->info->words_min > 1 && first.empty()) Fail(request, Reply::kBadFormat);
      return;
    }
  }
}

}  // namespace cairn
