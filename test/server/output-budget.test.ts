// The budget of replies that clients have not taken: as a table, and as servers in one JavaScript thread keep it. The
// native front has its tests in test/native and test/fire.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Cache, type DisconnectReason, type ServeOptions } from '../../src/index.ts';
import { OutputBudget } from '../../src/server/output-budget.ts';
import { SERVER_TLS } from '../support/certificates.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const PATIENCE = { timeout: 60_000 };

describe('a budget', () => {
  let dropped: string[];
  let total: number;
  let budget: OutputBudget<string>;
  beforeEach(() => {
    dropped = [];
    total = 0;
    budget = new OutputBudget(
      {
        changed: (before, now) => {
          total += now - before;
        },
        drop: (client) => dropped.push(client),
      },
      100,
    );
  });

  test('drops the clients that have taken nothing for the longest time, until it is kept', () => {
    budget.count('a', 40, false);
    budget.count('b', 40, false);
    budget.count('a', 30, true); // b is the oldest now
    budget.count('c', 60, false);
    expect([dropped, total]).toEqual([['b'], 90]);
    budget.count('d', 90, false);
    expect([dropped, total]).toEqual([['b', 'a', 'c'], 90]);
  });

  test('leaves one client, and forgets those that have taken all', () => {
    budget.count('a', 500, false);
    expect(dropped).toEqual([]);
    budget.count('a', 0, true);
    budget.count('b', 100, false);
    expect([dropped, total]).toEqual([[], 100]);
    budget.count('c', 1, false);
    expect([dropped, total]).toEqual([['b'], 1]);
  });
});

describe.each<[string, ServeOptions]>([
  ['node:net', { front: 'node' }],
  ['node:tls', { tls: SERVER_TLS }],
])('a server by %s', (_, options) => {
  let cache: Cache;
  const clients: MemcachedSocket[] = [];
  beforeEach(() => {
    cache = new Cache({ maxMemory: '64mb' });
    cache.set('large', Buffer.alloc(900_000, 'v'));
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy();
    await cache.close();
  });

  test('disconnects clients that take nothing before their replies use more than the budget', async () => {
    const server = await cache.listen({ port: 0, host: '127.0.0.1', maxOutput: '2mb', ...options });
    const ended: DisconnectReason[] = [];
    server.on('disconnect', (_peer, reason) => ended.push(reason));
    const [address] = server.addresses;
    const port = address !== undefined && 'port' in address ? address.port : 0;
    const open = async (): Promise<MemcachedSocket> => {
      const client = await (options.tls === undefined ? MemcachedSocket.open(port) : MemcachedSocket.secure(port));
      clients.push(client);
      return client;
    };
    const other = await open();
    for (let i = 0; i < 6; i++) {
      const client = await open();
      client.socket.pause();
      client.send('get large\r\n'.repeat(100));
    }
    await vi.waitUntil(() => ended.filter((reason) => reason === 'output').length >= 3, PATIENCE);
    const stats = await other.ask('stats cairn\r\n', 'END\r\n');
    const stat = (name: string): number => Number(new RegExp(`^STAT ${name} (\\d+)\r$`, 'm').exec(stats)![1]);
    expect(stat('output_drops')).toBeGreaterThanOrEqual(3);
    expect(stat('output_limit_bytes')).toBe(2 * 2 ** 20);
    expect(stat('output_bytes')).toBeLessThanOrEqual(2 * 2 ** 20);
    for (const client of clients) client.destroy();
    await vi.waitUntil(() => server.connectionCount === 0, PATIENCE);
    expect(await (await open()).ask('stats cairn\r\n', 'END\r\n')).toContain('STAT output_bytes 0\r\n');
  });
});
