// Expiry, size and client flags after classic commands, looked at through the API. (The recordings look at them with
// meta commands.)

import { afterEach, beforeEach, expect, test } from 'vitest';
import { Cache, type MemcachedServer, serve } from '../../src/index.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const MONTH_SECONDS = 2_592_000;

let cache: Cache;
let server: MemcachedServer;
let client: MemcachedSocket;

beforeEach(async () => {
  cache = new Cache({ maxMemory: '64mb' });
  server = await serve(cache, { port: 0, host: '127.0.0.1' });
  const [address] = server.addresses;
  client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
});
afterEach(async () => {
  client.destroy();
  server.destroy();
  await server.close();
  await cache.close();
});

/** Sends lines and a data block as they are, and expects the reply. */
async function ask(send: string, expected: string): Promise<void> {
  expect(await client.ask(send, expected.slice(-5))).toBe(expected);
}

/** Whole seconds, or what else it is: 0 of what is not there, Infinity of what does not expire. */
function left(key: string): number {
  return Math.round(cache.getRemainingTTL(key) / 1000);
}
const about = (seconds: number): unknown => expect.toSatisfy((got: number) => Math.abs(got - seconds) <= 3);
const now = (): number => Math.floor(Date.now() / 1000);
const text = (key: string): string => String(cache.get(key));

test('exptime of set: none, relative up to 30 days, absolute above, past and negative ones at once', async () => {
  await ask('set a 0 0 1\r\n1\r\n', 'STORED\r\n');
  expect(left('a')).toBe(Number.POSITIVE_INFINITY);
  await ask('set a 0 100 1\r\n1\r\n', 'STORED\r\n');
  expect(left('a')).toEqual(about(100));
  await ask(`set a 0 ${MONTH_SECONDS} 1\r\n1\r\n`, 'STORED\r\n');
  expect(left('a')).toEqual(about(MONTH_SECONDS));
  await ask(`set a 0 ${now() + 100} 1\r\n1\r\n`, 'STORED\r\n');
  expect(left('a')).toEqual(about(100));
  for (const past of [MONTH_SECONDS + 1, now() - 100, -1]) {
    await ask(`set a 0 ${past} 1\r\n1\r\n`, 'STORED\r\n');
    expect(left('a')).toBe(0);
  }
});

test('exptime is that of the last set or replace; append, prepend, incr and decr keep it, and the flags', async () => {
  await ask('set a 7 100 1\r\n1\r\n', 'STORED\r\n');
  await ask('append a 0 0 1\r\n2\r\n', 'STORED\r\n');
  await ask('prepend a 9 5000 1\r\n1\r\n', 'STORED\r\n');
  await ask('incr a 9000\r\n', '9112\r\n');
  await ask('decr a 2\r\n', '9110\r\n');
  expect([left('a'), cache.info('a')?.flags, text('a')]).toEqual([about(100), 7, '9110']);
  await ask('replace a 0 50 1\r\n3\r\n', 'STORED\r\n');
  expect([left('a'), cache.info('a')?.flags]).toEqual([about(50), 0]);
  await ask('set a 0 0 1\r\n1\r\n', 'STORED\r\n');
  expect(left('a')).toBe(Number.POSITIVE_INFINITY);
});

test.each(['touch', 'gat', 'gats'])('exptime of %s', async (command) => {
  const give = async (seconds: number): Promise<void> => {
    const reply = await client.ask(
      command === 'touch' ? `touch a ${seconds}\r\n` : `${command} ${seconds} a\r\n`,
      command === 'touch' ? '\r\n' : 'END\r\n',
    );
    expect(reply).toMatch(command === 'touch' ? /^TOUCHED\r\n$/ : /^VALUE a 5 1( \d+)?\r\n1\r\nEND\r\n$/);
  };
  await ask('set a 5 0 1\r\n1\r\n', 'STORED\r\n');
  await give(100);
  expect(left('a')).toEqual(about(100));
  await give(0);
  expect(left('a')).toBe(Number.POSITIVE_INFINITY);
  await give(MONTH_SECONDS);
  expect(left('a')).toEqual(about(MONTH_SECONDS));
  await give(now() + 50);
  expect(left('a')).toEqual(about(50));
  expect(cache.info('a')?.flags).toBe(5);
  await give(-1);
  expect(left('a')).toBe(0);
});

test('gat of several keys gives all of them the exptime', async () => {
  await ask('set a 0 0 1\r\n1\r\n', 'STORED\r\n');
  await ask('set b 0 50 1\r\n2\r\n', 'STORED\r\n');
  await ask('gat 100 a none b\r\n', 'VALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nEND\r\n');
  expect([left('a'), left('b')]).toEqual([about(100), about(100)]);
});

test('values up to the item limit are there whole; what would be larger leaves what was there', async () => {
  const most = 1_048_516;
  await ask(`set a 0 0 ${most}\r\n${'v'.repeat(most)}\r\n`, 'STORED\r\n');
  expect(text('a')).toHaveLength(most);
  await ask(`set ${'k'.repeat(250)} 0 0 ${most - 249}\r\n${'v'.repeat(most - 249)}\r\n`, 'STORED\r\n');
  expect(text('k'.repeat(250))).toHaveLength(most - 249);
  await ask(`set f 1 0 ${most - 4}\r\n${'v'.repeat(most - 4)}\r\n`, 'STORED\r\n');
  expect([text('f').length, cache.info('f')?.flags]).toEqual([most - 4, 1]);
  await ask(`set big 0 0 1048000\r\n${'v'.repeat(1_048_000)}\r\n`, 'STORED\r\n');
  await ask(`append big 0 0 2000\r\n${'w'.repeat(2000)}\r\n`, 'NOT_STORED\r\n');
  expect(text('big')).toBe('v'.repeat(1_048_000));
});
