// Requests to a store and their outcomes. Protocols, the direct calls of the addon and the lanes all use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/clock.h"

namespace cairn {

// How the TypeScript API decodes the bytes of a value. The port serves the bytes of every codec. The numbers are in
// every record and dump: never change one.
enum class Codec : uint8_t {
  kRaw = 0,         // bytes
  kAscii = 1,       // text, every byte below 0x80
  kUtf8 = 2,        // text, well-formed UTF-8
  kWtf8 = 3,        // text with lone surrogates, as WTF-8
  kNumber = 4,      // a JavaScript number as its shortest decimal text ("-0", "NaN", "Infinity" included)
  kBigInt = 5,      // a BigInt as decimal text
  kJson = 6,        // JSON text
  kStructured = 7,  // V8's structured clone format
};
inline constexpr int kCodecCount = 8;

enum class Verb : uint8_t {
  kGet,          // the value; becomes the most recent entry
  kPeek,         // the value; changes neither order nor counters
  kHas,          // kFound or kNotFound; changes neither order nor counters
  kSet,          // stores unconditionally
  kAdd,          // stores if absent
  kReplace,      // stores if present
  kAppend,       // value behind the present one; keeps expiry and client flags
  kPrepend,      // value before the present one; keeps expiry and client flags
  kCas,          // stores if the version equals `compare`
  kIncr,         // adds `delta` to a decimal value, modulo 2^64
  kDecr,         // subtracts `delta`, not below 0
  kTouch,        // sets the expiry; becomes the most recent entry
  kGetAndTouch,  // kTouch, and the value
  kDelete,       // removes; leaves a record
  kTake,         // the value, and removes; leaves a record
  kEvict,        // removes as eviction does: no record, reason kEvicted
  kMetaGet,      // kGet, and with an expiry kGetAndTouch, for a client that can win; see MetaOptions
  kInvalidate,   // marks the entry as stale, or takes its value away; see MetaOptions
};

constexpr bool IsConcat(Verb verb) { return verb == Verb::kAppend || verb == Verb::kPrepend; }
// The verbs of commands with a data block.
constexpr bool IsStorage(Verb verb) {
  return verb == Verb::kSet || verb == Verb::kAdd || verb == Verb::kReplace || verb == Verb::kCas || IsConcat(verb);
}

enum class Status : uint8_t {
  kStored,
  kNotStored,  // add on a present key, replace/append/prepend on an absent one, append to a codec that cannot
  kExists,     // cas: the version differs
  kNotFound,
  kFound,       // get, has, touch, delete, take, evict: the entry was there; incr/decr: `number` is the new value
  kNonNumeric,  // incr/decr: the value is not decimal digits of a 64-bit number
  kTooLarge,    // the value can never fit (option, or the shard); a set removed the old entry, as memcached does
  kNoMemory,    // no room now (pins and bodies in progress hold it); a set removed the old entry
  kLogFull,     // the change ring has no room: nothing was changed
  kNeedsRoom,   // a hit, but the caller's scratch has no room for `value_bytes`: grow it and ask again. Nothing changed
  kNotResident,  // the verb depends on a value that is not in memory, if there is one: load it and ask again. Nothing
                 // changed
};

// Why an entry leaves. The numbers are public (removal events): never change one.
enum class Reason : uint8_t { kEvicted = 0, kExpired = 1, kDeleted = 2, kReplaced = 3, kCleared = 4 };
inline constexpr int kReasonCount = 5;

class FillTicket;  // store/fill_watch.h

// What only clients of the meta protocol ask for. Its marks and tokens are this process's own: no record has them.
struct MetaOptions {
  // Verbs that store, and kInvalidate: the cas token that the entry gets. 0: one of the store's.
  uint64_t cas = 0;
  // Verbs that store, and kMetaGet when it makes an entry: the key came in base64.
  bool has_binary_key = false;
  // kCas: an entry with another version than `compare`, but a later one, is replaced as well. The value that is stored
  // is stale from the start, and keeps the expiry.
  bool accepts_lower = false;
  // kMetaGet: an absent key gets an empty entry, a placeholder, until Request::keep_else_ms. It leaves no record.
  // kAppend/kPrepend: the caller adds the value, if it is absent.
  bool vivifies = false;
  // kIncr/kDecr: an entry that is there gets the expiry Request::keep_else_ms.
  bool retimes = false;
  // kInvalidate: the entry is stale from now on.
  bool makes_stale = false;
  // kInvalidate: the value becomes empty, and client flags and expiry those of the request.
  bool drops_value = false;
  // kMetaGet: the client wins, if no other has, also when the entry expires before this. 0: it does not; kKeepExpiry:
  // it does in any case.
  uint64_t recache_before_ms = 0;
};

// A request. A verb ignores the fields that it does not use.
struct Request {
  Verb verb = Verb::kGet;
  Codec codec = Codec::kRaw;
  // kIncr/kDecr on an absent key: store `initial` with the request's codec, client flags and expiry instead of
  // kNotFound.
  bool has_initial = false;
  // kDelete/kTouch/kIncr/kDecr/kSet/kAppend/...: only if the version equals `compare`, else kExists. kCas implies it.
  bool has_compare = false;
  // kGet/kGetAndTouch: do not move the entry to the front and do not mark it fetched.
  bool no_bump = false;
  // Treats an entry past the end of its freshness as present. Otherwise it is absent, except for kEvict.
  bool accepts_stale = false;
  // kGet/kGetAndTouch/kTake: only the metadata is wanted; the value is not copied.
  bool no_value = false;
  // kTake: a value that does not fit the scratch answers kNeedsRoom, instead of being pinned while its entry leaves.
  bool no_pin = false;
  // kIncr/kDecr: pad a shorter result with blanks to the old length, as memcached does.
  bool pad_decimal = false;
  // kGet/kPeek/kHas: the caller can wait for a load. A key that only the backend may have then answers kNotResident
  // instead of kNotFound. Other verbs do so whether or not this is set.
  bool reads_through = false;
  // kSet with `fill`: the value is the backend's. It leaves no record, and is not stored if the key has an entry by now
  // (kExists).
  bool from_backend = false;
  // With from_backend: nothing is evicted for the value; without free room it answers kNoMemory.
  bool only_free_room = false;
  // With from_backend: the backend has no value of the key, which is absent until `expires_ms` or a change of it.
  bool is_absence = false;
  // Other threads may change the bytes of `value` during the call. Entry and record still get the same bytes.
  bool value_may_change = false;
  // kTouch: counts as a read of the entry, as in memcached.
  bool is_read = false;
  uint32_t client_flags = 0;
  std::string_view key;    // 1..kKeyBytesMax bytes
  std::string_view value;  // up to the store's value_bytes_max, else kTooLarge
  // For verbs that store or touch: boot-clock milliseconds, kNeverExpires, or kKeepExpiry, which keeps expiry and
  // freshness of a present entry (kIncr/kDecr/kAppend/kPrepend always keep both).
  uint64_t expires_ms = kNeverExpires;
  // The expiry that kKeepExpiry gives a new entry if there is no entry to keep it from. From a request that has one on,
  // all readers of the store look at the time.
  uint64_t keep_else_ms = kNeverExpires;
  // For verbs that store a new value: the entry is stale from this moment of the boot clock on.
  uint64_t fresh_until_ms = kAlwaysFresh;
  uint64_t compare = 0;
  uint64_t delta = 0;
  uint64_t initial = 0;
  // kSet: the fill of a load that began with Store::BeginFill. Stores only if the ticket is not void; otherwise answers
  // kExists and changes nothing. Also of the parts of an atomic batch.
  FillTicket* fill = nullptr;
  // Null: none.
  const MetaOptions* meta = nullptr;
};

// An entry that stays in place for a reader after the lock was released; see Store::ReadPinned. Empty if ref is 0.
struct Pin {
  uint32_t shard = 0;
  uint32_t ref = 0;
  // The beginning of the value, in the entry or in a chunk, so that a reader reads nothing that a lock guards.
  uint32_t first_chunk = 0;
  uint32_t skip_bytes = 0;
};

struct Outcome {
  Status status = Status::kNotFound;
  Codec codec = Codec::kRaw;
  bool fetched = false;    // the entry had been fetched before this request
  bool has_value = false;  // the value is at scratch.data + value_offset, or behind `pin`
  // The pin may last until a client has taken the value, however slow it is; otherwise copy the value and unpin.
  bool pin_may_last = false;
  uint32_t client_flags = 0;
  uint32_t value_bytes = 0;
  // Seconds since the last access by a get-type verb; 0 unless the store tracks access.
  uint32_t idle_s = 0;
  // The kMark* of the entry before the request, kMarkWins and kMarkCreated; see store/entry.h.
  uint32_t marks = 0;
  size_t value_offset = 0;
  Pin pin;
  // The cas token of the entry after the request: its version, unless a client chose another one. 0: no entry.
  uint64_t version = 0;
  // The version of the record that this request left (also of a touch or a delete, which give no entry a new cas
  // token): an acknowledgement at a level above memory waits for it. 0: nothing was changed.
  uint64_t record_version = 0;
  // In a store with records: the version that must be committed before a client at a level above memory may see this
  // outcome. It is that of the record that the request left; otherwise that of the entry that the outcome reveals;
  // otherwise, if the outcome reveals an absence, that of the last change of the shard that may be its cause. In a
  // store without records it says nothing.
  uint64_t commit_version = 0;
  // Of the entry after the request. kMetaGet, and kIncr and kDecr with MetaOptions: of the entry before it.
  uint64_t expires_ms = 0;
  uint64_t fresh_until_ms = kAlwaysFresh;  // of the entry after the request
  uint64_t number = 0;                     // kIncr/kDecr: the new value
};

// The value that Store::GetPlain() found: only the fields that its caller needs.
struct PlainValue {
  Codec codec;
  uint32_t value_bytes;
  uint32_t client_flags;
};

// The caller's memory for the values of hits, filled from `used` on. Never grown under a lock.
struct Scratch {
  char* data = nullptr;
  size_t capacity = 0;
  size_t used = 0;
};

}  // namespace cairn
