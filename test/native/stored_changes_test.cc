// What the backend has, refuses and confirms, as doors that wait for it are told.

#include "store/stored_changes.h"

#include <memory>
#include <string>

#include "test.h"

namespace cairn {
namespace {

using Outcome = StoredChanges::Outcome;

class CountingWaker final : public Waker {
 public:
  void Wake() override { wakes++; }
  int wakes = 0;
};

TEST(StoredChanges, AChangeIsStoredWhenTheMarkOfItsShardHasPassedIt) {
  StoredChanges stored(2);
  EXPECT_EQ(stored.OutcomeOf(0, "a", 5), Outcome::kPending);
  stored.marks()->Advance(1, 9);
  EXPECT_EQ(stored.OutcomeOf(0, "a", 5), Outcome::kPending);
  stored.marks()->Advance(0, 5);
  EXPECT_EQ(stored.OutcomeOf(0, "a", 5), Outcome::kStored);
  EXPECT_EQ(stored.OutcomeOf(0, "a", 6), Outcome::kPending);
}

TEST(StoredChanges, ADeadLetterIsOfAllChangesOfItsKeyInItsBatch) {
  StoredChanges stored(2);
  stored.marks()->Advance(0, 4);
  stored.Refuse(0, "a", 7, "a constraint");
  EXPECT_EQ(stored.OutcomeOf(0, "a", 7), Outcome::kPending);  // its batch is not committed
  stored.marks()->Advance(0, 8);
  std::string reason;
  EXPECT_EQ(stored.OutcomeOf(0, "a", 7, &reason), Outcome::kRefused);
  EXPECT_EQ(reason, "a constraint");
  EXPECT_EQ(stored.OutcomeOf(0, "a", 5), Outcome::kRefused);  // an older change, coalesced into it
  EXPECT_EQ(stored.OutcomeOf(0, "a", 4), Outcome::kStored);   // of a batch before
  EXPECT_EQ(stored.OutcomeOf(0, "a", 8), Outcome::kStored);   // later
  EXPECT_EQ(stored.OutcomeOf(0, "b", 6), Outcome::kStored);   // of another key
  EXPECT_EQ(stored.OutcomeOf(1, "a", 7), Outcome::kPending);
}

TEST(StoredChanges, BehindSomeBatchesADeadLetterSaysNothingOfEarlierChangesOfItsKey) {
  StoredChanges stored(1);
  stored.marks()->Advance(0, 4);
  stored.Refuse(0, "a", 7, "", StoredChanges::Of::kSomeBatches);
  stored.marks()->Advance(0, 8);
  EXPECT_EQ(stored.OutcomeOf(0, "a", 7), Outcome::kRefused);
  EXPECT_EQ(stored.OutcomeOf(0, "a", 5), Outcome::kUnknown);  // of the same batch, or of one that is stored
  EXPECT_EQ(stored.OutcomeOf(0, "a", 4), Outcome::kStored);
  EXPECT_EQ(stored.OutcomeOf(0, "a", 8), Outcome::kStored);
  EXPECT_EQ(stored.OutcomeOf(0, "b", 5), Outcome::kStored);
}

TEST(StoredChanges, ADeadLetterThatIsForgottenLeavesEarlierChangesUnknown) {
  StoredChanges stored(1);
  for (uint64_t version = 1; version <= StoredChanges::kRefusedMax + 1; version++) {
    stored.Refuse(0, "k" + std::to_string(version), version, "");
    stored.marks()->Advance(0, version);
  }
  EXPECT_EQ(stored.OutcomeOf(0, "k1", 1), Outcome::kUnknown);
  EXPECT_EQ(stored.OutcomeOf(0, "k2", 2), Outcome::kRefused);
  EXPECT_EQ(stored.OutcomeOf(0, "other", 2), Outcome::kStored);
}

TEST(StoredChanges, ALongReasonIsCut) {
  StoredChanges stored(1);
  stored.Refuse(0, "a", 1, std::string(10'000, 'x'));
  stored.marks()->Advance(0, 1);
  std::string reason;
  EXPECT_EQ(stored.OutcomeOf(0, "a", 1, &reason), Outcome::kRefused);
  EXPECT_EQ(reason.size(), StoredChanges::kReasonBytesMax);
}

TEST(StoredChanges, WithoutAConfirmationWhatIsNotStoredIsUnknown) {
  StoredChanges stored(1);
  stored.marks()->Advance(0, 1);
  for (const StoredChanges::Health health : {StoredChanges::Health::kAway, StoredChanges::Health::kStopped}) {
    stored.SetHealth(0, 1, health);
    EXPECT_EQ(stored.OutcomeOf(0, "a", 1), Outcome::kStored);
    EXPECT_EQ(stored.OutcomeOf(0, "a", 2), Outcome::kUnknown);
  }
  stored.SetHealth(0, 1, StoredChanges::Health::kRunning);
  EXPECT_EQ(stored.OutcomeOf(0, "a", 2), Outcome::kPending);
}

TEST(StoredChanges, WhatABackendConfirmsOfSomeShardsIsNotSaidOfOthers) {
  StoredChanges stored(4);
  stored.SetHealth(1, 3, StoredChanges::Health::kAway);
  for (uint32_t shard = 0; shard < 4; shard++) {
    const bool is_away = shard == 1 || shard == 2;
    EXPECT_EQ(stored.OutcomeOf(shard, "a", 1), is_away ? Outcome::kUnknown : Outcome::kPending) << shard;
  }
}

TEST(StoredChanges, TheWriterIsWokenOnceUntilItHasLooked) {
  StoredChanges stored(2);
  auto waker = std::make_shared<CountingWaker>();
  stored.SetWriter(waker);
  EXPECT_FALSE(stored.TakeWanted());
  stored.Want(1, 3);
  stored.Want(0, 2);
  EXPECT_EQ(waker->wakes, 1);
  EXPECT_TRUE(stored.TakeWanted());
  EXPECT_TRUE(stored.TakeWanted());  // until the marks have passed what is wanted
  stored.marks()->Advance(1, 3);
  EXPECT_TRUE(stored.TakeWanted());
  stored.marks()->Advance(0, 2);
  EXPECT_FALSE(stored.TakeWanted());
  stored.Want(0, 5);
  EXPECT_EQ(waker->wakes, 2);
  stored.RemoveWriter(waker.get());
  EXPECT_TRUE(stored.TakeWanted());
  stored.Want(0, 6);
  EXPECT_EQ(waker->wakes, 2);
}

TEST(StoredChanges, ADoorThatWaitedBeforeThereWasAWriterDoesNotKeepALaterOneFromWakingIt) {
  StoredChanges stored(1);
  auto waker = std::make_shared<CountingWaker>();
  stored.Want(0, 1);
  stored.SetWriter(waker);
  EXPECT_EQ(waker->wakes, 0);
  stored.Want(0, 2);
  stored.Want(0, 3);
  EXPECT_EQ(waker->wakes, 1);
}

TEST(StoredChanges, TheShardsOfALaneAreWantedByThemselves) {
  StoredChanges stored(4);
  auto waker = std::make_shared<CountingWaker>();
  stored.SetWriter(waker);
  stored.Want(1, 3);
  EXPECT_TRUE(stored.IsWanted(0, 2));
  EXPECT_FALSE(stored.IsWanted(2, 4));
  EXPECT_FALSE(stored.IsWanted(0, 1));
  // A lane that looks is no writer that has been told.
  stored.Want(2, 5);
  EXPECT_EQ(waker->wakes, 1);
  EXPECT_TRUE(stored.IsWanted(2, 4));
  stored.marks()->Advance(1, 3);
  EXPECT_FALSE(stored.IsWanted(0, 2));
  EXPECT_TRUE(stored.TakeWanted());
}

TEST(StoredChanges, ALaterWriterIsNotRemovedByAnEarlierOne) {
  StoredChanges stored(1);
  auto first = std::make_shared<CountingWaker>();
  auto second = std::make_shared<CountingWaker>();
  stored.SetWriter(first);
  stored.SetWriter(second);
  stored.RemoveWriter(first.get());
  stored.Want(0, 1);
  EXPECT_EQ(first->wakes, 0);
  EXPECT_EQ(second->wakes, 1);
}

}  // namespace
}  // namespace cairn
