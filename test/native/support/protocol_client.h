// A client of a session without a socket between them: for tests of the protocol. Its clock is moved by hand.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "process/load_table.h"
#include "protocol/service.h"
#include "protocol/session.h"
#include "store/change_bell.h"
#include "store/commit_marks.h"
#include "store/log_view.h"
#include "store/store.h"

namespace cairn::test {

// A request.
inline std::string Set(std::string_view key, std::string_view value) {
  return "set " + std::string(key) + " 0 0 " + std::to_string(value.size()) + "\r\n" + std::string(value) + "\r\n";
}

// The reply to a get of one key, without its end.
inline std::string Hit(std::string_view key, std::string_view value) {
  return "VALUE " + std::string(key) + " 0 " + std::to_string(value.size()) + "\r\n" + std::string(value) + "\r\n";
}
inline constexpr std::string_view kLoadFailed = "SERVER_ERROR the value could not be loaded\r\n";

// A store and the service over it, with a clock that stands still until it is moved. If the store has a backend, the
// service reads through it, by the loads that TestDatabase serves.
class ProtocolServer {
 public:
  explicit ProtocolServer(Service::Options options = DefaultOptions(), StoreOptions store_options = SmallStore(),
                          LoadLimits load_limits = {}) {
    Refusal refusal;
    store_ = Store::Open(store_options, &refusal);
    CHECK(store_ != nullptr);
    if (store_options.has_backend) {
      loads_ = std::make_unique<LoadTable>(store_.get(), load_limits);
      options.loads = loads_.get();
    }
    service_ = std::make_unique<Service>(store_.get(), std::move(options), now);
    bench_ = std::make_unique<Workbench>(service_.get());
  }

  static Service::Options DefaultOptions() {
    Service::Options options;
    options.version = "1.6.45";
    options.cairn_version = "0.1.0";
    options.test_commands = true;
    return options;
  }
  static StoreOptions SmallStore() {
    StoreOptions options;
    options.memory_bytes = uint64_t{16} << 20;
    options.value_bytes_max = uint64_t{1} << 20;
    options.shard_count = 2;
    // Fixed, so that two servers place keys alike and give the same versions.
    for (size_t i = 0; i < options.secrets.words.size(); i++) options.secrets.words[i] = 0x9e3779b97f4a7c15 * (i + 1);
    return options;
  }

  // The same, with rings for a log.
  static StoreOptions LoggedStore(uint32_t shard_count) {
    StoreOptions options = SmallStore();
    options.shard_count = shard_count;
    options.ring_bytes = kRingBytesMin;
    return options;
  }

  Store* store() { return store_.get(); }
  Service* service() { return service_.get(); }
  Workbench* bench() { return bench_.get(); }
  LoadTable* loads() { return loads_.get(); }

  Now now{1'000'000, 1'700'000'000'000};

  void Pass(uint64_t ms) {
    now.boot_ms += ms;
    now.wall_ms += static_cast<int64_t>(ms);
  }

 private:
  std::unique_ptr<Store> store_;
  std::unique_ptr<LoadTable> loads_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Workbench> bench_;
};

// Nothing more goes into the ring of the only shard, not even the deletion of a key of one character.
inline void FillRing(ProtocolServer* server) {
  for (const size_t bytes : {size_t{1000}, size_t{0}}) {
    const std::string value(bytes, 'f');
    Request set;
    set.verb = Verb::kSet;
    set.key = "f";
    set.value = value;
    Outcome outcome;
    do {
      outcome = Outcome();
      server->store()->Execute(set, server->now, nullptr, &outcome);
    } while (outcome.status == Status::kStored);
    CHECK(outcome.status == Status::kLogFull);
  }
}

// A log that takes what is in the rings of a store when it is told to, and is in the state that it is told to be in.
class TestLog final : public LogView, public ChangeBell {
 public:
  explicit TestLog(uint32_t shard_count) : marks_(shard_count), shard_count_(shard_count) {
    marks_.SetBell(this);
    marks_.Activate(0);
  }

  Health health() const override { return health_; }
  CommitMarks* marks() override { return &marks_; }
  uint32_t progress() const override { return progress_; }
  std::shared_ptr<LogWatch> Watch(std::shared_ptr<Waker> waker) override {
    return std::make_shared<CountingWatch>(this, std::move(waker));
  }
  void Unwatch(const LogWatch*) override {}
  Numbers ReadNumbers() const override { return numbers; }
  void ReadMetrics(double* out, size_t count) const override {
    CHECK(count == metrics.size());
    std::copy(metrics.begin(), metrics.end(), out);
  }
  void Ring() override { rings++; }

  // Everything that was recorded so far is committed.
  void Commit(Store* store) {
    std::vector<char> bytes(size_t{4} << 20);
    for (uint32_t shard = 0; shard < shard_count_; shard++) {
      RingDrain drain;
      do {
        drain = store->DrainRing(shard, bytes.data(), bytes.size());
        CHECK(drain.bytes_needed == 0 || drain.bytes != 0);
      } while (drain.bytes_needed != 0);
      store->CommitRing(shard);
      marks_.Advance(shard, drain.version);
    }
    progress_++;
  }
  void SetHealth(Health health) {
    health_ = health;
    progress_++;
  }

  int arms = 0;
  int rings = 0;
  void (*on_arm)() = nullptr;
  Numbers numbers;
  std::vector<double> metrics;

 private:
  CommitMarks marks_;
  const uint32_t shard_count_;
  struct CountingWatch final : LogWatch {
    CountingWatch(TestLog* its_log, std::shared_ptr<Waker> waker) : LogWatch(std::move(waker)), log(its_log) {}
    void Arm() override {
      log->arms++;
      if (log->on_arm != nullptr) log->on_arm();
    }
    TestLog* const log;
  };

  Health health_ = Health::kRunning;
  uint32_t progress_ = 0;
};

// The rows behind a server, and the loader that reads them. Only a key whose name begins with "bad" fails to load.
class TestDatabase {
 public:
  explicit TestDatabase(ProtocolServer* server)
      : server_(server), loader_(std::make_unique<Loader>(server->loads(), std::make_shared<NoWaker>())) {}

  // Serves the loads that are queued, in one round trip. False: there was none.
  bool Serve() {
    std::vector<LoadTask> tasks(2 * kPrefetchKeysMax);
    tasks.resize(loader_->Drain(tasks.data(), tasks.size()));
    std::vector<LoadResult> results;
    for (const LoadTask& task : tasks) {
      LoadResult result;
      result.id = task.id;
      const auto row = rows.find(std::string(task.key));
      result.kind = row == rows.end() ? LoadResult::Kind::kAbsent : LoadResult::Kind::kValue;
      if (task.key.starts_with("bad")) result.kind = LoadResult::Kind::kFailed;
      if (row != rows.end()) result.value = row->second;
      results.push_back(result);
    }
    loader_->End(results.data(), results.size(), server_->now);
    if (!tasks.empty()) round_trips++;
    return !tasks.empty();
  }

  std::map<std::string, std::string> rows;
  int round_trips = 0;

 private:
  struct NoWaker final : Waker {
    void Wake() override {}
  };
  ProtocolServer* const server_;
  std::unique_ptr<Loader> loader_;
};

class ProtocolClient {
 public:
  explicit ProtocolClient(ProtocolServer* server)
      : server_(server),
        session_(std::make_unique<Session>(
            server->bench(), std::make_shared<ConnectionNames>(ConnectionNames{"tcp:test", "tcp:here"}), server->now)) {
  }

  // Feeds the bytes and returns the reply, as a front with nothing in the way does: what is full goes on at once.
  std::string Send(std::string_view bytes) {
    std::string reply = FeedOnce(bytes);
    while (goes_on()) reply += ContinueOnce();
    return reply;
  }
  // There is more to execute, and nothing to wait for but output that leaves at once.
  bool goes_on() const { return next == Session::Next::kFlush || next == Session::Next::kYield; }
  std::string FeedOnce(std::string_view bytes) {
    // A copy of exactly these bytes: a sanitizer sees a parser that looks past the end of a chunk.
    std::unique_ptr<char[]> chunk(new char[bytes.size()]);
    bytes.copy(chunk.get(), bytes.size());
    ByteBuffer out;
    server_->bench()->observer()->BeginWakeUp();
    next = session_->Feed({chunk.get(), bytes.size()}, backlog, server_->now, &out);
    return std::string(out.view());
  }
  std::string ContinueOnce() {
    ByteBuffer out;
    server_->bench()->observer()->BeginWakeUp();
    next = session_->Continue(backlog, server_->now, &out);
    return std::string(out.view());
  }
  std::string End() {
    ByteBuffer out;
    next = session_->End(backlog, server_->now, &out);
    return std::string(out.view());
  }
  std::string SendInPieces(std::string_view bytes, size_t piece_bytes) {
    std::string reply;
    for (size_t i = 0; i < bytes.size() && next != Session::Next::kClose; i += piece_bytes) {
      reply += Send(bytes.substr(i, piece_bytes));
    }
    return reply;
  }

  // As a front that lets the system write to the places of a value. `landed`: how many bytes went there.
  std::string SendToPlaces(std::string_view bytes, size_t piece_bytes, size_t* landed) {
    std::string reply;
    while (!bytes.empty()) {
      std::string_view piece = bytes.substr(0, piece_bytes);
      bytes.remove_prefix(piece.size());
      std::span<char> places[64];
      const size_t count = session_->Landing(places, std::size(places));
      size_t taken = 0;
      for (size_t i = 0; i < count; i++) {
        const std::string_view part = piece.substr(0, places[i].size());
        part.copy(places[i].data(), part.size());
        piece.remove_prefix(part.size());
        taken += part.size();
      }
      if (count != 0) session_->Landed(taken, server_->now);
      *landed += taken;
      reply += Send(piece);
    }
    return reply;
  }

  void Disconnect() { session_.reset(); }
  Session* session() { return session_.get(); }

  Session::Next next = Session::Next::kRead;
  size_t backlog = 0;

 private:
  ProtocolServer* server_;
  std::unique_ptr<Session> session_;
};

}  // namespace cairn::test
