#include "protocol/text_compose.h"

namespace cairn {

namespace {

char* Write(std::string_view text, char* to) {
  std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

template <class Number>
char* WriteNumber(Number number, char* to) {
  // Most client flags are 0, most small numbers are digits.
  if (number < 10) {
    *to = static_cast<char>('0' + number);
    return to + 1;
  }
  return std::to_chars(to, to + 20, number).ptr;
}

}  // namespace

size_t WriteValueLine(const ValueLine& line, char* to) {
  char* at = Write("VALUE ", to);
  at = Write(line.key, at);
  *at++ = ' ';
  at = WriteNumber(line.client_flags, at);
  *at++ = ' ';
  at = WriteNumber(line.value_bytes, at);
  if (line.cas != 0) {
    *at++ = ' ';
    at = WriteNumber(line.cas, at);
  }
  at = Write("\r\n", at);
  return static_cast<size_t>(at - to);
}

void AppendStat(std::string_view name, std::string_view value, ByteBuffer* out) {
  size_t bytes = 5 + name.size() + 1 + value.size() + 2;
  char* to = out->Room(bytes);
  if (to == nullptr) return;
  to = Write("STAT ", to);
  to = Write(name, to);
  *to++ = ' ';
  to = Write(value, to);
  Write("\r\n", to);
  out->Advance(bytes);
}

void AppendNumber(uint64_t number, ByteBuffer* out) {
  char* to = out->Room(22);
  if (to == nullptr) return;
  char* end = Write("\r\n", WriteNumber(number, to));
  out->Advance(static_cast<size_t>(end - to));
}

}  // namespace cairn
