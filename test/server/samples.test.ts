// `stats latencies` and `stats topkeys` over the fronts that there are: latencies begin when the front's thread is
// woken. The errors of the numbers are the matter of test/native/protocol_samples_test.cc.

import { afterEach, expect, test } from 'vitest';
import { Cache, type MemcachedServer, serve } from '../../src/index.ts';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { skipUnless } from '../support/skip.ts';

const FRONTS = [
  { front: 'node', describe: skipUnless(true, '').describe },
  {
    front: 'native',
    describe: skipUnless(hasNativeFront(), 'the native front is there on Linux only', 'platform').describe,
  },
] as const;

for (const { front, describe } of FRONTS) {
  describe(`samples over the front '${front}'`, () => {
    let cache: Cache;
    let server: MemcachedServer;
    let client: MemcachedSocket;
    afterEach(async () => {
      client.destroy();
      server.destroy();
      await server.close();
      await cache.close();
    });

    test('a latency is at most the time that its client has waited, and its key is listed', async () => {
      cache = new Cache({ maxMemory: '16mb' });
      server = await serve(cache, { port: 0, host: '127.0.0.1', front, threads: 2 });
      const [address] = server.addresses;
      client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : address!.path);
      expect(await client.ask('set user:1 0 0 1\r\nx\r\n', 'STORED\r\n')).toBe('STORED\r\n');
      expect(await client.ask('stats reset\r\n', 'RESET\r\n')).toBe('RESET\r\n');
      const begin = performance.now();
      let longestMs = 0;
      for (let round = 0; round < 60; round++) {
        const before = performance.now();
        await client.ask(`${'get user:1\r\n'.repeat(64)}mn\r\n`, 'MN\r\n');
        longestMs = Math.max(longestMs, performance.now() - before);
      }
      expect(longestMs).toBeLessThan(performance.now() - begin);
      const stats = await client.ask('stats latencies\r\n', 'END\r\n');
      // 3,840 requests: 30 samples, and 6 standard deviations less are more than 10.
      expect(Number(/^STAT get:samples (\d+)\r$/m.exec(stats)?.[1])).toBeGreaterThan(10);
      expect(Number(/^STAT get:max_us ([\d.]+)\r$/m.exec(stats)?.[1])).toBeLessThanOrEqual(longestMs * 1001);
      const hot = await client.ask('stats topkeys\r\n', 'END\r\n');
      expect(hot).toMatch(/^STAT requests:1 key=user%3A1 requests=\d+ error=0 share=100\.00\r$/m);
    });
  });
}
