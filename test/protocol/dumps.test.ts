// `lru_crawler metadump`, `lru_crawler mgdump` and `stats cachedump` beside what the recordings show: many entries, a
// part at a time, what each field tells, and the conversations of memcached-tool, which waits for an END.

import { once } from 'node:events';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Cache, type MemcachedServer, serve } from '../../src/index.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const LINE = /^key=(\S+) exp=(-?\d+) la=(\d+) cas=(\d+) fetch=(yes|no) cls=1 size=(\d+) flags=(\d+) $/;

let cache: Cache;
let server: MemcachedServer;
let port: number;
let client: MemcachedSocket;

beforeEach(async () => {
  cache = new Cache({ maxMemory: '64mb', trackAccess: true });
  server = await serve(cache, { port: 0, host: '127.0.0.1' });
  const [address] = server.addresses;
  port = address !== undefined && 'port' in address ? address.port : 0;
  client = await MemcachedSocket.open(port);
});
afterEach(async () => {
  client.destroy();
  server.destroy();
  await server.close();
  await cache.close();
});

/** The lines of a dump, each in its fields. */
async function metadump(): Promise<string[][]> {
  const reply = await client.ask('lru_crawler metadump all\r\n', 'END\r\n');
  expect(reply.startsWith('OK\r\n')).toBe(true);
  const lines = reply.slice('OK\r\n'.length, -'END\r\n'.length).split('\n').slice(0, -1);
  return lines.map((line) => {
    const fields = LINE.exec(line);
    expect(line).toSatisfy(() => fields !== null);
    return fields!.slice(1);
  });
}

test('a dump has every entry, and other clients are served between its parts', async () => {
  const keys = Array.from({ length: 50_000 }, (_, i) => `key${i}`);
  cache.setMany(keys.map((key) => [key, 'v']));
  const other = await MemcachedSocket.open(port);
  let isDone = false;
  const dump = metadump().finally(() => {
    isDone = true;
  });
  let answers = 0;
  while (!isDone) {
    expect(await other.ask('get key7\r\n', 'END\r\n')).toBe('VALUE key7 0 1\r\nv\r\nEND\r\n');
    if (!isDone) answers++;
  }
  other.destroy();
  const found = (await dump).map(([key]) => key!);
  expect(new Set(found)).toEqual(new Set(keys));
  // 50,000 entries are 12 calls of 4,096. One answer may come before the dump begins.
  expect(answers).toBeGreaterThan(1);
});

test('the fields tell of the entry', async () => {
  cache.set('plain', 'abc');
  cache.set('timed', 'abc', { ttl: '1h' });
  cache.get('timed');
  await client.ask('set flags 77 0 5\r\nhello\r\n', 'STORED\r\n');
  const lines = Object.fromEntries((await metadump()).map(([key, ...fields]) => [key, fields]));
  const nowS = Math.floor(Date.now() / 1000);
  const about = (seconds: number): unknown => expect.toSatisfy((got: string) => Math.abs(Number(got) - seconds) <= 3);
  // 59 bytes beside key and value, as memcached counts, and 4 for client flags.
  expect(lines).toEqual({
    plain: ['-1', about(nowS), String(cache.info('plain')?.cas), 'no', String(59 + 5 + 3), '0'],
    timed: [about(nowS + 3600), about(nowS), String(cache.info('timed')?.cas), 'yes', String(59 + 5 + 3), '0'],
    flags: ['-1', about(nowS), String(cache.info('flags')?.cas), 'no', String(59 + 4 + 5 + 5), '77'],
  });
  expect(cache.info('plain')?.fetched).toBe(false);
});

test('keys that no client could name are encoded in a metadump, and left out of a cachedump', async () => {
  const keys = ['a b', 'ä', Buffer.from([0, 255]), 'x'.repeat(251), 'y'.repeat(65_536)];
  for (const key of keys) cache.set(key, 'v');
  const found = (await metadump()).map(([key]) => key);
  expect(new Set(found)).toEqual(new Set(['a%20b', '%C3%A4', '%00%FF', 'x'.repeat(251), 'y'.repeat(65_536)]));
  expect(await client.ask('stats cachedump 1 0\r\n', 'END\r\n')).toBe('ITEM \xc3\xa4 [1 b; 0 s]\r\nEND\r\n');
});

test('a mgdump has the requests for the entries, each of which finds its own', async () => {
  // Base64 of 186 bytes has 248 characters, of 187 bytes 252: a request has room for 250.
  const binary = [Buffer.from([0, 255]), Buffer.from('a b'), Buffer.from([127]), Buffer.alloc(186, 10)];
  const plain = ['k', 'ä', '%', 'x'.repeat(250)];
  const unnamed = ['x'.repeat(251), Buffer.alloc(187, 10), 'y'.repeat(65_536)];
  for (const [i, key] of [...binary, ...plain, ...unnamed].entries()) cache.set(key, `value${i}`);
  const reply = await client.ask('lru_crawler mgdump all\r\n', 'EN\r\n');
  const latin1 = (key: string): string => Buffer.from(key).toString('latin1');
  const requests = [
    ...binary.map((key) => `mg ${key.toString('base64')} b`),
    ...plain.map((key) => `mg ${latin1(key)}`),
  ];
  expect(reply.startsWith('OK\r\n')).toBe(true);
  const lines = reply.slice('OK\r\n'.length, -'EN\r\n'.length).split('\r\n').slice(0, -1);
  expect(new Set(lines)).toEqual(new Set(requests));
  expect(lines.length).toBe(requests.length);
  // A program sends each line back with the flags that it wants.
  for (const [i, line] of requests.entries())
    expect(await client.ask(`${line} v\r\n`)).toBe(`VA ${`value${i}`.length}\r\nvalue${i}\r\n`);
});

test('a mgdump lists every entry of a large cache', async () => {
  const keys = Array.from({ length: 50_000 }, (_, i) => `key${i}`);
  cache.setMany(keys.map((key) => [key, 'v']));
  const reply = await client.ask('lru_crawler mgdump hash\r\nmn\r\n', 'MN\r\n');
  expect(reply.endsWith('\r\nEN\r\nMN\r\n')).toBe(true);
  const found = [...reply.matchAll(/^mg (\S+)\r$/gm)].map(([, key]) => key!);
  expect(new Set(found)).toEqual(new Set(keys));
});

test('what is deleted, expired or cleared is in no dump', async () => {
  for (const key of ['stays', 'deleted', 'over']) await client.ask(`set ${key} 0 0 1\r\n1\r\n`, 'STORED\r\n');
  await client.ask('touch over -1\r\n', 'TOUCHED\r\n');
  await client.ask('delete deleted\r\n', 'DELETED\r\n');
  expect((await metadump()).map(([key]) => key)).toEqual(['stays']);
  cache.clear();
  expect(await metadump()).toEqual([]);
});

test('a line is a request like any other: what is behind it is answered behind it', async () => {
  cache.set('k', 'v');
  const reply = await client.ask('get k\r\nlru_crawler metadump all\r\nstats cachedump 1 1\r\nmn\r\n', 'MN\r\n');
  expect(reply.replace(/(la|cas)=\d+/g, '$1=N')).toBe(
    'VALUE k 0 1\r\nv\r\nEND\r\n' +
      'OK\r\nkey=k exp=-1 la=N cas=N fetch=yes cls=1 size=61 flags=0 \nEND\r\n' +
      'ITEM k [1 b; 0 s]\r\nEND\r\nMN\r\n',
  );
});

test('a client that leaves in the middle of a dump takes its walk with it', async () => {
  cache.setMany(Array.from({ length: 50_000 }, (_, i) => [`key${i}`, 'v']));
  for (let i = 0; i < 20; i++) {
    const leaver = await MemcachedSocket.open(port);
    leaver.send('lru_crawler metadump all\r\n');
    await once(leaver.socket, 'data');
    leaver.destroy();
  }
  expect((await metadump()).length).toBe(50_000);
});

test('memcached-tool dump, old and new, comes to its end', async () => {
  cache.set('k', 'v', { ttl: '1h' });
  // 1.4 and 1.5: classes, then the keys of each.
  const items = await client.ask('stats items\r\n', 'END\r\n');
  const [, cls, count] = /^STAT items:(\d+):number (\d+)/.exec(items) ?? [];
  const listed = await client.ask(`stats cachedump ${cls} ${count}\r\n`, 'END\r\n');
  expect(listed).toMatch(/^ITEM k \[1 b; \d+ s\]\r\nEND\r\n$/);
  // 1.6.
  expect((await metadump()).length).toBe(1);
});

test('the other commands of the crawler are not known', async () => {
  for (const words of ['', ' enable', ' crawl all', ' mgdump', ' metadump']) {
    expect(await client.ask(`lru_crawler${words}\r\n`, '\r\n')).toBe('ERROR\r\n');
  }
  expect(await client.ask('lru_crawler enable noreply\r\nmn\r\n', 'MN\r\n')).toBe('MN\r\n');
});

test('stats sizes counts the entries in steps of 32 bytes, where that is asked for', async () => {
  expect(await client.ask('stats sizes\r\n', 'END\r\n')).toBe('STAT sizes_status disabled\r\nEND\r\n');
  const counting = await serve(cache, { port: 0, host: '127.0.0.1', trackSizes: true });
  const [address] = counting.addresses;
  const asker = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
  try {
    const sizes = (): Promise<string> => asker.ask('stats sizes\r\nmn\r\n', 'MN\r\n');
    expect(await sizes()).toBe('END\r\nMN\r\n');
    // 59 bytes beside key and value, and 4 for client flags.
    cache.setMany(Array.from({ length: 50_000 }, (_, i) => [String(100_000 + i), 'x'.repeat(96 - 59 - 6)]));
    cache.set('1', 'x'.repeat(97 - 59 - 1));
    cache.set('2', 'x'.repeat(128 - 59 - 1));
    await asker.ask(`set 3 7 0 ${124 - 59 - 1}\r\n${'x'.repeat(124 - 59 - 1)}\r\n`, 'STORED\r\n');
    cache.set('large', 'x'.repeat(100_000));
    expect(await sizes()).toBe('STAT 96 50000\r\nSTAT 128 3\r\nSTAT 100064 1\r\nEND\r\nMN\r\n');
    cache.delete('large');
    cache.set('2', '');
    expect(await sizes()).toBe('STAT 64 1\r\nSTAT 96 50000\r\nSTAT 128 2\r\nEND\r\nMN\r\n');
    expect(await asker.ask('stats sizes_enable\r\n')).toBe('ERROR\r\n');
    expect(await asker.ask('stats settings\r\n', 'END\r\n')).toContain('STAT track_sizes yes\r\n');
  } finally {
    asker.destroy();
    counting.destroy();
    await counting.close();
  }
});
