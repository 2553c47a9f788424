// Sessions for fronts written in TypeScript: bytes of a socket in, bytes for it out, one call per chunk.
//
//   startService(handle, options) -> service        a server over a cache; holds the cache until endService
//   openSession(service, peer, listener, ack, protocol) -> session
//                                                   ack: what replies wait for, an Ack; protocol: a Protocols, if
//                                                   its listener has its own
//   feedSession(session, chunk, backlog) -> result
//   continueSession(session, backlog) -> result     output has left, or the thread was woken
//   endSession(session, backlog) -> result          the client sends no more, or is asked to come to an end
//   closeSession(session)
//   takeOutput() -> Buffer                          replies that did not fit the buffer of setOutput
//   continueIn(session) -> milliseconds             of a result with kSessionSlowed: continueSession() it after that
//                                                   time at the latest
//   setOutput(buffer)                               where replies are put from now on
//   takeShutdown(service) -> 0, 1 or 2               a client has asked for the end of the server: no, plainly,
//                                                   gracefully; told once, and this thread is woken for it
//   countIdleKick(session)                          closeSession() follows
//   countRejected(service), isServiceClosed(service), endService(service)
//   changeUnsent(service, before, now)              the bytes of replies that one client has not taken
//   countOutputDrop(service)                        a client was disconnected for them
//   countHandshake(service, how), countRefresh(service)
//                                                   of TLS; how: a HandshakeEnd
//   takeRefresh(service) -> boolean                 a client has asked for other certificates, and the thread was woken
//   answerRefresh(service, line)
//   setAccounts(service, lines)                     who may log in, in the place of those before; see Accounts
//
// A result is one number: 512 x the bytes of reply at the start of the output buffer, plus the flags of SessionFlag,
// the lowest three bits being Session::Next. src/server/native-session.ts has the same table.
//
// Services and sessions are small numbers, valid from their making to their end. The TypeScript side keeps them in
// private fields; this side CHECKs them.
#pragma once

#include <napi.h>

#include <cstdint>

#include "process/registry.h"

namespace cairn {

class Service;
struct Environment;

enum SessionFlag : uint32_t {
  kSessionNextMask = 7,
  kSessionWaits = 8,            // continueSession() it when the thread is woken
  kSessionOverflow = 16,        // the replies are not in the output buffer: takeOutput()
  kSessionInLargeRequest = 32,  // the client is in the middle of a large value or line
  kSessionBinary = 64,          // closed because the client speaks the binary protocol
  kSessionTls = 128,            // closed because the client speaks TLS
  kSessionSlowed = 256,         // it waits for a time: continueIn()
};
inline constexpr uint32_t kSessionFlagsRange = 512;

enum class HandshakeEnd : uint8_t { kBegun, kResumed, kFailed };

// Leaves a service of this environment to a native front, whose threads are woken in place of this one. Returns it, and
// the cache behind it, which it holds.
struct ServedCache {
  Service* service;
  CachePointer cache;
};
ServedCache LeaveToFront(Environment* environment, uint32_t service);

void InitSessionBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
