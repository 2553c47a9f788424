// What a look-up finds under a key, and what each verb makes of it. Only this file decides that.
//
// |                                    | absent, stale  | live           | stub           |
// |------------------------------------|----------------|----------------|----------------|
// | set                                | goes on        | goes on        | goes on        |
// | add                                | goes on        | kNotStored     | kNotResident   |
// | replace, append, prepend           | kNotStored     | goes on        | kNotResident   |
// | cas                                | kNotFound      | goes on        | kNotResident   |
// | get, peek, has, touch, incr, decr  | kNotFound      | goes on        | kNotResident   |
// | take, get-and-touch                | kNotFound      | goes on        | kNotResident   |
// | delete, evict                      | kNotFound      | goes on        | goes on        |
//
// A verb that goes on may still be refused for its `compare`, its fill ticket, its size or its value. incr and decr
// with an initial value store it instead of answering kNotFound. An unconditional delete of an absent key leaves a
// record.
#pragma once

#include <cstdint>

#include "store/entry.h"
#include "store/request.h"

namespace cairn {

enum class Presence : uint8_t {
  kAbsent,  // there is no entry
  kLive,    // the entry is there, with its value
  kStale,   // past the end of its freshness, which the request does not accept: absent for it, but still in memory
  kStub,    // the key has a value that is not in memory: the log or the database has it
};

struct Found {
  Ref ref = 0;  // the entry, also a stale one, which a store then replaces. 0: kAbsent
  Presence presence = Presence::kAbsent;
  bool is_live() const { return presence == Presence::kLive; }
};

// How a request treats an entry past the end of its freshness.
enum class StaleIs : uint8_t { kAbsent, kLive };
inline StaleIs StaleTo(const Request& request) { return request.accepts_stale ? StaleIs::kLive : StaleIs::kAbsent; }

// kStored: the verb goes on. Otherwise its answer; nothing is changed.
constexpr Status MeetPresence(Verb verb, Presence presence) {
  const bool is_live = presence == Presence::kLive;
  switch (verb) {
    case Verb::kSet:
      return Status::kStored;
    case Verb::kDelete:
    case Verb::kEvict:
      return is_live || presence == Presence::kStub ? Status::kStored : Status::kNotFound;
    default:
      break;
  }
  if (presence == Presence::kStub) return Status::kNotResident;
  switch (verb) {
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
