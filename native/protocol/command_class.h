// How commands are told apart where requests are observed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/request.h"

namespace cairn {

enum class CommandClass : uint8_t {
  kGet,      // get of one key
  kGetMany,  // get of many keys, gets
  kMetaGet,
  kSet,  // set, add, replace, append, prepend, cas
  kMetaSet,
  kDelete,      // delete, md
  kArithmetic,  // incr, decr, ma
  kTouch,       // touch, gat, gats
  kOther,
};
inline constexpr size_t kCommandClassCount = static_cast<size_t>(CommandClass::kOther) + 1;
// get, gets, mg, set, ms, delete, incr, touch, other.
std::string_view NameOf(CommandClass command);
// That of a request of the store; of a read: kGet.
CommandClass ClassOf(const Request& request);

}  // namespace cairn
