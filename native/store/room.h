// How much fits into a shard: its limits, the evictions that make room, and the steps down to limits that were lowered.
//
// Thread safety: none; the shard's lock guards it.
// Invariant: while the shard is unlocked, charged_bytes is at most limit_bytes, and there are at most entries_limit
// entries. Lowered limits are targets: limit_bytes and entries_limit follow them down in steps.
#pragma once

#include <cstdint>
#include <string_view>

#include "store/entries.h"
#include "store/entry_memory.h"
#include "store/growth.h"
#include "store/shard_state.h"

namespace cairn {

// kNewEntry: one more entry. kBody: a value that is no entry yet. kNewest: a longer value of the newest entry, which is
// not evicted for it.
enum class RoomFor : uint8_t { kNewEntry, kBody, kNewest };

class Room final : public PageEvictor {
 public:
  Room(ShardState* state, const ShardConfig& config, EntryMemory* memory, Entries* entries)
      : state_(state),
        classes_(config.classes),
        ring_bytes_(config.ring_bytes),
        pages_ceiling_(config.pages_ceiling),
        memory_(memory),
        entries_(entries) {}

  // ---- making room ----

  // Evicts from the cold end until the charge fits. kNoMemory: it does not fit beside entries that cannot be evicted.
  // kLogFull: owed entries would have to leave, and their stubs have no room (see debts.h); then nothing is evicted. Or
  // a stub found no memory beside values that readers hold: its entry stays.
  [[nodiscard]] Status Make(uint64_t charge, RoomFor what) {
    const Status plan = Plan(charge, what, 0);
    return plan == Status::kStored ? MakePlanned(charge, what) : plan;
  }
  // The same behind Plan().
  [[nodiscard]] Status MakePlanned(uint64_t charge, RoomFor what) {
    if (!memory_->FitsBesideKept(charge, what == RoomFor::kNewest ? ChargeOfNewest() : 0)) return Status::kNoMemory;
    return IsFull(charge, what) ? EvictFor(charge, what) : Status::kStored;
  }
  // What Make() would answer once `replaced` (0: none) has left. Changes nothing. Without a backend: kStored.
  [[nodiscard]] Status Plan(uint64_t charge, RoomFor what, Ref replaced) {
    if (!entries_->debts().has_backend()) [[likely]]
      return Status::kStored;
    return PlanBesideStubs(charge, what, replaced);
  }
  // Makes room for the stub of a key that is about to be deleted. `ref`: what the table has under the key; 0: nothing,
  // and then others may be evicted. kStored or kLogFull. REQUIRES: there is a backend.
  [[nodiscard]] Status MakeForStub(Ref ref, std::string_view key);
  // Room for many entries at once. PlanMany(): what MakeMany() will find, without a change; kNoMemory or kLogFull as
  // of Make(). `stub_bytes`: the share of the charge for stubs that deletes will leave. MakeMany() evicts; false: an
  // entry stays, because its stub found no memory.
  [[nodiscard]] Status PlanMany(uint64_t charge, uint64_t entries, uint64_t stub_bytes);
  [[nodiscard]] bool MakeMany(uint64_t charge, uint64_t entries);
  // The charge of the stub that the delete of a key leaves, if the key has no entry.
  uint64_t StubChargeFor(std::string_view key) const;
  // Whether an entry may be evicted now: it is not owed, or its stub has room.
  bool MayEvict(Ref ref) const {
    return !entries_->debts().has_backend() || !entries_->debts().Owes(memory_->At(ref)) || HasStubRoomFor(ref);
  }
  bool IsFull(uint64_t charge, RoomFor what) const {
    return memory_->IsOver(charge) ||
           (what == RoomFor::kNewEntry && state_->entries_limit != 0 && entries_->count() >= state_->entries_limit);
  }
  // Does some of the evictions and moves that the allocation of an entry needs; true: there are more.
  bool MakeStep(const Layout& layout, RoomFor what);
  // Evicts for a page while an entry is being allocated: the newest entry stays.
  bool EvictForPage() override;

  // ---- limits ----

  // The limit on the entries' charge with this memory; 0 if it does not hold even the reserves.
  uint64_t LimitFor(uint64_t memory_bytes) const;
  void SetLimits(uint64_t memory_bytes, uint64_t entries_limit);
  // One step towards the limits; true when they are reached. *moved is set if the step made progress; otherwise bodies
  // and pins prevent it.
  bool ShrinkStep(bool* moved);
  bool IsShrunk() const;
  // Up to `count` free pages whose memory the caller returns to the system, before it calls Arena::EndReturn().
  int BeginReturn(uint32_t* pages, int count, Growth::Purpose purpose);
  // See Shard::Verify().
  void Verify() const;

 private:
  uint32_t PagesFor(uint64_t memory_bytes) const;
  // Pages that no charge may use: one for each class, those for pins, and the table's last.
  uint32_t ReservePages() const;
  // The charge of the newest entry, if it is not counted among those that cannot be evicted.
  uint64_t ChargeOfNewest() const;
  // REQUIRES: IsFull().
  Status EvictFor(uint64_t charge, RoomFor what) {
    do {
      const Ref oldest = entries_->oldest();
      if (oldest == 0 || (what == RoomFor::kNewest && oldest == entries_->newest())) return Status::kNoMemory;
      if (!MayEvict(oldest) || entries_->Stayed(entries_->Leave(oldest, Reason::kEvicted))) [[unlikely]]
        return RefuseForStubs();
    } while (IsFull(charge, what));
    return Status::kStored;
  }
  // `added`: entries, of kNewEntry. `stub_bytes`: of stubs that come besides.
  [[gnu::noinline]] Status PlanBesideStubs(uint64_t charge, RoomFor what, Ref replaced, uint64_t added = 1,
                                           uint64_t stub_bytes = 0);
  bool HasStubRoomFor(Ref ref) const;
  uint64_t StubChargeOf(Ref ref) const;
  uint64_t ChargeGivenBack(Ref ref) const;
  Status RefuseForStubs();
  // The entry at the cold end leaves. False: there is none, or it may not.
  bool Evict();

  ShardState* state_;
  const SizeClasses* classes_;
  uint64_t ring_bytes_;
  uint32_t pages_ceiling_;
  EntryMemory* memory_;
  Entries* entries_;
};

}  // namespace cairn
