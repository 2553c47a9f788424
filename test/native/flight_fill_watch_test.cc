#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "store/fill_watch.h"
#include "test.h"

namespace cairn {
namespace {

TEST(FillWatch, ANewTicketIsNotVoid) {
  FillWatch watch;
  FillTicket ticket;
  EXPECT_TRUE(watch.empty());
  watch.Begin(7, &ticket);
  EXPECT_FALSE(watch.empty());
  EXPECT_FALSE(ticket.voided());
  watch.End(&ticket);
  EXPECT_TRUE(watch.empty());
}

TEST(FillWatch, AChangeVoidsEveryTicketOfItsKeyAndNoOther) {
  FillWatch watch;
  FillTicket first, second, other, same_chain;
  watch.Begin(7, &first);
  watch.Begin(7, &second);
  watch.Begin(8, &other);
  watch.Begin(7 + 256, &same_chain);
  watch.Void(7);
  EXPECT_TRUE(first.voided());
  EXPECT_TRUE(second.voided());
  EXPECT_FALSE(other.voided());
  EXPECT_FALSE(same_chain.voided());
  for (FillTicket* ticket : {&first, &second, &other, &same_chain}) watch.End(ticket);
}

TEST(FillWatch, AClearVoidsAll) {
  FillWatch watch;
  FillTicket tickets[600];
  for (uint64_t i = 0; i < 600; ++i) watch.Begin(i * 977, &tickets[i]);
  watch.VoidAll();
  for (FillTicket& ticket : tickets) {
    EXPECT_TRUE(ticket.voided());
    watch.End(&ticket);
  }
}

TEST(FillWatch, AnEndedTicketKeepsItsVerdictAndIsNotVoidedAnyMore) {
  FillWatch watch;
  FillTicket voided, kept;
  watch.Begin(1, &voided);
  watch.Begin(1, &kept);
  watch.End(&kept);
  watch.Void(1);
  watch.End(&voided);
  watch.End(&voided);
  EXPECT_TRUE(voided.voided());
  EXPECT_FALSE(kept.voided());
  EXPECT_TRUE(watch.empty());
}

TEST(FillWatch, ATicketCanBeginAgainAndIsThenNotVoid) {
  FillWatch watch;
  FillTicket ticket;
  watch.Begin(1, &ticket);
  watch.Void(1);
  watch.End(&ticket);
  watch.Begin(2, &ticket);
  EXPECT_FALSE(ticket.voided());
  watch.Void(1);
  EXPECT_FALSE(ticket.voided());
  watch.Void(2);
  EXPECT_TRUE(ticket.voided());
  watch.End(&ticket);
}

// Random begins, ends and voids beside a plain list of what should be void.
TEST(FillWatch, AgreesWithAListOfTickets) {
  test::Random random(test::Seed());
  FillWatch watch;
  struct Entry {
    std::unique_ptr<FillTicket> ticket;
    uint64_t hash;
    bool voided;
  };
  std::vector<Entry> entries;
  for (int step = 0; step < 20000; ++step) {
    const uint64_t hash = random.Below(40) * 128;
    switch (random.Below(8)) {
      case 0:
      case 1:
      case 2: {
        Entry entry{std::make_unique<FillTicket>(), hash, false};
        watch.Begin(hash, entry.ticket.get());
        entries.push_back(std::move(entry));
        break;
      }
      case 3:
      case 4:
      case 5:
        if (!entries.empty()) {
          const size_t index = random.Below(entries.size());
          watch.End(entries[index].ticket.get());
          ASSERT_EQ(entries[index].ticket->voided(), entries[index].voided);
          std::swap(entries[index], entries.back());
          entries.pop_back();
        }
        break;
      case 6:
        watch.Void(hash);
        for (Entry& entry : entries) entry.voided |= entry.hash == hash;
        break;
      default:
        if (random.OneIn(50)) {
          watch.VoidAll();
          for (Entry& entry : entries) entry.voided = true;
        }
    }
    ASSERT_EQ(watch.count(), entries.size());
    for (const Entry& entry : entries) ASSERT_EQ(entry.ticket->voided(), entry.voided);
  }
  for (Entry& entry : entries) watch.End(entry.ticket.get());
}

// voided() is read without the lock while others void under it; what a thread did before is seen by it at once.
TEST(FillWatch, AThreadThatSeesTheChangeSeesTheVoid) {
  FillWatch watch;
  std::mutex lock;
  FillTicket ticket;
  watch.Begin(3, &ticket);
  std::atomic<bool> changed{false};
  std::thread writer([&] {
    {
      std::lock_guard<std::mutex> guard(lock);
      watch.Void(3);
    }
    changed.store(true, std::memory_order_release);
  });
  while (!changed.load(std::memory_order_acquire)) std::this_thread::yield();
  EXPECT_TRUE(ticket.voided());
  writer.join();
  watch.End(&ticket);
}

}  // namespace
}  // namespace cairn
