// The names of things in failures and in what a run prints.
#pragma once

#include <cstdint>
#include <string>

#include "store/request.h"

namespace cairn::model {

// As printf; up to 511 bytes.
[[gnu::format(printf, 1, 2)]] std::string Format(const char* format, ...);

const char* NameOf(Verb verb);
const char* NameOf(Status status);
const char* NameOf(Reason reason);

}  // namespace cairn::model
