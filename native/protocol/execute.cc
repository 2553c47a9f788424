#include "protocol/execute.h"

#include "base/check.h"
#include "protocol/exptime.h"
#include "protocol/limits.h"

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
      request.is_read = true;
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

Outcome PeekOnly(std::string_view key, const Now& now, Store* store) {
  Request look;
  look.verb = Verb::kPeek;
  look.no_value = true;
  look.key = key;
  Scratch none;
  Outcome outcome;
  store->Execute(look, now, &none, &outcome);
  return outcome;
}

bool FitsItem(const Request& request, size_t more_bytes, uint64_t item_bytes_max, const Now& now, Store* store,
              Outcome* present) {
  *present = PeekOnly(request.key, now, store);
  if (present->status != Status::kFound) return true;
  return ItemBytes(request.key.size(), present->client_flags, uint64_t{present->value_bytes} + more_bytes) <=
         item_bytes_max;
}

void Prefetch(std::string_view key, const Now& now, Store* store, ReadThrough* loads) {
  Request request;
  request.verb = Verb::kHas;
  request.key = key;
  request.reads_through = true;
  Outcome outcome;
  store->Execute(request, now, nullptr, &outcome);
  if (outcome.status == Status::kNotResident) loads->Prefetch(key, now);
}

bool FlushAll(int64_t seconds, const Now& now, Store* store, uint64_t* version) {
  *version = 0;
  if (seconds <= 0) {
    *version = store->Clear(now);
    return *version != 0;
  }
  // A Unix time that has passed clears what is older than it, which is nothing.
  const uint64_t at_ms = ExpiryOfSeconds(seconds, now);
  return store->ScheduleClear(at_ms == kAlreadyExpired ? 0 : at_ms, now, version);
}

}  // namespace cairn
