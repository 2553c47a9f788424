// The meta protocol: mg, ms, md, ma and me. (mn is a word like `version`.) Their lines stand among those of the text
// protocol, which finds them; meta_parse.h reads them, meta_compose.h writes the replies.
//
// A reply that q hides is an empty one: what stands behind it, such as that of mn, waits as if it were there. So a
// client that hears nothing before MN knows that all that it asked for is done, at the level of its listener.
//
// Not thread-safe: it is its session's.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "protocol/dialect.h"
#include "protocol/meta_parse.h"
#include "protocol/reply_gate.h"
#include "protocol/service.h"
#include "protocol/storage.h"
#include "store/request.h"
#include "store/store.h"

namespace cairn {

class MetaCommands final : private StorageReplies {
 public:
  MetaCommands(Workbench* bench, ReplyGate* gate, const Now* now, Storage* storage)
      : bench_(bench), store_(bench->service()->store()), gate_(gate), now_(now), storage_(storage) {}

  // Executes the line at `at`, which ends before `next`, and for ms its block. REQUIRES: a line of Shape::kMeta.
  Progress Run(const TextRequest& text, const char* at, const char* next, const char* end);

 private:
  // A line that is right, and what the store is asked for.
  struct Job {
    explicit Job(const MetaLine& of) : line(of) { request.meta = &options; }
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;

    const MetaLine& line;
    MetaOptions options;
    Request request;
  };

  // A line without a block.
  Why RunLine(const MetaLine& line);
  Why RunGet(const MetaLine& line);
  Why RunDelete(const MetaLine& line);
  Why RunArithmetic(const MetaLine& line);
  Why RunDebug(const MetaLine& line);
  Progress RunSet(const MetaLine& line, const char* at, const char* next, const char* end);

  // The request that the line of an ms makes.
  void FillSet(const MetaLine& line, Request* request, MetaOptions* options) const;
  // StorageReplies: of ms.
  void AppendOutcome(const Request& request, const Outcome& outcome, bool no_reply) override;
  void Keep(Request* request) override;

  // Executes a request that changes something. kDone: it has its outcome; otherwise it waits, or has been refused.
  enum class Done : uint8_t { kYes, kRefused, kParked };
  Done Change(const Job& job, Outcome* outcome);
  Done ParkOrRefuse(const Request& request, Status status);
  // Executes an mg. The value of a hit is at *value, which may be in the sink's room.
  Done Fetch(const Job& job, Outcome* outcome, const char** value);
  void HearGet(const Job& job, const Outcome& outcome) const;
  void AppendHit(const Job& job, const Outcome& outcome, const char* value);
  // Appends a code and the flags, and settles the reply. `hides`: it is empty.
  void AppendCode(std::string_view code, const struct MetaReply& reply, const Request& request, bool hides);
  void Tell(size_t begin, const Request& request, const Outcome& outcome);
  void Append(Reply reply);

  Workbench* const bench_;
  Store* const store_;
  ReplyGate* const gate_;
  const Now* const now_;
  Storage* const storage_;

  // The ms whose reply is to come: its line, or the copy of that of a value that comes in pieces.
  const MetaLine* set_line_ = nullptr;
  std::string_view set_words_;
  struct Kept;
  struct KeptDeleter {
    void operator()(Kept* kept) const;
  };
  std::unique_ptr<Kept, KeptDeleter> kept_;
};

}  // namespace cairn
