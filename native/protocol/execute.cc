#include "protocol/execute.h"

#include "base/check.h"
#include "protocol/exptime.h"

namespace cairn {

Request StoreRequestOf(const TextRequest& line, const Now& now) {
  Request request;
  request.verb = line.info->verb;
  request.key = line.key;
  switch (request.verb) {
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kReplace:
    case Verb::kCas:
      request.client_flags = line.client_flags;
      request.expires_ms = ExpiryOfSeconds(line.seconds, now);
      request.compare = line.number;
      break;
    case Verb::kAppend:
    case Verb::kPrepend:
      // The line has flags and a time, which memcached reads and ignores.
      request.expires_ms = kKeepExpiry;
      break;
    case Verb::kIncr:
    case Verb::kDecr:
      request.expires_ms = kKeepExpiry;
      request.delta = line.number;
      request.pad_decimal = true;
      break;
    case Verb::kTouch:
      request.expires_ms = ExpiryOfSeconds(line.seconds, now);
      break;
    default:
      break;
  }
  return request;
}

Reply ReplyOf(Verb verb, Status status) {
  switch (status) {
    case Status::kStored:
      return Reply::kStored;
    case Status::kNotStored:
      return Reply::kNotStored;
    case Status::kExists:
      return Reply::kExists;
    case Status::kNotFound:
      return Reply::kNotFound;
    case Status::kNonNumeric:
      return Reply::kNonNumeric;
    case Status::kFound:
      return verb == Verb::kDelete ? Reply::kDeleted : Reply::kTouched;
    case Status::kTooLarge:
      // The sum of an append is too large: memcached calls that not stored, and so keeps the word of the old value.
      return verb == Verb::kAppend || verb == Verb::kPrepend ? Reply::kNotStored : Reply::kTooLarge;
    case Status::kNoMemory:
      return verb == Verb::kIncr || verb == Verb::kDecr || verb == Verb::kTouch ? Reply::kNoMemory
                                                                                : Reply::kNoMemoryToStore;
    case Status::kNotResident:
    case Status::kLogFull:
    case Status::kNeedsRoom:
      break;
  }
  CHECK(false);
  return Reply::kError;
}

}  // namespace cairn
