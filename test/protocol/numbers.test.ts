// Which values `incr` and `decr` can count in: what memcached 1.6.45 reads as a number, which is what strtoull reads.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cache, type MemcachedServer, serve } from '../../src/index.ts';
import { whileMemcachedRuns, withMemcached } from '../support/memcached-process.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { Random } from '../support/random.ts';

let cache: Cache;
let server: MemcachedServer;
let ours: MemcachedSocket;
beforeAll(async () => {
  cache = new Cache({ maxMemory: '16mb' });
  server = await serve(cache, { port: 0, host: '127.0.0.1' });
  const [address] = server.addresses;
  ours = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
});
afterAll(async () => {
  ours.destroy();
  server.destroy();
  await server.close();
  await cache.close();
});

const NON_NUMERIC = 'CLIENT_ERROR cannot increment or decrement non-numeric value';

/** What a server answers to a verb on that value, and what it has then. */
async function counted(client: MemcachedSocket, value: string, verb: string): Promise<[reply: string, after: string]> {
  const all = await client.ask(`set n 0 0 ${value.length}\r\n${value}\r\n${verb} n 1\r\nget n\r\nmn\r\n`, '\r\nMN\r\n');
  const [, reply, after] = /^STORED\r\n([^\r]*)\r\nVALUE n 0 \d+\r\n(.*)\r\nEND\r\nMN\r\n$/s.exec(all) ?? [];
  return [reply ?? all, after ?? all];
}

describe('a value is a number', () => {
  test.each([
    ['1\0\0', '2'],
    ['1\0x', '2'],
    ['1 x', '2'],
    ['7\r\n', '8'],
    ['1\v', '2'],
    [' +5', '6'],
    ['\r\n7', '8'],
    ['-0', '1'],
    ['-18446744073709551615', '2'],
    ['-9223372036854775809', '9223372036854775808'],
    ['9999999999999999999\0-', '10000000000000000000'],
  ])('%j, to which 1 is added', async (value, sum) => {
    expect(await counted(ours, value, 'incr')).toEqual([sum, sum.padEnd(value.length)]);
  });

  test('that got shorter: it is filled with blanks, and counted in again', async () => {
    expect(await counted(ours, '10\0', 'decr')).toEqual(['9', '9  ']);
    expect(await ours.ask('incr n 991\r\n')).toBe('1000\r\n');
    expect(await ours.ask('decr n 5000\r\nget n\r\n', 'END\r\n')).toBe('0\r\nVALUE n 0 4\r\n0   \r\nEND\r\n');
    expect(await ours.ask('incr n 1\r\n')).toBe('1\r\n');
  });
});

describe('a value is none', () => {
  test.each([
    '\x001',
    '-1',
    '-9223372036854775808',
    '-18446744073709551616',
    '9999999999999999999 -',
    '+ 5',
    '+-5',
    '--1',
    '1\x85',
    '1x\0',
    '\0\0',
  ])('%j', async (value) => {
    for (const verb of ['incr', 'decr']) expect(await counted(ours, value, verb)).toEqual([NON_NUMERIC, value]);
  });
});

withMemcached('2,000 random values are numbers here if they are numbers in memcached', () =>
  whileMemcachedRuns(async (port) => {
    const theirs = await MemcachedSocket.open(port);
    const random = new Random();
    const pieces = [
      '1',
      '0',
      '9',
      '9223372036854775808',
      '18446744073709551615',
      '-',
      '+',
      ' ',
      '\0',
      '\t',
      '\r',
      '\n',
      'x',
    ];
    for (let i = 0; i < 2000; i++) {
      const text = Array.from({ length: 1 + random.below(6) }, () => random.pick(pieces)).join('');
      // memcached reads behind the end of a value that is blank, and looks for a minus sign behind a number of 2^63 and
      // more; what is there was left by an earlier value.
      const value = /\d{19}/.test(text) ? `${text}\0` : text;
      if (value.length > 128 || value.trim() === '') continue;
      const verb = random.pick(['incr', 'decr']);
      const [reply, after] = await counted(ours, value, verb);
      const [theirReply, theirAfter] = await counted(theirs, value, verb);
      const what = `${verb} of ${JSON.stringify(value)}, CAIRN_SEED=${random.seed}`;
      expect(reply, what).toBe(theirReply);
      // Blanks behind the number are missing there when a thread of the server itself held the item at that moment.
      expect(after.trimEnd(), what).toBe(theirAfter.trimEnd());
    }
    theirs.destroy();
  }),
);
