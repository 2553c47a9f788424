// Who holds a cache and when it ends; see the table in process/registry.h. The registry and the janitor are those of
// the process: each test uses unique names and leaves no cache behind.
#include "process/registry.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "process/change_feed.h"
#include "process/flight_table.h"
#include "process/janitor.h"
#include "process/removal_ring.h"
#include "test.h"

namespace cairn {
namespace {

CacheOptions Named(const std::string& name, const std::string& description = "") {
  CacheOptions options;
  options.name = name;
  options.description = description;
  options.store.memory_bytes = kMemoryBytesMin;
  options.store.shard_count = 1;
  return options;
}

CachePointer Make(const std::string& name) {
  CachePointer cache;
  Refusal refusal;
  EXPECT_TRUE(Registry::Get().Open(Named(name), false, &cache, &refusal) == OpenStatus::kCreated) << refusal;
  return cache;
}

void Close(CachePointer* cache, bool owner) { Registry::Get().Release(cache, owner, ReleaseKind::kClosed); }
void Lose(CachePointer* cache, bool owner) { Registry::Get().Release(cache, owner, ReleaseKind::kLost); }

bool IsOpen(const std::string& name) {
  for (const std::string& each : Registry::Get().Names()) {
    if (each == name) return true;
  }
  return false;
}

Status Set(Store* store, std::string_view key, std::string_view value) {
  Request request;
  request.verb = Verb::kSet;
  request.key = key;
  request.value = value;
  Scratch scratch;
  Outcome outcome;
  store->Execute(request, Now{}, &scratch, &outcome);
  return outcome.status;
}

TEST(Registry, ATakenNameIsRefused) {
  CachePointer cache = Make("taken");
  CachePointer other;
  Refusal refusal;
  EXPECT_TRUE(Registry::Get().Open(Named("taken"), false, &other, &refusal) == OpenStatus::kNameTaken);
  EXPECT_TRUE(Registry::Get().Open(Named("taken", "other options"), true, &other, &refusal) == OpenStatus::kNameTaken);
  EXPECT_TRUE(other == nullptr);
  Close(&cache, true);
  EXPECT_TRUE(cache == nullptr);
}

TEST(Registry, OptionsThatTheStoreRefusesLeaveNothingBehind) {
  CacheOptions options = Named("refused");
  options.store.memory_bytes = 1;
  CachePointer cache;
  Refusal refusal;
  EXPECT_TRUE(Registry::Get().Open(options, false, &cache, &refusal) == OpenStatus::kRefused);
  EXPECT_FALSE(refusal.is_none());
  EXPECT_FALSE(IsOpen("refused"));
}

TEST(Registry, AJoinedCacheEndsWithItsLastOwner) {
  CachePointer one = Make("joined");
  CachePointer two;
  Refusal refusal;
  ASSERT_TRUE(Registry::Get().Open(Named("joined"), true, &two, &refusal) == OpenStatus::kJoined);
  EXPECT_TRUE(one == two);
  Close(&one, true);
  EXPECT_FALSE(two->closed());
  EXPECT_TRUE(IsOpen("joined"));
  Close(&two, true);
  EXPECT_FALSE(IsOpen("joined"));
}

TEST(Registry, TheOwnersCloseEndsTheCacheForThoseWhoAttached) {
  CachePointer owner = Make("owned");
  CachePointer attached;
  ASSERT_TRUE(Registry::Get().Attach("owned", &attached) == AttachStatus::kAttached);
  ASSERT_TRUE(Set(attached->store(), "a", "x") == Status::kStored);
  Close(&owner, true);
  EXPECT_TRUE(attached->closed());
  EXPECT_EQ(attached->store()->entries(), 0u) << "its memory is given back though a handle is left";
  // A call that had looked before the close still works on the store.
  EXPECT_TRUE(Set(attached->store(), "a", "x") == Status::kStored);
  CachePointer late;
  EXPECT_TRUE(Registry::Get().Attach("owned", &late) == AttachStatus::kNoSuchCache);
  EXPECT_FALSE(Registry::Get().AddHandle(attached));
  Lose(&attached, false);
}

// Who waits is told, and who listens is not told of entries that only went with the cache.
TEST(Registry, WhatTheEndOfACacheMeansForThoseWhoWaitAndListen) {
  class Bell final : public Waker {
   public:
    void Wake() override {}
  };
  CachePointer owner = Make("heard");
  CachePointer attached;
  ASSERT_TRUE(Registry::Get().Attach("heard", &attached) == AttachStatus::kAttached);
  ASSERT_TRUE(Set(attached->store(), "a", "x") == Status::kStored);
  {
    RemovalListener listener(attached->removals(), std::make_shared<Bell>());
    listener.SetInterest({(1u << kReasonCount) - 1, false});
    FlightSeat seat(attached->flights(), attached->store(), std::make_shared<Bell>());
    ASSERT_TRUE(seat.Join("key", true, Now{}).role == FlightRole::kLead);
    Close(&owner, true);
    FlightNews news;
    ASSERT_EQ(seat.TakeNews(&news, 1), 1u);
    EXPECT_TRUE(news.kind == FlightNews::Kind::kClosed);
    EXPECT_TRUE(seat.Join("other", true, Now{}).role == FlightRole::kClosed);
    std::vector<char> events(kRemovalRingBytes);
    uint64_t lost;
    EXPECT_EQ(listener.Take(events.data(), events.size(), &lost), 0u);
  }
  Lose(&attached, false);
}

TEST(Registry, ALostOwnerLeavesTheCacheToTheOthers) {
  CachePointer owner = Make("orphan");
  CachePointer attached;
  ASSERT_TRUE(Registry::Get().Attach("orphan", &attached) == AttachStatus::kAttached);
  Lose(&owner, true);
  EXPECT_FALSE(attached->closed());
  CachePointer another;
  ASSERT_TRUE(Registry::Get().Attach("orphan", &another) == AttachStatus::kAttached);
  Close(&attached, false);
  EXPECT_TRUE(IsOpen("orphan"));
  Close(&another, false);
  EXPECT_FALSE(IsOpen("orphan"));
}

TEST(Registry, CachesWithoutANameDoNotMeet) {
  CachePointer one = Make("");
  CachePointer two = Make("");
  EXPECT_TRUE(one != two);
  EXPECT_NE(one->id(), two->id());
  CachePointer attached;
  EXPECT_TRUE(Registry::Get().Attach("", &attached) == AttachStatus::kNoSuchCache);
  ASSERT_TRUE(Registry::Get().AttachById(two->id(), &attached) == AttachStatus::kAttached);
  EXPECT_TRUE(attached == two);
  Close(&attached, false);
  Close(&one, true);
  Close(&two, true);
}

TEST(Registry, ACacheThatRecoversCannotBeAttachedTo) {
  CacheOptions options = Named("recovering");
  options.ready = false;
  CachePointer owner;
  Refusal refusal;
  ASSERT_TRUE(Registry::Get().Open(options, false, &owner, &refusal) == OpenStatus::kCreated);
  CachePointer other;
  EXPECT_TRUE(Registry::Get().Attach("recovering", &other) == AttachStatus::kNotReady);
  EXPECT_TRUE(Registry::Get().Open(options, true, &other, &refusal) == OpenStatus::kNotReady);
  Registry::Get().MarkReady(owner);
  ASSERT_TRUE(Registry::Get().Attach("recovering", &other) == AttachStatus::kAttached);
  Close(&other, false);
  Close(&owner, true);
}

TEST(Registry, AClosedCacheDoesNotBecomeReady) {
  CacheOptions options = Named("too late");
  options.ready = false;
  CachePointer owner;
  Refusal refusal;
  ASSERT_TRUE(Registry::Get().Open(options, false, &owner, &refusal) == OpenStatus::kCreated);
  CachePointer kept = owner;
  Close(&owner, true);
  Registry::Get().MarkReady(kept);
  EXPECT_TRUE(kept->closed());
}

TEST(Registry, TheClockIsReadOnlyWhereItIsNeeded) {
  CachePointer cache = Make("clock");
  EXPECT_EQ(cache->ReadNow(false).boot_ms, 0u);
  EXPECT_GT(cache->ReadNow(true).boot_ms, 0u);
  EXPECT_EQ(cache->ReadNow(true).wall_ms, 0);
  Close(&cache, true);
}

CacheOptions Logged(const std::string& name) {
  CacheOptions options = Named(name);
  options.store.memory_bytes = 16 << 20;
  options.store.ring_bytes = 1 << 20;
  options.ready = false;
  return options;
}

TEST(Registry, TheWallClockOfALoggedCacheNeverGoesBack) {
  CachePointer cache;
  Refusal refusal;
  ASSERT_TRUE(Registry::Get().Open(Logged("wall"), false, &cache, &refusal) == OpenStatus::kCreated) << refusal;
  const int64_t wall_ms = cache->ReadNow(true).wall_ms;
  EXPECT_GT(wall_ms, 0);
  cache->RaiseWallClock(wall_ms - 3'600'000);
  EXPECT_GE(cache->ReadNow(true).wall_ms, wall_ms) << "the log's last time lies behind";
  cache->RaiseWallClock(wall_ms + 3'600'000);
  EXPECT_GE(cache->ReadNow(true).wall_ms, wall_ms + 3'600'000) << "and here the machine's clock does";
  Close(&cache, true);
}

TEST(Registry, OnlyTheScribeMayAttachBeforeTheCacheIsReady) {
  CachePointer cache;
  Refusal refusal;
  ASSERT_TRUE(Registry::Get().Open(Logged("unready"), false, &cache, &refusal) == OpenStatus::kCreated) << refusal;
  CachePointer other;
  EXPECT_TRUE(Registry::Get().AttachById(cache->id(), &other) == AttachStatus::kNotReady);
  ASSERT_TRUE(Registry::Get().AttachUnready(cache->id(), &other) == AttachStatus::kAttached);
  ASSERT_TRUE(other->feed() != nullptr);
  EXPECT_TRUE(other->feed()->state() == ChangeFeed::State::kOpening);
  Close(&cache, true);
  EXPECT_TRUE(other->feed()->state() == ChangeFeed::State::kClosed) << "the scribe hears of the end";
  Close(&other, false);
}

TEST(Registry, ThreadsOpenJoinAndCloseOneNameAtOnce) {
  std::atomic<int> created{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&created] {
      for (int i = 0; i < 300; i++) {
        CachePointer cache;
        Refusal refusal;
        const OpenStatus status = Registry::Get().Open(Named("contested"), true, &cache, &refusal);
        ASSERT_TRUE(status == OpenStatus::kCreated || status == OpenStatus::kJoined);
        if (status == OpenStatus::kCreated) created.fetch_add(1);
        // The cache stays open while this thread owns it, although other owners close it.
        EXPECT_FALSE(cache->closed());
        EXPECT_TRUE(Set(cache->store(), "a", "x") == Status::kStored);
        CachePointer attached;
        EXPECT_TRUE(Registry::Get().Attach("contested", &attached) == AttachStatus::kAttached);
        if (attached != nullptr) Close(&attached, false);
        Close(&cache, true);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(created.load(), 1);
  EXPECT_FALSE(IsOpen("contested"));
}

TEST(Janitor, ExpiredEntriesLeaveWithoutARequest) {
  CachePointer cache = Make("janitor");
  EXPECT_TRUE(Janitor::Get().running());
  Request request;
  request.verb = Verb::kSet;
  request.key = "a";
  request.value = "x";
  const Now now = cache->ReadNow(true);
  request.expires_ms = now.boot_ms + 1;
  Scratch scratch;
  Outcome outcome;
  cache->store()->Execute(request, now, &scratch, &outcome);
  Janitor::Get().Wake();
  while (cache->store()->Stats().expirations == 0) std::this_thread::yield();
  EXPECT_EQ(cache->store()->entries(), 0u);
  Close(&cache, true);
}

TEST(Janitor, ClearedEntriesAreReclaimed) {
  CachePointer cache = Make("cleared");
  for (int i = 0; i < 5000; i++) ASSERT_TRUE(Set(cache->store(), std::to_string(i), "x") == Status::kStored);
  cache->store()->Clear(Now{});
  Janitor::Get().Wake();
  while (cache->store()->Stats().cleared_entries != 0) std::this_thread::yield();
  Close(&cache, true);
}

}  // namespace
}  // namespace cairn
