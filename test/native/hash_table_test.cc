// The table of a shard by itself, over an arena of few pages: buckets that are set aside for entries that must enter.

#include "store/hash_table.h"

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "test.h"

namespace cairn {
namespace {

constexpr uint32_t kPages = 4;

// A table whose entries are numbers: the hash of a Ref is what the test says.
class SmallTable final : public ChunkMover, public EntryHasher {
 public:
  SmallTable() : memory_(new char[(kPages + 2) * kPageBytesMin]), descs_(kPages) {
    state_.pages_total = kPages;
    state_.pages_ceiling = kPages;
    // Pages lie at multiples of their size, behind one that no Ref leads to.
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    char* const base = memory_.get() + (kPageBytesMin - address % kPageBytesMin) % kPageBytesMin;
    arena = std::make_unique<Arena>(base, &state_, descs_.data(), kPageBytesMin, &classes_, this);
    table = std::make_unique<HashTable>(arena.get(), &table_state, directory_, this);
    CHECK(table->Init());
  }
  bool Insert(Ref ref, uint64_t hash) {
    hashes_[ref] = hash;
    return table->Insert(hash, &ref);
  }
  bool InsertSetAside(Ref ref, uint64_t hash) {
    hashes_[ref] = hash;
    return table->InsertSetAside(hash, &ref);
  }
  bool Has(Ref ref) { return table->FindRef(hashes_[ref], ref).bucket != nullptr; }
  void Remove(Ref ref) { table->Remove(hashes_[ref], table->FindRef(hashes_[ref], ref)); }
  // Nothing is left for a bucket.
  std::vector<Ref> TakeAllMemory() {
    std::vector<Ref> taken;
    while (const Ref ref = arena->Allocate(classes_.overflow_class())) {
      reinterpret_cast<Bucket*>(arena->At(ref))->refs[0] = 1;
      taken.push_back(ref);
    }
    return taken;
  }

  uint64_t HashOfEntry(Ref ref) override { return hashes_[ref]; }
  void MovedChunk(Ref, Ref) override { CHECK(false); }
  void MovedOverflowBucket(Ref from, Ref to) override { table->MovedOverflowBucket(from, to); }
  void TookFreshPage() override {}

  TableState table_state = {};
  std::unique_ptr<Arena> arena;
  std::unique_ptr<HashTable> table;

 private:
  const SizeClasses classes_{kPageBytesMin};
  std::unique_ptr<char[]> memory_;
  ArenaState state_ = {};
  std::vector<PageDesc> descs_;
  uint32_t directory_[kPages] = {};
  std::map<Ref, uint64_t> hashes_;
};

TEST(HashTable, ABucketThatWasSetAsideIsThereWhenMemoryIsNot) {
  SmallTable small;
  Ref next = 1;
  while (next <= kBucketSlots) ASSERT_TRUE(small.Insert(next++, 5));
  ASSERT_TRUE(small.table->SetBucketsAside(1));
  const std::vector<Ref> taken = small.TakeAllMemory();
  EXPECT_FALSE(small.Insert(next, 5));
  EXPECT_TRUE(small.InsertSetAside(next, 5));
  EXPECT_TRUE(small.Insert(next + 1, 5)) << "into the rest of the bucket";
  EXPECT_EQ(small.table_state.overflow_buckets, 1);
  // A bucket that a chain releases is set aside again, for another chain.
  small.Remove(next + 1);
  small.Remove(next);
  EXPECT_EQ(small.table_state.overflow_buckets, 0);
  Ref other = 100;
  while (other < 100 + kBucketSlots) ASSERT_TRUE(small.Insert(other++, 6));
  EXPECT_FALSE(small.Insert(other, 6));
  EXPECT_TRUE(small.InsertSetAside(other, 6));
  EXPECT_FALSE(small.InsertSetAside(next, 5)) << "there was one";
  small.table->ReleaseBuckets();
  for (Ref ref = 1; ref < next; ref++) EXPECT_TRUE(small.Has(ref));
  for (Ref ref = 100; ref <= other; ref++) EXPECT_TRUE(small.Has(ref));
}

TEST(HashTable, WithoutMemoryForAllBucketsNoneIsSetAside) {
  SmallTable small;
  const uint64_t per_page = kPageBytesMin / sizeof(Bucket);
  const uint64_t free = (kPages - 1) * per_page;
  EXPECT_FALSE(small.table->SetBucketsAside(free + 1));
  EXPECT_TRUE(small.table->SetBucketsAside(free));
  small.table->ReleaseBuckets();
  EXPECT_EQ(small.TakeAllMemory().size(), free) << "all of them were given back";
}

TEST(HashTable, BucketsThatAreSetAsideMoveWithTheirPage) {
  SmallTable small;
  const int overflow_class = small.arena->classes().overflow_class();
  std::vector<Ref> others;
  for (size_t i = 0; i < kPageBytesMin / sizeof(Bucket); i++) {
    others.push_back(small.arena->Allocate(overflow_class));
    reinterpret_cast<Bucket*>(small.arena->At(others.back()))->refs[0] = 1;
  }
  ASSERT_TRUE(small.table->SetBucketsAside(2));
  // Now the page of the two is the emptier one, and the other has room for them.
  for (size_t i = 0; i < 3; i++) small.arena->Free(others[i]);
  ASSERT_TRUE(small.arena->EvacuateOne());
  EXPECT_EQ(small.arena->state().relocations, 2);
  for (Ref chain = 0; chain < 2; chain++) {
    for (Ref i = 0; i < kBucketSlots; i++) ASSERT_TRUE(small.Insert(100 * chain + i + 1, chain));
    EXPECT_TRUE(small.InsertSetAside(100 * chain + 50, chain));
    EXPECT_TRUE(small.Has(100 * chain + 50));
  }
  EXPECT_FALSE(small.InsertSetAside(99, 0));
}

}  // namespace
}  // namespace cairn
