// The extension by which meta commands take milliseconds, and what a memcached makes of it. What it does here is tested
// natively, with a clock that is moved by hand.

import { expect, test } from 'vitest';
import { Cache, serve } from '../../src/index.ts';
import { whileMemcachedRuns, withMemcached } from '../support/memcached-process.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

test.for(['native', 'node'] as const)('front %s: milliseconds are those of the API', async (front) => {
  await using cache = new Cache({ maxMemory: '16mb' });
  const server = await serve(cache, { port: 0, host: '127.0.0.1', front });
  const [address] = server.addresses;
  const client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
  expect(await client.ask('ms a 1 T1234567ms\r\n1\r\nmn\r\n', 'MN\r\n')).toBe('HD\r\nMN\r\n');
  const before = cache.getRemainingTTL('a');
  const reply = await client.ask('mg a tms\r\nmn\r\n', 'MN\r\n');
  const after = cache.getRemainingTTL('a');
  const [, left] = /^HD t(\d+)ms\r\nMN/.exec(reply) ?? [];
  expect(Number(left)).toBeLessThanOrEqual(before);
  expect(Number(left)).toBeGreaterThanOrEqual(after);
  expect(before).toBeLessThanOrEqual(1_234_567);
  client.destroy();
  server.destroy();
  await server.close();
});

withMemcached('memcached refuses milliseconds, stores nothing, and returns seconds without a unit', async () => {
  await whileMemcachedRuns(async (port) => {
    const client = await MemcachedSocket.open(port);
    for (const flag of ['T1500ms', 'N1500ms', 'T0ms', 'T-1ms']) {
      expect(await client.ask(`ms a 1 ${flag}\r\nx\r\nmg a v\r\n`, 'EN\r\n'), flag).toBe(
        'CLIENT_ERROR bad token in command line format\r\nEN\r\n',
      );
    }
    for (const flag of ['T1500ms', 'N1500ms', 'R1500ms']) {
      const refused = 'CLIENT_ERROR bad token in command line format\r\n';
      expect(await client.ask(`mg a ${flag}\r\nmn\r\n`, 'MN\r\n'), flag).toBe(`${refused}MN\r\n`);
    }
    expect(await client.ask('ms a 1 T100\r\nx\r\nmg a tms\r\nmn\r\n', 'MN\r\n')).toMatch(
      /^HD\r\nHD t(100|99)\r\nMN\r\n$/,
    );
    client.destroy();
  });
});
