// Event lines, as memcached writes them. docs/protocol.md has each field.
//
//   ts=1764446400.123000 gid=7 type=item_get key=a%20b status=found clsid=1 cfd=3 size=5
#pragma once

#include <cstddef>
#include <string_view>

#include "protocol/event_log.h"
#include "protocol/key_display.h"

namespace cairn {

// The longest line: its numbers and words, and an encoded key or the name of a client's end.
inline constexpr size_t kEventLineBytesMax = 320 + kEncodedKeyBytesMax;
inline constexpr size_t kSkippedLineBytesMax = 32;

// Writes a line and its end; returns the end. `text`: the key, at most kKeyBytesInlineMax bytes, or the name of the
// client's end, as in `stats conns`. REQUIRES: room for kEventLineBytesMax.
char* WriteEventLine(const Event& event, std::string_view text, const KeyDisplay& keys, char* to);

// skipped=7, in the place of as many lines. REQUIRES: room for kSkippedLineBytesMax.
char* WriteSkippedLine(uint64_t count, char* to);

}  // namespace cairn
