// What sessions of the memcached port work for, without the port.

import { handleOf } from '../../src/cache.ts';
import type { Cache, ServeProtocol } from '../../src/index.ts';
import { LoginCode, ProtocolCode, sessions } from '../../src/server/native-session.ts';

/** Starts the service of a cache, with the commands that only tests may use. `sessions.endService` ends it. */
export function startTestService(cache: Cache, protocol: ServeProtocol = 'auto'): number {
  return sessions.startService(handleOf(cache as Cache<never>), {
    version: '1.6.45',
    cairnVersion: '0.0.0',
    itemBytesMax: 2 ** 20,
    outputBytesMax: 0,
    protocol: ProtocolCode[protocol],
    testCommands: 1,
    disableFlushAll: 0,
    disableDumping: 0,
    disableWatch: 0,
    hideKeys: 0,
    slowRequestMs: 0,
    largeRequestBytes: 0,
    trackSizes: 0,
    prefixDelimiter: '',
    enableShutdown: 0,
    logMetrics: '',
    processId: 1,
    connectionsMax: 100,
    tcpPort: 0,
    udpPort: 0,
    threadCount: 1,
    backlog: 1,
    idleTimeoutSeconds: 0,
    verbosity: 0,
    interfaces: '',
    socketPath: '',
    login: LoginCode.none,
    authFile: '',
    tls: undefined,
  })!;
}
