// Writes replies of the meta protocol: outcomes -> bytes. Functions over bytes; no store, no I/O.
//
//   HD f5 kfoo        a code, then what the flags of the request asked for, in their order
//   VA 3 t-1 W        the same before a value; behind the flags W, X and Z
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "protocol/byte_buffer.h"
#include "protocol/meta_parse.h"
#include "store/request.h"

namespace cairn {

// The longest line of a reply: a code and a length, a key of 250 bytes in base64, an opaque token, the longest values
// of the other flags, W, X and Z, blanks and the line end.
inline constexpr size_t kMetaLineBytesMax = 640;

// What a reply says besides its code.
struct MetaReply {
  const MetaLine* line;
  // The flags that the reply returns, besides O and k.
  std::string_view shown;
  const Outcome* outcome = nullptr;
  // The key is shown in base64.
  bool is_base64 = false;
  // t: the expiry before the flags of the request change it, one after the other. `is_created`: N is one of them.
  uint64_t expires_ms = kNeverExpires;
  bool is_created = false;
  uint64_t cas = 0;          // c
  uint64_t value_bytes = 0;  // s
};

// Writes the flags, each behind a blank, to `to`; returns their end.
char* WriteMetaFlags(const MetaReply& reply, const Now& now, char* to);
// W, X and Z.
char* WriteMetaMarks(uint32_t marks, char* to);

// Whether a request can name the key as it is.
bool IsPlainKey(std::string_view key);

// "ME key exp=-1 la=0 cas=7 fetch=no cls=1 size=63\r\n".
void AppendMetaDebug(const MetaLine& line, const Outcome& outcome, const Now& now, ByteBuffer* out);

}  // namespace cairn
