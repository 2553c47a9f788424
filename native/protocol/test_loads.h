// Loads for tests: debugpark begins one by its ticket; debugresume ends it with a text, which is debugpark's answer.
// They take the way of the loads of values, except that the ticket is no key.
//
// Thread safety: any thread may call any method.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/os.h"
#include "protocol/limits.h"
#include "store/read_through.h"

namespace cairn {

class TestLoads final : public ReadThrough {
 public:
  TestLoads() { loads_.reserve(kTestLoadsMax); }

  // Each call begins its own load; two loads must not have the same key, see has().
  [[nodiscard]] uint64_t Begin(std::string_view key, const Now& now) override;
  void Prefetch(std::string_view, const Now&) override {}
  [[nodiscard]] Load Poll(uint64_t load) override;
  void Leave(uint64_t load) override;

  bool has(std::string_view key);
  // Ends the load of that key, and wakes the fronts. False: no such load, or it has ended.
  [[nodiscard]] bool Resolve(std::string_view key, std::string_view text);
  // The text with which the load ended.
  std::string TextOf(uint64_t load);
  size_t size();

 private:
  struct TestLoad {
    uint64_t id;
    std::string key;
    bool is_resolved = false;
    std::string text;
  };
  TestLoad* Find(std::string_view key) REQUIRES_LOCK(lock_);
  TestLoad* Find(uint64_t load) REQUIRES_LOCK(lock_);

  OsLock lock_;
  uint64_t last_id_ GUARDED_BY(lock_) = 0;
  std::vector<TestLoad> loads_ GUARDED_BY(lock_);  // in no order
};

}  // namespace cairn
