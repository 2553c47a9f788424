// `stats latencies`, `topkeys`, `slow` and `large` over the fronts that there are: latencies begin when the front's
// thread is woken. The rest is the matter of test/native/protocol_samples_test.cc and protocol_request_log_test.cc.

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

    test('large requests are listed with their clients, and slow ones by a limit', async () => {
      cache = new Cache({ maxMemory: '16mb' });
      const options = { largeRequest: '1kb', slowRequest: '1h' } as const;
      server = await serve(cache, { port: 0, host: '127.0.0.1', front, ...options });
      const [address] = server.addresses;
      client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : address!.path);
      const { localPort } = client.socket;
      await client.ask(
        `set small 0 0 1\r\nx\r\nset large 0 0 2000\r\n${'x'.repeat(2000)}\r\nget small large\r\n`,
        'END\r\n',
      );
      const large = await client.ask('stats large\r\n', 'END\r\n');
      const line = (number: number, command: string): RegExp =>
        new RegExp(
          `^STAT ${number} time=[\\d.]+ us=[\\d.]+ requests=1 command=${command} bytes=2000 client=tcp:127\\.0\\.0\\.1:${localPort} key=large\r$`,
          'm',
        );
      expect(large).toMatch(line(1, 'gets'));
      expect(large).toMatch(line(2, 'set'));
      expect(large).toMatch(/^STAT limit_bytes 1024\r\nSTAT total 2\r$/m);
      expect(await client.ask('stats slow\r\n', 'END\r\n')).toBe('STAT limit_us 3600000000\r\nSTAT total 0\r\nEND\r\n');
    });
  });
}
