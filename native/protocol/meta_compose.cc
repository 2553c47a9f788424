#include "protocol/meta_compose.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "protocol/base64.h"
#include "protocol/exptime.h"
#include "protocol/limits.h"
#include "store/entry.h"

namespace cairn {

namespace {

constexpr size_t kNumberBytesMax = 20;
// "tms": t in milliseconds, with the unit behind the number. To memcached it is a t.
constexpr std::string_view kMillisecondsFlag = "tms";
constexpr std::string_view kMillisecondsUnit = "ms";
// A code, a length, each flag with a blank, the unit of t, and the line end.
static_assert(kMetaLineBytesMax >= 3 + 10 + 2 + Base64Bytes(kKeyBytesInlineMax) + 2 + 1 + kOpaqueBytesMax +
                                       6 * (2 + kNumberBytesMax) + kMillisecondsUnit.size() + 3 * 2 + 2);

char* WriteNumber(uint64_t number, char* to) { return std::to_chars(to, to + kNumberBytesMax, number).ptr; }

char* WriteText(std::string_view text, char* to) {
  std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

char* WriteKey(std::string_view key, bool is_base64, char* to) {
  return is_base64 ? EncodeBase64(key, to) : WriteText(key, to);
}

// The seconds that are left, begun ones included; -1: the entry does not expire.
char* WriteSecondsLeft(uint64_t expires_ms, const Now& now, char* to) {
  if (expires_ms == kNeverExpires) return WriteText("-1", to);
  return WriteNumber((std::max(expires_ms, now.boot_ms) - now.boot_ms + 999) / 1000, to);
}

char* WriteMillisecondsLeft(uint64_t expires_ms, const Now& now, char* to) {
  if (expires_ms == kNeverExpires) return WriteText("-1", to);
  return WriteText(kMillisecondsUnit, WriteNumber(std::max(expires_ms, now.boot_ms) - now.boot_ms, to));
}

}  // namespace

bool IsPlainKey(std::string_view key) {
  return std::all_of(key.begin(), key.end(), [](char c) { return static_cast<unsigned char>(c) > ' ' && c != '\x7f'; });
}

char* WriteMetaFlags(const MetaReply& reply, const Now& now, char* to) {
  uint64_t expires_ms = reply.expires_ms;
  for (size_t i = 0; i < reply.line->flag_count; i++) {
    const std::string_view flag = reply.line->flags[i];
    const char letter = flag[0];
    if (letter == 'T') expires_ms = ExpiryOfTime(reply.line->time, now);
    if (letter == 'N' && reply.is_created) expires_ms = ExpiryOfTime(reply.line->vivify_time, now);
    if (letter != 'O' && letter != 'k' && reply.shown.find(letter) == std::string_view::npos) continue;
    *to++ = ' ';
    if (letter == 'O') {
      to = WriteText(flag, to);
      continue;
    }
    *to++ = letter;
    switch (letter) {
      case 'k':
        to = WriteKey(reply.line->key, reply.is_base64, to);
        if (reply.is_base64) to = WriteText(" b", to);
        break;
      case 'c':
        to = WriteNumber(reply.cas, to);
        break;
      case 's':
        to = WriteNumber(reply.value_bytes, to);
        break;
      case 't':
        to = flag == kMillisecondsFlag ? WriteMillisecondsLeft(expires_ms, now, to)
                                       : WriteSecondsLeft(expires_ms, now, to);
        break;
      case 'f':
        to = WriteNumber(reply.outcome->client_flags, to);
        break;
      case 'h':
        *to++ = reply.outcome->fetched ? '1' : '0';
        break;
      case 'l':
        to = WriteNumber(reply.outcome->idle_s, to);
        break;
      default:
        break;
    }
  }
  return to;
}

char* WriteMetaMarks(uint32_t marks, char* to) {
  if (marks & kMarkWon) to = WriteText(" Z", to);
  if (marks & kMarkStale) to = WriteText(" X", to);
  if (marks & kMarkWins) to = WriteText(" W", to);
  return to;
}

void AppendMetaDebug(const MetaLine& line, const Outcome& outcome, const Now& now, ByteBuffer* out) {
  char* const begin = out->Room(kMetaLineBytesMax);
  if (begin == nullptr) return;
  char* to = WriteText("ME ", begin);
  to = WriteKey(line.key, line.is_base64, to);
  to = WriteSecondsLeft(outcome.expires_ms, now, WriteText(" exp=", to));
  to = WriteNumber(outcome.idle_s, WriteText(" la=", to));
  to = WriteNumber(outcome.version, WriteText(" cas=", to));
  to = WriteText(outcome.fetched ? " fetch=yes" : " fetch=no", to);
  const uint64_t size = ItemBytes(line.key.size(), outcome.client_flags, outcome.value_bytes);
  to = WriteNumber(size, WriteText(" cls=1 size=", to));
  to = WriteText("\r\n", to);
  out->Advance(static_cast<size_t>(to - begin));
}

}  // namespace cairn
