// Stream and ReplyGate under a dialect that is not text: requests have lengths, not lines, and blocks have no end. What
// is shown: a dialect needs nothing but its own file, and bytes that are cut anywhere are the same bytes.
//
//   e N bytes   answers the bytes
//   s N key M   receives M bytes straight into the store, as the value of `key`; answers S, or X if they were lost
//   w M         throws M bytes away; answers W
//   p N key     waits for the load of a key; answers P, or F if it cannot be loaded
//   q           ends
//
// N is one byte, M two.

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/dialect.h"
#include "protocol/reply_gate.h"
#include "protocol/stream.h"
#include "protocol/test_loads.h"
#include "support/protocol_client.h"
#include "test.h"

namespace cairn {
namespace {

class LengthDialect final : public Dialect {
 public:
  LengthDialect(Store* store, Stream* stream, ReplyGate* gate, TestLoads* loads, const Now* now)
      : store_(store), stream_(stream), gate_(gate), loads_(loads), now_(now) {}

  Progress Run(const char* at, const char* end) override {
    Progress progress{at, Why::kDone};
    while (progress.at != end && progress.why == Why::kDone && stream_->is_at_request()) {
      if (gate_->IsFull()) return {progress.at, Why::kFull};
      gate_->CountRequest();
      progress = RunOne(progress.at, end);
    }
    return progress;
  }
  // Asked only if a request stands aside, and none does.
  void Look(const char*, const char*, Scope*) override { CHECK(false); }
  bool MayGrow(std::string_view) const override { return false; }
  Why FinishBody(LargeBody* large) override {
    Outcome outcome;
    store_->Link(&large->body, large->request, *now_, &outcome);
    gate_->sink()->Append("S");
    return Why::kDone;
  }
  void LoseBody(const LargeBody&, uint64_t left_bytes) override {
    reply_ = "X";
    stream_->Swallow(left_bytes);
  }
  void FinishSwallow() override { gate_->sink()->Append(reply_); }

 private:
  static size_t Number(const char* at) {
    return static_cast<unsigned char>(at[0]) + size_t{256} * static_cast<unsigned char>(at[1]);
  }
  Progress Need(const char* at, size_t bytes) {
    stream_->Need(bytes);
    return {at, Why::kMore};
  }
  Progress RunOne(const char* at, const char* end) {
    const size_t there = static_cast<size_t>(end - at);
    if (at[0] == 'q') return {at + 1, Why::kClosing};
    if (there < 2) return Need(at, 2);
    const size_t length = static_cast<unsigned char>(at[1]);
    if (at[0] == 'w') {
      if (there < 3) return Need(at, 3);
      reply_ = "W";
      stream_->Swallow(Number(at + 1));
      return {at + 3, Why::kDone};
    }
    const size_t head_bytes = 2 + length + (at[0] == 's' ? 2 : 0);
    if (there < head_bytes) return Need(at, head_bytes);
    const std::string_view text(at + 2, length);
    const char* after = at + head_bytes;
    switch (at[0]) {
      case 'e':
        gate_->sink()->Append(text);
        return {after, Why::kDone};
      case 's': {
        auto large = std::make_unique<LargeBody>();
        std::memcpy(large->key, text.data(), text.size());
        large->request.verb = Verb::kSet;
        large->request.key = {large->key, text.size()};
        CHECK(store_->Reserve(large->request, Number(after - 2), *now_, &large->body) == Status::kStored);
        stream_->Receive(std::move(large));
        return {after, Why::kDone};
      }
      default:
        switch (gate_->AwaitLoad(loads_, text, *now_)) {
          case ReadThrough::Load::kPending:
            return {at, Why::kParked};
          case ReadThrough::Load::kLoaded:
            gate_->sink()->Append("P");
            break;
          case ReadThrough::Load::kFailed:
          case ReadThrough::Load::kUnknown:
            gate_->sink()->Append("F");
        }
        gate_->EndLoad();
        return {after, Why::kDone};
    }
  }

  Store* const store_;
  Stream* const stream_;
  ReplyGate* const gate_;
  TestLoads* const loads_;
  const Now* const now_;
  std::string_view reply_;
};

std::string Number(size_t number) { return {static_cast<char>(number % 256), static_cast<char>(number / 256)}; }
std::string Sized(char name, std::string_view text) {
  return std::string(1, name) + static_cast<char>(text.size()) + std::string(text);
}

struct LengthClient {
  explicit LengthClient(test::ProtocolServer* its_server)
      : server(its_server),
        gate(server->bench(), Ack::kMemory),
        stream(server->store(), &gate, &server->now),
        dialect(server->store(), &stream, &gate, server->service()->test_loads(), &server->now) {
    stream.SetDialect(&dialect);
  }
  std::string Feed(std::string_view bytes) {
    std::unique_ptr<char[]> chunk(new char[bytes.size()]);
    bytes.copy(chunk.get(), bytes.size());
    ByteBuffer out;
    CHECK(gate.BeginCall(0, &out));
    stream.Feed({chunk.get(), bytes.size()});
    gate.EndCall(true);
    return std::string(out.view());
  }
  std::string Resume() {
    ByteBuffer out;
    CHECK(gate.BeginCall(0, &out));
    stream.Resume();
    gate.EndCall(true);
    return std::string(out.view());
  }

  test::ProtocolServer* server;
  ReplyGate gate;
  Stream stream;
  LengthDialect dialect;
};

std::string ValueOf(Store* store, std::string_view key, const Now& now) {
  std::vector<char> room(100'000);
  Request get;
  get.verb = Verb::kGet;
  get.key = key;
  Scratch scratch{room.data(), room.size(), 0};
  Outcome outcome;
  store->Execute(get, now, &scratch, &outcome);
  if (outcome.status != Status::kFound || outcome.pin.ref != 0) return "";
  return {room.data() + outcome.value_offset, outcome.value_bytes};
}

TEST(ProtocolStream, RequestsOfKnownLengthAreTheSameHoweverTheyAreCut) {
  const std::string value(3000, 'v');
  const std::string bytes = Sized('e', "hello") + Sized('s', "key") + Number(value.size()) + value + 'w' + Number(700) +
                            std::string(700, 'e') + Sized('e', "") + Sized('e', "bye") + "q" + Sized('e', "never");
  const std::string replies = "helloSWbye";
  for (size_t cut = 0; cut <= bytes.size(); cut++) {
    test::ProtocolServer server;
    LengthClient client(&server);
    std::string got = client.Feed(std::string_view(bytes).substr(0, cut));
    got += client.Feed(std::string_view(bytes).substr(cut));
    ASSERT_EQ(got, replies) << "cut at " << cut;
    ASSERT_TRUE(client.stream.state() == Stream::State::kClosing);
    ASSERT_EQ(ValueOf(server.store(), "key", server.now), value);
  }
  test::ProtocolServer server;
  LengthClient client(&server);
  std::string got;
  for (const char byte : bytes) got += client.Feed({&byte, 1});
  EXPECT_EQ(got, replies);
}

TEST(ProtocolStream, ARequestThatIsParkedIsExecutedAgainWhenItsLoadHasEnded) {
  test::ProtocolServer server;
  TestLoads* loads = server.service()->test_loads();
  LengthClient client(&server);
  EXPECT_EQ(client.Feed(Sized('e', "a") + Sized('p', "key") + Sized('e', "b")), "a");
  EXPECT_TRUE(client.stream.state() == Stream::State::kParked);
  EXPECT_EQ(client.Feed(Sized('e', "c")), "") << "nothing behind it is executed";
  EXPECT_EQ(client.Resume(), "") << "the load has not ended";
  EXPECT_TRUE(loads->Resolve("key", ""));
  EXPECT_EQ(client.Resume(), "Pbc");
  EXPECT_EQ(loads->size(), 0);
  EXPECT_TRUE(client.stream.state() == Stream::State::kOpen);
}

TEST(ProtocolStream, ALoadThatCannotBeginIsRefusedAndOneThatIsWaitedForIsLeft) {
  test::ProtocolServer server;
  TestLoads* loads = server.service()->test_loads();
  {
    LengthClient client(&server);
    EXPECT_EQ(client.Feed(Sized('p', "key")), "");
    EXPECT_EQ(loads->size(), 1);
  }
  EXPECT_EQ(loads->size(), 0);
  for (size_t i = 0; i < kTestLoadsMax; i++) ASSERT_NE(loads->Begin(std::to_string(i), server.now), uint64_t{0});
  LengthClient client(&server);
  EXPECT_EQ(client.Feed(Sized('p', "key") + Sized('e', "on")), "Fon");
}

TEST(ProtocolStream, ABlockThatIsNeverCompleteLeavesNothing) {
  test::ProtocolServer server;
  const uint64_t before = server.store()->Stats().charged_bytes;
  {
    LengthClient client(&server);
    EXPECT_EQ(client.Feed(Sized('s', "key") + Number(60'000) + "some"), "");
    EXPECT_GT(server.store()->Stats().charged_bytes, before);
  }
  EXPECT_EQ(server.store()->Stats().charged_bytes, before);
}

TEST(ProtocolStream, WhatIsNeitherALineNorOfAKnownLengthEndsTheSession) {
  test::ProtocolServer server;
  ReplyGate gate(server.bench(), Ack::kMemory);
  Stream stream(server.store(), &gate, &server.now);
  struct Endless final : Dialect {
    Progress Run(const char* at, const char*) override { return {at, Why::kMore}; }
    void Look(const char*, const char*, Scope*) override { CHECK(false); }
    bool MayGrow(std::string_view unfinished) const override { return unfinished.size() <= 10; }
    Why FinishBody(LargeBody*) override { return Why::kDone; }
    void LoseBody(const LargeBody&, uint64_t) override {}
    void FinishSwallow() override {}
  } endless;
  stream.SetDialect(&endless);
  ByteBuffer out;
  CHECK(gate.BeginCall(0, &out));
  stream.Feed("0123456789");
  EXPECT_TRUE(stream.state() == Stream::State::kOpen);
  EXPECT_EQ(stream.kept_bytes(), 10);
  stream.Feed("0");
  EXPECT_TRUE(stream.state() == Stream::State::kClosing);
  EXPECT_EQ(stream.kept_bytes(), 0);
}

}  // namespace
}  // namespace cairn
