#include "process/load_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "store/fill_watch.h"
#include "store/store.h"

namespace cairn {

// One request's part in one load. Guarded by the table's lock between Enter() and LeaveLocked().
struct LoadWaiter {
  KeyLoad* load = nullptr;
  LoadSeat* seat = nullptr;  // null: a session's
  uint64_t id = 0;           // in the seat
  // In the load's list until it is told of the end; one of a seat is then in the seat's list until that is taken.
  enum class In : uint8_t { kNothing, kLoad, kSeat };
  In in = In::kNothing;
  LoadWaiter* next = nullptr;
  LoadWaiter* previous = nullptr;
};

// Guarded by the table's lock, except `key`, which never changes, and `ticket`, see fill_watch.h.
struct KeyLoad {
  enum class State : uint8_t { kStarting, kQueued, kTaken, kLoaded, kFailed, kUnknown };
  bool has_ended() const { return state >= State::kLoaded; }

  std::string key;
  uint64_t hash = 0;
  uint32_t backend = 0;
  FillTicket ticket;
  State state = State::kStarting;
  std::shared_ptr<const std::string> why;  // of kFailed and kUnknown
  // True: found by its key, and open to new waiters. False once it is voided or has ended.
  bool is_listed = false;
  // True: only waiters of kFreeRoom want it. Written under the lock, read by the thread that stores the value.
  std::atomic<bool> only_free_room{false};
  KeyLoad* next_in_head = nullptr;
  KeyLoad* all_next = nullptr;
  KeyLoad* all_previous = nullptr;
  KeyLoad* queue_next = nullptr;
  KeyLoad* queue_previous = nullptr;
  LoadWaiter* first = nullptr;
  LoadWaiter* last = nullptr;
  // Its waiters, and one for the thread or the queue that has it.
  uint32_t reference_count = 0;
};

namespace {

std::shared_ptr<const std::string> Sentence(std::string_view text) {
  return std::make_shared<const std::string>(text.empty() ? "the load failed" : text);
}

void Append(LoadWaiter* waiter, LoadWaiter::In in, LoadWaiter** first, LoadWaiter** last) {
  waiter->next = nullptr;
  waiter->previous = *last;
  (*last != nullptr ? (*last)->next : *first) = waiter;
  *last = waiter;
  waiter->in = in;
}

void Unlink(LoadWaiter* waiter, LoadWaiter** first, LoadWaiter** last) {
  (waiter->previous != nullptr ? waiter->previous->next : *first) = waiter->next;
  (waiter->next != nullptr ? waiter->next->previous : *last) = waiter->previous;
  waiter->next = waiter->previous = nullptr;
  waiter->in = LoadWaiter::In::kNothing;
}

// Null: the store has the answer, or the key was written meanwhile.
std::shared_ptr<const std::string> WhyNot(Status status) {
  switch (status) {
    case Status::kStored:
    case Status::kExists:
      return nullptr;
    case Status::kTooLarge:
      return Sentence("the value is too large for this cache");
    case Status::kLogFull:
      return Sentence("the log has no room");
    default:
      return Sentence("there is no memory for the value");
  }
}

// Stores what was loaded. Larger values are copied without the shard's lock.
Status Fill(Store* store, const Request& request, const Now& now) {
  Outcome outcome;
  if (request.only_free_room && !store->HasFreeRoom(request)) return Status::kNoMemory;
  if (request.value.size() > kCopyUnderLockBytesMax && request.value.size() <= store->value_bytes_max()) {
    Body body;
    const Status status = store->Reserve(request, static_cast<uint32_t>(request.value.size()), now, &body);
    if (status != Status::kStored && status != Status::kNoMemory) return status;
    if (status == Status::kStored && store->WriteBody(body, 0, request.value)) {
      store->Link(&body, request, now, &outcome);
      if (body) store->Abandon(&body);
      if (outcome.status != Status::kNoMemory) return outcome.status;
    }
    // Other values that are being received have all places, perhaps for requests that wait for this load.
  }
  store->Execute(request, now, nullptr, &outcome);
  return outcome.status;
}

}  // namespace

// ---- LoadTable ----

void LoadTable::Wakes::WakeAll() {
  for (int i = 0; i < count; ++i) wakers[i]->Wake();
  for (int i = 0; i < count; ++i) wakers[i] = nullptr;
  count = 0;
}

LoadTable::LoadTable(Store* store, LoadLimits limits)
    : store_(store), limits_(limits), secrets_(DrawHashSecrets()), heads_(new KeyLoad*[kHeads]()) {}

LoadTable::~LoadTable() {
  Close();
  OsLockGuard guard(&lock_);
  for (const Lane& lane : lanes_) CHECK(lane.all == nullptr);
  CHECK(waiter_count_ == 0 && owner_count_ == 0 && load_count() == 0);
}

KeyLoad* LoadTable::FindLocked(uint64_t hash, std::string_view key) {
  for (KeyLoad* load = heads_[hash % kHeads]; load != nullptr; load = load->next_in_head) {
    if (load->hash == hash && load->key == key) return load;
  }
  return nullptr;
}

void LoadTable::UnlistLocked(KeyLoad* load) {
  if (!load->is_listed) return;
  KeyLoad** link = &heads_[load->hash % kHeads];
  while (*link != load) link = &(*link)->next_in_head;
  *link = load->next_in_head;
  load->next_in_head = nullptr;
  load->is_listed = false;
}

void LoadTable::EnqueueLocked(KeyLoad* load) {
  Lane* lane = &lanes_[load->backend];
  load->state = KeyLoad::State::kQueued;
  load->queue_previous = lane->queue_tail;
  (lane->queue_tail != nullptr ? lane->queue_tail->queue_next : lane->queue_head) = load;
  lane->queue_tail = load;
}

void LoadTable::DequeueLocked(KeyLoad* load) {
  Lane* lane = &lanes_[load->backend];
  (load->queue_previous != nullptr ? load->queue_previous->queue_next : lane->queue_head) = load->queue_next;
  (load->queue_next != nullptr ? load->queue_next->queue_previous : lane->queue_tail) = load->queue_previous;
  load->queue_next = load->queue_previous = nullptr;
}

bool LoadTable::DropLocked(KeyLoad* load) {
  if (--load->reference_count != 0) return false;
  key_bytes_ -= load->key.size();
  load_count_.store(load_count() - 1, std::memory_order_relaxed);
  return true;
}

void LoadTable::Free(KeyLoad* load) {
  DCHECK(load->has_ended() && load->first == nullptr);
  delete load;
}

// The listed load of this key, or `*fresh`, which is then listed, or null: there are too many.
KeyLoad* LoadTable::FindOrListLocked(std::unique_ptr<KeyLoad>* fresh) {
  KeyLoad* load = FindLocked((*fresh)->hash, (*fresh)->key);
  // Its value may be older than the write that voided it: no load for a request that comes after the write.
  if (load != nullptr && load->state != KeyLoad::State::kStarting && load->ticket.voided()) {
    UnlistLocked(load);
    load = nullptr;
  }
  if (load != nullptr) return load;
  if (load_count() >= limits_.loads_max || key_bytes_ + (*fresh)->key.size() > limits_.key_bytes_max) return nullptr;
  load = fresh->release();
  KeyLoad** head = &heads_[load->hash % kHeads];
  load->next_in_head = *head;
  *head = load;
  load->is_listed = true;
  Lane* lane = &lanes_[load->backend];
  load->all_next = lane->all;
  if (lane->all != nullptr) lane->all->all_previous = load;
  lane->all = load;
  load->reference_count = 1;
  key_bytes_ += load->key.size();
  load_count_.store(load_count() + 1, std::memory_order_relaxed);
  return load;
}

LoadWaiter* LoadTable::Enter(std::string_view key, const Now& now, LoadSeat* seat, uint64_t id, LoadInto into) {
  // Made before the lock is taken, and freed after it if they are not needed.
  auto waiter = std::make_unique<LoadWaiter>();
  auto fresh = std::make_unique<KeyLoad>();
  fresh->key = key;
  fresh->hash = TableHashFast(key, secrets_);
  fresh->backend = store_->backends().Of(key);
  waiter->seat = seat;
  waiter->id = id;
  KeyLoad* load = nullptr;
  {
    OsLockGuard guard(&lock_);
    if (waiter_count_ < limits_.waiters_max) load = FindOrListLocked(&fresh);
    if (load != nullptr) {
      // Of a load that is new, `fresh` is null: it is as its first waiter wants it.
      if (fresh == nullptr || into == LoadInto::kAnyRoom)
        load->only_free_room.store(into == LoadInto::kFreeRoom, std::memory_order_relaxed);
      waiter->load = load;
      Append(waiter.get(), LoadWaiter::In::kLoad, &load->first, &load->last);
      ++load->reference_count;
      ++waiter_count_;
    }
  }
  if (load == nullptr) {
    refused_count_.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  if (fresh == nullptr) {
    Start(load, now);
  } else {
    joined_count_.fetch_add(1, std::memory_order_relaxed);
  }
  return waiter.release();
}

void LoadTable::Prefetch(std::string_view key, const Now& now) {
  auto fresh = std::make_unique<KeyLoad>();
  fresh->key = key;
  fresh->hash = TableHashFast(key, secrets_);
  fresh->backend = store_->backends().Of(key);
  KeyLoad* load;
  {
    OsLockGuard guard(&lock_);
    load = FindOrListLocked(&fresh);
    if (load != nullptr) load->only_free_room.store(false, std::memory_order_relaxed);
  }
  if (load != nullptr && fresh == nullptr) Start(load, now);
}

void LoadTable::Start(KeyLoad* load, const Now& now) {
  begun_count_.fetch_add(1, std::memory_order_relaxed);
  // A request that joins before the ticket is begun is served by a load that is taken after it.
  if (!store_->BeginFill(load->key, FillOf::kAbsentKey, now, &load->ticket)) {
    if (End(load, Load::kLoaded, nullptr)) WakeAll();
    return;
  }
  std::shared_ptr<const std::string> why;
  bool is_first = false;
  bool is_over;
  {
    OsLockGuard guard(&lock_);
    const Lane& lane = lanes_[load->backend];
    why = lane.refusal;
    is_over = why != nullptr || load->has_ended();
    is_first = lane.queue_head == nullptr;
    if (!is_over) EnqueueLocked(load);
  }
  if (is_over) {
    if (End(load, Load::kFailed, why)) WakeAll();
  } else if (is_first) {
    loaders_.Wake();
  }
}

bool LoadTable::End(KeyLoad* load, Load result, const std::shared_ptr<const std::string>& why) {
  store_->EndFill(load->key, &load->ticket);
  return Tell(load, result, why);
}

static KeyLoad::State EndOf(ReadThrough::Load result) {
  if (result == ReadThrough::Load::kUnknown) return KeyLoad::State::kUnknown;
  return result == ReadThrough::Load::kLoaded ? KeyLoad::State::kLoaded : KeyLoad::State::kFailed;
}

bool LoadTable::Tell(KeyLoad* load, Load result, const std::shared_ptr<const std::string>& why) {
  bool wakes_sessions = false;
  bool is_last = false;
  for (bool more = true; more;) {
    Wakes wakes;
    {
      OsLockGuard guard(&lock_);
      if (!load->has_ended()) {
        UnlistLocked(load);
        (load->all_previous != nullptr ? load->all_previous->all_next : lanes_[load->backend].all) = load->all_next;
        if (load->all_next != nullptr) load->all_next->all_previous = load->all_previous;
        load->state = EndOf(result);
        load->why = why;
        if (result != Load::kLoaded) failed_count_.fetch_add(1, std::memory_order_relaxed);
      }
      while (load->first != nullptr && !wakes.full()) {
        LoadWaiter* waiter = load->first;
        Unlink(waiter, &load->first, &load->last);
        LoadSeat* seat = waiter->seat;
        if (seat == nullptr) {
          wakes_sessions = true;
          continue;
        }
        // A seat with ended loads has been woken and has not looked since.
        if (seat->ended_head_ == nullptr) wakes.wakers[wakes.count++] = seat->waker_;
        Append(waiter, LoadWaiter::In::kSeat, &seat->ended_head_, &seat->ended_tail_);
      }
      more = load->first != nullptr;
      if (!more) is_last = DropLocked(load);
    }
    wakes.WakeAll();
  }
  if (is_last) Free(load);
  return wakes_sessions;
}

void LoadTable::LeaveLocked(LoadWaiter* waiter) {
  if (waiter->in == LoadWaiter::In::kLoad) Unlink(waiter, &waiter->load->first, &waiter->load->last);
  if (waiter->in == LoadWaiter::In::kSeat) Unlink(waiter, &waiter->seat->ended_head_, &waiter->seat->ended_tail_);
  --waiter_count_;
}

uint64_t LoadTable::Begin(std::string_view key, const Now& now) {
  return reinterpret_cast<uintptr_t>(Enter(key, now, nullptr, 0, LoadInto::kAnyRoom));
}

ReadThrough::Load LoadTable::Poll(uint64_t load) {
  const auto* waiter = reinterpret_cast<const LoadWaiter*>(static_cast<uintptr_t>(load));
  OsLockGuard guard(&lock_);
  switch (waiter->load->state) {
    case KeyLoad::State::kLoaded:
      return Load::kLoaded;
    case KeyLoad::State::kFailed:
      return Load::kFailed;
    case KeyLoad::State::kUnknown:
      return Load::kUnknown;
    default:
      return Load::kPending;
  }
}

void LoadTable::Leave(uint64_t load) {
  auto* waiter = reinterpret_cast<LoadWaiter*>(static_cast<uintptr_t>(load));
  KeyLoad* const left = waiter->load;
  bool is_last;
  {
    OsLockGuard guard(&lock_);
    LeaveLocked(waiter);
    is_last = DropLocked(left);
  }
  delete waiter;
  if (is_last) Free(left);
}

void LoadTable::FailAll(std::string_view why, uint32_t backend) { Fail(why, backend); }

void LoadTable::Close() {
  constexpr std::string_view kWhy = "the cache is closed";
  {
    OsLockGuard guard(&lock_);
    if (!is_closed_) {
      for (Lane& lane : lanes_) lane.refusal = Sentence(kWhy);
    }
    is_closed_ = true;
  }
  for (uint32_t backend = 0; backend < kBackendsMax; backend++) Fail(kWhy, backend);
  // They end with the cache.
  loaders_.Wake();
}

void LoadTable::Fail(std::string_view why, uint32_t backend) {
  const std::shared_ptr<const std::string> sentence = Sentence(why);
  bool wakes_sessions = false;
  for (;;) {
    KeyLoad* load;
    bool was_queued = false;
    {
      OsLockGuard guard(&lock_);
      Lane* lane = &lanes_[backend];
      if (!is_closed_) lane->refusal = sentence;
      load = lane->all;
      if (load == nullptr) break;
      if (load->state == KeyLoad::State::kQueued) {
        // The queue's reference is this thread's from here on.
        DequeueLocked(load);
        load->state = KeyLoad::State::kTaken;
        was_queued = true;
      } else {
        // The loader or the starting thread keeps its own, with the ticket, and finds the load ended.
        ++load->reference_count;
      }
    }
    if (was_queued ? End(load, Load::kFailed, sentence) : Tell(load, Load::kFailed, sentence)) wakes_sessions = true;
  }
  if (wakes_sessions) WakeAll();
}

// ---- LoadSeat ----

LoadSeat::LoadSeat(LoadTable* table, std::shared_ptr<Waker> waker) : table_(table), waker_(std::move(waker)) {
  OsLockGuard guard(&table_->lock_);
  ++table_->owner_count_;
}

LoadSeat::~LoadSeat() {
  while (!waiters_.empty()) Leave(waiters_.begin()->first);
  OsLockGuard guard(&table_->lock_);
  --table_->owner_count_;
}

uint64_t LoadSeat::Begin(std::string_view key, const Now& now, LoadInto into) {
  const uint64_t id = next_id_;
  LoadWaiter* waiter = table_->Enter(key, now, this, id, into);
  if (waiter == nullptr) return 0;
  ++next_id_;
  waiters_.emplace(id, waiter);
  return id;
}

void LoadSeat::Leave(uint64_t id) {
  const auto found = waiters_.find(id);
  if (found == waiters_.end()) return;
  table_->Leave(reinterpret_cast<uintptr_t>(found->second));
  waiters_.erase(found);
}

size_t LoadSeat::TakeEnded(Ended* ended, size_t count) {
  size_t taken_count = 0;
  {
    OsLockGuard guard(&table_->lock_);
    while (taken_count < count && taken_count < kEndedPerHold && ended_head_ != nullptr) {
      LoadWaiter* waiter = ended_head_;
      Unlink(waiter, &ended_head_, &ended_tail_);
      ended[taken_count++] = {waiter->id, waiter->load->why, waiter->load->state == KeyLoad::State::kUnknown};
    }
  }
  for (size_t i = 0; i < taken_count; ++i) Leave(ended[i].id);
  return taken_count;
}

// ---- Loader ----

Loader::Loader(LoadTable* table, std::shared_ptr<Waker> waker, uint32_t backend)
    : table_(table), waker_(std::move(waker)), backend_(backend) {
  CHECK(backend < kBackendsMax);
  table_->loaders_.Add(waker_);
  bool has_work;
  {
    OsLockGuard guard(&table_->lock_);
    ++table_->owner_count_;
    LoadTable::Lane* lane = &table_->lanes_[backend_];
    if (!table_->is_closed_) lane->refusal = nullptr;
    has_work = lane->queue_head != nullptr;
  }
  if (has_work) waker_->Wake();
}

Loader::~Loader() {
  table_->loaders_.Remove(waker_.get());
  std::vector<std::pair<uint64_t, KeyLoad*>> loads(taken_.begin(), taken_.end());
  std::sort(loads.begin(), loads.end());
  bool has_work;
  {
    OsLockGuard guard(&table_->lock_);
    --table_->owner_count_;
    // Behind those that came later: they wait for a new loader all the same.
    for (auto& [id, load] : loads) {
      if (load->has_ended()) continue;
      table_->EnqueueLocked(load);
      load = nullptr;
    }
    has_work = table_->lanes_[backend_].queue_head != nullptr;
  }
  for (const auto& [id, load] : loads) {
    if (load != nullptr) table_->End(load, ReadThrough::Load::kFailed, nullptr);
  }
  if (has_work) table_->loaders_.Wake();
}

size_t Loader::Drain(LoadTask* tasks, size_t count) {
  size_t drained = 0;
  bool wakes_sessions = false;
  while (drained < count) {
    KeyLoad* load;
    {
      OsLockGuard guard(&table_->lock_);
      load = table_->lanes_[backend_].queue_head;
      if (load == nullptr) break;
      table_->DequeueLocked(load);
      load->state = KeyLoad::State::kTaken;
    }
    // The key was written since: the requests have their answer in the store.
    if (load->ticket.voided()) {
      if (table_->End(load, ReadThrough::Load::kLoaded, nullptr)) wakes_sessions = true;
      continue;
    }
    const uint64_t id = table_->next_task_id_.fetch_add(1, std::memory_order_relaxed);
    taken_.emplace(id, load);
    tasks[drained++] = {id, load->key};
  }
  if (wakes_sessions) table_->WakeAll();
  return drained;
}

std::shared_ptr<const std::string> Loader::Store(KeyLoad* load, const LoadResult& result, const Now& now) {
  if (result.kind == LoadResult::Kind::kAgain) return nullptr;
  if (result.kind == LoadResult::Kind::kFailed || result.kind == LoadResult::Kind::kUnknown) {
    return Sentence(result.why);
  }
  // A row that has expired is as good as none.
  const bool is_expired = result.expires_ms != kNeverExpires && result.expires_ms <= now.boot_ms;
  if (result.kind == LoadResult::Kind::kAbsent || is_expired) {
    const uint64_t until_ms = now.boot_ms + std::max(result.absent_ms, kAbsentMsMin);
    return WhyNot(table_->store_->FillNegative(load->key, &load->ticket, until_ms, now));
  }
  Request request;
  request.verb = Verb::kSet;
  request.key = load->key;
  request.value = result.value;
  request.codec = result.codec;
  request.client_flags = result.client_flags;
  request.expires_ms = result.expires_ms;
  request.fill = &load->ticket;
  request.from_backend = true;
  request.only_free_room = load->only_free_room.load(std::memory_order_relaxed);
  const Status status = Fill(table_->store_, request, now);
  return request.only_free_room ? nullptr : WhyNot(status);
}

void Loader::End(const LoadResult* results, size_t count, const Now& now) {
  bool wakes_sessions = false;
  for (size_t i = 0; i < count; i++) {
    const auto found = taken_.find(results[i].id);
    if (found == taken_.end()) continue;
    KeyLoad* load = found->second;
    taken_.erase(found);
    const std::shared_ptr<const std::string> why = Store(load, results[i], now);
    auto result = why == nullptr ? ReadThrough::Load::kLoaded : ReadThrough::Load::kFailed;
    if (results[i].kind == LoadResult::Kind::kUnknown) result = ReadThrough::Load::kUnknown;
    if (table_->End(load, result, why)) wakes_sessions = true;
  }
  if (wakes_sessions) table_->WakeAll();
}

}  // namespace cairn
