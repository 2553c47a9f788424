// The rules of write-back in the model, by themselves: a model shard, what it owes (model/debts.h), and a database that
// commits what it is given. No store runs here.
//
// Random requests, loads, commits of single lanes, clears, evictions and expiries; after each, for every key:
//   - a read that goes through (the entry, the stub, the row) gets the newest value and expiry that was acknowledged;
//   - the row with what is owed for the key is that too: nothing is lost, whatever left memory;
//   - the row is what the records up to the mark of the key's lane say: a commit writes all of them and no more.
// And a full reserve of stubs stops evictions of what is owed.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/debts.h"
#include "model/model_shard.h"
#include "model/words.h"
#include "test.h"

namespace cairn::model {
namespace {

struct Row {
  std::string value;
  Codec codec = Codec::kRaw;
  uint32_t client_flags = 0;
  int64_t expires_wall_ms = 0;
  bool operator==(const Row&) const = default;
};
using MaybeRow = std::optional<Row>;

// What a record makes of a row.
void Apply(const ExpectedRecord& record, MaybeRow* row) {
  switch (record.kind) {
    case RecordKind::kSet:
      *row = Row{record.value, static_cast<Codec>(record.codec), record.client_flags, record.expires_wall_ms};
      break;
    case RecordKind::kDelete:
      row->reset();
      break;
    case RecordKind::kTouch:
      if (*row) (*row)->expires_wall_ms = record.expires_wall_ms;
      break;
    default:
      break;
  }
}

// What a debt makes of a row.
MaybeRow With(const Debt& debt, MaybeRow row) {
  switch (debt.kind) {
    case Debt::Kind::kNothing:
      break;
    case Debt::Kind::kValue:
      row = Row{debt.value, debt.codec, debt.client_flags, debt.expires_wall_ms};
      break;
    case Debt::Kind::kGone:
      row.reset();
      break;
    case Debt::Kind::kExpiry:
      if (row) row->expires_wall_ms = debt.expires_wall_ms;
      break;
  }
  return row;
}

// How often the interesting states were met.
struct Met {
  int stubs = 0, gone_stubs = 0, touch_stubs = 0, expired_stubs = 0, cleared_owed = 0, lanes_apart = 0, late_loads = 0,
      refused = 0, partly_committed = 0;
};

class World {
 public:
  static constexpr size_t kLanes = 3;
  static constexpr uint64_t kKeys = 24;

  World(uint64_t seed, size_t stubs_max)
      : random_(seed),
        sizes_(4096, false),
        debts_(kLanes),
        shard_(ShardSetting{.sizes = &sizes_,
                            .now = &now_,
                            .tracks_access = false,
                            .value_bytes_max = 4000,
                            .events = &events_,
                            .coverage = &coverage_}) {
    now_.boot_ms = 1'000'000;
    now_.wall_ms = 1'700'000'000'000;
    shard_.journal.keeps_records = true;
    shard_.debts = &debts_;
    shard_.stubs_max = stubs_max;
    shard_.limit = random_.Between(3000, 20'000);
    shard_.entries_limit = random_.OneIn(2) ? random_.Between(1, 12) : 0;
  }

  void Step() {
    const std::string key = "k" + std::to_string(random_.Below(kKeys));
    events_.Clear();
    shard_.new_records.clear();
    const size_t stubs = shard_.Stubs();
    bool cleared = false;
    switch (random_.Below(16)) {
      case 0:
        Commit(random_.Below(kLanes));
        break;
      case 1:
        cleared = random_.OneIn(10);
        if (cleared) Clear();
        break;
      case 2:
        now_.boot_ms += 10, now_.wall_ms += 10;
        break;
      case 3:
        BeginLoad(key);
        break;
      case 4:
        EndLoad();
        break;
      case 5:
        Read(key);
        break;
      default:
        Ask(key);
        break;
    }
    Settle();
    // B6: what was evicted or deleted had room for its stub.
    size_t expired = 0;
    for (const Removal& removal : events_.removals) expired += removal.reason == Reason::kExpired;
    if (!cleared) EXPECT_LE(shard_.Stubs(), std::max(shard_.stubs_max, stubs) + expired);
    for (uint64_t i = 0; i < kKeys; ++i) Check("k" + std::to_string(i));
    EXPECT_EQ(events_.broken, "");
  }

  // Commits everything; the database then has all, and there are no stubs.
  void Finish() {
    for (size_t lane = 0; lane < kLanes; ++lane) Write(lane, version_);
    EXPECT_EQ(debts_.owed_keys().size(), 0u);
    EXPECT_EQ(shard_.Stubs(), 0u);
    EXPECT_TRUE(database_ == truth_);
  }

  const Met& met() const { return met_; }

 private:
  struct LoadInProgress {
    std::string key;
    std::shared_ptr<ModelShard::Load> load;
    MaybeRow row;
  };

  static MaybeRow In(const std::map<std::string, Row>& rows, const std::string& key) {
    const auto found = rows.find(key);
    return found == rows.end() ? std::nullopt : MaybeRow(found->second);
  }
  static void Put(std::map<std::string, Row>* rows, const std::string& key, const MaybeRow& row) {
    if (row) {
      (*rows)[key] = *row;
    } else {
      rows->erase(key);
    }
  }
  MaybeRow Unexpired(MaybeRow row) const {
    if (row && row->expires_wall_ms != 0 && row->expires_wall_ms <= now_.wall_ms) row.reset();
    return row;
  }

  // A read through the cache: the entry, or the stub, or the row.
  MaybeRow ReadThrough(const std::string& key) {
    switch (shard_.PresenceOf(key)) {
      case ModelShard::Found::kLive: {
        const Entry& entry = *shard_.Find(key);
        const int64_t expires =
            entry.expires_ms == kNeverExpires ? 0 : static_cast<int64_t>(entry.expires_ms) + now_.WallOffset();
        return Row{entry.value, entry.codec, entry.client_flags, expires};
      }
      case ModelShard::Found::kStub: {
        const Debt debt = debts_.Of(key);
        ++met_.stubs;
        met_.gone_stubs += debt.kind == Debt::Kind::kGone;
        met_.touch_stubs += debt.kind == Debt::Kind::kExpiry;
        const bool expires = debt.expires_wall_ms != 0;
        met_.expired_stubs += expires && debt.expires_wall_ms <= now_.wall_ms;
        // The row is looked at for the value of a touch stub alone.
        return Unexpired(With(debt, debt.kind == Debt::Kind::kExpiry ? In(database_, key) : std::nullopt));
      }
      case ModelShard::Found::kAbsent:
        break;
    }
    return Unexpired(In(database_, key));
  }

  void Check(const std::string& key) {
    const MaybeRow truth = In(truth_, key);
    const MaybeRow row = In(database_, key);
    if (!(ReadThrough(key) == Unexpired(truth))) ADD_FAILURE() << key << " is read otherwise than acknowledged";
    if (!(With(debts_.Of(key), row) == truth)) ADD_FAILURE() << key << ": the row and what is owed are not the truth";
    MaybeRow written;
    for (const ExpectedRecord& record : history_) {
      if (record.key == key && record.version <= debts_.mark(debts_.LaneOf(key))) Apply(record, &written);
    }
    if (!(row == written)) ADD_FAILURE() << key << ": the row is not what was committed";
  }

  // Gives the new records their versions, as the store would.
  void Settle() {
    for (ExpectedRecord& record : shard_.new_records) {
      record.version = ++version_;
      const ModelShard::Place entry = shard_.Find(record.key);
      if (record.kind == RecordKind::kSet && entry != shard_.end()) entry->version = record.version;
      debts_.Note(record);
      history_.push_back(record);
      MaybeRow row = In(truth_, record.key);
      Apply(record, &row);
      Put(&truth_, record.key, row);
    }
    shard_.new_records.clear();
  }

  void Ask(const std::string& key) {
    static constexpr Verb kVerbs[] = {Verb::kSet,   Verb::kSet,         Verb::kSet,     Verb::kAdd,  Verb::kReplace,
                                      Verb::kCas,   Verb::kAppend,      Verb::kPrepend, Verb::kIncr, Verb::kTouch,
                                      Verb::kTouch, Verb::kGetAndTouch, Verb::kDelete,  Verb::kTake, Verb::kEvict};
    Request request;
    request.verb = kVerbs[random_.Below(std::size(kVerbs))];
    request.key = key;
    const std::string value =
        random_.OneIn(3) ? std::to_string(random_.Below(100)) : std::string(random_.Below(900), 'v') + key;
    request.value = value;
    request.client_flags = static_cast<uint32_t>(random_.Below(3));
    request.delta = random_.Below(10);
    if (random_.OneIn(3)) request.expires_ms = now_.boot_ms + random_.Between(1, 60);
    if (ModelShard::NeedsLive(request.verb) && shard_.PresenceOf(key) != ModelShard::Found::kLive) {
      Read(key);
      Settle();
    }
    const ModelShard::Place here = shard_.Find(key);
    request.compare = here == shard_.end() ? 0 : here->version + random_.Below(2);
    request.has_compare = request.verb == Verb::kCas;
    // What could not be brought in waits, as does what it would be needed for.
    const bool waits =
        ModelShard::NeedsLive(request.verb) && ReadThrough(key) && shard_.PresenceOf(key) != ModelShard::Found::kLive;
    if (waits) {
      ++met_.refused;
      return;
    }
    std::string room(5000, '\0');
    Scratch scratch{room.data(), room.size(), 0};
    const Expected expected = shard_.Ask(request, key, nullptr, Seen{}, &scratch);
    met_.refused += expected.status == Status::kLogFull;
  }

  // Brings in what a read gets, if it is not here; leaves no record. A read that finds no room gets it all the same.
  void Read(const std::string& key) {
    if (shard_.PresenceOf(key) == ModelShard::Found::kLive) return;
    const MaybeRow row = ReadThrough(key);
    if (row) BringIn(key, *row, debts_.Of(key).value_version);
  }

  void BringIn(const std::string& key, const Row& row, uint64_t version) {
    Entry entry;
    entry.key = key;
    entry.value = row.value;
    entry.codec = row.codec;
    entry.client_flags = row.client_flags;
    if (row.expires_wall_ms != 0) entry.expires_ms = static_cast<uint64_t>(row.expires_wall_ms - now_.WallOffset());
    Expected ignored;
    bool ignored_live;
    const ModelShard::Place old = shard_.Meet(key, false, true, &ignored_live);
    const Status status = shard_.Accept(std::move(entry), old, {.recorded = false}, &ignored);
    if (status != Status::kStored) return;
    shard_.Find(key)->version = version != 0 ? version : ++version_;
    shard_.VoidLoads(key);
  }

  void BeginLoad(const std::string& key) {
    if (loads_.size() > 4 || shard_.PresenceOf(key) != ModelShard::Found::kAbsent) return;
    auto load = std::make_shared<ModelShard::Load>();
    load->key = key;
    shard_.loads.push_back(load);
    loads_.push_back({key, load, Unexpired(In(database_, key))});
  }

  void EndLoad() {
    if (loads_.empty()) return;
    const LoadInProgress load = loads_.front();
    loads_.erase(loads_.begin());
    std::erase(shard_.loads, load.load);
    if (load.load->voided) {
      ++met_.late_loads;
      return;
    }
    const MaybeRow row = Unexpired(load.row);
    if (row) BringIn(load.key, *row, 0);
  }

  void Commit(size_t lane) {
    const uint64_t mark = debts_.mark(lane);
    const uint64_t to = random_.OneIn(3) ? version_ : mark + random_.Below(version_ - mark + 1);
    Write(lane, to);
    uint64_t lowest = version_, highest = 0;
    for (size_t i = 0; i < kLanes; ++i) {
      lowest = std::min(lowest, debts_.mark(i));
      highest = std::max(highest, debts_.mark(i));
    }
    met_.lanes_apart += lowest != highest;
  }

  void Write(size_t lane, uint64_t version) {
    for (const auto& [key, debt] : debts_.Commit(lane, version)) {
      met_.partly_committed += debts_.IsOwed(key);
      Put(&database_, key, With(debt, In(database_, key)));
    }
  }

  void Clear() {
    for (const Entry& entry : shard_.order) met_.cleared_owed += debts_.IsOwed(entry.key);
    (void)shard_.Clear();
  }

  test::Random random_;
  Now now_;
  Sizes sizes_;
  Events events_;
  Coverage coverage_;
  Debts debts_;
  ModelShard shard_;
  uint64_t version_ = 0;
  std::vector<ExpectedRecord> history_;
  std::map<std::string, Row> database_, truth_;
  std::vector<LoadInProgress> loads_;
  Met met_;
};

TEST(ModelDebts, NothingIsReadStaleOrLostWhateverLeavesMemory) {
  Met met;
  for (uint64_t life = 0; life < 60; ++life) {
    const uint64_t seed = test::Seed() + life;
    World world(seed, life % 3 == 0 ? 2 : 100);
    for (int step = 0; step < 400; ++step) {
      world.Step();
      if (test::CurrentState().failure_count != 0) {
        ADD_FAILURE() << "in life " << life << ", step " << step;
        return;
      }
    }
    world.Finish();
    met.stubs += world.met().stubs, met.gone_stubs += world.met().gone_stubs;
    met.touch_stubs += world.met().touch_stubs, met.expired_stubs += world.met().expired_stubs;
    met.cleared_owed += world.met().cleared_owed, met.lanes_apart += world.met().lanes_apart;
    met.late_loads += world.met().late_loads, met.refused += world.met().refused;
    met.partly_committed += world.met().partly_committed;
  }
  EXPECT_GT(met.stubs, 0);
  EXPECT_GT(met.gone_stubs, 0);
  EXPECT_GT(met.touch_stubs, 0);
  EXPECT_GT(met.expired_stubs, 0);
  EXPECT_GT(met.cleared_owed, 0);
  EXPECT_GT(met.lanes_apart, 0);
  EXPECT_GT(met.late_loads, 0);
  EXPECT_GT(met.refused, 0);
  EXPECT_GT(met.partly_committed, 0);
}

ExpectedRecord RecordOf(RecordKind kind, uint64_t version, const std::string& value = "", int64_t expires_wall_ms = 0) {
  ExpectedRecord record;
  record.kind = kind;
  record.version = version;
  record.key = "k";
  record.value = value;
  record.expires_wall_ms = expires_wall_ms;
  return record;
}

TEST(ModelDebts, ATouchOfWhatTheDatabaseHasOwesAnExpiryAlone) {
  Debts debts(1);
  debts.Note(RecordOf(RecordKind::kSet, 1, "v"));
  debts.Commit(0, 1);
  EXPECT_FALSE(debts.IsOwed("k"));
  debts.Note(RecordOf(RecordKind::kTouch, 2, "", 77));
  EXPECT_TRUE(debts.Of("k").kind == Debt::Kind::kExpiry);
  EXPECT_EQ(debts.Of("k").expires_wall_ms, 77);
}

TEST(ModelDebts, APrefixThatIsCommittedLeavesWhatCameBehindIt) {
  Debts debts(1);
  debts.Note(RecordOf(RecordKind::kSet, 1, "a"));
  debts.Note(RecordOf(RecordKind::kTouch, 2, "", 77));
  debts.Note(RecordOf(RecordKind::kDelete, 3));
  std::map<std::string, Debt> written = debts.Commit(0, 1);
  EXPECT_EQ(written["k"].value, "a");
  EXPECT_EQ(written["k"].expires_wall_ms, 0);
  EXPECT_TRUE(debts.Of("k").kind == Debt::Kind::kGone);
  debts.Note(RecordOf(RecordKind::kSet, 4, "b"));
  written = debts.Commit(0, 4);
  EXPECT_EQ(written["k"].value, "b");
  EXPECT_FALSE(debts.IsOwed("k"));
}

}  // namespace
}  // namespace cairn::model
