// The classic text protocol: lines, and data blocks behind those of the storage commands.
//
//   text_dialect.cc   lines, and commands of one line
//   text_keys.cc      get-type commands
//   text_dump.cc      lists of entries
//   text_watch.cc     watch
//   text_scope.cc     what lines are about
//
// Commands with a data block go through storage.h, and so do those of the meta protocol, whose lines are found here and
// read and executed by meta_commands.h.
//
// Keys of consecutive get-type commands are looked up as a group; any other command ends the group, so that the order
// holds. A group never outlives the call, because its keys are in the bytes of that call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/clock.h"
#include "protocol/dialect.h"
#include "protocol/meta_commands.h"
#include "protocol/reply_gate.h"
#include "protocol/request.h"
#include "protocol/response.h"
#include "protocol/service.h"
#include "protocol/storage.h"
#include "protocol/stream.h"
#include "protocol/text_compose.h"

namespace cairn {

class TextDialect final : public Dialect, private StorageReplies {
 public:
  TextDialect(Workbench* bench, Stream* stream, ReplyGate* gate, const Now* now);

  Progress Run(const char* at, const char* end) override;
  void Look(const char* at, const char* end, Scope* scope) override;
  bool MayGrow(std::string_view unfinished) const override;
  Why FinishBody(LargeBody* large) override { return storage_.FinishBody(large); }
  void LoseBody(const LargeBody& large, uint64_t left_bytes) override { storage_.LoseBody(large, left_bytes); }
  void FinishSwallow() override { storage_.FinishSwallow(); }

  // Of a client that watches.
  Watcher* watcher() const { return watcher_.get(); }

 private:
  // Executes one line from `at` on, and for storage commands its block.
  Progress RunLine(const char* at, const char* end);
  Progress RunCommand(const TextRequest& line, const char* at, const char* next);
  Why RunKeyed(const TextRequest& line);
  Why RunWords(const TextRequest& line);
  Why RunFlushAll(const TextRequest& line);
  Why RunRefresh(bool no_reply);
  Why RunDetail(std::string_view word);

  // ---- text_keys.cc ----

  // The reply to one key.
  enum class Told : uint8_t {
    kYes,          // sent, held, or a miss
    kRefused,      // an error line stands in its place
    kNoRoom,       // none: the log has no room for the touch
    kNotResident,  // none: the value is not in memory
  };
  // Puts the keys from `at` on into the group, and looks the group up each time it is full.
  Progress RunKeys(const char* at, const char* line_end, const char* next);
  // Looks the group up and replies. kDone: returns `done`. Otherwise kFull or kParked, with the key to continue at.
  Progress FlushGroup(Progress done);
  Progress StopGroup(size_t index, Why why);
  CommandClass ClassAt(size_t index) const;
  // Not inlined: one of many keys is sampled, or logged.
  [[gnu::noinline, gnu::cold]] void Sample(size_t index);
  [[gnu::noinline, gnu::cold]] void LogLarge(size_t index);
  [[gnu::noinline, gnu::cold]] void LogSlow(size_t count);
  // The first `count` keys of the group are answered.
  void LogIfSlow(size_t count) {
    if (count != 0 && bench_->observer()->IsSlow()) [[unlikely]]
      LogSlow(count);
  }
  // Begins the loads of the keys in the rest of a line that is parked.
  void PrefetchLine(const char* at, const char* line_end);
  Told AppendEntry(const Request& request, Outcome* outcome, bool with_cas);
  Told AppendPinned(const ValueLine& line, Outcome* outcome);
  Told FetchIntoReply(const Request& request, Outcome* outcome, bool with_cas);
  Told Tell(size_t begin, const Request& request, const Outcome& outcome);

  Progress RunStorage(const TextRequest& line, const char* at, const char* block, const char* end);

  // ---- text_dump.cc ----

  struct Dump;
  // Ends the walk.
  struct DumpDeleter {
    void operator()(Dump* dump) const;
  };
  Why RunCrawler(const TextRequest& line);
  Why RunCacheDump(std::string_view words);
  Why RunSizes();
  void BeginDump();
  Why ContinueDump();
  void AppendDumped(std::string_view key);
  Why RunScan(std::string_view words);
  using LineWriter = void(std::string_view key, const KeyDisplay& keys, const Outcome& outcome, const Now& now,
                          ByteBuffer* out);
  // Appends the line of an entry that was looked up just now. False: it has none.
  bool AppendLine(std::string_view key, const Outcome& outcome, LineWriter* write);

  // ---- text_scope.cc ----

  // A block of this length follows the line.
  void LookAtBlock(uint32_t body_bytes, size_t bytes_there, Scope* scope);

  // ---- text_watch.cc ----

  Why RunWatch(const TextRequest& line);

  // ---- replies ----

  void Append(Reply reply, bool no_reply = false) {
    if (!no_reply) gate_->sink()->Append(TextOf(reply));
  }
  void AppendOutcome(const Request& request, const Outcome& outcome, bool no_reply) override;
  // The store has not executed a request, kLogFull or kNotResident: parks or refuses it.
  Why ParkOrRefuse(std::string_view key, Status status, bool no_reply);
  // The reply to a refused request, which it counts.
  Reply Refusal() { return gate_->CountRefusal(); }

  Service* const service_;
  Store* const store_;
  Workbench* const bench_;
  KeyGroup* const group_;
  Stream* const stream_;
  ReplyGate* const gate_;
  const Now* const now_;

  // True: the first key of the group is not the first one of its command.
  bool group_begins_inside_ = false;
  // The list that the line at the beginning of the bytes has begun.
  std::unique_ptr<Dump, DumpDeleter> dump_;

  std::unique_ptr<Watcher> watcher_;

  Storage storage_;
  MetaCommands meta_;
};

}  // namespace cairn
