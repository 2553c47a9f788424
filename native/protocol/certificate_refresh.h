// The command refresh_certs: the server's owner reads the certificates again, in its own thread, and sessions wait for
// its answer as for a load.
//
//   Begin()                a session asks; the owner is woken
//   Take(), then Answer()  the owner reads them, and answers all that had asked before it took their request
//
// A session that asks behind Take() waits for the next reading: the files may have changed meanwhile.
//
// Thread safety: any thread may call any method, except that Take() and Answer() are the owner's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/os.h"
#include "base/thread_annotations.h"
#include "base/waker.h"
#include "store/read_through.h"

namespace cairn {

class CertificateRefresh final : public ReadThrough {
 public:
  // Before the first session.
  void SetOwner(std::shared_ptr<Waker> owner) { owner_ = std::move(owner); }

  // The key of all sessions that ask.
  static constexpr std::string_view kKey = "certificates";
  [[nodiscard]] uint64_t Begin(std::string_view key, const Now& now) override;
  void Prefetch(std::string_view, const Now&) override {}
  [[nodiscard]] Load Poll(uint64_t load) override;
  void Leave(uint64_t) override {}

  // Whether a session has asked since the last call.
  [[nodiscard]] bool Take();
  // Wakes the sessions. `line`: their reply, without its end.
  void Answer(std::string_view line);
  std::string line();

 private:
  std::shared_ptr<Waker> owner_;
  OsLock lock_;
  uint64_t asked_ GUARDED_BY(lock_) = 0;
  uint64_t taken_ GUARDED_BY(lock_) = 0;
  uint64_t answered_ GUARDED_BY(lock_) = 0;
  std::string line_ GUARDED_BY(lock_);
};

}  // namespace cairn
