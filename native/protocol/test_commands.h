// Commands for tests, answered if Service::Options::test_commands is set:
//
//   debugtime N|p|r          the server's clock goes N seconds forward, stops, goes on
//   debugpark TICKET         parks this connection until the ticket is resolved, then answers with its text
//   debugresume TICKET TEXT  resolves a ticket
//   debughold VERSION        from now on replies wait that tell of a later version
//   debugcommit VERSION|all  versions up to this one are committed; no reply waits any more
#pragma once

#include "base/clock.h"
#include "protocol/dialect.h"
#include "protocol/reply_gate.h"
#include "protocol/request.h"
#include "protocol/service.h"

namespace cairn {

// Executes one. REQUIRES: IsTestCommand().
Why RunTestCommand(const TextRequest& line, Service* service, ReplyGate* gate, const Now& now);

}  // namespace cairn
