// `scan` over both fronts: pages of a large cache while it changes and other clients are served, and the settings by
// which a server keeps its keys to itself. Its words, and the order behind it, are tested natively.

import { afterEach, expect, test } from 'vitest';
import { Cache, type MemcachedServer, type ServeOptions, serve } from '../../src/index.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(options: ServeOptions): Promise<{ cache: Cache; open: () => Promise<MemcachedSocket> }> {
  const cache = new Cache({ maxMemory: '64mb' });
  const server: MemcachedServer = await serve(cache, { port: 0, host: '127.0.0.1', ...options });
  closers.push(
    () => cache.close(),
    () => server.close(),
    () => server.destroy(),
  );
  const [address] = server.addresses;
  const open = async (): Promise<MemcachedSocket> => {
    const client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
    closers.push(() => client.destroy());
    return client;
  };
  return { cache, open };
}

/** A page: its keys as they are shown, and the cursor of the next one. */
async function scan(client: MemcachedSocket, words: string): Promise<{ keys: string[]; next: string | undefined }> {
  const reply = await client.ask(`scan ${words}\r\nmn\r\n`, 'MN\r\n');
  const [, lines, next] = /^((?:key=\S+ exp=.*\n)*)(?:CURSOR ([0-9a-f]{32})|END)\r\nMN\r\n$/.exec(reply) ?? [];
  if (lines === undefined) throw new Error(`Expected a page, got ${JSON.stringify(reply)}`);
  return { keys: Array.from(lines.matchAll(/^key=(\S+)/gm), ([, key]) => key!), next };
}

test.for(['native', 'node'] as const)(
  'front %s: keys that stay are listed once while others come and go',
  async (front) => {
    const { cache, open } = await start({ front });
    const stays = Array.from({ length: 30_000 }, (_, i) => `stays${i}`);
    cache.setMany(stays.map((key) => [key, 'v']));
    // Each page over another of two connections.
    const clients = [await open(), await open()];
    const seen: string[] = [];
    let round = 0;
    for (let next: string | undefined = '0'; next !== undefined; round++) {
      const page = await scan(clients[round % 2]!, `${next} 1000`);
      expect(page.keys.length).toBeLessThanOrEqual(1000);
      seen.push(...page.keys);
      next = page.next;
      cache.setMany(Array.from({ length: 2000 }, (_, i) => [`other${(round * 1000 + i) % 20_000}`, 'v']));
      cache.deleteMany(Array.from({ length: 1000 }, (_, i) => `other${(round * 777 + i) % 20_000}`));
    }
    const found = seen.filter((key) => key.startsWith('stays'));
    expect(found.length).toBe(stays.length);
    expect(new Set(found)).toEqual(new Set(stays));
    expect(new Set(seen).size).toBe(seen.length);
    expect(round).toBeGreaterThanOrEqual(30);
  },
);

test('a prefix in the encoding of keys lists what begins with it', async () => {
  const { cache, open } = await start({});
  for (const key of ['a b:1', 'a b:2', 'a', 'b']) cache.set(key, 'v');
  cache.set(Buffer.from([0, 255, 1]), 'v');
  const client = await open();
  expect((await scan(client, '0 10 a%20b%3A')).keys.sort()).toEqual(['a%20b%3A1', 'a%20b%3A2']);
  expect(await scan(client, '0 10 %00%FF')).toEqual({ keys: ['%00%FF%01'], next: undefined });
});

test('a server that lists nothing lists nothing here, and hidden keys stay hidden', async () => {
  const refusing = await start({ disableDumping: true });
  expect(await (await refusing.open()).ask('scan 0\r\n', '\r\n')).toBe('CLIENT_ERROR scan not allowed\r\n');
  const hiding = await start({ hideKeys: true });
  hiding.cache.set('secret', 'v');
  const client = await hiding.open();
  expect((await scan(client, '0')).keys).toEqual([expect.stringMatching(/^[0-9a-f]{16}$/)]);
  expect(await client.ask('scan 0 10 s\r\n', '\r\n')).toBe('CLIENT_ERROR scan with a prefix not allowed\r\n');
});
