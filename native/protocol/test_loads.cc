#include "protocol/test_loads.h"

#include <utility>

#include "base/check.h"

namespace cairn {

TestLoads::TestLoad* TestLoads::Find(std::string_view key) {
  for (TestLoad& load : loads_) {
    if (load.key == key) return &load;
  }
  return nullptr;
}

TestLoads::TestLoad* TestLoads::Find(uint64_t load) {
  for (TestLoad& each : loads_) {
    if (each.id == load) return &each;
  }
  return nullptr;
}

uint64_t TestLoads::Begin(std::string_view key, const Now&) {
  OsLockGuard guard(&lock_);
  if (loads_.size() == kTestLoadsMax) return 0;
  loads_.push_back({++last_id_, std::string(key), false, std::string()});
  return last_id_;
}

ReadThrough::Load TestLoads::Poll(uint64_t load) {
  OsLockGuard guard(&lock_);
  const TestLoad* open = Find(load);
  CHECK(open != nullptr);
  return open->is_resolved ? Load::kLoaded : Load::kPending;
}

void TestLoads::Leave(uint64_t load) {
  OsLockGuard guard(&lock_);
  TestLoad* open = Find(load);
  CHECK(open != nullptr);
  if (open != &loads_.back()) *open = std::move(loads_.back());
  loads_.pop_back();
}

bool TestLoads::has(std::string_view key) {
  OsLockGuard guard(&lock_);
  return Find(key) != nullptr;
}

bool TestLoads::Resolve(std::string_view key, std::string_view text) {
  {
    OsLockGuard guard(&lock_);
    TestLoad* open = Find(key);
    if (open == nullptr || open->is_resolved) return false;
    open->is_resolved = true;
    open->text = text;
  }
  WakeAll();
  return true;
}

std::string TestLoads::TextOf(uint64_t load) {
  OsLockGuard guard(&lock_);
  const TestLoad* open = Find(load);
  return open == nullptr ? std::string() : open->text;
}

size_t TestLoads::size() {
  OsLockGuard guard(&lock_);
  return loads_.size();
}

}  // namespace cairn
