#include "store/room.h"

#include <algorithm>

namespace cairn {

namespace {

// The most pages that a step of making room empties under one hold of the lock.
constexpr int kEvacuationsPerStep = 4;
// Owed entries at the cold end that are as small as their stubs give no room. Beyond this number of them a request
// waits for the writer, instead of looking further under the lock each time.
constexpr int kVainVisitsMax = 16 * kStepEntriesMax;

}  // namespace

// ---- making room ----

uint64_t Room::ChargeOfNewest() const {
  const Ref newest = entries_->newest();
  const EntryHeader* entry = memory_->At(newest);
  return PinsOf(entry) == 0 ? memory_->ChargeOf(entry, newest) : 0;
}

bool Room::MakeStep(const Layout& layout, RoomFor what) {
  const bool keep_newest = what == RoomFor::kNewest;
  // Make() will refuse it: nothing is evicted in vain.
  if (!memory_->FitsBesideKept(layout.charge, keep_newest ? ChargeOfNewest() : 0)) return false;
  for (int i = 0; i < kStepEntriesMax && memory_->IsOver(layout.charge); i++) {
    if ((keep_newest && entries_->oldest() == entries_->newest()) || !Evict()) return false;
  }
  if (memory_->IsOver(layout.charge)) return true;
  const uint64_t wholes = memory_->ChunksOf(layout.chunk_stream).wholes;
  for (int i = 0; i < kEvacuationsPerStep; i++) {
    const ArenaState& arena = state_->arena;
    if (arena.pages_used + wholes <= arena.pages_total || !memory_->arena()->EvacuateOne()) return false;
  }
  return true;
}

uint64_t Room::ChargeGivenBack(Ref ref) const {
  const EntryHeader* entry = memory_->At(ref);
  return PinsOf(entry) == 0 ? memory_->ChargeOf(entry, ref) : 0;
}

uint64_t Room::StubChargeOf(Ref ref) const {
  const EntryHeader* entry = memory_->At(ref);
  if (memory_->IsStubSized(ref)) return memory_->ChargeOf(entry, ref);
  StubInfo info;
  info.expires_ms = ExpiresMsOf(entry);
  info.fresh_until_ms = FreshUntilOf(entry);
  return memory_->LayoutOf(Debts::StubEntryOf(memory_->KeyOf(entry), info)).charge;
}

Status Room::RefuseForStubs() {
  state_->counters.log_full++;
  return Status::kLogFull;
}

Status Room::PlanBesideStubs(uint64_t charge, RoomFor what, Ref replaced, uint64_t added, uint64_t stub_bytes) {
  const Debts& debts = entries_->debts();
  const uint64_t limit = memory_->state().limit_bytes;
  const Ref stays = what == RoomFor::kNewest ? entries_->newest() : 0;
  const bool is_new = what == RoomFor::kNewEntry && state_->entries_limit != 0;
  uint64_t charged = memory_->state().charged_bytes + charge;
  uint64_t count = entries_->count();
  int vain_visits = 0;
  if (replaced != 0 && !IsStub(memory_->At(replaced))) {
    charged -= ChargeGivenBack(replaced);
    count--;
  }
  for (Ref ref = entries_->oldest(); charged > limit || (is_new && count + added > state_->entries_limit);
       ref = memory_->At(ref)->lru_prev) {
    if (ref == 0) {
      // Only stubs that the writer is going to free take the room.
      if (charged - debts.stub_bytes() - stub_bytes <= limit) return RefuseForStubs();
      return Status::kNoMemory;
    }
    if (ref == replaced || ref == stays) continue;
    const EntryHeader* entry = memory_->At(ref);
    const uint64_t given_back = ChargeGivenBack(ref);
    charged -= given_back;
    count--;
    if (!debts.Owes(entry)) continue;
    const uint64_t stub_charge = StubChargeOf(ref);
    charged += stub_charge;
    // The stubs of cleared entries need no room in the reserve, and recovery has no writer to wait for.
    if (entries_->IsDead(entry) || state_->recovering) continue;
    stub_bytes += stub_charge;
    const bool is_vain = stub_charge >= given_back && !(is_new && count + added > state_->entries_limit);
    if ((is_vain && ++vain_visits > kVainVisitsMax) || !debts.HasRoomFor(stub_bytes)) return RefuseForStubs();
  }
  return Status::kStored;
}

uint64_t Room::StubChargeFor(std::string_view key) const {
  return memory_->LayoutOf(Debts::StubEntryOf(key, {})).charge;
}

Status Room::PlanMany(uint64_t charge, uint64_t entries, uint64_t stub_bytes) {
  if (!memory_->FitsBesideKept(charge)) return Status::kNoMemory;
  if (!entries_->debts().has_backend()) return Status::kStored;
  if (stub_bytes != 0 && !entries_->debts().HasRoomFor(stub_bytes)) return RefuseForStubs();
  return PlanBesideStubs(charge, RoomFor::kNewEntry, 0, entries, stub_bytes);
}

bool Room::MakeMany(uint64_t charge, uint64_t entries) {
  const uint64_t limit = state_->entries_limit;
  while (memory_->IsOver(charge) || (limit != 0 && entries_->count() + entries > limit)) {
    if (!Evict()) return false;
  }
  return true;
}

Status Room::MakeForStub(Ref ref, std::string_view key) {
  const Debts& debts = entries_->debts();
  if (ref != 0 && IsStub(memory_->At(ref))) return Status::kStored;
  const uint64_t charge = ref != 0 ? StubChargeOf(ref) : StubChargeFor(key);
  if (!debts.HasRoomFor(charge)) return RefuseForStubs();
  if (ref != 0) return Status::kStored;
  const Status status = Make(charge, RoomFor::kBody);
  if (status == Status::kNoMemory || (status == Status::kStored && !debts.HasRoomFor(charge))) return RefuseForStubs();
  return status;
}

bool Room::HasStubRoomFor(Ref ref) const {
  // The stub of a cleared entry needs no room in the reserve, and recovery has no writer to wait for.
  if (entries_->IsDead(memory_->At(ref)) || state_->recovering) return true;
  return entries_->debts().HasRoomFor(StubChargeOf(ref));
}

bool Room::Evict() {
  const Ref oldest = entries_->oldest();
  if (oldest == 0 || !MayEvict(oldest)) return false;
  return !entries_->Stayed(entries_->Leave(oldest, Reason::kEvicted));
}

bool Room::EvictForPage() {
  const Ref oldest = entries_->oldest();
  // The stub of an owed entry would need memory too.
  if (oldest == entries_->newest() || entries_->debts().Owes(memory_->At(oldest))) return false;
  state_->counters.reserve_evictions++;
  return Evict();
}

// ---- limits ----

uint32_t Room::ReservePages() const {
  // A partial page for each class, overflow buckets included; the table's last page and one for its growth.
  const int pinned_max = ring_bytes_ != 0 ? kRingPinnedPagesMax : kPinnedPagesMax;
  return static_cast<uint32_t>(classes_->count() + 1 + pinned_max + 2);
}

uint32_t Room::PagesFor(uint64_t memory_bytes) const {
  const uint64_t page_bytes = classes_->page_bytes();
  // The header of the pages that this memory holds, or held before it was shrunk. The rest of the header, which the
  // ceiling reserves, is never touched.
  const uint32_t pages = std::max(static_cast<uint32_t>(memory_bytes / page_bytes), state_->arena.pages_touched);
  const uint64_t header = ShardState::HeaderBytes(pages, page_bytes) + ring_bytes_;
  return memory_bytes <= header ? 0 : static_cast<uint32_t>((memory_bytes - header) / page_bytes);
}

uint64_t Room::LimitFor(uint64_t memory_bytes) const {
  const uint32_t pages = PagesFor(memory_bytes);
  const uint32_t reserve = ReservePages();
  return pages <= reserve ? 0 : uint64_t{pages - reserve} * classes_->page_bytes();
}

void Room::SetLimits(uint64_t memory_bytes, uint64_t entries_limit) {
  state_->memory_bytes = memory_bytes;
  state_->limit_target_bytes = LimitFor(memory_bytes);
  memory_->SetLimit(std::max(state_->limit_target_bytes, memory_->state().charged_bytes));
  state_->entries_limit_target = entries_limit;
  state_->entries_limit = entries_limit == 0 ? 0 : std::max(entries_limit, entries_->count());
  const uint64_t page_bytes = classes_->page_bytes();
  const uint32_t needed =
      static_cast<uint32_t>((memory_->state().limit_bytes + page_bytes - 1) / page_bytes) + ReservePages();
  state_->arena.pages_total = std::min(std::max(PagesFor(memory_bytes), needed), pages_ceiling_);
}

bool Room::IsShrunk() const {
  return memory_->state().limit_bytes == state_->limit_target_bytes &&
         state_->entries_limit == state_->entries_limit_target && state_->arena.pages_used <= state_->arena.pages_total;
}

bool Room::ShrinkStep(bool* moved) {
  entries_->SettleTouches();
  if (IsShrunk() && state_->arena.pages_total <= PagesFor(state_->memory_bytes)) return true;
  const uint64_t limit_bytes = memory_->state().limit_bytes;
  const uint64_t entries_limit = state_->entries_limit;
  const uint32_t pages_used = state_->arena.pages_used;
  for (int i = 0; i < kStepEntriesMax; i++) {
    const bool over = memory_->state().charged_bytes > state_->limit_target_bytes ||
                      (state_->entries_limit_target != 0 && entries_->count() > state_->entries_limit_target);
    if (!over || !Evict()) break;
    *moved = true;
  }
  SetLimits(state_->memory_bytes, state_->entries_limit_target);
  for (int i = 0; i < kEvacuationsPerStep && state_->arena.pages_used > state_->arena.pages_total; i++) {
    if (!memory_->arena()->EvacuateOne()) break;
  }
  if (memory_->state().limit_bytes != limit_bytes || state_->entries_limit != entries_limit ||
      state_->arena.pages_used != pages_used) {
    *moved = true;
  }
  return IsShrunk();
}

int Room::BeginReturn(uint32_t* pages, int count, Growth::Purpose purpose) {
  const ArenaState& arena = state_->arena;
  const uint32_t committed = memory_->arena()->committed_pages();
  uint32_t excess = 0;
  if (purpose == Growth::Purpose::kShrink || committed > arena.pages_total) {
    if (committed > arena.pages_total) excess = committed - arena.pages_total;
  } else if (arena.free_count > arena.pages_used / 8 + 16) {
    excess = arena.free_count - (arena.pages_used / 8 + 16);
  }
  return memory_->arena()->BeginReturn(pages,
                                       static_cast<int>(std::min<uint32_t>(excess, static_cast<uint32_t>(count))));
}

void Room::Verify() const {
  // Above it by stubs at most, of entries that readers still hold.
  CHECK(memory_->state().charged_bytes <= memory_->state().limit_bytes + entries_->debts().stub_bytes());
  CHECK(state_->entries_limit == 0 || entries_->count() <= state_->entries_limit);
  CHECK(state_->arena.pinned_pages <= static_cast<uint32_t>(ring_bytes_ != 0 ? kRingPinnedPagesMax : kPinnedPagesMax));
  CHECK(state_->arena.pages_used <= state_->arena.pages_total ||
        state_->arena.pages_total > PagesFor(state_->memory_bytes) ||
        memory_->state().limit_bytes != state_->limit_target_bytes ||
        state_->arena.pages_used <= state_->arena.pages_ceiling);
}

}  // namespace cairn
