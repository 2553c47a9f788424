// Serving a cache that Cache.open has opened with data: levels by default and by option, in whichever thread, and that
// what the program itself does is waited for like what clients do. The command line is in test/cli/serve-kept.test.ts.

import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import {
  Cache,
  type CacheOptions,
  type MemcachedServer,
  type ServeFront,
  type ServeOptions,
  serve as serveCache,
} from '../../src/index.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

export function describeKept(front: ServeFront): void {
  describe(`a kept cache with the front ${front}`, () => {
    const serve: typeof serveCache = (cache, options) => serveCache(cache, { front, ...options });

    const cleanUps: (() => unknown)[] = [];
    afterEach(async () => {
      for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
    });

    async function openKept(options: CacheOptions = {}): Promise<Cache> {
      const folder = mkdtempSync(join(tmpdir(), 'cairn-served-'));
      cleanUps.push(() => rmSync(folder, { recursive: true, force: true }));
      const cache = await Cache.open({ data: folder, maxMemory: '16mb', snapshot: { atClose: false }, ...options });
      cleanUps.push(() => cache.close());
      return cache;
    }

    async function start(cache: Cache, options: ServeOptions = {}): Promise<MemcachedServer> {
      const server = await serve(cache, { port: 0, host: '127.0.0.1', ...options });
      cleanUps.push(() => server.close());
      return server;
    }

    async function open(server: MemcachedServer | number): Promise<MemcachedSocket> {
      const [address] = typeof server === 'number' ? [] : server.addresses;
      const port = typeof server === 'number' ? server : address !== undefined && 'port' in address ? address.port : 0;
      const client = await MemcachedSocket.open(port);
      cleanUps.push(() => client.destroy());
      return client;
    }

    const levelOf = async (client: MemcachedSocket): Promise<string | undefined> =>
      /STAT ack (\w+)/.exec(await client.ask('stats cairn\r\n', 'END\r\n'))?.[1];

    describe('the level of a server', () => {
      test('is that of the cache, unless it is given one', async () => {
        const cache = await openKept();
        const levels = await Promise.all([
          start(cache),
          start(cache, { ack: 'memory' }),
          start(cache, { ack: 'logged' }),
        ]);
        expect(levels.map(({ ack }) => ack)).toEqual(['logged', 'memory', 'logged']);
        for (const server of levels) expect(await levelOf(await open(server))).toBe(server.ack);
        const quick = await openKept({ ack: 'memory' });
        expect((await start(quick)).ack).toBe('memory');
        expect((await start(quick, { ack: 'logged' })).ack).toBe('logged');
      });

      test('must be one that its cache offers', async () => {
        const cache = new Cache({ maxMemory: '4mb' });
        cleanUps.push(() => cache.close());
        await expect(serve(cache, { port: 0, ack: 'logged' })).rejects.toMatchObject({
          code: 'ERR_INVALID_ARGUMENT',
          message: `Expected ack to be 'memory', the only level of a cache without a log, got "logged"`,
        });
        await expect(serve(await openKept(), { port: 0, ack: 'stored' as never })).rejects.toMatchObject({
          code: 'ERR_INVALID_ARGUMENT',
        });
        expect((await start(cache)).ack).toBe('memory');
      });
    });

    describe('clients of a cache with a log', () => {
      test('are answered when what they ask and what the program has done is in the log', async () => {
        const cache = await openKept();
        const client = await open(await start(cache));
        cache.set('a', 'by the program');
        expect(await client.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 14\r\nby the program\r\nEND\r\n');
        cache.delete('a');
        expect(await client.ask('get a\r\n')).toBe('END\r\n');
        // A load leaves no record, and its version is passed over.
        await cache.fetch('loaded', () => 'value');
        expect(await client.ask('get loaded\r\n', 'END\r\n')).toBe('VALUE loaded 0 5\r\nvalue\r\nEND\r\n');
        cache.clear();
        expect(await client.ask('get loaded\r\n')).toBe('END\r\n');
        expect(await client.ask('flush_all\r\n')).toBe('OK\r\n');
        expect(cache.stats().log?.recordsWaiting).toBe(0);
      });

      test('of a thread that has attached are answered too', async () => {
        const cache = await openKept({ name: 'kept-and-served-by-a-worker' });
        const worker = new Worker(
          `import(${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}).then(async ({ Cache, serve }) => {
        const server = await serve(Cache.attach('kept-and-served-by-a-worker'), { port: 0, host: '127.0.0.1' });
        require('node:worker_threads').parentPort.postMessage(server.addresses[0].port);
      })`,
          { eval: true },
        );
        cleanUps.push(() => worker.terminate());
        const [port] = (await once(worker, 'message')) as [number];
        const client = await open(port);
        expect(await levelOf(client)).toBe('logged');
        for (let i = 0; i < 100; i++)
          expect(await client.ask(`set a 0 0 ${`${i}`.length}\r\n${i}\r\n`)).toBe('STORED\r\n');
        expect(await client.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 2\r\n99\r\nEND\r\n');
        expect(cache.get('a')).toEqual(Buffer.from('99'));
      });

      test('lose their connections when the cache closes, but no write that was acknowledged', async () => {
        const cache = await openKept();
        const server = await start(cache);
        const client = await open(server);
        client.send(Array.from({ length: 500 }, (_, i) => `set k${i} 0 0 1\r\nx\r\n`).join(''));
        await client.until('a reply', () => client.receivedBytes > 0);
        const closed = once(server, 'close');
        const data = cache.options.data!;
        await cache.close();
        const stored = (await client.ending()).split('STORED\r\n').length - 1;
        await closed;
        const again = await Cache.open({ data, maxMemory: '16mb' });
        cleanUps.push(() => again.close());
        for (let i = 0; i < stored; i++) expect(again.has(`k${i}`)).toBe(true);
      });
    });
  });
}
