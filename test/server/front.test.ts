// The fronts that there are, held to what every front has to do.

import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tlsOptions } from '../../src/options/rows/tls.ts';
import { readCertificates } from '../../src/server/certificates.ts';
import { hasNativeFront, NativeFront } from '../../src/server/native-front.ts';
import { NetFront } from '../../src/server/net-front.ts';
import { TlsGate } from '../../src/server/tls-gate.ts';
import { describeFront } from '../conformance/front.ts';
import { SERVER_TLS } from '../support/certificates.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { skipUnless } from '../support/skip.ts';
import { startTlsProxy } from '../support/tls-proxy.ts';

const LISTENING = { backlog: 100, pathMode: 0o700 };

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

describeFront('node:net over TCP', { hasReset: true, buffersLittle: false }, () => ({
  make: (owner, limits) => new NetFront(owner, { ...limits, ...LISTENING }),
  listen: (front) => front.listen({ host: '127.0.0.1', port: 0, optional: false, ack: 'memory' }),
  connect: (front) => {
    const [address] = front.addresses;
    return MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
  },
  vanish: (client) => client.socket.resetAndDestroy(),
}));

// A client of plaintext behind a proxy: how TLS is begun and ended is the proxy's business, and tls.test.ts has it.
// A reset ends at the proxy, and a client that is one too many could not read words before its handshake.
describeFront('node:tls', { hasReset: false, buffersLittle: false, refusal: '' }, () => {
  const tls = tlsOptions(SERVER_TLS, 'tls', () => 0)!;
  return {
    make: (owner, limits) => new NetFront(owner, { ...limits, ...LISTENING }, new TlsGate(tls, readCertificates(tls))),
    listen: (front) => front.listen({ host: '127.0.0.1', port: 0, optional: false, ack: 'memory', tls: 'none' }),
    connect: async (front) => {
      const [address] = front.addresses;
      const port = address !== undefined && 'port' in address ? address.port : 0;
      // The proxy connects later, and would not tell.
      if (await isFree(port)) throw new Error(`Nothing listens on ${port}`);
      const proxy = await startTlsProxy(port);
      const client = await MemcachedSocket.open(proxy.port);
      proxy.stop();
      return client;
    },
    vanish: (client) => client.destroy(),
  };
});

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
