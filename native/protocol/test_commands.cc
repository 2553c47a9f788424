#include "protocol/test_commands.h"

#include <string>
#include <string_view>

#include "base/check.h"
#include "protocol/limits.h"
#include "protocol/response.h"
#include "protocol/text_parse.h"

namespace cairn {

namespace {

Reply MoveTime(std::string_view word, Service* service, const Now& now) {
  uint64_t seconds = 0;
  if (word == "p") {
    service->StopTime(now);
  } else if (word == "r") {
    service->StartTime();
  } else if (ParseUint64(word, &seconds) && seconds <= UINT32_MAX) {
    service->MoveTime(seconds * 1000);
  } else {
    return Reply::kError;
  }
  return Reply::kOk;
}

Why Park(std::string_view ticket, Service* service, ReplyGate* gate, const Now& now) {
  TestLoads* loads = service->test_loads();
  if (!gate->AwaitsLoad(loads, ticket) && loads->has(ticket)) {
    gate->sink()->Append(TextOf(Reply::kTicketTaken));
    return Why::kDone;
  }
  switch (gate->AwaitLoad(loads, ticket, now)) {
    case ReadThrough::Load::kPending:
      return Why::kParked;
    case ReadThrough::Load::kFailed:
    case ReadThrough::Load::kUnknown:
      gate->sink()->Append(TextOf(Reply::kNoTickets));
      return Why::kDone;
    case ReadThrough::Load::kLoaded:
      break;
  }
  const std::string text = loads->TextOf(gate->load());
  gate->EndLoad();
  gate->sink()->Append(text);
  gate->sink()->Append("\r\n");
  return Why::kDone;
}

Reply Resume(std::string_view ticket, std::string_view words, Service* service) {
  while (!words.empty() && words[0] == ' ') words.remove_prefix(1);
  if (words.size() > kLineBytesMax) return Reply::kBadFormat;
  return service->test_loads()->Resolve(ticket, words) ? Reply::kOk : Reply::kNotFound;
}

Reply Hold(uint64_t version, ReplyGate* gate) {
  if (gate->ack() != Ack::kMemory) return Reply::kHoldsForLog;
  gate->commits()->Activate(version);
  return Reply::kOk;
}

Reply Commit(std::string_view word, ReplyGate* gate) {
  uint64_t version = 0;
  if (gate->ack() != Ack::kMemory) return Reply::kHoldsForLog;
  if (word == "all") {
    gate->commits()->Deactivate();
  } else if (ParseUint64(word, &version)) {
    gate->commits()->AdvanceAll(version);
  } else {
    return Reply::kBadFormat;
  }
  return Reply::kOk;
}

}  // namespace

Why RunTestCommand(const TextRequest& line, Service* service, ReplyGate* gate, const Now& now) {
  std::string_view words = line.words;
  const std::string_view first = NextWord(&words);
  uint64_t number = 0;
  const bool is_number = ParseUint64(first, &number);
  Reply reply = Reply::kBadFormat;
  switch (line.info->command) {
    case Command::kDebugTime:
      reply = MoveTime(first, service, now);
      break;
    case Command::kDebugPark:
      if (is_number) return Park(first, service, gate, now);
      break;
    case Command::kDebugResume:
      if (is_number) reply = Resume(first, words, service);
      break;
    case Command::kDebugHold:
      if (is_number) reply = Hold(number, gate);
      break;
    case Command::kDebugCommit:
      reply = Commit(first, gate);
      break;
    default:
      CHECK(false);
  }
  gate->sink()->Append(TextOf(reply));
  // Fronts look at the marks when they are woken, behind this reply.
  if (line.info->command == Command::kDebugCommit && reply == Reply::kOk) service->WakeAll();
  return Why::kDone;
}

}  // namespace cairn
