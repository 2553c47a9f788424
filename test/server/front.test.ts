// The fronts that there are, held to what every front has to do.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasNativeFront, NativeFront } from '../../src/server/native-front.ts';
import { NetFront } from '../../src/server/net-front.ts';
import { describeFront } from '../conformance/front.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { skipUnless } from '../support/skip.ts';

const LISTENING = { backlog: 100, pathMode: 0o700 };

describeFront('node:net over TCP', { hasReset: true, buffersLittle: false }, () => ({
  make: (owner, limits) => new NetFront(owner, { ...limits, ...LISTENING }),
  listen: (front) => front.listen({ host: '127.0.0.1', port: 0, optional: false, ack: 'memory' }),
  connect: (front) => {
    const [address] = front.addresses;
    return MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
  },
  vanish: (client) => client.socket.resetAndDestroy(),
}));

if (process.platform !== 'win32') {
  describeFront('node:net over a unix socket', { hasReset: false, buffersLittle: true }, () => {
    const folder = mkdtempSync(join(tmpdir(), 'cairn-front-'));
    const path = join(folder, 'cairn.sock');
    return {
      make: (owner, limits) => new NetFront(owner, { ...limits, ...LISTENING }),
      listen: (front) => front.listen({ path, ack: 'memory' }),
      connect: () => MemcachedSocket.open(path),
      vanish: (client) => client.destroy(),
      dispose: () => rmSync(folder, { recursive: true }),
    };
  });
}

skipUnless(hasNativeFront(), 'the native front is there on Linux only', 'platform').describe('the native front', () => {
  describeFront('threads of the addon over TCP', { hasReset: true, buffersLittle: false }, () => ({
    make: (owner, limits) => new NativeFront(owner, { ...limits, ...LISTENING, loops: 2 }),
    listen: (front) => front.listen({ host: '127.0.0.1', port: 0, optional: false, ack: 'memory' }),
    connect: (front) => {
      const [address] = front.addresses;
      return MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
    },
    vanish: (client) => client.socket.resetAndDestroy(),
  }));

  describeFront('threads of the addon over a unix socket', { hasReset: false, buffersLittle: true }, () => {
    const folder = mkdtempSync(join(tmpdir(), 'cairn-front-'));
    const path = join(folder, 'cairn.sock');
    return {
      make: (owner, limits) => new NativeFront(owner, { ...limits, ...LISTENING, loops: 2 }),
      listen: (front) => front.listen({ path, ack: 'memory' }),
      connect: () => MemcachedSocket.open(path),
      vanish: (client) => client.destroy(),
      dispose: () => rmSync(folder, { recursive: true }),
    };
  });
});
