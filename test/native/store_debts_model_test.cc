// A store with two backends against the model of what it owes (model/debts.h), databases that commit what the records
// say, and readers that go through: entry, stub, row.
//
// Random requests, loads that take a while, revivals from the log, commits of any prefix, clears, evictions, expiries,
// upkeep, values that readers hold, values that come in pieces, atomic batches, and openings that read the log back:
// with another number of shards, with or without a snapshot, from a cursor of the log that is behind the database's,
// from a log that has some records twice, with less memory. The writer raises the stored marks as
// src/write-back/stored-marks.ts does: by the versions that this process has given, and all at once when the database
// has what was recovered; then the log drops what is committed. After each, for every key:
//   - a read that goes through gets the newest value and expiry that was acknowledged;
//   - a key that is owed and has no entry has a stub of the kind that the model says; one that is not owed may have the
//     stub of an expiry for a while, because the shard keeps the version of its newest touch only, and any stub until
//     the database has what was recovered;
//   - a stub of a value leads to a record that the log still has;
//   - a refusal for want of room for stubs changes nothing.

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/debts.h"
#include "store/debts.h"
#include "store/fill_watch.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

using model::Debt;
using model::ExpectedRecord;

struct DbRow {
  std::string value;
  uint32_t client_flags = 0;
  int64_t expires_wall_ms = 0;
  bool operator==(const DbRow&) const = default;
};
using MaybeRow = std::optional<DbRow>;
using Rows = std::map<std::string, DbRow>;

MaybeRow In(const Rows& rows, const std::string& key) {
  const auto found = rows.find(key);
  return found == rows.end() ? std::nullopt : MaybeRow(found->second);
}
void Put(Rows* rows, const std::string& key, const MaybeRow& row) {
  if (row) {
    (*rows)[key] = *row;
  } else {
    rows->erase(key);
  }
}
void Apply(const ExpectedRecord& record, Rows* rows) {
  MaybeRow row = In(*rows, record.key);
  if (record.kind == RecordKind::kSet) row = DbRow{record.value, record.client_flags, record.expires_wall_ms};
  if (record.kind == RecordKind::kDelete) row.reset();
  if (record.kind == RecordKind::kTouch && row) row->expires_wall_ms = record.expires_wall_ms;
  Put(rows, record.key, row);
}
MaybeRow With(const Debt& debt, MaybeRow row) {
  if (debt.kind == Debt::Kind::kValue) row = DbRow{debt.value, debt.client_flags, debt.expires_wall_ms};
  if (debt.kind == Debt::Kind::kGone) row.reset();
  if (debt.kind == Debt::Kind::kExpiry && row) row->expires_wall_ms = debt.expires_wall_ms;
  return row;
}

// Two databases: keys that begin with this are those of the second.
constexpr uint32_t kBackends = 2;
constexpr std::string_view kOtherPrefix = "kkk";
size_t BackendOf(const std::string& key) { return key.starts_with(kOtherPrefix) ? 1 : 0; }

struct Met {
  int value_stubs = 0, gone_stubs = 0, expiry_stubs = 0, unknown = 0, refused = 0, revived = 0, fills = 0,
      late_fills = 0, absences = 0, cleared_owed = 0, recoveries = 0, commits = 0, snapshots = 0, other_counts = 0,
      twice = 0, waits = 0, held = 0, bodies = 0, atomic = 0, late_revivals = 0;
};

class World {
 public:
  // `is_overfull`: the database is slow, and the store opens again with less memory than what is owed by then needs.
  World(uint64_t seed, bool is_overfull)
      : random_(seed),
        debts_(std::make_unique<model::Debts>(kBackends, &BackendOf)),
        keys_(!is_overfull && random_.OneIn(3) ? 30 : 600),
        is_overfull_(is_overfull) {
    value_bytes_ = random_.OneIn(2) ? 300 : 16'000;
    // A slow writer: the reserve of stubs is used up.
    if (random_.OneIn(2)) {
      commit_share_ = 60;
      long_key_bytes_ = 20'000;
    }
    if (is_overfull) {
      value_bytes_ = 300;
      commit_share_ = 500;
      long_key_bytes_ = 60'000;
      long_keys_of_7_ = 6;
    }
    Open();
  }
  ~World() {
    LetGo(pins_.size());
    for (Load& load : loads_) store_->store().EndFill(load.key, load.ticket.get());
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  void Step() {
    const std::string key = KeyOf(random_.Below(keys_));
    switch (random_.Below(30)) {
      case 0:
      case 1:
        if (!random_.OneIn(commit_share_)) break;
        CommitSome(random_.Below(kBackends));
        break;
      case 2:
        if (random_.OneIn(20)) Clear();
        break;
      case 3:
        store_->Advance(random_.Between(1, 300));
        break;
      case 4:
        BeginLoad(key);
        break;
      case 5:
        EndLoad();
        break;
      case 6:
        if (random_.OneIn(4)) store_->store().Maintain(store_->now());
        break;
      case 7:
        if (random_.OneIn(is_overfull_ ? 30 : 60)) Recover();
        if (random_.OneIn(100)) TakeSnapshot();
        break;
      case 8:
        Hold(key);
        break;
      case 9:
        LetGo(random_.Below(4));
        break;
      case 10:
        if (random_.OneIn(2)) StoreInPieces(key);
        break;
      case 11:
        if (random_.OneIn(2)) AskAtomic();
        break;
      case 12:
        if (revivals_.size() < 4 && BeginRevival(key)) {
          Ask(key, Draw(key));
          Ask(key, TestStore::Make(Verb::kEvict, key));
        }
        break;
      case 13:
        EndRevival();
        break;
      default:
        Ask(key, Draw(key));
        break;
    }
    Settle();
    if (random_.OneIn(16)) store_->store().Verify();
    for (int i = 0; i < 8; ++i) Check(KeyOf(random_.Below(keys_)));
    Check(key);
  }

  void Finish() {
    LetGo(pins_.size());
    if (is_overfull_) Recover();
    for (uint64_t i = 0; i < keys_; ++i) Check(KeyOf(i));
    for (uint32_t backend = 0; backend < kBackends; ++backend) Commit(backend, log_.size());
    store_->MaintainAll();
    EXPECT_EQ(store_->store().Stats().stubs, 0);
    EXPECT_TRUE(database_ == truth_) << "the database has everything";
    for (uint64_t i = 0; i < keys_; ++i) Check(KeyOf(i));
    store_->store().Verify();
  }

  const Met& met() const { return met_; }

 private:
  struct Load {
    std::string key;
    std::unique_ptr<FillTicket> ticket;
    MaybeRow row;
  };

  std::string KeyOf(uint64_t i) const {
    return std::string(i % 7 < long_keys_of_7_ ? long_key_bytes_ : 1 + i % 5, 'k') + std::to_string(i);
  }

  void Open() {
    StoreOptions options = TestStore::Tiny();
    options.has_backend = true;
    options.backend_count = kBackends;
    options.backend_routes = {{std::string(kOtherPrefix), 1, true}};
    const uint32_t shard_count = 1u << random_.Below(3);
    met_.other_counts += store_ != nullptr && shard_count != store_->store().shard_count();
    options.shard_count = shard_count;
    if (is_overfull_ && store_ == nullptr) options.memory_bytes = 8 * kMemoryBytesMin;
    Now now;
    if (store_ != nullptr) now = store_->now();
    store_ = std::make_unique<TestStore>(options);
    store_->RecordAll();
    if (now.boot_ms != 0) store_->Advance(now.boot_ms - store_->now().boot_ms);
  }

  MaybeRow Unexpired(MaybeRow row) const {
    if (row && row->expires_wall_ms != 0 && row->expires_wall_ms <= store_->now().wall_ms) row.reset();
    return row;
  }
  int64_t WallOf(uint64_t expires_ms) const {
    return expires_ms == kNeverExpires ? 0 : static_cast<int64_t>(expires_ms) + store_->now().WallOffset();
  }
  // The record of the key with this version, which the log has to have.
  const ExpectedRecord& RecordOf(const std::string& key, uint64_t version) {
    for (size_t at = log_.size(); at > dropped_; --at) {
      const ExpectedRecord& record = log_[at - 1];
      if (record.version == version && record.key == key && record.kind == RecordKind::kSet) return record;
    }
    ADD_FAILURE() << key << " leads to a record that the log has dropped";
    static const ExpectedRecord none = {};
    return none;
  }
  uint64_t RecordCount() {
    uint64_t count = 0;
    for (uint32_t i = 0; i < store_->store().shard_count(); ++i) count += store_->store().RingStatsOf(i).records;
    return count;
  }

  // ---- what a reader that waits for loads gets ----

  MaybeRow ReadThrough(const std::string& key) {
    Request request = TestStore::Make(Verb::kPeek, key);
    request.reads_through = true;
    const Answer answer = store_->Do(request);
    if (answer.status == Status::kFound) {
      return DbRow{answer.value, answer.outcome.client_flags, WallOf(answer.outcome.expires_ms)};
    }
    StubInfo info;
    const bool has_stub = store_->store().StubOf(key, store_->now(), &info);
    if (answer.status == Status::kNotFound) {
      met_.gone_stubs += has_stub;
      if (has_stub) EXPECT_TRUE(info.kind == StubKind::kGone) << key;
      return std::nullopt;
    }
    EXPECT_EQ(answer.status, Status::kNotResident) << key;
    const Debt debt = debts_->Of(key);
    if (!has_stub) {
      ++met_.unknown;
      EXPECT_TRUE(debt.kind == Debt::Kind::kNothing) << key << " is owed and has no stub";
      return Unexpired(In(database_, key));
    }
    if (info.kind == StubKind::kValue) {
      ++met_.value_stubs;
      const ExpectedRecord& record = RecordOf(key, info.value_version);
      EXPECT_TRUE(debt.kind == Debt::Kind::kValue || !HasRecovered(static_cast<uint32_t>(BackendOf(key))))
          << key << " has a value in the database";
      return Unexpired(DbRow{record.value, record.client_flags, WallOf(info.expires_ms)});
    }
    EXPECT_TRUE(info.kind == StubKind::kExpiry) << key;
    EXPECT_TRUE(debt.kind == Debt::Kind::kExpiry || debt.kind == Debt::Kind::kNothing) << key;
    ++met_.expiry_stubs;
    MaybeRow row = In(database_, key);
    if (row) row->expires_wall_ms = WallOf(info.expires_ms);
    return Unexpired(row);
  }

  void Check(const std::string& key) {
    const MaybeRow truth = In(truth_, key);
    if (!(With(debts_->Of(key), In(database_, key)) == truth)) ADD_FAILURE() << key << ": the model is wrong";
    const MaybeRow read = ReadThrough(key);
    if (read == Unexpired(truth)) return;
    ADD_FAILURE() << key << " is read otherwise than acknowledged: " << (read ? read->value.size() : 0) << " bytes, "
                  << (read ? read->expires_wall_ms : -1) << "; expected " << (truth ? truth->value.size() : 0)
                  << " bytes, " << (truth ? truth->expires_wall_ms : -1);
  }

  // ---- changes ----

  void Settle() {
    const size_t before = log_.size();
    const uint32_t shard_count = store_->store().shard_count();
    const uint64_t first = random_.Below(shard_count);
    for (uint32_t i = 0; i < shard_count; ++i) {
      for (const test::StoredRecord& stored : store_->records((first + i) % shard_count).Take()) {
        ExpectedRecord record;
        record.kind = stored.kind;
        record.version = stored.version;
        record.key = stored.key;
        record.value = stored.value;
        record.codec = stored.codec;
        record.client_flags = stored.client_flags;
        record.expires_wall_ms = stored.expires_wall_ms;
        log_.push_back(record);
        if (record.kind == RecordKind::kClear) continue;
        // The model counts in positions: versions of different shards cannot be compared.
        record.version = log_.size();
        debts_->Note(record);
        ::cairn::Apply(record, &truth_);
      }
    }
    // The scribe has died, and writes again what it cannot know to be in the log.
    if (log_.size() == before || !random_.OneIn(50)) return;
    const size_t count = log_.size() - before + random_.Below(6);
    const size_t from = log_.size() - std::min<size_t>(count, log_.size() - opened_at_);
    for (size_t at = from, end = log_.size(); at < end; ++at) {
      log_.push_back(ExpectedRecord(log_[at]));
      ++met_.twice;
    }
  }

  Request Draw(const std::string& key) {
    static constexpr Verb kVerbs[] = {Verb::kSet,   Verb::kSet,         Verb::kSet,     Verb::kAdd,  Verb::kReplace,
                                      Verb::kGet,   Verb::kAppend,      Verb::kPrepend, Verb::kIncr, Verb::kTouch,
                                      Verb::kTouch, Verb::kGetAndTouch, Verb::kDelete,  Verb::kTake, Verb::kEvict};
    Request request = TestStore::Make(kVerbs[random_.Below(std::size(kVerbs))], key);
    const size_t bytes = random_.OneIn(40) ? random_.Below(90'000) : random_.Below(value_bytes_);
    value_ = random_.OneIn(3) ? std::to_string(random_.Below(100))
                              : std::string(bytes, static_cast<char>('a' + random_.Below(26)));
    request.value = value_;
    request.client_flags = random_.OneIn(3) ? 7 : 0;
    request.delta = random_.Below(10);
    request.reads_through = random_.OneIn(2);
    if (random_.OneIn(3)) request.expires_ms = store_->now_ms() + random_.Between(1, 2000);
    return request;
  }

  void Ask(const std::string& key, const Request& request) {
    const uint64_t records = RecordCount();
    Answer answer = store_->Do(request);
    if (answer.status == Status::kLogFull) {
      ++met_.refused;
      EXPECT_EQ(RecordCount(), records);
      return;
    }
    if (answer.status != Status::kNotResident || !BringIn(key)) return;
    answer = store_->Do(request);
    // What was brought in may have left for the request's own room.
    if (answer.status == Status::kLogFull) ++met_.refused;
  }

  // A reader begins to read the value where it is.
  void Hold(const std::string& key) {
    if (pins_.size() > 6) return;
    char none;
    Scratch scratch{&none, 0, 0};
    Outcome outcome;
    store_->store().Execute(TestStore::Make(Verb::kGet, key), store_->now(), &scratch, &outcome);
    if (outcome.pin.ref == 0) return;
    pins_.push_back(outcome.pin);
    ++met_.held;
  }
  // Some readers are done.
  void LetGo(size_t count) {
    for (; count > 0 && !pins_.empty(); --count) {
      store_->store().Unpin(pins_.back());
      pins_.pop_back();
    }
  }

  // As the port stores a large value, with what else happens between its pieces left out.
  void StoreInPieces(const std::string& key) {
    const std::string value(70'000 + random_.Below(20'000), 'p');
    Request request = TestStore::Make(random_.OneIn(4) ? Verb::kAdd : Verb::kSet, key);
    request.value = value;
    if (random_.OneIn(3)) request.expires_ms = store_->now_ms() + random_.Between(1, 2000);
    Body body;
    if (store_->store().Reserve(request, static_cast<uint32_t>(value.size()), store_->now(), &body) != Status::kStored)
      return;
    store_->store().WriteBody(body, 0, value);
    Outcome outcome;
    store_->store().Link(&body, request, store_->now(), &outcome);
    met_.bodies += outcome.status == Status::kStored;
    if (body) store_->store().Abandon(&body);
  }

  void AskAtomic() {
    std::vector<std::string> keys;
    std::vector<Request> requests;
    const std::string value(random_.Below(value_bytes_), 'a');
    for (uint64_t i = random_.Between(1, 6); i > 0; --i) keys.push_back(KeyOf(random_.Below(keys_)));
    for (const std::string& key : keys) {
      const Verb verb = random_.OneIn(3) ? Verb::kDelete : Verb::kSet;
      requests.push_back(TestStore::Make(verb, key, value));
    }
    const uint64_t records = RecordCount();
    const Status status = store_->store().ExecuteAtomic(requests.data(), requests.size(), store_->now()).status;
    met_.atomic += status == Status::kStored;
    EXPECT_EQ(RecordCount() - records, status == Status::kStored ? requests.size() : 0);
  }

  // The loader: the log for a value stub, the database for the rest. False: no room.
  bool BringIn(const std::string& key) {
    if (BeginRevival(key)) return EndRevival();
    BeginLoad(key);
    return !loads_.empty() && loads_.back().key == key && EndLoad();
  }

  // What the loader has found in the log for a stub.
  struct Revival {
    ExpectedRecord record;
    uint64_t newest_version;
  };
  // False: the key has no stub of a value.
  bool BeginRevival(const std::string& key) {
    StubInfo info;
    if (!store_->store().StubOf(key, store_->now(), &info) || info.kind != StubKind::kValue) return false;
    revivals_.push_back({RecordOf(key, info.value_version), info.newest_version});
    return true;
  }
  // Of the newest that began. Meanwhile its key may have another stub, or an entry.
  bool EndRevival() {
    if (revivals_.empty()) return false;
    const Revival revival = std::move(revivals_.back());
    revivals_.pop_back();
    RecordView view;
    view.key = revival.record.key;
    view.value = revival.record.value;
    view.codec = revival.record.codec;
    view.client_flags = revival.record.client_flags;
    const Status status = store_->store().Revive(view, revival.newest_version, store_->now());
    met_.revived += status == Status::kStored;
    met_.late_revivals += status == Status::kNotFound;
    return status == Status::kStored;
  }

  void BeginLoad(const std::string& key) {
    if (loads_.size() > 4) return;
    Load load{key, std::make_unique<FillTicket>(), Unexpired(In(database_, key))};
    if (!store_->store().BeginFill(key, FillOf::kAbsentKey, store_->now(), load.ticket.get())) return;
    loads_.push_back(std::move(load));
  }

  // As the table of loads does: a large value in pieces.
  Status Fill(const Request& request) {
    Body body;
    if (request.value.size() <= kCopyUnderLockBytesMax ||
        store_->store().Reserve(request, static_cast<uint32_t>(request.value.size()), store_->now(), &body) !=
            Status::kStored) {
      return store_->Do(request).status;
    }
    store_->store().WriteBody(body, 0, request.value);
    Outcome outcome;
    store_->store().Link(&body, request, store_->now(), &outcome);
    if (body) store_->store().Abandon(&body);
    ++met_.bodies;
    return outcome.status;
  }

  // The newest load ends, or another.
  bool EndLoad() {
    if (loads_.empty()) return false;
    const size_t which = random_.OneIn(2) ? loads_.size() - 1 : random_.Below(loads_.size());
    const Load load = std::move(loads_[which]);
    loads_.erase(loads_.begin() + static_cast<ptrdiff_t>(which));
    const MaybeRow row = Unexpired(load.row);
    Request request = TestStore::Make(Verb::kSet, load.key);
    request.fill = load.ticket.get();
    request.from_backend = true;
    request.is_absence = !row;
    if (row) {
      request.value = row->value;
      request.client_flags = row->client_flags;
      if (row->expires_wall_ms != 0) {
        request.expires_ms = static_cast<uint64_t>(row->expires_wall_ms - store_->now().WallOffset());
      }
    } else {
      request.expires_ms = store_->now_ms() + 100;
    }
    const Status status = Fill(request);
    store_->store().EndFill(load.key, load.ticket.get());
    if (status == Status::kStored) ++(row ? met_.fills : met_.absences);
    if (status == Status::kExists) ++met_.late_fills;
    return status == Status::kStored;
  }

  void Clear() {
    met_.cleared_owed += static_cast<int>(debts_->owed_keys().size());
    (void)store_->store().Clear(store_->now());
  }

  // A database has everything of its keys up to this position.
  void CommitRows(uint32_t backend, uint64_t position) {
    for (const auto& [key, debt] : debts_->Commit(backend, position)) {
      Put(&database_, key, With(debt, In(database_, key)));
    }
    committed_[backend] = position;
  }

  void CommitSome(uint32_t backend) {
    const uint64_t committed = committed_[backend];
    Commit(backend, random_.OneIn(3) ? log_.size() : committed + random_.Below(log_.size() - committed + 1));
  }

  // The writer of a database commits, raises the marks, also past the records of the other one, and lets the log drop
  // what both have.
  void Commit(uint32_t backend, uint64_t position) {
    if (position <= committed_[backend]) return;
    Settle();
    std::map<uint32_t, uint64_t> versions;
    for (uint64_t at = std::max(committed_[backend], opened_at_) + 1; at <= position; ++at) {
      const ExpectedRecord& record = log_[at - 1];
      if (record.kind == RecordKind::kClear) continue;
      uint64_t* version = &versions[store_->store().ShardOf(record.key)];
      *version = std::max(*version, record.version);
    }
    CommitRows(backend, position);
    ++met_.commits;
    CommitMarks* marks = store_->store().stored_marks(backend);
    for (const auto& [shard, version] : versions) marks->Advance(shard, version);
    RaiseRecovered(backend);
    if (HasRecovered(0) && HasRecovered(1)) dropped_ = std::max(dropped_, std::min(committed_[0], committed_[1]));
  }
  void RaiseRecovered(uint32_t backend) {
    if (HasRecovered(backend)) store_->store().stored_marks(backend)->AdvanceAll(VersionOf(epoch_, 0));
  }
  // The marks of the backend count.
  bool HasRecovered(uint32_t backend) const { return committed_[backend] >= opened_at_; }

  void TakeSnapshot() {
    Settle();
    snapshot_.clear();
    snapshot_at_ = log_.size();
    ++met_.snapshots;
    Cursor cursor;
    store_->store().OpenCursor(Cursor::Order::kOldestFirst, &cursor);
    std::string bytes(size_t{1} << 20, '\0');
    WalkedEntry walked[16];
    size_t needed = 0;
    for (bool done = false; !done;) {
      Scratch scratch{bytes.data(), bytes.size(), 0};
      const size_t count = store_->store().StepCursor(&cursor, store_->now(), Emits::kKeysAndValues, walked, 16,
                                                      &scratch, &done, &needed);
      for (size_t i = 0; i < count; ++i) {
        ExpectedRecord record;
        record.kind = RecordKind::kSet;
        record.version = walked[i].version;
        record.key.assign(bytes, walked[i].key_offset, walked[i].key_bytes);
        record.value.assign(bytes, walked[i].value_offset, walked[i].value_bytes);
        record.codec = static_cast<uint8_t>(walked[i].codec);
        record.client_flags = walked[i].client_flags;
        record.expires_wall_ms = WallOf(walked[i].expires_ms);
        snapshot_.push_back(record);
      }
    }
    store_->store().CloseCursor(&cursor);
  }

  Status Read(const ExpectedRecord& record, Origin origin) {
    RecordView view;
    view.kind = record.kind;
    view.version = record.version;
    view.key = record.key;
    view.value = record.value;
    view.codec = record.codec;
    view.client_flags = record.client_flags;
    view.expires_wall_ms = record.expires_wall_ms;
    return store_->store().Apply(view, store_->now(), origin);
  }

  // The process ends and opens again: the log is read back, what is behind its cursor as owed.
  void Recover() {
    Settle();
    for (Load& load : loads_) store_->store().EndFill(load.key, load.ticket.get());
    loads_.clear();
    revivals_.clear();
    LetGo(pins_.size());
    Open();
    ++met_.recoveries;
    epoch_ += 2;
    store_->store().StartEpoch(epoch_);
    opened_at_ = log_.size();
    // The log's own cursor is moved now and then only.
    const uint64_t cursor = dropped_ - random_.Below(std::min<uint64_t>(dropped_, 20) + 1);
    dropped_ = cursor;
    store_->store().SetRecovering(true);
    for (const ExpectedRecord& record : snapshot_) (void)Read(record, Origin::kLog);
    for (uint64_t at = std::min(snapshot_at_, cursor) + 1; at <= log_.size(); ++at) {
      const ExpectedRecord& record = log_[at - 1];
      const Origin origin = at > cursor ? Origin::kLogOwed : Origin::kLog;
      if (Read(record, origin) != Status::kLogFull) continue;
      EXPECT_TRUE(origin == Origin::kLogOwed);
      ++met_.waits;
      // The writers carry on with everything before it.
      for (uint32_t backend = 0; backend < kBackends; ++backend) {
        if (at - 1 > committed_[backend]) CommitRows(backend, at - 1);
      }
      store_->store().SettleRecovered();
      store_->store().Verify();
      EXPECT_TRUE(Read(record, origin) != Status::kLogFull);
    }
    store_->store().SetRecovering(false);
    store_->store().Verify();
    for (uint32_t backend = 0; backend < kBackends; ++backend) RaiseRecovered(backend);
  }

  test::Random random_;
  std::unique_ptr<TestStore> store_;
  std::unique_ptr<model::Debts> debts_;
  uint64_t keys_;
  size_t value_bytes_;
  const bool is_overfull_;
  uint64_t commit_share_ = 1;
  size_t long_key_bytes_ = 300, long_keys_of_7_ = 3;
  std::string value_;
  std::vector<ExpectedRecord> log_;  // by position, counted from 1
  // Positions: of each database's cursor, of the log's, and of the log's end when the store was opened.
  uint64_t committed_[kBackends] = {};
  uint64_t dropped_ = 0, opened_at_ = 0;
  uint32_t epoch_ = 1;
  std::vector<ExpectedRecord> snapshot_;
  uint64_t snapshot_at_ = 0;
  Rows database_, truth_;
  std::vector<Load> loads_;
  std::vector<Revival> revivals_;
  std::vector<Pin> pins_;
  Met met_;
};

TEST(StoreDebtsModel, AReaderGetsWhatWasAcknowledgedWhateverLeavesMemory) {
  Met met;
  constexpr uint64_t kLives = test::kUnderTsan ? 1 : 24;
  for (uint64_t life = 0; life < kLives; ++life) {
    World world(test::Seed() + life, life % 6 == 5);
    for (int step = 0; step < 1500; ++step) {
      world.Step();
      if (test::CurrentState().failure_count != 0) {
        ADD_FAILURE() << "in life " << life << ", step " << step;
        return;
      }
    }
    world.Finish();
    if (test::CurrentState().failure_count != 0) {
      ADD_FAILURE() << "at the end of life " << life;
      return;
    }
    const Met& one = world.met();
    met.value_stubs += one.value_stubs, met.gone_stubs += one.gone_stubs, met.expiry_stubs += one.expiry_stubs;
    met.unknown += one.unknown, met.refused += one.refused, met.revived += one.revived, met.fills += one.fills;
    met.late_fills += one.late_fills, met.absences += one.absences, met.cleared_owed += one.cleared_owed;
    met.recoveries += one.recoveries, met.commits += one.commits, met.snapshots += one.snapshots;
    met.other_counts += one.other_counts, met.twice += one.twice, met.waits += one.waits;
    met.held += one.held, met.bodies += one.bodies, met.atomic += one.atomic;
    met.late_revivals += one.late_revivals;
  }
  // One life does not meet everything.
  if (test::kUnderTsan) return;
  EXPECT_GT(met.value_stubs, 0);
  EXPECT_GT(met.gone_stubs, 0);
  EXPECT_GT(met.expiry_stubs, 0);
  EXPECT_GT(met.unknown, 0);
  EXPECT_GT(met.refused, 0);
  EXPECT_GT(met.revived, 0);
  EXPECT_GT(met.fills, 0);
  EXPECT_GT(met.late_fills, 0);
  EXPECT_GT(met.absences, 0);
  EXPECT_GT(met.cleared_owed, 0);
  EXPECT_GT(met.recoveries, 0);
  EXPECT_GT(met.commits, 0);
  EXPECT_GT(met.snapshots, 0);
  EXPECT_GT(met.other_counts, 0);
  EXPECT_GT(met.twice, 0);
  EXPECT_GT(met.waits, 0);
  EXPECT_GT(met.held, 0);
  EXPECT_GT(met.bodies, 0);
  EXPECT_GT(met.atomic, 0);
  EXPECT_GT(met.late_revivals, 0);
}

}  // namespace
}  // namespace cairn
