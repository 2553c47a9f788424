// refresh_certs: sessions that wait until the server's owner has read the certificates again.

#include <memory>
#include <string>

#include "base/waker.h"
#include "protocol/certificate_refresh.h"
#include "test.h"

namespace cairn {
namespace {

using Load = ReadThrough::Load;

struct CountingWaker final : Waker {
  void Wake() override { count++; }
  int count = 0;
};

constexpr Now kNow = {1000, 1'700'000'000'000};

struct CertificatesTest {
  CertificatesTest() {
    refresh.SetOwner(owner);
    refresh.AddWaker(sessions);
  }
  ~CertificatesTest() { refresh.RemoveWaker(sessions.get()); }
  uint64_t Ask() { return refresh.Begin(CertificateRefresh::kKey, kNow); }

  std::shared_ptr<CountingWaker> owner = std::make_shared<CountingWaker>();
  std::shared_ptr<CountingWaker> sessions = std::make_shared<CountingWaker>();
  CertificateRefresh refresh;
};

TEST(Certificates, TheOwnerIsWokenAndTheSessionGetsItsLine) {
  CertificatesTest world;
  EXPECT_FALSE(world.refresh.Take());
  const uint64_t load = world.Ask();
  EXPECT_NE(load, 0u);
  EXPECT_EQ(world.owner->count, 1);
  EXPECT_EQ(world.refresh.Poll(load), Load::kPending);
  EXPECT_TRUE(world.refresh.Take());
  EXPECT_FALSE(world.refresh.Take());
  EXPECT_EQ(world.refresh.Poll(load), Load::kPending);
  world.refresh.Answer("OK");
  EXPECT_EQ(world.sessions->count, 1);
  EXPECT_EQ(world.refresh.Poll(load), Load::kLoaded);
  EXPECT_EQ(world.refresh.line(), "OK");
}

TEST(Certificates, SessionsThatAskBeforeAReadingShareIt) {
  CertificatesTest world;
  const uint64_t first = world.Ask();
  const uint64_t second = world.Ask();
  EXPECT_TRUE(world.refresh.Take());
  world.refresh.Answer("OK");
  EXPECT_EQ(world.refresh.Poll(first), Load::kLoaded);
  EXPECT_EQ(world.refresh.Poll(second), Load::kLoaded);
  EXPECT_FALSE(world.refresh.Take());
}

TEST(Certificates, ASessionThatAsksDuringAReadingWaitsForTheNext) {
  CertificatesTest world;
  static_cast<void>(world.Ask());
  EXPECT_TRUE(world.refresh.Take());
  const uint64_t late = world.Ask();
  world.refresh.Answer("OK");
  EXPECT_EQ(world.refresh.Poll(late), Load::kPending);
  EXPECT_TRUE(world.refresh.Take());
  world.refresh.Answer("Error");
  EXPECT_EQ(world.refresh.Poll(late), Load::kLoaded);
  EXPECT_EQ(world.refresh.line(), "Error");
}

}  // namespace
}  // namespace cairn
