// Several addresses of one server, each with its own protocol.

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Cache, type DisconnectReason, type ServeOptions } from '../../src/index.ts';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { SERVER_TLS } from '../support/certificates.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const NOOP = Buffer.from(`800a${'00'.repeat(22)}`, 'hex');
const PATIENCE = { timeout: 60_000 };

let cache: Cache;
const clients: MemcachedSocket[] = [];
beforeEach(() => {
  cache = new Cache({ maxMemory: '16mb' });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await cache.close();
});

test.each<[string, ServeOptions]>([
  ...(hasNativeFront() ? ([['native', { front: 'native' }]] as [string, ServeOptions][]) : []),
  ['node', { front: 'node' }],
  ['node, with TLS', { tls: SERVER_TLS }],
])('an address serves its own protocol: %s front', async (_, options) => {
  const host = ['127.0.0.1', 'proto[binary]:127.0.0.1', 'proto[auto]:127.0.0.1', 'tag[a]:127.0.0.1'];
  const server = await cache.listen({ port: 0, host, protocol: 'ascii', ...options });
  const ended: DisconnectReason[] = [];
  server.on('warning', () => {});
  server.on('disconnect', (_peer, reason) => ended.push(reason));
  const open = async (index: number): Promise<MemcachedSocket> => {
    const address = server.addresses[index];
    const port = address !== undefined && 'port' in address ? address.port : 0;
    const client = await (options.tls === undefined ? MemcachedSocket.open(port) : MemcachedSocket.secure(port));
    clients.push(client);
    return client;
  };
  const servesText = async (index: number): Promise<boolean> => {
    const client = await open(index);
    client.send(`mn\r\n${' '.repeat(20)}`);
    await client.until('an answer', () => client.receivedBytes > 0 || client.socket.readableEnded).catch(() => {});
    return client.take() === 'MN\r\n';
  };
  const servesBinary = async (index: number): Promise<boolean> => {
    const client = await open(index);
    client.send(NOOP);
    await client.until('an answer', () => client.receivedBytes >= NOOP.length).catch(() => {});
    return client.take().startsWith('\x81\x0a');
  };
  expect(await Promise.all([0, 2, 3].map(servesText))).toEqual([true, true, true]);
  expect(await Promise.all([0, 1, 2, 3].map(servesBinary))).toEqual([false, true, true, false]);
  expect(await servesText(1)).toBe(false);
  await vi.waitUntil(() => ended.filter((reason) => reason === 'binary').length === 2, PATIENCE);
});
