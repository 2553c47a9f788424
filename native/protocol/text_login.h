// The lines of a client that has to log in and has not: the dialect of a session until a login succeeds, and the text
// dialect is next. It answers as memcached 1.6.45 does with -Y.
//
//   set KEY FLAGS TIME BYTES [noreply]     key, flags and time are not looked at, and the reply is always told
//   USER PASSWORD                          a block of BYTES bytes, and its line end
//
// Every other line is CLIENT_ERROR unauthenticated, except that a line too short to be a command ends the session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "protocol/dialect.h"
#include "protocol/reply_gate.h"
#include "protocol/service.h"
#include "protocol/stream.h"

namespace cairn {

class TextLogin final : public Dialect {
 public:
  // `next`: the dialect of a client that has logged in.
  TextLogin(Workbench* bench, Stream* stream, ReplyGate* gate, Dialect* next)
      : service_(bench->service()), bench_(bench), stream_(stream), gate_(gate), next_(next) {}

  Progress Run(const char* at, const char* end) override;
  // No request waits before a login.
  void Look(const char*, const char*, Scope* scope) override { scope->kind = Scope::Kind::kAll; }
  bool MayGrow(std::string_view unfinished) const override { return unfinished.size() <= kLineBytesMax; }
  // It has the stream receive and discard no block.
  Why FinishBody(LargeBody*) override { return Why::kClosing; }
  void LoseBody(const LargeBody&, uint64_t) override {}
  void FinishSwallow() override {}

 private:
  Progress RunLine(const char* at, const char* end);
  void RunToken(std::string_view block);

  Service* const service_;
  Workbench* const bench_;
  Stream* const stream_;
  ReplyGate* const gate_;
  Dialect* const next_;
  bool has_logged_in_ = false;
};

}  // namespace cairn
