// What a look-up finds under a key, and what each verb makes of it. Only this file decides that.
//
// |                                   | absent, stale  | live           | stub           | unknown             |
// |-----------------------------------|----------------|----------------|----------------|---------------------|
// | set                               | goes on        | goes on        | goes on        | goes on             |
// | set that compares                 | goes on        | goes on        | kNotResident   | kNotResident        |
// | add                               | goes on        | kNotStored     | kNotResident   | kNotResident        |
// | replace, append, prepend          | kNotStored     | goes on        | kNotResident   | kNotResident        |
// | cas                               | kNotFound      | goes on        | kNotResident   | kNotResident        |
// | get, peek, has                    | kNotFound      | goes on        | kNotResident   | kNotResident, or    |
// |                                   |                |                |                | kNotFound (*)       |
// | touch, incr, decr, take,          | kNotFound      | goes on        | kNotResident   | kNotResident        |
// | get-and-touch                     |                |                |                |                     |
// | delete                            | kNotFound      | goes on        | goes on        | goes on             |
// | delete that compares              | kNotFound      | goes on        | kNotResident   | kNotResident        |
// | meta get, invalidate              | kNotFound (**) | goes on        | kNotResident   | kNotResident        |
// | evict                             | kNotFound      | goes on        | kNotFound      | kNotFound           |
//
// (*) kNotFound if the request does not read through (Request::reads_through).
// (**) A meta get goes on with a stale entry, and may make an entry of an absent one.
//
// A verb that goes on may still be refused for its `compare`, its fill ticket, its size or its value. incr and decr
// with an initial value store it instead of answering kNotFound. An unconditional delete of an absent key leaves a
// record. A delete of a stub or of an unknown key answers kFound: the key has a value elsewhere, or may have one.
#pragma once

#include <cstdint>

#include "store/entry.h"
#include "store/request.h"

namespace cairn {

enum class Presence : uint8_t {
  kAbsent,   // there is no entry
  kLive,     // the entry is there, with its value
  kStale,    // past the end of its freshness, which the request does not accept: absent for it, but still in memory
  kStub,     // the key has a value that is not in memory, and that the backend does not have yet: the log has it
  kUnknown,  // there is no entry, and the cache has a backend: only the backend knows
};

struct Found {
  Ref ref = 0;  // the entry, also a stale one, which a store then replaces. 0: kAbsent or kUnknown
  Presence presence = Presence::kAbsent;
  bool is_live() const { return presence == Presence::kLive; }
};

// How a request treats an entry past the end of its freshness.
enum class StaleIs : uint8_t { kAbsent, kLive };
inline StaleIs StaleTo(const Request& request) { return request.accepts_stale ? StaleIs::kLive : StaleIs::kAbsent; }

// Walks and lists of keys tell of the entry: it has a value that a request would find. REQUIRES: it is neither a stub
// nor dead.
inline bool IsListed(const EntryHeader* entry, const Now& now, StaleIs stale_is) {
  const bool is_absent = (entry->flags & kEntryNegative) != 0 || IsExpired(entry, now) || IsPlaceholder(entry);
  return !is_absent && !(stale_is == StaleIs::kAbsent && IsStale(entry, now));
}

// kStored: the verb goes on. Otherwise its answer; nothing is changed.
constexpr Status MeetPresence(const Request& request, Presence presence) {
  const bool is_live = presence == Presence::kLive;
  const bool is_elsewhere = presence == Presence::kStub || presence == Presence::kUnknown;
  switch (request.verb) {
    case Verb::kSet:
      return is_elsewhere && request.has_compare ? Status::kNotResident : Status::kStored;
    case Verb::kDelete:
      if (is_elsewhere) return request.has_compare ? Status::kNotResident : Status::kStored;
      return is_live ? Status::kStored : Status::kNotFound;
    case Verb::kEvict:
      return is_live ? Status::kStored : Status::kNotFound;
    case Verb::kGet:
    case Verb::kPeek:
    case Verb::kHas:
    case Verb::kMetaGet:
      if (presence == Presence::kUnknown && !request.reads_through) return Status::kNotFound;
      break;
    default:
      break;
  }
  if (is_elsewhere) return Status::kNotResident;
  switch (request.verb) {
    case Verb::kAdd:
      return is_live ? Status::kNotStored : Status::kStored;
    case Verb::kReplace:
    case Verb::kAppend:
    case Verb::kPrepend:
      return is_live ? Status::kStored : Status::kNotStored;
    default:
      return is_live ? Status::kStored : Status::kNotFound;
  }
}

}  // namespace cairn
