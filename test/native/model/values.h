// What values say, read the slow and plain way: docs/values.md has the rules.
#pragma once

#include <cstdint>
#include <string>

#include "store/request.h"

namespace cairn::model {

// The codec of old and added text together; false: they cannot be joined.
bool JoinedCodec(Codec old, Codec added, const std::string& added_bytes, Codec* joined);

// The number that a value spells to memcached; false if it is none. Blanks and a sign may precede it, a blank or a NUL
// may end it. A negative number counts from 2^64; from 2^63 on a minus sign anywhere before a NUL refuses the value.
bool NumberOf(const std::string& text, uint64_t* number);

}  // namespace cairn::model
