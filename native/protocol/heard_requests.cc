#include "protocol/heard_requests.h"

#include "protocol/execute.h"

namespace cairn {

namespace {

// The seconds that an entry has left to live; 0: it lives forever, or no longer.
int64_t SecondsLeft(uint64_t expires_ms, const Now& now) {
  if (expires_ms == kNeverExpires || expires_ms == kKeepExpiry || expires_ms <= now.boot_ms) return 0;
  return static_cast<int64_t>((expires_ms - now.boot_ms + 500) / 1000);
}

bool IsNumber(const Request& request) { return request.verb == Verb::kIncr || request.verb == Verb::kDecr; }

// A number is stored if it is an initial one.
bool HasStored(const Request& request, const Outcome& outcome) {
  return IsStorage(request.verb) || (IsNumber(request) && outcome.status == Status::kStored);
}

void TellStore(Workbench* bench, uint64_t client, const Request& request, uint64_t value_bytes, const Now& now,
               const EntryBefore& before, const Outcome& outcome) {
  Event event;
  event.kind = Event::Kind::kItemStore;
  event.status = outcome.status;
  event.verb = request.verb;
  event.client = client;
  event.wall_ms = now.wall_ms;
  if (IsNumber(request)) event.verb = Verb::kAdd;
  const bool is_concat = IsConcat(request.verb);
  // The value is the whole one.
  if (is_concat && outcome.status == Status::kStored) value_bytes += before.value_bytes;
  const bool keeps_expiry = is_concat && before.is_present;
  event.ttl_s = SecondsLeft(keeps_expiry ? before.expires_ms : request.expires_ms, now);
  event.value_bytes = static_cast<uint32_t>(value_bytes);
  bench->events()->Append(event, request.key);
}

}  // namespace

EntryBefore LookBefore(Store* store, std::string_view key, const Now& now) {
  const Outcome outcome = PeekOnly(key, now, store);
  if (outcome.status != Status::kFound) return {};
  return {true, outcome.value_bytes, outcome.expires_ms};
}

void TellFetch(Workbench* bench, uint64_t client, std::string_view key, const Now& now, Status status,
               uint32_t value_bytes) {
  if (!bench->events()->hears(kFetchers)) return;
  if (status != Status::kFound && status != Status::kNotFound) return;
  Event event;
  event.kind = Event::Kind::kItemGet;
  event.status = status;
  event.client = client;
  event.wall_ms = now.wall_ms;
  event.value_bytes = status == Status::kFound ? value_bytes : 0;
  bench->events()->Append(event, key);
}

void HearKey(Workbench* bench, uint64_t client, const Request& request, const Now& now, const Outcome& outcome) {
  const bool is_hit = outcome.status == Status::kFound;
  bench->service()->prefixes()->Count(request.key, is_hit ? PrefixStats::Event::kHit : PrefixStats::Event::kMiss);
  TellFetch(bench, client, request.key, now, outcome.status, outcome.value_bytes);
}

void TellChange(Workbench* bench, uint64_t client, const Request& request, uint64_t value_bytes, const Now& now,
                const EntryBefore& before, const Outcome& outcome) {
  if (outcome.status >= Status::kLogFull) return;
  const bool was_present = before.is_present;
  TellFetch(bench, client, request.key, now, was_present ? Status::kFound : Status::kNotFound, before.value_bytes);
  EventLog* events = bench->events();
  if (HasStored(request, outcome)) {
    // Twice: memcached looks again before it stores an initial value.
    if (IsNumber(request)) TellFetch(bench, client, request.key, now, Status::kNotFound, 0);
    if (events->hears(kMutations)) TellStore(bench, client, request, value_bytes, now, before, outcome);
    return;
  }
  const bool takes_value = request.verb == Verb::kInvalidate && !request.meta->makes_stale;
  if ((request.verb != Verb::kDelete && !takes_value) || outcome.status != Status::kFound) return;
  if (!events->hears(kDeletions)) return;
  Event event;
  event.kind = Event::Kind::kDeleted;
  event.status = Status::kFound;
  event.is_meta = request.meta != nullptr;
  event.client = client;
  event.wall_ms = now.wall_ms;
  event.value_bytes = before.value_bytes;
  events->Append(event, request.key);
}

void TellRefused(Workbench* bench, uint64_t client, const Request& request, Status status, const Now& now,
                 const EntryBefore& before) {
  if (!bench->events()->hears(kRequestStreams)) [[likely]]
    return;
  Outcome outcome;
  outcome.status = status;
  Request without_expiry = request;
  without_expiry.expires_ms = kNeverExpires;
  if (bench->events()->hears(kMutations)) TellStore(bench, client, without_expiry, 0, now, {}, outcome);
  // The old value is looked for only to be taken away.
  const bool is_present = before.is_present;
  if (request.verb == Verb::kSet)
    TellFetch(bench, client, request.key, now, is_present ? Status::kFound : Status::kNotFound, before.value_bytes);
}

void ExecuteAndTell(Workbench* bench, uint64_t client, const Request& request, const Now& now, Scratch* scratch,
                    Outcome* outcome) {
  Store* store = bench->service()->store();
  const EntryBefore before = LookBefore(store, request.key, now);
  store->Execute(request, now, scratch, outcome);
  const uint64_t value_bytes = IsNumber(request) ? outcome->value_bytes : request.value.size();
  TellChange(bench, client, request, value_bytes, now, before, *outcome);
}

}  // namespace cairn
