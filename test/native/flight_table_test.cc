// Seats are driven here as an environment drives them: Join, then load, fill and Settle as the leader, or wait for
// news. The store is a real one, because what may be stored is decided under its locks.
#include "process/flight_table.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/os.h"
#include "store/store.h"
#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

// A waker that a thread can sleep on.
class Bell final : public Waker {
 public:
  void Wake() override {
    count.fetch_add(1);
    rung_.store(1);
    OsWakeWord(&rung_, true);
  }
  void Wait() {
    while (rung_.exchange(0) == 0) OsWaitOnWord(&rung_, 0, -1);
  }
  std::atomic<int> count{0};

 private:
  std::atomic<uint32_t> rung_{0};
};

struct Player {
  Player(FlightTable* table, Store* store) : bell(std::make_shared<Bell>()), store(store) {
    seat = std::make_unique<FlightSeat>(table, store, bell);
  }
  FlightJoin Join(std::string_view key, bool if_absent = true) { return seat->Join(key, if_absent, Now{1000, 1000}); }
  // Stores as a leader does; the status says whether the ticket was good.
  Status Fill(uint64_t id, std::string_view key, std::string_view value) {
    FillTicket* ticket = seat->ticket(id);
    if (ticket == nullptr) return Status::kNotStored;
    Request request;
    request.verb = Verb::kSet;
    request.key = key;
    request.value = value;
    request.fill = ticket;
    Outcome outcome;
    store->Execute(request, Now{1000, 1000}, nullptr, &outcome);
    return outcome.status;
  }
  void SettleValue(uint64_t id, std::string_view value) {
    seat->Settle(id, FlightAnswer::Kind::kValue, Codec::kAscii, value);
  }
  // The next piece of news, or one of id 0.
  FlightNews News() {
    FlightNews news;
    if (seat->TakeNews(&news, 1) == 0) news.id = 0;
    return news;
  }
  std::shared_ptr<Bell> bell;
  Store* store;
  std::unique_ptr<FlightSeat> seat;
};

class FlightTableTest {
 protected:
  Player NewPlayer() { return Player(&table, &store.store()); }
  TestStore store;
  FlightTable table;
  Player a = NewPlayer();
  Player b = NewPlayer();
  Player c = NewPlayer();
};

TEST_F(FlightTableTest, TheFirstLeadsAndTheOthersWait) {
  const FlightJoin lead = a.Join("k");
  EXPECT_EQ(lead.role, FlightRole::kLead);
  EXPECT_EQ(b.Join("k").role, FlightRole::kWait);
  EXPECT_EQ(c.Join("k").role, FlightRole::kWait);
  EXPECT_EQ(c.Join("other").role, FlightRole::kLead);
  EXPECT_EQ(table.flight_count(), 2u);
  EXPECT_EQ(table.led_count(), 2u);
  EXPECT_EQ(table.joined_count(), 2u);
  EXPECT_EQ(a.seat->waiting_count(), 0u);
  EXPECT_EQ(b.seat->waiting_count(), 1u);
  table.Verify();
}

TEST_F(FlightTableTest, ASecondCallOfOneSeatSharesItsMembership) {
  const FlightJoin lead = a.Join("k");
  const FlightJoin again = a.Join("k");
  EXPECT_EQ(again.role, FlightRole::kWait);
  EXPECT_EQ(again.id, lead.id);
  const FlightJoin wait = b.Join("k");
  EXPECT_EQ(b.Join("k").id, wait.id);
  EXPECT_EQ(b.seat->waiting_count(), 1u);
}

TEST_F(FlightTableTest, EveryWaiterGetsTheValue) {
  const FlightJoin lead = a.Join("k");
  const FlightJoin wait_b = b.Join("k");
  const FlightJoin wait_c = c.Join("k");
  EXPECT_EQ(a.Fill(lead.id, "k", "loaded"), Status::kStored);
  a.SettleValue(lead.id, "loaded");
  EXPECT_EQ(table.carried_bytes(), 6u) << "one answer for both";
  for (const auto& [player, id] : {std::pair{&b, wait_b.id}, std::pair{&c, wait_c.id}}) {
    EXPECT_EQ(player->bell->count.load(), 1);
    const FlightNews news = player->News();
    EXPECT_EQ(news.id, id);
    EXPECT_EQ(news.kind, FlightNews::Kind::kAnswer);
    EXPECT_EQ(news.answer->kind, FlightAnswer::Kind::kValue);
    EXPECT_EQ(news.answer->codec, Codec::kAscii);
    EXPECT_EQ(news.answer->bytes, "loaded");
    EXPECT_EQ(player->News().id, 0u);
    EXPECT_EQ(player->seat->member_count(), 0u);
    EXPECT_EQ(player->seat->waiting_count(), 0u);
  }
  EXPECT_EQ(table.carried_bytes(), 0u);
  EXPECT_EQ(table.flight_count(), 0u);
  EXPECT_EQ(store.Get("k").value, "loaded");
  EXPECT_EQ(a.Join("k").role, FlightRole::kPresent);
  EXPECT_EQ(table.flight_count(), 0u);
}

TEST_F(FlightTableTest, EveryWaiterGetsTheError) {
  const FlightJoin lead = a.Join("k");
  static_cast<void>(b.Join("k"));
  a.seat->Settle(lead.id, FlightAnswer::Kind::kError, Codec::kRaw, "no route to host", "Error", "EHOSTUNREACH");
  const FlightNews news = b.News();
  EXPECT_EQ(news.answer->kind, FlightAnswer::Kind::kError);
  EXPECT_EQ(news.answer->bytes, "no route to host");
  EXPECT_EQ(news.answer->name, "Error");
  EXPECT_EQ(news.answer->code, "EHOSTUNREACH");
  EXPECT_EQ(a.Join("k").role, FlightRole::kLead) << "an error is not remembered";
}

TEST_F(FlightTableTest, AKeyThatIsInTheStoreStartsNoFlightUnlessARefreshIsAsked) {
  store.Set("k", "there");
  EXPECT_EQ(a.Join("k").role, FlightRole::kPresent);
  EXPECT_EQ(a.seat->member_count(), 0u);
  const FlightJoin lead = a.Join("k", false);
  EXPECT_EQ(lead.role, FlightRole::kLead);
  EXPECT_EQ(a.Fill(lead.id, "k", "newer"), Status::kStored);
  a.SettleValue(lead.id, "newer");
  EXPECT_EQ(store.Get("k").value, "newer");
}

TEST_F(FlightTableTest, AnExpiredEntryCountsAsAbsent) {
  store.Set("k", "old", 900);
  EXPECT_EQ(a.Join("k").role, FlightRole::kLead);
}

// What voids the fill of a load that runs, and what does not.
TEST_F(FlightTableTest, ChangesOfTheKeyVoidTheFillAndNothingElseDoes) {
  const auto with = [](Verb verb, auto change) {
    Request request = TestStore::Make(verb, "k", "written");
    change(&request);
    return request;
  };
  const auto plain = [](Request*) {};
  struct Row {
    const char* name;
    bool present;  // before the load begins
    Request request;
    bool voids;
  };
  Request other = TestStore::Make(Verb::kSet, "other", "written");
  const Row rows[] = {
      {"set", false, with(Verb::kSet, plain), true},
      {"set of a present key", true, with(Verb::kSet, plain), true},
      {"add", false, with(Verb::kAdd, plain), true},
      {"add that stores nothing", true, with(Verb::kAdd, plain), false},
      {"replace", true, with(Verb::kReplace, plain), true},
      {"replace that stores nothing", false, with(Verb::kReplace, plain), false},
      {"append", true, with(Verb::kAppend, plain), true},
      {"cas that fails", true, with(Verb::kCas, [](Request* r) { r->compare = 1; }), false},
      {"delete", true, with(Verb::kDelete, plain), true},
      {"delete of an absent key", false, with(Verb::kDelete, plain), true},
      {"take of an absent key", false, with(Verb::kTake, plain), true},
      {"evict by request", false, with(Verb::kEvict, plain), true},
      {"get", true, with(Verb::kGet, plain), false},
      {"get of an absent key", false, with(Verb::kGet, plain), false},
      {"touch", true, with(Verb::kTouch, [](Request* r) { r->expires_ms = 50'000'000; }), false},
      {"incr that creates", false, with(Verb::kIncr, [](Request* r) { r->has_initial = true; }), true},
      {"incr of an absent key", false, with(Verb::kIncr, plain), false},
      {"set of another key", false, other, false},
  };
  for (const Row& row : rows) {
    if (row.present) {
      store.Set("k", "7", kNeverExpires, 0, Codec::kRaw);
    } else {
      store.Delete("k");
    }
    const FlightJoin lead = a.Join("k", false);
    ASSERT_EQ(lead.role, FlightRole::kLead) << row.name;
    store.Do(row.request);
    const std::string before = store.Get("k").value;
    EXPECT_EQ(a.Fill(lead.id, "k", "loaded"), row.voids ? Status::kExists : Status::kStored) << row.name;
    EXPECT_EQ(store.Get("k").value, row.voids ? before : "loaded") << row.name;
    a.SettleValue(lead.id, "loaded");
  }
}

// Large values come in through Reserve and Link, which are one more way to write and one more way to fill.
TEST_F(FlightTableTest, LargeValuesFillAndVoidAsSmallOnesDo) {
  const std::string large(100'000, 'x');
  const auto put = [&](FillTicket* ticket) {
    Request request = TestStore::Make(Verb::kSet, "k");
    request.fill = ticket;
    cairn::Body body;
    const Status status = store->Reserve(request, static_cast<uint32_t>(large.size()), store.now(), &body);
    if (status != Status::kStored) return status;
    store->WriteBody(body, 0, large);
    Outcome outcome;
    store->Link(&body, request, store.now(), &outcome);
    return outcome.status;
  };
  FlightJoin lead = a.Join("k", false);
  EXPECT_EQ(put(a.seat->ticket(lead.id)), Status::kStored);
  a.SettleValue(lead.id, "");
  EXPECT_EQ(store.Get("k").value, large);
  // More of them than fit into the store: what is refused must leave no room taken.
  for (int i = 0; i < 200; ++i) {
    lead = a.Join("k", false);
    store.Set("k", "small");
    ASSERT_EQ(put(a.seat->ticket(lead.id)), Status::kExists);
    a.SettleValue(lead.id, "");
    ASSERT_EQ(store.Get("k").value, "small");
  }
  lead = a.Join("k", false);
  EXPECT_EQ(put(nullptr), Status::kStored);
  EXPECT_TRUE(a.seat->ticket(lead.id)->voided());
  EXPECT_EQ(a.Fill(lead.id, "k", "loaded"), Status::kExists);
  a.SettleValue(lead.id, "loaded");
  store->Verify();
}

// A set that fails has removed what was there, or tried to: the caller knows of a newer value than the load.
TEST_F(FlightTableTest, ASetThatIsTooLargeVoidsTheFill) {
  for (const bool present : {false, true}) {
    if (present) store.Set("k", "old");
    const FlightJoin lead = a.Join("k", false);
    EXPECT_EQ(store.Set("k", std::string(store->value_bytes_max() + 1, 'x')).status, Status::kTooLarge);
    EXPECT_EQ(a.Fill(lead.id, "k", "loaded"), Status::kExists);
    EXPECT_FALSE(store.Has("k"));
    a.SettleValue(lead.id, "loaded");
  }
}

TEST_F(FlightTableTest, AReplicatedRecordVoidsTheFill) {
  for (const RecordKind kind : {RecordKind::kSet, RecordKind::kDelete}) {
    const FlightJoin lead = a.Join("k", false);
    RecordView record;
    record.kind = kind;
    record.key = "k";
    record.value = kind == RecordKind::kSet ? "replicated" : "";
    record.version = uint64_t{1} << 60;
    EXPECT_EQ(store->Apply(record, store.now(), Origin::kElsewhere), Status::kStored);
    EXPECT_EQ(a.Fill(lead.id, "k", "loaded"), Status::kExists);
    a.SettleValue(lead.id, "loaded");
  }
}

TEST_F(FlightTableTest, AClearVoidsEveryFill) {
  const FlightJoin one = a.Join("1");
  const FlightJoin two = b.Join("2");
  store->Clear(store.now());
  EXPECT_EQ(a.Fill(one.id, "1", "x"), Status::kExists);
  EXPECT_EQ(b.Fill(two.id, "2", "x"), Status::kExists);
  a.SettleValue(one.id, "x");
  b.SettleValue(two.id, "x");
}

TEST_F(FlightTableTest, AScheduledClearVoidsTheFillsThatBeganBeforeItsTime) {
  const FlightJoin lead = a.Join("k", false);
  store.ClearIn(10);
  store.Advance(10);
  static_cast<void>(store.Get("another"));
  EXPECT_EQ(a.Fill(lead.id, "k", "x"), Status::kExists);
  a.SettleValue(lead.id, "x");
}

TEST_F(FlightTableTest, WhoComesAfterAWriteDoesNotShareALoadFromBeforeIt) {
  const FlightJoin old_lead = a.Join("k");
  const FlightJoin old_wait = b.Join("k");
  store.Delete("k");
  const FlightJoin new_lead = c.Join("k");
  EXPECT_EQ(new_lead.role, FlightRole::kLead);
  const FlightJoin new_wait = b.Join("k");
  EXPECT_EQ(new_wait.role, FlightRole::kWait);
  EXPECT_NE(new_wait.id, old_wait.id);
  table.Verify();
  // The old load ends first: it answers those who came before the write, and stores nothing.
  EXPECT_EQ(a.Fill(old_lead.id, "k", "old"), Status::kExists);
  a.SettleValue(old_lead.id, "old");
  EXPECT_EQ(b.News().answer->bytes, "old");
  EXPECT_EQ(b.News().id, 0u);
  EXPECT_EQ(c.Fill(new_lead.id, "k", "new"), Status::kStored);
  c.SettleValue(new_lead.id, "new");
  const FlightNews news = b.News();
  EXPECT_EQ(news.id, new_wait.id);
  EXPECT_EQ(news.answer->bytes, "new");
  EXPECT_EQ(store.Get("k").value, "new");
}

TEST_F(FlightTableTest, AnOldLoadThatEndsLastDoesNotOverwriteANewerOne) {
  const FlightJoin old_lead = a.Join("k");
  store.Delete("k");
  const FlightJoin new_lead = c.Join("k");
  EXPECT_EQ(c.Fill(new_lead.id, "k", "new"), Status::kStored);
  c.SettleValue(new_lead.id, "new");
  EXPECT_EQ(a.Fill(old_lead.id, "k", "old"), Status::kExists);
  a.SettleValue(old_lead.id, "old");
  EXPECT_EQ(store.Get("k").value, "new");
}

TEST_F(FlightTableTest, ALoadGoesOnWithoutItsLeadersCallersAsLongAsOthersWait) {
  const FlightJoin lead = a.Join("k");
  static_cast<void>(b.Join("k"));
  EXPECT_EQ(a.seat->Leave(lead.id), FlightLeave::kGoesOn);
  table.Verify();
  EXPECT_EQ(a.Fill(lead.id, "k", "v"), Status::kStored);
  a.SettleValue(lead.id, "v");
  EXPECT_EQ(b.News().answer->bytes, "v");
}

TEST_F(FlightTableTest, TheLeaderIsToldToAbortWhenTheLastWaiterLeaves) {
  const FlightJoin lead = a.Join("k");
  const FlightJoin wait_b = b.Join("k");
  const FlightJoin wait_c = c.Join("k");
  EXPECT_EQ(a.seat->Leave(lead.id), FlightLeave::kGoesOn);
  EXPECT_EQ(b.seat->Leave(wait_b.id), FlightLeave::kLeft);
  EXPECT_EQ(a.News().id, 0u);
  EXPECT_EQ(c.seat->Leave(wait_c.id), FlightLeave::kLeft);
  EXPECT_EQ(a.bell->count.load(), 1);
  // A later call loads anew.
  EXPECT_EQ(b.Join("k").role, FlightRole::kLead);
  const FlightNews news = a.News();
  EXPECT_EQ(news.id, lead.id);
  EXPECT_EQ(news.kind, FlightNews::Kind::kAbort);
  EXPECT_EQ(a.seat->member_count(), 0u);
}

TEST_F(FlightTableTest, ALeaderWithoutWaitersAbortsAtOnce) {
  const FlightJoin lead = a.Join("k");
  EXPECT_EQ(a.seat->Leave(lead.id), FlightLeave::kAbort);
  EXPECT_EQ(table.flight_count(), 0u);
  EXPECT_EQ(a.seat->member_count(), 0u);
}

TEST_F(FlightTableTest, ALeaderThatComesBackIsNotToldToAbort) {
  const FlightJoin lead = a.Join("k");
  const FlightJoin wait = b.Join("k");
  EXPECT_EQ(a.seat->Leave(lead.id), FlightLeave::kGoesOn);
  EXPECT_EQ(a.Join("k").id, lead.id);
  EXPECT_EQ(b.seat->Leave(wait.id), FlightLeave::kLeft);
  EXPECT_EQ(a.News().id, 0u);
  EXPECT_EQ(a.seat->Leave(lead.id), FlightLeave::kAbort);
}

TEST_F(FlightTableTest, AnAnswerThatComesTogetherWithTheAbortIsIgnored) {
  const FlightJoin lead = a.Join("k");
  const FlightJoin wait = b.Join("k");
  EXPECT_EQ(a.seat->Leave(lead.id), FlightLeave::kGoesOn);
  EXPECT_EQ(b.seat->Leave(wait.id), FlightLeave::kLeft);
  EXPECT_TRUE(a.seat->ticket(lead.id) == nullptr);
  a.SettleValue(lead.id, "late");
  EXPECT_EQ(a.News().id, 0u);
  EXPECT_EQ(a.seat->member_count(), 0u);
  EXPECT_EQ(table.flight_count(), 0u);
}

TEST_F(FlightTableTest, WhenTheLeaderDiesTheNextWaiterLeads) {
  static_cast<void>(a.Join("k"));
  const FlightJoin wait_b = b.Join("k");
  const FlightJoin wait_c = c.Join("k");
  a.seat.reset();
  table.Verify();
  EXPECT_EQ(c.bell->count.load(), 0) << "the one who has waited longest leads";
  const FlightNews news = b.News();
  EXPECT_EQ(news.id, wait_b.id);
  EXPECT_EQ(news.kind, FlightNews::Kind::kLead);
  EXPECT_EQ(b.seat->waiting_count(), 0u);
  EXPECT_EQ(b.Fill(wait_b.id, "k", "v"), Status::kStored);
  b.SettleValue(wait_b.id, "v");
  EXPECT_EQ(c.News().id, wait_c.id);
  EXPECT_EQ(table.flight_count(), 0u);
}

TEST_F(FlightTableTest, LeadersMayDieOneAfterTheOther) {
  static_cast<void>(a.Join("k"));
  static_cast<void>(b.Join("k"));
  const FlightJoin wait_c = c.Join("k");
  a.seat.reset();
  b.seat.reset();  // it never looked
  const FlightNews news = c.News();
  EXPECT_EQ(news.id, wait_c.id);
  EXPECT_EQ(news.kind, FlightNews::Kind::kLead);
  c.seat.reset();
  EXPECT_EQ(table.flight_count(), 0u);
}

TEST_F(FlightTableTest, ALeaderByInheritanceThatLeavesBeforeItBeginsPassesItOn) {
  static_cast<void>(a.Join("k"));
  const FlightJoin wait_b = b.Join("k");
  const FlightJoin wait_c = c.Join("k");
  a.seat.reset();
  EXPECT_EQ(b.seat->Leave(wait_b.id), FlightLeave::kLeft);
  EXPECT_EQ(b.News().id, 0u);
  const FlightNews news = c.News();
  EXPECT_EQ(news.id, wait_c.id);
  EXPECT_EQ(news.kind, FlightNews::Kind::kLead);
}

TEST_F(FlightTableTest, WhenTheLeaderOfAVoidedLoadDiesAllLookAgain) {
  static_cast<void>(a.Join("k"));
  static_cast<void>(b.Join("k"));
  static_cast<void>(c.Join("k"));
  store.Set("k", "written");
  a.seat.reset();
  EXPECT_EQ(b.News().kind, FlightNews::Kind::kAgain);
  EXPECT_EQ(c.News().kind, FlightNews::Kind::kAgain);
  EXPECT_EQ(table.flight_count(), 0u);
}

TEST_F(FlightTableTest, AnAnswerThatIsTooMuchToCarrySendsTheWaitersToTheCache) {
  FlightLimits limits;
  limits.carried_bytes_max = 100;
  FlightTable small(limits);
  {
    Player lead(&small, &store.store()), wait(&small, &store.store());
    FlightJoin join = lead.Join("k");
    static_cast<void>(wait.Join("k"));
    lead.SettleValue(join.id, std::string(101, 'x'));
    EXPECT_EQ(wait.News().kind, FlightNews::Kind::kAgain);
    EXPECT_EQ(small.carried_bytes(), 0u);
    join = lead.Join("k");
    static_cast<void>(wait.Join("k"));
    lead.SettleValue(join.id, std::string(100, 'x'));
    join = lead.Join("k2");
    static_cast<void>(wait.Join("k2"));
    lead.SettleValue(join.id, "y");
    EXPECT_EQ(wait.News().kind, FlightNews::Kind::kAnswer);
    EXPECT_EQ(wait.News().kind, FlightNews::Kind::kAgain) << "the first answer was not taken yet";
  }
}

TEST_F(FlightTableTest, AFullTableLetsCallersLoadAlone) {
  FlightLimits limits;
  limits.flights_max = 2;
  limits.key_bytes_max = 10;
  FlightTable small(limits);
  Player one(&small, &store.store()), two(&small, &store.store());
  const FlightJoin lead = one.Join("1");
  EXPECT_EQ(one.Join("a key that is long").role, FlightRole::kAlone);
  EXPECT_EQ(one.Join("2").role, FlightRole::kLead);
  EXPECT_EQ(two.Join("3").role, FlightRole::kAlone);
  EXPECT_EQ(two.Join("1").role, FlightRole::kWait) << "flights that exist can be joined";
  EXPECT_EQ(one.seat->Leave(lead.id), FlightLeave::kGoesOn);
  one.SettleValue(lead.id, "v");
  static_cast<void>(two.News());
  EXPECT_EQ(two.Join("3").role, FlightRole::kLead);
  small.Verify();
}

TEST_F(FlightTableTest, ClosingTellsEverybodyAndNobodyJoinsAnyMore) {
  const FlightJoin lead = a.Join("k");
  static_cast<void>(b.Join("k"));
  store.Delete("k");
  static_cast<void>(c.Join("k"));  // a second flight of the key: the first is voided
  table.Close();
  for (Player* player : {&a, &b, &c}) {
    EXPECT_EQ(player->bell->count.load(), 1);
    EXPECT_EQ(player->Join("k").role, FlightRole::kClosed);
  }
  EXPECT_EQ(a.seat->Leave(lead.id), FlightLeave::kAbort) << "the load still runs";
  EXPECT_EQ(b.News().kind, FlightNews::Kind::kClosed);
  EXPECT_EQ(c.News().kind, FlightNews::Kind::kClosed);
  EXPECT_EQ(table.flight_count(), 0u);
  table.Close();
}

TEST_F(FlightTableTest, ManyFlightsAndSeatsAreClosedInPieces) {
  std::vector<std::unique_ptr<Player>> players;
  for (int i = 0; i < 40; ++i) players.push_back(std::make_unique<Player>(&table, &store.store()));
  for (int key = 0; key < 500; ++key) {
    for (int i = 0; i < 3; ++i) {
      static_cast<void>(players[static_cast<size_t>(key + i * 7) % players.size()]->Join("k" + std::to_string(key)));
    }
  }
  table.Verify();
  table.Close();
  size_t told = 0;
  for (const auto& player : players) {
    EXPECT_EQ(player->bell->count.load(), 1);
    FlightNews news[100];
    while (const size_t count = player->seat->TakeNews(news, 100)) {
      for (size_t i = 0; i < count; ++i) EXPECT_EQ(news[i].kind, FlightNews::Kind::kClosed);
      told += count;
    }
  }
  EXPECT_EQ(told, 1500u);
  EXPECT_EQ(table.flight_count(), 0u);
}

TEST_F(FlightTableTest, TenThousandKeysFlyAtOnce) {
  std::vector<uint64_t> ids;
  for (int key = 0; key < 10000; ++key) {
    const FlightJoin lead = a.Join("key" + std::to_string(key));
    ASSERT_EQ(lead.role, FlightRole::kLead);
    ids.push_back(lead.id);
    ASSERT_EQ(b.Join("key" + std::to_string(key)).role, FlightRole::kWait);
  }
  table.Verify();
  for (int key = 0; key < 10000; ++key) {
    const std::string name = "key" + std::to_string(key);
    ASSERT_EQ(a.Fill(ids[static_cast<size_t>(key)], name, name), Status::kStored);
    a.SettleValue(ids[static_cast<size_t>(key)], name);
  }
  EXPECT_EQ(b.bell->count.load(), 1) << "one wake for news that waits to be taken";
  size_t answers = 0;
  FlightNews news[64];
  while (const size_t count = b.seat->TakeNews(news, 64)) answers += count;
  EXPECT_EQ(answers, 10000u);
  EXPECT_EQ(table.flight_count(), 0u);
}

// One call of fetch(), as a thread would make it: look, join, load or wait, until there is an answer. Returns the
// answer; nullopt if the load was aborted.
struct Fetcher {
  Fetcher(FlightTable* table, Store* store) : player(table, store), scratch(4096, '\0') {}
  std::optional<std::string> Get(std::string_view key) {
    Request request;
    request.key = key;
    Outcome outcome;
    Scratch space{scratch.data(), scratch.size(), 0};
    player.store->Execute(request, Now{1000, 1000}, &space, &outcome);
    if (!outcome.has_value) return std::nullopt;
    return scratch.substr(outcome.value_offset, outcome.value_bytes);
  }
  template <typename Load>
  std::string Fetch(std::string_view key, Load load) {
    while (true) {
      if (const auto hit = Get(key)) return *hit;
      const FlightJoin join = player.Join(key);
      if (join.role == FlightRole::kPresent) continue;
      if (join.role == FlightRole::kAlone) return load();
      bool lead = join.role == FlightRole::kLead;
      while (true) {
        if (lead) {
          const std::string value = load();
          player.Fill(join.id, key, value);
          player.SettleValue(join.id, value);
          return value;
        }
        const FlightNews news = player.News();
        if (news.id == 0) {
          player.bell->Wait();
          continue;
        }
        if (news.kind == FlightNews::Kind::kAnswer) return news.answer->bytes;
        if (news.kind == FlightNews::Kind::kAgain) break;
        lead = news.kind == FlightNews::Kind::kLead;
      }
    }
  }
  Player player;
  std::string scratch;
};

// Threads fetch the same keys in the same order, each key from a common start; a fetch that found no flight right after
// one had ended would load a second time. Proves that a key is loaded exactly once.
TEST(FlightTableThreads, EveryKeyIsLoadedExactlyOnce) {
  constexpr int kThreads = 4;
  constexpr int kKeys = 3000;
  TestStore store;
  FlightTable table;
  std::vector<std::atomic<int>> loads(kKeys);
  std::vector<std::atomic<int>> arrived(kKeys);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      Fetcher fetcher(&table, &store.store());
      for (int key = 0; key < kKeys; ++key) {
        arrived[static_cast<size_t>(key)].fetch_add(1);
        while (arrived[static_cast<size_t>(key)].load() < kThreads) std::this_thread::yield();
        const std::string name = "key" + std::to_string(key);
        const std::string value = fetcher.Fetch(name, [&] {
          loads[static_cast<size_t>(key)].fetch_add(1);
          return "value of " + name;
        });
        if (value != "value of " + name) wrong.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int key = 0; key < kKeys; ++key) ASSERT_EQ(loads[static_cast<size_t>(key)].load(), 1) << "key " << key;
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(table.flight_count(), 0u);
  table.Verify();
}

// A row of counters stands for a database. Writers raise a counter and then delete its key from the cache, as a program
// does that invalidates; fetchers load counters through the cache, and now and then a fetcher's environment dies with
// loads under way. Proves: a fetch never answers with less than the counter was at the last invalidation that had been
// acknowledged when the fetch began; at the end what the cache holds is what the database holds.
TEST(FlightTableThreads, NoFetchAnswersWithLessThanAnAcknowledgedInvalidation) {
  constexpr size_t kKeys = 8;
  const uint64_t seed = test::Seed();
  TestStore store;
  FlightTable table;
  std::vector<std::atomic<uint64_t>> database(kKeys);
  std::vector<std::atomic<uint64_t>> acknowledged(kKeys);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> stale{0};
  std::atomic<uint64_t> fetches{0};
  const auto name_of = [](size_t key) { return "key" + std::to_string(key); };

  std::vector<std::thread> fetchers;
  for (uint64_t t = 0; t < 3; ++t) {
    fetchers.emplace_back([&, t] {
      test::Random random(seed + t);
      auto fetcher = std::make_unique<Fetcher>(&table, &store.store());
      // Also until two have met, which takes luck where all threads share a processor.
      for (int i = 0; i < 20000 || (table.joined_count() == 0 && i < 10'000'000); ++i) {
        const size_t key = random.Below(kKeys);
        if (random.OneIn(100)) {
          // Dies while it leads or waits.
          static_cast<void>(fetcher->player.Join(name_of(key)));
          static_cast<void>(fetcher->player.Join(name_of((key + 1) % kKeys)));
          fetcher = std::make_unique<Fetcher>(&table, &store.store());
          continue;
        }
        const uint64_t least = acknowledged[key].load();
        const std::string value = fetcher->Fetch(name_of(key), [&] {
          const uint64_t loaded = database[key].load();
          if (random.OneIn(4)) std::this_thread::yield();
          return std::to_string(loaded);
        });
        if (std::strtoull(value.c_str(), nullptr, 10) < least) stale.fetch_add(1);
        fetches.fetch_add(1);
      }
    });
  }
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 2; ++t) {
    writers.emplace_back([&, t] {
      test::Random random(seed + 100 + t);
      while (!stop.load()) {
        // Each writer writes its own keys, so that a key's counter and acknowledgement go up together.
        const size_t key = 2 * random.Below(kKeys / 2) + t;
        const uint64_t value = database[key].fetch_add(1) + 1;
        Request request;
        request.verb = random.OneIn(10) ? Verb::kSet : Verb::kDelete;
        const std::string name = name_of(key);
        const std::string text = std::to_string(value);
        request.key = name;
        request.value = text;
        Outcome outcome;
        store->Execute(request, Now{1000, 1000}, nullptr, &outcome);
        acknowledged[key].store(value);
        if (random.OneIn(3)) std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : fetchers) thread.join();
  stop.store(true);
  for (std::thread& thread : writers) thread.join();
  EXPECT_EQ(stale.load(), 0u);
  EXPECT_GT(fetches.load(), 50000u);
  EXPECT_GT(table.joined_count(), 0u);
  EXPECT_EQ(table.flight_count(), 0u);
  table.Verify();
  Fetcher reader(&table, &store.store());
  for (size_t key = 0; key < kKeys; ++key) {
    const auto cached = reader.Get(name_of(key));
    if (cached) {
      EXPECT_EQ(*cached, std::to_string(database[key].load()));
    }
  }
  store->Verify();
}

}  // namespace
}  // namespace cairn
