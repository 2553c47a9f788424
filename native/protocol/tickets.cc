#include "protocol/tickets.h"

#include <utility>

namespace cairn {

TicketTable::Ticket* TicketTable::Find(uint64_t ticket) {
  for (Ticket& open : tickets_) {
    if (open.id == ticket) return &open;
  }
  return nullptr;
}

void TicketTable::Remove(Ticket* ticket) {
  if (ticket != &tickets_.back()) *ticket = std::move(tickets_.back());
  tickets_.pop_back();
}

TicketTable::OpenStatus TicketTable::Open(uint64_t ticket) {
  OsLockGuard guard(&lock_);
  if (Find(ticket) != nullptr) return OpenStatus::kTaken;
  if (tickets_.size() == kTicketsMax) return OpenStatus::kFull;
  tickets_.push_back({ticket, false, std::string()});
  return OpenStatus::kOpened;
}

bool TicketTable::Resolve(uint64_t ticket, std::string_view answer) {
  std::string copy(answer);
  OsLockGuard guard(&lock_);
  Ticket* open = Find(ticket);
  if (open == nullptr || open->resolved) return false;
  open->resolved = true;
  open->answer.swap(copy);
  return true;
}

TicketTable::TakeStatus TicketTable::Take(uint64_t ticket, std::string* answer) {
  OsLockGuard guard(&lock_);
  Ticket* open = Find(ticket);
  if (open == nullptr) return TakeStatus::kUnknown;
  if (!open->resolved) return TakeStatus::kPending;
  answer->swap(open->answer);
  Remove(open);
  return TakeStatus::kTaken;
}

void TicketTable::Abandon(uint64_t ticket) {
  OsLockGuard guard(&lock_);
  Ticket* open = Find(ticket);
  if (open != nullptr) Remove(open);
}

size_t TicketTable::size() {
  OsLockGuard guard(&lock_);
  return tickets_.size();
}

}  // namespace cairn
