#include "model/words.h"

#include <cstdarg>
#include <cstdio>

namespace cairn::model {

std::string Format(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

const char* NameOf(Verb verb) {
  static constexpr const char* kNames[] = {"get",         "peek",    "has",  "set",   "add",     "replace",
                                           "append",      "prepend", "cas",  "incr",  "decr",    "touch",
                                           "getAndTouch", "delete",  "take", "evict", "metaGet", "invalidate"};
  return kNames[static_cast<int>(verb)];
}

const char* NameOf(Status status) {
  static constexpr const char* kNames[] = {"stored",   "not-stored",  "exists",      "not-found",
                                           "found",    "non-numeric", "too-large",   "no-memory",
                                           "log-full", "needs-room",  "not-resident"};
  return kNames[static_cast<int>(status)];
}

const char* NameOf(Reason reason) {
  static constexpr const char* kNames[] = {"evicted", "expired", "deleted", "replaced", "cleared"};
  return kNames[static_cast<int>(reason)];
}

}  // namespace cairn::model
