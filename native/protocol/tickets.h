// What parked requests wait for. A request that cannot be answered from memory opens a ticket and parks its connection;
// whoever has the answer resolves the ticket; the connection then executes the request again, which takes the answer.
//
// Thread safety: any thread may call any method. Nothing is called or allocated under the lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/os.h"
#include "protocol/limits.h"

namespace cairn {

class TicketTable {
 public:
  TicketTable() { tickets_.reserve(kTicketsMax); }

  enum class OpenStatus : uint8_t { kOpened, kTaken, kFull };
  enum class TakeStatus : uint8_t { kUnknown, kPending, kTaken };

  // kTaken: it is open already. kFull: kTicketsMax are.
  [[nodiscard]] OpenStatus Open(uint64_t ticket);
  // Leaves the answer for whoever opened the ticket. False: it is not open, or has been resolved.
  [[nodiscard]] bool Resolve(uint64_t ticket, std::string_view answer);
  // Takes the answer and forgets the ticket, if it has been resolved.
  [[nodiscard]] TakeStatus Take(uint64_t ticket, std::string* answer);
  // Whoever opened it is gone.
  void Abandon(uint64_t ticket);

  size_t size();

 private:
  struct Ticket {
    uint64_t id;
    bool resolved;
    std::string answer;
  };
  Ticket* Find(uint64_t ticket) REQUIRES_LOCK(lock_);
  void Remove(Ticket* ticket) REQUIRES_LOCK(lock_);

  OsLock lock_;
  std::vector<Ticket> tickets_ GUARDED_BY(lock_);  // in no order; reserved for kTicketsMax
};

}  // namespace cairn
