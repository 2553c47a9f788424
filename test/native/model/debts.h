// What a cache owes the database behind it: the changes that its records say and that no commit of the database
// covers yet. Keys are written by lanes, each with its own mark: the position in the records up to which it has
// committed.
//
// Rules
//   B1  A record makes its key owed, from its version until the mark of the key's lane passes that version. Marks rise,
//       each by itself.
//   B2  A key without a living entry that is owed is a stub: what the stub says is newer than the database's row, so a
//       read uses the stub and never the row. It does not matter how the entry left: evicted, expired or cleared.
//   B3  A stub says a value (the newest set that is owed, under the newest expiry), that the key is gone (a delete, or
//       an expiry that has come), or an expiry alone: a touch of an entry whose value the database has. Then the value
//       is the row's, and the expiry the stub's. A commit of the set, while a later touch is owed, makes the one of the
//       other: a stub never leads to a value that is committed, because the log may have dropped its record.
//   B4  A clear leaves no debt and takes none away: it makes the entries leave, as an eviction of all would.
//   B5  A lane may commit any prefix of what is owed, and coalesce it per key; what a key owes after that is what came
//       behind the prefix.
//   B6  At most ModelShard::stubs_max stubs stand for entries that were evicted or deleted. Without room for another
//       one, no entry that is owed is evicted and none is deleted: such a change waits for a commit. An entry that has
//       expired or was cleared keeps its own place until then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/journal.h"
#include "store/request.h"

namespace cairn::model {

// What is owed for a key, coalesced.
struct Debt {
  enum class Kind : uint8_t { kNothing, kValue, kGone, kExpiry } kind = Kind::kNothing;
  std::string value;            // kValue
  Codec codec = Codec::kRaw;    // kValue
  uint32_t client_flags = 0;    // kValue
  int64_t expires_wall_ms = 0;  // kValue, kExpiry; 0: never
  uint64_t value_version = 0;   // kValue: of the set
  uint64_t newest_version = 0;  // of the newest record that it comes from
};

class Debts {
 public:
  using LaneFunction = size_t (*)(const std::string& key);
  // Without `lane_of`, keys are divided by their hash.
  explicit Debts(size_t lanes, LaneFunction lane_of = nullptr) : marks_(lanes, 0), lane_of_(lane_of) {}

  // B1. `record` has its version; clears are ignored (B4).
  void Note(const ExpectedRecord& record);
  // B5: the lane has committed what it owes up to this version. Returns that, by key.
  // REQUIRES: it does not fall.
  std::map<std::string, Debt> Commit(size_t lane, uint64_t version);
  Debt Of(const std::string& key) const;
  bool IsOwed(const std::string& key) const { return owed_.contains(key); }
  size_t LaneOf(const std::string& key) const;
  size_t lanes() const { return marks_.size(); }
  uint64_t mark(size_t lane) const { return marks_[lane]; }
  std::vector<std::string> owed_keys() const;

 private:
  static Debt Coalesced(const std::vector<ExpectedRecord>& records);

  std::vector<uint64_t> marks_;
  LaneFunction lane_of_;
  std::map<std::string, std::vector<ExpectedRecord>> owed_;  // above the mark of the key's lane, oldest first
};

}  // namespace cairn::model
