// The native front, where there is one (Linux): the exports are missing elsewhere.
//
//   makeFront(options) -> front                a number; connectionsMax, idleTimeoutMs, stallTimeoutMs, loops
//   listenFront(front, address, ack) -> result address: { path, pathMode } or { host, port }, backlog, and protocol, a
//                                              Protocols, if it has its own; result: the number of the system's
//                                              error, or [host, port], '' of a unix socket
//   serveFront(front, service) -> number       of the system's error; 0: it serves
//   closeFront(front, atOnce)
//   lookAtFront(front, events) -> boolean      the front is gone; the events are put into the array
//   connectionsOfFront(front) -> number
//   endFront(front)                            closes it at once and waits for its threads
//   processorCount() -> number                 of the processors that this process may use
//
// Events come as [kind, peer, number] each, one behind the other: FrontEvent::Kind; number: an Ending, or an error.
// src/server/native-front.ts has the same tables. The thread is woken when there are events.
#pragma once

#include <napi.h>

namespace cairn {

void InitFrontBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
