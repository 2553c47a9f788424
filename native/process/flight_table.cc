#include "process/flight_table.h"

#include <utility>

#include "base/check.h"
#include "store/store.h"

namespace cairn {

// One handle's part in one flight. Made and freed by the seat's thread; guarded by the table's lock in between.
struct FlightMember {
  uint64_t id = 0;
  FlightSeat* seat = nullptr;
  Flight* flight = nullptr;
  // In the flight's list, in the order of joining, as long as it is live: not ended.
  FlightMember* next = nullptr;
  FlightMember* previous = nullptr;
  bool live = false;
  // It began the flight's ticket, or took it over, and ends it when it is freed.
  bool leads = false;
  // In the seat's list of news.
  bool has_news = false;
  FlightNews::Kind news = FlightNews::Kind::kAgain;
  std::shared_ptr<const FlightAnswer> answer;
  FlightMember* news_next = nullptr;
  FlightMember* news_previous = nullptr;
  // Counted in the seat's waiting_count_. The seat's thread only.
  bool counted = false;
};

// One load. Guarded by the table's lock, except `key`, which never changes, and `ticket`, see fill_watch.h.
struct Flight {
  std::string key;
  uint64_t hash = 0;
  FillTicket ticket;
  // True: found by its key, and open to new members. False once it is voided or settled.
  bool listed = false;
  Flight* next_in_head = nullptr;
  // In the table's list of all flights, as long as it has live members.
  Flight* all_next = nullptr;
  Flight* all_previous = nullptr;
  // Null once it is settled or abandoned.
  FlightMember* leader = nullptr;
  // The leader's own thread wants the answer too.
  bool leader_waits = true;
  FlightMember* first = nullptr;
  FlightMember* last = nullptr;
  uint32_t live_count = 0;
  // Members that are not freed, live or not.
  uint32_t reference_count = 0;
};

void FlightTable::Wakes::WakeAll() {
  for (int i = 0; i < count; ++i) wakers[i]->Wake();
}

FlightTable::FlightTable(FlightLimits limits) : limits_(limits) {}

FlightTable::~FlightTable() {
  OsLockGuard guard(&lock_);
  CHECK(seat_count_ == 0 && all_ == nullptr);
}

uint64_t FlightTable::carried_bytes() {
  OsLockGuard guard(&lock_);
  return carried_bytes_ == nullptr ? 0 : carried_bytes_->load(std::memory_order_relaxed);
}

Flight* FlightTable::FindLocked(uint64_t hash, std::string_view key) {
  for (Flight* flight = heads_[hash % kHeads]; flight != nullptr; flight = flight->next_in_head) {
    if (flight->hash == hash && flight->key == key) return flight;
  }
  return nullptr;
}

void FlightTable::UnlistLocked(Flight* flight) {
  if (!flight->listed) return;
  Flight** link = &heads_[flight->hash % kHeads];
  while (*link != flight) link = &(*link)->next_in_head;
  *link = flight->next_in_head;
  flight->next_in_head = nullptr;
  flight->listed = false;
}

void FlightTable::AddMemberLocked(Flight* flight, FlightMember* member) {
  member->flight = flight;
  member->live = true;
  member->previous = flight->last;
  (flight->last != nullptr ? flight->last->next : flight->first) = member;
  flight->last = member;
  ++flight->live_count;
  ++flight->reference_count;
}

void FlightTable::EndMemberLocked(FlightMember* member) {
  Flight* flight = member->flight;
  (member->previous != nullptr ? member->previous->next : flight->first) = member->next;
  (member->next != nullptr ? member->next->previous : flight->last) = member->previous;
  member->next = member->previous = nullptr;
  member->live = false;
  if (flight->leader == member) flight->leader = nullptr;
  if (--flight->live_count > 0) return;
  UnlistLocked(flight);
  (flight->all_previous != nullptr ? flight->all_previous->all_next : all_) = flight->all_next;
  if (flight->all_next != nullptr) flight->all_next->all_previous = flight->all_previous;
}

void FlightTable::LeaveLocked(FlightMember* member, Wakes* wakes) {
  Flight* flight = member->flight;
  EndMemberLocked(member);
  FlightMember* leader = flight->leader;
  if (leader == nullptr || flight->leader_waits || flight->live_count > 1) return;
  EndMemberLocked(leader);
  TellLocked(leader, FlightNews::Kind::kAbort, wakes);
}

void FlightTable::TellLocked(FlightMember* member, FlightNews::Kind kind, Wakes* wakes) {
  member->news = kind;
  // It was told kLead, has not looked yet, and this is later.
  if (member->has_news) return;
  FlightSeat* seat = member->seat;
  // A seat that has news has been woken and not looked since.
  if (seat->news_head_ == nullptr) wakes->wakers[wakes->count++] = seat->waker_;
  member->has_news = true;
  member->news_previous = seat->news_tail_;
  (seat->news_tail_ != nullptr ? seat->news_tail_->news_next : seat->news_head_) = member;
  seat->news_tail_ = member;
}

void FlightTable::DropNewsLocked(FlightMember* member) {
  if (!member->has_news) return;
  FlightSeat* seat = member->seat;
  (member->news_previous != nullptr ? member->news_previous->news_next : seat->news_head_) = member->news_next;
  (member->news_next != nullptr ? member->news_next->news_previous : seat->news_tail_) = member->news_previous;
  member->news_next = member->news_previous = nullptr;
  member->has_news = false;
}

void FlightTable::TellAll(Flight* flight, FlightNews::Kind kind, const std::shared_ptr<const FlightAnswer>& answer) {
  for (bool more = true; more;) {
    Wakes wakes;
    {
      OsLockGuard guard(&lock_);
      for (int told = 0; told < kToldPerHold && flight->first != nullptr && !wakes.full(); ++told) {
        FlightMember* member = flight->first;
        EndMemberLocked(member);
        member->answer = answer;
        TellLocked(member, kind, &wakes);
      }
      more = flight->first != nullptr;
    }
    wakes.WakeAll();
  }
}

void FlightTable::HandOver(FlightMember* leader) {
  Flight* flight = leader->flight;
  Wakes wakes;
  bool given_up = false;
  {
    OsLockGuard guard(&lock_);
    if (!leader->live) return;
    EndMemberLocked(leader);
    FlightMember* next = flight->first;
    if (next == nullptr) return;
    // The next one's load would answer calls that came after the write as well: let it begin a new flight.
    if (flight->ticket.voided()) {
      UnlistLocked(flight);
      given_up = true;
    } else {
      leader->leads = false;
      next->leads = true;
      flight->leader = next;
      flight->leader_waits = true;
      TellLocked(next, FlightNews::Kind::kLead, &wakes);
    }
  }
  wakes.WakeAll();
  if (given_up) TellAll(flight, FlightNews::Kind::kAgain, nullptr);
}

void FlightTable::Free(FlightMember* member) {
  Flight* flight = member->flight;
  // Of the members that are not freed at most one leads, and a flight is freed after its members: the ticket ends here.
  if (member->leads) member->seat->store_->EndFill(flight->key, &flight->ticket);
  bool last;
  {
    OsLockGuard guard(&lock_);
    DCHECK(!member->live);
    DropNewsLocked(member);
    last = --flight->reference_count == 0;
    if (last) {
      key_bytes_ -= flight->key.size();
      flight_count_.store(flight_count() - 1, std::memory_order_relaxed);
    }
  }
  delete member;
  if (last) delete flight;
}

void FlightTable::Close() {
  for (bool more = true; more;) {
    Wakes wakes;
    {
      OsLockGuard guard(&lock_);
      closed_ = true;
      for (int told = 0; told < kToldPerHold && all_ != nullptr && !wakes.full(); ++told) {
        FlightMember* member = all_->first;
        EndMemberLocked(member);
        TellLocked(member, FlightNews::Kind::kClosed, &wakes);
      }
      more = all_ != nullptr;
    }
    wakes.WakeAll();
  }
}

void FlightTable::Verify() {
  OsLockGuard guard(&lock_);
  if (heads_ == nullptr) return;
  uint32_t listed = 0;
  for (uint32_t head = 0; head < kHeads; ++head) {
    for (Flight* flight = heads_[head]; flight != nullptr; flight = flight->next_in_head) {
      CHECK(flight->listed && flight->hash % kHeads == head);
      CHECK(FindLocked(flight->hash, flight->key) == flight);
      ++listed;
    }
  }
  uint32_t count = 0;
  uint32_t listed_of_all = 0;
  uint64_t key_bytes = 0;
  for (Flight* flight = all_; flight != nullptr; flight = flight->all_next) {
    ++count;
    key_bytes += flight->key.size();
    if (flight->listed) {
      ++listed_of_all;
      CHECK(flight->leader != nullptr);
    }
    CHECK(flight->first != nullptr && flight->last != nullptr && flight->last->next == nullptr);
    uint32_t members = 0;
    uint32_t leaders = 0;
    for (FlightMember* member = flight->first; member != nullptr; member = member->next) {
      CHECK(member->flight == flight && member->live);
      CHECK(member->next == nullptr || member->next->previous == member);
      // A live member has no news but that it leads.
      CHECK(!member->has_news || (member->news == FlightNews::Kind::kLead && member == flight->leader));
      leaders += member == flight->leader;
      CHECK(member != flight->leader || member->leads);
      ++members;
    }
    CHECK(members == flight->live_count && members <= flight->reference_count);
    CHECK(leaders == (flight->leader != nullptr ? 1u : 0u));
    // A load without waiters is aborted.
    CHECK(flight->leader == nullptr || flight->leader_waits || members > 1);
  }
  CHECK(listed == listed_of_all);
  CHECK(count <= flight_count() && key_bytes <= key_bytes_);
  CHECK(flight_count() <= limits_.flights_max && key_bytes_ <= limits_.key_bytes_max);
}

FlightSeat::FlightSeat(FlightTable* table, Store* store, std::shared_ptr<Waker> waker)
    : table_(table), store_(store), waker_(std::move(waker)) {
  // For the first seat; made before the lock is taken, and freed after it by the other seats.
  auto heads = std::make_unique<Flight*[]>(FlightTable::kHeads);
  auto carried_bytes = std::make_shared<std::atomic<uint64_t>>(0);
  HashSecrets secrets;
  OsRandom(secrets.words.data(), sizeof secrets.words);
  OsLockGuard guard(&table_->lock_);
  if (table_->heads_ == nullptr) {
    table_->heads_ = std::move(heads);
    table_->carried_bytes_ = std::move(carried_bytes);
    table_->secrets_ = secrets;
  }
  ++table_->seat_count_;
}

FlightSeat::~FlightSeat() {
  for (const auto& [id, member] : members_) {
    bool leads;
    FlightTable::Wakes wakes;
    {
      OsLockGuard guard(&table_->lock_);
      leads = member->live && member->flight->leader == member;
      if (member->live && !leads) table_->LeaveLocked(member, &wakes);
    }
    wakes.WakeAll();
    if (leads) table_->HandOver(member);
    table_->Free(member);
  }
  OsLockGuard guard(&table_->lock_);
  CHECK(news_head_ == nullptr);
  --table_->seat_count_;
}

FlightMember* FlightSeat::Find(uint64_t id) const {
  const auto found = members_.find(id);
  return found == members_.end() ? nullptr : found->second;
}

void FlightSeat::Forget(FlightMember* member) {
  if (member->counted) --waiting_count_;
  members_.erase(member->id);
  table_->Free(member);
}

FlightJoin FlightSeat::Join(std::string_view key, bool if_absent, const Now& now) {
  // Made before the lock is taken, and freed after it if they are not needed.
  auto new_member = std::make_unique<FlightMember>();
  auto new_flight = std::make_unique<Flight>();
  new_flight->key = key;
  new_flight->hash = TableHashFast(key, table_->secrets_);
  new_member->id = next_id_;
  new_member->seat = this;
  bool leads = false;
  {
    OsLockGuard guard(&table_->lock_);
    if (table_->closed_) return {FlightRole::kClosed};
    Flight* flight = table_->FindLocked(new_flight->hash, key);
    // Its load may have begun before the write that voided it: no answer for those who come after the write.
    if (flight != nullptr && flight->ticket.voided()) {
      table_->UnlistLocked(flight);
      flight = nullptr;
    }
    if (flight != nullptr) {
      table_->joined_count_.fetch_add(1, std::memory_order_relaxed);
      for (FlightMember* member = flight->first; member != nullptr; member = member->next) {
        if (member->seat != this) continue;
        if (flight->leader == member) flight->leader_waits = true;
        return {FlightRole::kWait, member->id};
      }
      table_->AddMemberLocked(flight, new_member.get());
    } else {
      if (table_->flight_count() >= table_->limits_.flights_max ||
          table_->key_bytes_ + key.size() > table_->limits_.key_bytes_max) {
        return {FlightRole::kAlone};
      }
      flight = new_flight.release();
      Flight** head = &table_->heads_[flight->hash % FlightTable::kHeads];
      flight->next_in_head = *head;
      *head = flight;
      flight->listed = true;
      flight->all_next = table_->all_;
      if (table_->all_ != nullptr) table_->all_->all_previous = flight;
      table_->all_ = flight;
      table_->key_bytes_ += key.size();
      table_->flight_count_.store(table_->flight_count() + 1, std::memory_order_relaxed);
      table_->AddMemberLocked(flight, new_member.get());
      flight->leader = new_member.get();
      new_member->leads = true;
      leads = true;
    }
  }
  FlightMember* member = new_member.release();
  members_.emplace(next_id_++, member);
  if (!leads) {
    member->counted = true;
    ++waiting_count_;
    return {FlightRole::kWait, member->id};
  }
  // Those who join before the ticket is begun are served by a load that begins after it.
  if (!store_->BeginFill(key, if_absent ? FillOf::kAbsentKey : FillOf::kAnyKey, now, &member->flight->ticket)) {
    SettleAgain(member->id);
    return {FlightRole::kPresent};
  }
  table_->led_count_.fetch_add(1, std::memory_order_relaxed);
  return {FlightRole::kLead, member->id};
}

FillTicket* FlightSeat::ticket(uint64_t id) {
  FlightMember* member = Find(id);
  if (member == nullptr) return nullptr;
  OsLockGuard guard(&table_->lock_);
  if (!member->live) return nullptr;
  CHECK(member->leads && !member->has_news);
  return &member->flight->ticket;
}

std::string_view FlightSeat::key(uint64_t id) const {
  const FlightMember* member = Find(id);
  CHECK(member != nullptr);
  return member->flight->key;
}

bool FlightSeat::EndLead(FlightMember* member) {
  OsLockGuard guard(&table_->lock_);
  CHECK(member->leads);
  if (!member->live) return false;
  CHECK(!member->has_news);
  // No member joins from here on, so "a member waits" can only become false.
  table_->UnlistLocked(member->flight);
  table_->EndMemberLocked(member);
  return member->flight->first != nullptr;
}

void FlightSeat::Settle(uint64_t id, FlightAnswer::Kind kind, Codec codec, std::string_view bytes,
                        std::string_view name, std::string_view code) {
  FlightMember* member = Find(id);
  if (member == nullptr) return;
  if (EndLead(member)) {
    std::shared_ptr<const FlightAnswer> answer = table_->MakeAnswer(kind, codec, bytes, name, code);
    const auto news = answer != nullptr ? FlightNews::Kind::kAnswer : FlightNews::Kind::kAgain;
    table_->TellAll(member->flight, news, answer);
  }
  Forget(member);
}

void FlightSeat::SettleAgain(uint64_t id) {
  FlightMember* member = Find(id);
  if (member == nullptr) return;
  if (EndLead(member)) table_->TellAll(member->flight, FlightNews::Kind::kAgain, nullptr);
  Forget(member);
}

std::shared_ptr<const FlightAnswer> FlightTable::MakeAnswer(FlightAnswer::Kind kind, Codec codec,
                                                            std::string_view bytes, std::string_view name,
                                                            std::string_view code) {
  // An upper limit that threads may overshoot together would be none: take the bytes first, then look.
  const uint64_t charge = bytes.size() + name.size() + code.size();
  std::shared_ptr<std::atomic<uint64_t>> carried = carried_bytes_;
  if (carried->fetch_add(charge, std::memory_order_relaxed) + charge > limits_.carried_bytes_max) {
    carried->fetch_sub(charge, std::memory_order_relaxed);
    return nullptr;
  }
  auto* answer = new FlightAnswer{kind, codec, std::string(bytes), std::string(name), std::string(code)};
  return std::shared_ptr<const FlightAnswer>(answer, [carried = std::move(carried), charge](const FlightAnswer* done) {
    delete done;
    carried->fetch_sub(charge, std::memory_order_relaxed);
  });
}

FlightLeave FlightSeat::Leave(uint64_t id) {
  FlightMember* member = Find(id);
  if (member == nullptr) return FlightLeave::kLeft;
  FlightLeave result = FlightLeave::kLeft;
  bool hand_over = false;
  FlightTable::Wakes wakes;
  {
    OsLockGuard guard(&table_->lock_);
    Flight* flight = member->flight;
    if (!member->live) {
      if (member->leads && member->news != FlightNews::Kind::kLead) result = FlightLeave::kAbort;
    } else if (flight->leader != member) {
      table_->LeaveLocked(member, &wakes);
    } else if (member->has_news) {
      hand_over = true;  // told kLead, but has not begun
    } else if (flight->live_count > 1) {
      flight->leader_waits = false;
      result = FlightLeave::kGoesOn;
    } else {
      table_->EndMemberLocked(member);
      result = FlightLeave::kAbort;
    }
  }
  wakes.WakeAll();
  if (hand_over) table_->HandOver(member);
  if (result != FlightLeave::kGoesOn) Forget(member);
  return result;
}

size_t FlightSeat::TakeNews(FlightNews* news, size_t count) {
  FlightMember* taken[kNewsPerHold];
  size_t taken_count = 0;
  {
    OsLockGuard guard(&table_->lock_);
    while (taken_count < count && taken_count < kNewsPerHold && news_head_ != nullptr) {
      FlightMember* member = news_head_;
      table_->DropNewsLocked(member);
      news[taken_count] = {member->id, member->news, std::move(member->answer)};
      taken[taken_count++] = member;
    }
  }
  for (size_t i = 0; i < taken_count; ++i) {
    FlightMember* member = taken[i];
    if (news[i].kind != FlightNews::Kind::kLead) {
      Forget(member);
    } else if (member->counted) {
      member->counted = false;
      --waiting_count_;
    }
  }
  return taken_count;
}

}  // namespace cairn
