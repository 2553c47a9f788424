#include "protocol/command_class.h"

#include <iterator>

namespace cairn {

std::string_view NameOf(CommandClass command) {
  constexpr std::string_view kNames[] = {"get", "gets", "mg", "set", "ms", "delete", "incr", "touch", "other"};
  static_assert(std::size(kNames) == kCommandClassCount);
  return kNames[static_cast<size_t>(command)];
}

CommandClass ClassOf(const Request& request) {
  if (IsStorage(request.verb)) return request.meta != nullptr ? CommandClass::kMetaSet : CommandClass::kSet;
  switch (request.verb) {
    case Verb::kGet:
      return CommandClass::kGet;
    case Verb::kMetaGet:
      return CommandClass::kMetaGet;
    case Verb::kDelete:
    case Verb::kInvalidate:
      return CommandClass::kDelete;
    case Verb::kIncr:
    case Verb::kDecr:
      return CommandClass::kArithmetic;
    case Verb::kTouch:
    case Verb::kGetAndTouch:
      return CommandClass::kTouch;
    default:
      return CommandClass::kOther;
  }
}

}  // namespace cairn
