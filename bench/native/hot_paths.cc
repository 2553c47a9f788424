// The hot paths of a store and of the port's sessions, one at a time, for a tool that counts instructions: `npm run bench -- instructions`.
//
//   hot_paths PATH [--operations=N]      performs N operations (default 20,000) of the path; `hot_paths --list` names
//   all
//
// Everything that could differ between two runs is fixed: the secrets of the table hash, the number of shards, the
// keys, the clock. CountedOperations() contains the operations and nothing else, so that the tool can leave out the
// set-up: `valgrind --tool=callgrind --toggle-collect=CountedOperations`. Where records are kept, the rings are emptied
// between its calls, by code that is not counted.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/byte_buffer.h"
#include "protocol/service.h"
#include "protocol/session.h"
#include "store/store.h"

namespace cairn {
namespace {

constexpr uint64_t kEntries = 20'000;
constexpr size_t kKeyBytes = 20;
constexpr size_t kValueBytes = 100;
// Operations between two emptyings of the rings: their records fill about a third of the smallest ring.
constexpr size_t kOperationsPerDrain = 64;

struct Path {
  const char* name;
  bool logged;       // with change rings
  bool full;         // the store holds kEntries and no more
  bool fresh;        // keys that the store has never seen
  const char* verb;  // plain-get, plain-set, get, set, many-get; of a session: port-get, port-set, port-pipeline
};

constexpr Path kPaths[] = {
    {"get", false, false, false, "plain-get"},
    {"get, by request", false, false, false, "get"},
    {"get, 64 at a time", false, false, false, "many-get"},
    {"set, new key", false, false, true, "plain-set"},
    {"set, overwrite", false, false, false, "plain-set"},
    {"set, new key evicts", false, true, true, "plain-set"},
    {"set, overwrite, by request", false, false, false, "set"},
    {"set, new key evicts, by request", false, true, true, "set"},
    {"get, logged", true, false, false, "plain-get"},
    {"set, new key, logged", true, false, true, "plain-set"},
    {"set, overwrite, logged", true, false, false, "plain-set"},
    {"set, new key evicts, logged", true, true, true, "plain-set"},
    {"port: get", false, false, false, "port-get"},
    {"port: get, 64 in a pipeline", false, false, false, "port-pipeline"},
    {"port: set, overwrite", false, false, false, "port-set"},
};

// The key of an entry: text in which neighbours in number differ in many places.
std::string KeyOf(uint64_t number) {
  static const char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::string key(kKeyBytes, 'k');
  uint64_t bits = number * 0x9e3779b97f4a7c15;  // odd: no two numbers alike
  for (size_t i = 0; i < 13; i++) {
    key[i] = kDigits[bits % 36];
    bits /= 36;
  }
  return key;
}

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "hot_paths: %s\n", what);
  std::exit(1);
}

struct Work {
  Store* store;
  std::string_view verb;
  const std::string* keys;
  size_t count;
  std::string_view value;
  char* room;
  size_t capacity;
  Request* requests;  // of a batch
  Outcome* outcomes;
  Session* session = nullptr;  // of the port
  Workbench* bench = nullptr;
  const std::string* packets = nullptr;  // what the client sends
  size_t packet_count = 0;
  size_t reply_bytes = 0;  // to one request
  ByteBuffer* out = nullptr;
  uint64_t done = 0;
};

}  // namespace

// Outside the namespaces above so that a tool finds it by name.
extern "C" [[gnu::noinline]] void CountedOperations(Work* work) {
  uint64_t done = 0;
  Store* store = work->store;
  if (work->session != nullptr) {
    for (size_t i = 0; i < work->packet_count; i++) {
      work->out->Clear();
      work->bench->observer()->BeginWakeUp();
      Session::Next next = work->session->Feed(work->packets[i], 0, Now{}, work->out);
      while (next == Session::Next::kYield) next = work->session->Continue(0, Now{}, work->out);
      done += work->out->size() / work->reply_bytes;
    }
  } else if (work->verb == "plain-get") {
    PlainValue value;
    for (size_t i = 0; i < work->count; i++) {
      done += store->GetPlain(work->keys[i], Now{}, work->room, work->capacity, &value) == Status::kFound;
    }
  } else if (work->verb == "plain-set") {
    for (size_t i = 0; i < work->count; i++) {
      done += store->SetPlain(work->keys[i], work->value, Codec::kRaw, kNeverExpires, Now{}) == Status::kStored;
    }
  } else if (work->verb == "many-get") {
    for (size_t i = 0; i < work->count; i++) work->requests[i].key = work->keys[i];
    Scratch scratch{work->room, work->capacity, 0};
    store->ExecuteMany(work->requests, work->count, Now{}, &scratch, work->outcomes);
    for (size_t i = 0; i < work->count; i++) done += work->outcomes[i].status == Status::kFound;
  } else {
    Request request;
    request.verb = work->verb == "get" ? Verb::kGet : Verb::kSet;
    request.value = work->value;
    Outcome outcome;
    for (size_t i = 0; i < work->count; i++) {
      Scratch scratch{work->room, work->capacity, 0};
      request.key = work->keys[i];
      store->Execute(request, Now{}, &scratch, &outcome);
      done += outcome.status == Status::kFound || outcome.status == Status::kStored;
    }
  }
  work->done = done;
}

namespace {

void EmptyRings(Store* store, std::vector<char>* bytes) {
  if (!store->has_rings()) return;
  for (uint32_t shard = 0; shard < store->shard_count(); shard++) {
    while (store->DrainRing(shard, bytes->data(), bytes->size()).bytes != 0) {
    }
    store->CommitRing(shard);
  }
}

// A client of the port, for the paths of a session.
struct Client {
  explicit Client(Store* store) : service(store, Service::Options{}, Now{}), bench(&service) {
    session = std::make_unique<Session>(&bench, std::make_shared<ConnectionNames>(), Now{});
  }
  Service service;
  Workbench bench;
  std::unique_ptr<Session> session;
  ByteBuffer out;
  std::vector<std::string> packets;
  size_t reply_bytes = 0;

  // One packet for each request, or one for all of them.
  void Prepare(std::string_view verb, const std::vector<std::string>& keys, const std::string& value) {
    const bool is_set = verb == "port-set";
    const bool is_pipeline = verb == "port-pipeline";
    const std::string bytes = std::to_string(value.size());
    packets.assign(is_pipeline ? 1 : keys.size(), {});
    for (size_t i = 0; i < keys.size(); i++) {
      packets[is_pipeline ? 0 : i] +=
          is_set ? "set " + keys[i] + " 0 0 " + bytes + "\r\n" + value + "\r\n" : "get " + keys[i] + "\r\n";
    }
    const size_t found_bytes =
        ("VALUE " + keys[0] + " 0 " + bytes + "\r\n").size() + value.size() + std::string_view("\r\nEND\r\n").size();
    reply_bytes = is_set ? std::string_view("STORED\r\n").size() : found_bytes;
  }
};

void Run(const Path& path, size_t operations) {
  StoreOptions options;
  options.memory_bytes = uint64_t{64} << 20;
  options.entries_max = path.full ? kEntries : 0;
  options.shard_count = 4;
  options.ring_bytes = path.logged ? uint64_t{4} << 20 : 0;
  for (size_t i = 0; i < options.secrets.words.size(); i++) options.secrets.words[i] = 0x9e3779b97f4a7c15 * (i + 1);
  Refusal refusal;
  const std::unique_ptr<Store> store = Store::Open(options, &refusal);
  if (store == nullptr) Fail(refusal.ToString().c_str());

  const std::string value(kValueBytes, 'v');
  std::vector<char> drained(size_t{1} << 20);
  // A full store is filled twice over, so that every shard is full.
  uint64_t next = 0;
  for (; next < (path.full ? 2 : 1) * kEntries; next++) {
    if (store->SetPlain(KeyOf(next), value, Codec::kRaw, kNeverExpires, Now{}) != Status::kStored) Fail("not filled");
    if (next % kOperationsPerDrain == 0) EmptyRings(store.get(), &drained);
  }

  std::vector<std::string> keys(kOperationsPerDrain);
  std::vector<char> room(kOperationsPerDrain * (kValueBytes + 8));
  std::vector<Request> requests(kOperationsPerDrain);
  std::vector<Outcome> outcomes(kOperationsPerDrain);
  const std::unique_ptr<Client> client =
      std::string_view(path.verb).starts_with("port") ? std::make_unique<Client>(store.get()) : nullptr;
  uint64_t state = 1;
  for (size_t done = 0; done < operations; done += kOperationsPerDrain) {
    for (std::string& key : keys) {
      state = state * 6364136223846793005 + 1442695040888963407;  // D. Knuth's MMIX generator
      key = KeyOf(path.fresh ? next++ : (state >> 33) % kEntries);
    }
    EmptyRings(store.get(), &drained);
    Work work{store.get(), path.verb,   keys.data(),     keys.size(),    value,
              room.data(), room.size(), requests.data(), outcomes.data()};
    if (client != nullptr) {
      client->Prepare(path.verb, keys, value);
      work.session = client->session.get();
      work.bench = &client->bench;
      work.packets = client->packets.data();
      work.packet_count = client->packets.size();
      work.reply_bytes = client->reply_bytes;
      work.out = &client->out;
    }
    CountedOperations(&work);
    if (work.done != keys.size()) Fail("an operation was not answered as it should be");
  }
}

int Main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--list") {
    for (const Path& path : kPaths) std::printf("%s\n", path.name);
    return 0;
  }
  size_t operations = 20'000;
  constexpr std::string_view kOption = "--operations=";
  if (argc > 2) {
    const std::string_view option = argv[2];
    if (!option.starts_with(kOption)) Fail("expected --operations=N");
    const char* end = option.data() + option.size();
    if (std::from_chars(option.data() + kOption.size(), end, operations).ptr != end) Fail("expected --operations=N");
  }
  for (const Path& path : kPaths) {
    if (name != path.name) continue;
    operations = std::max(operations / kOperationsPerDrain, size_t{1}) * kOperationsPerDrain;
    Run(path, operations);
    std::printf("%zu operations\n", operations);
    return 0;
  }
  Fail("expected a path; --list names them");
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
