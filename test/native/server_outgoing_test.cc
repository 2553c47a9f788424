// The replies on their way to a client, into a socket that takes few bytes at a time: whatever the cuts, the client
// gets every byte in its order, and the store every pin back.
#ifdef __linux__

#include "server/outgoing.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "support/store_fixture.h"
#include "test.h"

namespace cairn {
namespace {

using Sent = Outgoing::Sent;

// Two connected sockets that do not wait.
class Pair {
 public:
  Pair() {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends_) == 0);
    const int bytes = 8 * 1024;
    CHECK(setsockopt(ends_[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) == 0);
  }
  ~Pair() {
    close(ends_[0]);
    CloseReader();
  }
  int writer() const { return ends_[0]; }
  void CloseReader() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }
  // Up to `bytes` of what has come.
  std::string Read(size_t bytes) {
    std::string got(bytes, '\0');
    const ssize_t count = recv(ends_[1], got.data(), got.size(), 0);
    got.resize(count > 0 ? static_cast<size_t>(count) : 0);
    return got;
  }

 private:
  int ends_[2];
};

// Pins the value behind `at` bytes; false: the store lets it not be pinned for long.
bool AddPinned(TestStore& store, const std::string& key, size_t at, PinnedValues* values) {
  Request get;
  get.key = key;
  Scratch none;
  Outcome outcome;
  store->Execute(get, store.now(), &none, &outcome);
  if (outcome.pin.ref != 0 && !outcome.pin_may_last) store->Unpin(outcome.pin);
  if (!outcome.pin_may_last) return false;
  values->Add({at, outcome.value_bytes, outcome.pin});
  return true;
}

TEST(Outgoing, EveryByteLeavesInItsOrderHoweverLittleTheSystemTakes) {
  for (int round = 0; round < 30; round++) {
    test::Random random(test::Seed() + static_cast<uint64_t>(round));
    TestStore store;
    constexpr size_t kKeys = 4;
    std::string large[kKeys];
    for (size_t k = 0; k < kKeys; k++) {
      for (size_t bytes = random.Between(5'000, 200'000); large[k].size() < bytes;) {
        large[k] += std::to_string(large[k].size()) + static_cast<char>('a' + k);
      }
      store.Set("key" + std::to_string(k), large[k]);
    }
    Pair pair;
    Outgoing outgoing(store.operator->());
    std::string wanted, got;
    size_t pinned = 0;
    for (int call = 0; call < 12; call++) {
      std::string out;
      PinnedValues values;
      for (size_t i = random.Below(4); i > 0; i--) {
        std::string bytes(random.Below(random.OneIn(3) ? 30'000 : 100), static_cast<char>('A' + call));
        out += bytes;
        wanted += bytes;
        const size_t k = random.Below(kKeys);
        if (random.OneIn(2) && AddPinned(store, "key" + std::to_string(k), out.size(), &values)) {
          wanted += large[k];
          pinned++;
        }
      }
      ASSERT_TRUE(outgoing.Send(pair.writer(), out, &values) != Sent::kFailed);
      EXPECT_TRUE(values.empty());
      for (size_t i = random.Below(6); i > 0; i--) {
        got += pair.Read(random.Between(1, 20'000));
        if (outgoing.bytes() != 0) ASSERT_TRUE(outgoing.Flush(pair.writer()) != Sent::kFailed);
      }
    }
    while (outgoing.bytes() != 0) {
      got += pair.Read(random.Between(1, 50'000));
      const Sent sent = outgoing.Flush(pair.writer());
      ASSERT_TRUE(sent != Sent::kFailed);
      EXPECT_EQ(sent == Sent::kAll, outgoing.bytes() == 0);
    }
    for (std::string rest = pair.Read(100'000); !rest.empty(); rest = pair.Read(100'000)) got += rest;
    EXPECT_TRUE(got == wanted) << "seed " << test::Seed() << " round " << round << ": " << pinned << " pinned";
    EXPECT_EQ(store->Stats().pinned_pages, 0);
    store->Verify();
  }
}

TEST(Outgoing, WhatDoesNotLeaveIsUnpinned) {
  TestStore store;
  store.Set("key", std::string(100'000, 'k'));
  Pair pair;
  {
    Outgoing outgoing(store.operator->());
    PinnedValues values;
    ASSERT_TRUE(AddPinned(store, "key", 5, &values));
    ASSERT_TRUE(AddPinned(store, "key", 5, &values));
    EXPECT_TRUE(outgoing.Send(pair.writer(), "12345", &values) == Sent::kSome);
    EXPECT_TRUE(outgoing.Flush(pair.writer()) == Sent::kNone);
    EXPECT_GT(outgoing.bytes(), 100'000);
    EXPECT_GT(store->Stats().pinned_pages, 0);
    outgoing.Drop();
    EXPECT_EQ(outgoing.bytes(), 0);
    EXPECT_EQ(store->Stats().pinned_pages, 0);

    ASSERT_TRUE(AddPinned(store, "key", 0, &values));
    pair.CloseReader();
    EXPECT_TRUE(outgoing.Send(pair.writer(), "", &values) == Sent::kFailed);
  }
  EXPECT_EQ(store->Stats().pinned_pages, 0);
  store->Verify();
}

}  // namespace
}  // namespace cairn

#endif  // __linux__
