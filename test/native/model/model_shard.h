// A shard of the store in the abstract: entries in the order of their use, what each is charged, who holds what, and a
// journal of what was done. It knows no memory, no table and no wheel. These are all its rules; the bodies apply them.
//
// Presence
//   P1  A key has at most one entry. An entry whose expiry has come is there for no request. A request that asks for
//       its key makes it leave as expired, unless it only looks (peek, has).
//   P2  An entry past the end of its freshness is stale: it is not there for a request that does not accept it so, but
//       keeps its place, and what is stored under its key replaces it. A delete takes it out, and finds nothing. A
//       touch makes an entry fresh for its new time to live, unless it keeps the old one.
//   P3  A clear makes entries dead: they are there for no request, and leave before any living one, unannounced.
//
// Use
//   U1  Reading, storing, changing and touching an entry make it the newest; looking at it, and reading without a bump,
//       do not. An attempt to change it that fails for want of memory counts as a use.
//   U2  The oldest entry leaves first: dead ones before living ones.
//
// Charge
//   C1  An entry is charged by its sizes and its optional parts alone (sizes.h). One that a touch made fresh where it
//       is, or that became longer at its end, keeps the room for the end of its freshness.
//   C2  Living, dead, bodies that are being received, and what has left but is still held: the sum keeps to the limit.
//   C3  A value that is held (by readers, by the journal) is charged until the last one lets go, wherever its entry is.
//
// Room
//   R1  Bodies and what is held give nothing back, whatever leaves: they are immovable.
//   R2  A new entry needs its charge. The one that it replaces leaves first.
//   R3  An entry that becomes another one stays until that one is made, so it needs room beside itself: for all of the
//       other, or for the new pieces if it only becomes longer at its end.
//   R4  Neither needs room if the other takes the same place: of the same size class, in one piece, held by no one.
//   R5  There is room if what is immovable, what must stay, and what is needed come to no more than the limit. Then the
//       oldest leave until the sum fits, and until there is one entry fewer than allowed if a new one comes. Otherwise
//       nothing leaves.
//
// Refusals, in this order; each is a question about the state before (RefusalTo...)
//   F1  The request's own condition: presence, version, a load that was overtaken, contents.
//   F2  too-large: the value is longer than allowed, or the charge above the limit. (Of a longer value only the length
//       is known before the journal is asked, the charge after.)
//   F3  log-full: the journal has no room for the record, or what it holds is all that the entry lacks.
//   F4  no-memory: R5. It is log-full if the journal holds anything that it will let go.
//   F5  Log-full changes nothing. A set that is refused for another reason is still the newest word about its key: what
//       was there leaves, and the journal is told of a delete if it may know of an older value. So is one that is
//       replaced but finds no room: the old entry has left.
//
// Journal
//   J1  A change leaves one record: what it came to, with a version above all before it. Gets, evictions, expiries
//       leave none. A delete of what is not here leaves one: the journal may have it. A set and a touch say until when
//       the entry is fresh, and a count what it added.
//   J2  A value above the inline size stays in its entry, held, if the journal's share of memory and pages allows.
//
// Loads and walks
//   L1  Whatever changes a key, or says that it is not there any more, voids the loads of it that are in progress.
//   W1  A walk owes every key that was there when it began, until it emits it or the key leaves. A key whose entry is
//       replaced, becomes another one or is touched has not left; unless the entry was stale and the walk does not
//       accept that: the walk may have passed it by then.
//
// Absence
//   A1  Who finds nothing may be told so because of the newest delete, clear, touch with an expiry, or entry that was
//       evicted or expired: its reply waits for that version.
//
// Write-back (debts.h)
//   D1  With a database behind it a key is live (P1), a stub (what is owed for it is newer than its row), or absent. A
//       verb that depends on what is there needs it live; a set and a delete do not.
//   D2  F3 holds too for a change that would evict an entry which is owed, or that deletes one, without room for its
//       stub (B6).
//
// Not ruled here, but accepted from the store within bounds: which page a piece shares, and so whether a large value is
// held for a reader or copied (Seen); which entries of an overlong hash chain give way; the numbers of versions.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "model/coverage.h"
#include "model/debts.h"
#include "model/journal.h"
#include "model/sizes.h"
#include "store/request.h"
#include "store/store.h"
#include "support/store_fixture.h"

namespace cairn::model {

struct Entry {
  std::string key, value;
  Codec codec = Codec::kRaw;
  uint32_t client_flags = 0;
  uint64_t expires_ms = kNeverExpires;
  uint64_t fresh_until_ms = kAlwaysFresh;
  uint64_t version = 0;
  bool fetched = false;
  uint32_t access_s = 0;
  uint64_t filed_ms = 0;  // when it was given its expiry
  Footprint footprint;
  std::shared_ptr<Held> held;  // null, or without pins: it is not held

  bool is_held() const { return held != nullptr && held->pins > 0; }
  uint64_t charge() const { return footprint.charge; }
};

// What a request comes to.
struct Expected {
  Status status = Status::kNotFound;
  bool check_entry = false;  // the fields below are those of an entry
  bool fetched = false;
  uint32_t idle_s = 0;
  bool has_value = false;
  std::string value;
  Codec codec = Codec::kRaw;
  uint32_t client_flags = 0;
  uint64_t version = 0;
  uint64_t expires_ms = 0;
  uint64_t fresh_until_ms = kAlwaysFresh;
  uint32_t value_bytes = 0;
  bool mutates = false;      // record_version is a new one
  bool new_version = false;  // version is the record's
  uint64_t number = 0;
  bool check_number = false;
  std::shared_ptr<Held> held;  // the reader's pin is counted
};

// What the store did where the model has no rule.
struct Seen {
  bool may_pin = false;
  bool pinned = false;
};

// What shards tell of in common, in the order in which it happened.
struct Events {
  std::vector<Removal> removals;
  std::unordered_set<std::string> lost;  // evicted or expired: the records still have them
  // Where in the removals victims of an overlong chain may stand, and whose they are; null: nowhere.
  size_t flood_slot = 0;
  class ModelShard* flood_shard = nullptr;
  std::string broken;  // a rule led nowhere: the model itself is wrong

  void Clear();
};

struct ShardSetting {
  const Sizes* sizes;
  const Now* now;
  bool tracks_access;
  uint64_t value_bytes_max;
  Events* events;
  Coverage* coverage;
};

class ModelShard {
 public:
  using Order = std::list<Entry>;  // the newest first
  using Place = Order::iterator;
  struct Load {
    std::string key;
    bool voided = false;
  };

  enum class Found : uint8_t { kAbsent, kLive, kStub };

  explicit ModelShard(const ShardSetting& setting) : setting_(setting) {}
  void SetValueBytesMax(uint64_t bytes) { setting_.value_bytes_max = bytes; }

  // ---- requests (model_verbs.cc) ----

  Expected Ask(const Request& request, const std::string& key, const Load* load, const Seen& seen, Scratch* scratch);
  // F1. `here` is end(): there is no entry. kStored: it may be.
  Status Judge(const Request& request, Place here, const Load* load) const;

  // ---- state, and questions about it ----

  Place end() { return order.end(); }
  Place Find(const std::string& key);
  bool IsExpired(const Entry& entry) const;
  bool IsStale(const Entry& entry) const;
  // The whole charge that is known; dead entries come on top.
  uint64_t known_charge() const { return live_charge + left_charge + body_charge; }
  // R1; of dead entries alone.
  uint64_t HeldCharge() const;
  uint64_t DeadHeldCharge() const;
  // R5, beside what must stay (null: nothing).
  bool HasRoom(uint64_t charge, const Entry* stays) const;
  // F3: there would be room without the memory that the journal holds.
  bool WaitsForJournal(uint64_t charge) const;
  // D1.
  Found PresenceOf(const std::string& key);
  static bool NeedsLive(Verb verb);
  // D2: how many stubs there are; whether there is room for that of this key, if it is owed from now on; whether a
  // change would leave too many. `replaced` leaves before it (null: nothing).
  size_t Stubs() const;
  bool HasStubRoom(const std::string& key) const;
  bool LacksStubs(uint64_t charge, bool comes, const Entry* stays, const Entry* replaced) const;
  // R5: who would leave, the first first. `is_enough` false: those are all there are.
  std::vector<Place> Victims(uint64_t charge, bool comes, const Entry* stays, const Entry* replaced,
                             bool* is_enough) const;
  // As it would be stored now.
  Footprint FootprintOf(const Entry& entry) const;
  bool IsTooLarge(const Entry& entry) const;

  Order order;
  std::unordered_map<std::string, Place> by_key;
  std::set<std::shared_ptr<Held>> held;
  uint64_t live_charge = 0, left_charge = 0, body_charge = 0, payload = 0;
  uint64_t dead = 0;                      // an upper bound of the dead entries
  uint64_t dead_charge_max = 0;           // with which they may still be charged, held ones included
  uint64_t limit = 0, entries_limit = 0;  // as of the last look
  uint64_t pinned_pages = 0;              // as of the last look
  uint64_t last_version = 0;              // the highest that was given or read back
  uint64_t cleared_version = 0;           // what is below it is not applied any more
  uint64_t gone_version = 0;              // A1: at least
  bool gone_known = true;                 // and exactly
  int bodies = 0;
  StoreStats counters;  // the counters only
  Journal journal;
  std::vector<ExpectedRecord> new_records;  // of the call in progress
  std::vector<std::shared_ptr<Load>> loads;
  struct Walk {
    bool accepts_stale = false;
    std::set<std::string> owed;
  };
  std::map<uint64_t, Walk> walks;  // W1
  const Debts* debts = nullptr;    // null: no database
  size_t stubs_max = 0;

  // ---- moves ----

  // P1, P2. `counts`: as a get that met an expired entry. The entry's place, also of a stale one; *live: it is there.
  Place Meet(const std::string& key, bool counts, bool accepts_stale, bool* live);
  // What becomes of the walks that owe the key, and whether anyone is told.
  enum class Farewell : uint8_t { kTold, kUntold, kSucceeded, kSucceededUntold };
  void Leave(Place entry, Reason reason, Farewell farewell = Farewell::kTold);
  // R5.
  void LetOldestLeave(uint64_t charge, bool comes, const Entry* stays);
  Place Enter(Entry entry, bool in_same_place);
  void Use(Place entry) { order.splice(order.begin(), order, entry); }
  void VoidLoads(const std::string& key);
  void ForgetOwed(const std::string& key);
  void ForgetOwedIfStale(const Entry& entry);
  void LetGo(const std::shared_ptr<Held>& held_value);

  // Stores `next` in place of `old` (end(): of nothing). What it must do, and what is done if it is refused.
  struct Terms {
    bool recorded = true;       // leaves a record
    bool insists = false;       // F5: it is the newest word about its key
    RecordFields came_by = {};  // how it came about (J1)
  };
  Status Accept(Entry next, Place old, const Terms& terms, Expected* expected);
  // Makes the entry `next`: a longer value, or another expiry. kStored: *entry is that.
  enum class Becoming : uint8_t { kOther, kLonger, kRetimed };
  Status Become(Place* entry, Entry next, Becoming becoming);
  Status Retime(Place* entry, uint64_t expires_ms, uint64_t fresh_until_ms);
  // A body that was received takes its place. False: the journal has no room.
  bool Admit(Entry next, Place old, uint64_t charge, Expected* expected);
  // F5: there is nothing under the key any more. False: the journal has no room for that.
  bool MakeAbsent(const std::string& key, Place old, bool recorded, Expected* expected);
  // Entries below this version are dead. Count of them.
  uint64_t Clear(uint64_t below = ~uint64_t{0});

  // Records. An entry's in the way that RecordWay() has answered, or that of what is left of it.
  enum class Way : uint8_t { kNoRoom, kWhole, kReference };
  Way RecordWay(const Entry& entry, bool is_body, const RecordFields& came_by = {}) const;
  void RecordSet(Place entry, Way way, const RecordFields& came_by = {});
  void Record(RecordKind kind, const Entry& entry, const RecordFields& came_by = {});
  RecordFields FieldsOf(const Entry& entry, const RecordFields& came_by) const;
  void RecordDelete(const std::string& key, Expected* expected);
  // Of a clear of all shards, or one that is to come. REQUIRES: the journal takes it.
  void RecordBarrier(RecordKind kind, uint64_t version, uint64_t at_ms);
  // Counts a refusal.
  Status LogFull();
  // F4, counted; another refusal stays as it is.
  Status Unmet(Status refusal);

  // ---- records that come in (model_apply.cc) ----

  // What became of the key, for what the records say.
  enum class Effect : uint8_t { kNone, kStored, kGone, kRetimed };
  // `keeps_version`: it was given by another life of this log, and leaves no record. `recovering`: what has expired
  // stays until its room is needed.
  Status Apply(const RecordView& record, bool keeps_version, bool recovering, Effect* effect);

  void Describe(const Entry& entry, Expected* expected) const;
  uint32_t now_s() const { return static_cast<uint32_t>(setting_.now->boot_ms / 1000); }

 private:
  // F2 to F4, of an entry that is to be stored; of one that becomes another one.
  Status RefusalToAccept(const Entry& next, const Entry* old, bool in_same_place, Way way) const;
  Status RefusalToBecome(const Entry& entry, const Entry& next, bool in_same_place, uint64_t needed) const;
  // R4
  static bool TakesSamePlace(const Entry& entry, const Entry& next);

  Status JudgeContents(const Request& request, const Entry& here) const;
  Entry Wanted(const Request& request, const std::string& key, const Entry* here) const;
  void CountCondition(const Request& request, bool present, Status status);
  Expected Look(const Request& request, const std::string& key, const Seen& seen, Scratch* scratch);
  Expected Get(const Request& request, const std::string& key, const Seen& seen, Scratch* scratch);
  void Replace(const Request& request, const std::string& key, Place here, bool live, Expected* expected);
  void Count(const Request& request, const std::string& key, Place here, bool live, Expected* expected);
  void Join(const Request& request, const std::string& key, Place here, const Seen& seen, Expected* expected);
  void Touch(const Request& request, Place here, const Seen& seen, Scratch* scratch, Expected* expected);
  void Remove(const Request& request, Place here, const Seen& seen, Scratch* scratch, Expected* expected);
  void RemoveAbsent(const Request& request, const std::string& key, Place stale, Expected* expected);
  bool GiveValue(Place entry, const Seen& seen, Scratch* scratch, Expected* expected);

  ShardSetting setting_;
};

}  // namespace cairn::model
