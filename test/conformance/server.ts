// The server, whatever its front is: its sockets, its limits, how connections and the server itself end. What commands
// answer is in test/protocol/.

import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Cache, MemcachedServer, type ServeFront, type ServeOptions, serve as serveCache } from '../../src/index.ts';
import { lookers } from '../../src/native/wake.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { skipUnless } from '../support/skip.ts';
import { startThread } from '../support/threads.ts';

export function describeServer(front: ServeFront): void {
  describe(`the server with the front ${front}`, () => {
    const serve: typeof serveCache = (cache, options) => serveCache(cache, { front, ...options });

    const cleanUps: (() => unknown)[] = [];
    afterEach(async () => {
      for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
    });

    interface Served {
      cache: Cache;
      server: MemcachedServer;
      port: number;
      open(): Promise<MemcachedSocket>;
    }

    async function start(options: ServeOptions = {}, cache = new Cache({ maxMemory: '64mb' })): Promise<Served> {
      const server = await serve(cache, { port: 0, host: '127.0.0.1', ...options });
      cleanUps.push(async () => {
        server.destroy();
        await server.close();
        cache.close();
      });
      const address = server.addresses.find((each) => 'port' in each);
      const port = address?.port ?? 0;
      const open = async (): Promise<MemcachedSocket> => {
        const client = await MemcachedSocket.open(port);
        cleanUps.push(() => client.destroy());
        return client;
      };
      return { cache, server, port, open };
    }

    const set = (key: string, value: string): string => `set ${key} 0 0 ${value.length}\r\n${value}\r\n`;

    async function freePort(): Promise<number> {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      server.close();
      await once(server, 'close');
      return port;
    }

    /** Asks for a statistic until it is as it should be. */
    async function untilStat(
      client: MemcachedSocket,
      name: string,
      holds: (value: number) => boolean,
    ): Promise<number> {
      for (;;) {
        const stats = await client.ask('stats\r\n', 'END\r\n');
        const value = Number(new RegExp(`STAT ${name} (\\d+)`).exec(stats)?.[1]);
        if (holds(value)) return value;
      }
    }

    describe('serving', () => {
      test('clients and the API see one cache', async () => {
        const { cache, open } = await start();
        const client = await open();
        cache.set('from-api', 'text');
        expect(await client.ask('get from-api\r\n', 'END\r\n')).toBe('VALUE from-api 0 4\r\ntext\r\nEND\r\n');
        expect(await client.ask('set from-port 5 0 3\r\nabc\r\n')).toBe('STORED\r\n');
        expect(cache.get('from-port')).toEqual(Buffer.from('abc'));
        cache.set('n', 41);
        expect(await client.ask('incr n 1\r\n')).toBe('42\r\n');
        expect(cache.get('n')).toBe(42);
      });

      test('version says memcached and cairn', async () => {
        const { open } = await start();
        expect(await (await open()).ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
      });

      test('replies of any size arrive whole and in order', async () => {
        const { open } = await start();
        const client = await open();
        // Above the output buffer, above the high-water mark, and many small ones.
        const sizes = [10, 5000, 70_000, 300_000, 1_000_000];
        let expected = '';
        for (const size of sizes) {
          const value = String.fromCharCode(97 + (size % 26)).repeat(size);
          expect(await client.ask(set(`v${size}`, value))).toBe('STORED\r\n');
          expected += `VALUE v${size} 0 ${size}\r\n${value}\r\nEND\r\n`;
        }
        const pipeline = sizes.map((size) => `get v${size}\r\n`).join('');
        const got = await client.ask(`${pipeline.repeat(5)}mn\r\n`, 'MN\r\n');
        expect(got === `${expected.repeat(5)}MN\r\n`).toBe(true);
      });

      test('many clients at once are answered each for itself', async () => {
        const { server, open } = await start();
        const clients = await Promise.all(Array.from({ length: 50 }, open));
        const replies = await Promise.all(
          clients.map((client, i) => client.ask(`${set(`k${i}`, `v${i}`).repeat(20)}get k${i}\r\n`, 'END\r\n')),
        );
        for (const [i, reply] of replies.entries()) {
          expect(reply).toBe(`${'STORED\r\n'.repeat(20)}VALUE k${i} 0 ${`v${i}`.length}\r\nv${i}\r\nEND\r\n`);
        }
        expect(server.connectionCount).toBe(50);
      });

      test('a client that ends its side is answered before the connection closes', async () => {
        const { open } = await start();
        const client = await open();
        client.send(`${set('a', 'b')}get a\r\nget`);
        client.socket.end();
        expect(await client.ending()).toBe('STORED\r\nVALUE a 0 1\r\nb\r\nEND\r\n');
      });

      test('a client that breaks off in the middle of a request harms no other client', async () => {
        const { server, open } = await start();
        for (const bytes of ['get', 'set a 0 0 10\r\nabc', 'set a 0 0 500000\r\nabc', `${'get a\r\n'.repeat(1000)}`]) {
          const client = await open();
          client.send(bytes);
          client.socket.resetAndDestroy();
        }
        const client = await open();
        await untilStat(client, 'curr_connections', (count) => count === 1);
        expect(server.connectionCount).toBe(1);
        expect(await client.ask('get a\r\n')).toBe('END\r\n');
      });

      test.each([
        ['binary', '\x80\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0', /binary protocol.*sess_binary_protocol=Off/],
        ['tls', '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03', /speaks TLS.*Turn TLS off/],
      ])('a client that speaks %s is disconnected at once, with one warning', async (reason, bytes, warning) => {
        const { server, open } = await start({ protocol: 'ascii' });
        const reasons: string[] = [];
        const warnings: string[] = [];
        server.on('disconnect', (_, why) => reasons.push(why));
        server.on('warning', (message) => warnings.push(message));
        for (let i = 0; i < 3; i++) {
          const client = await open();
          const failed = once(client.socket, 'error');
          client.send(bytes);
          expect(await failed).toMatchObject([{ code: 'ECONNRESET' }]);
          expect(await client.ending()).toBe('');
        }
        while (reasons.length < 3) await new Promise(setImmediate);
        expect(reasons).toEqual([reason, reason, reason]);
        expect(warnings).toEqual([expect.stringMatching(warning)]);
        // In the middle of a connection such a byte is like any other.
        expect(await (await open()).ask(`mn\r\n${bytes}\r\n`, 'ERROR\r\n')).toBe('MN\r\nERROR\r\n');
      });

      test('a client of another protocol is a process warning if the server has no listener for it', async () => {
        const { open } = await start({ protocol: 'ascii' });
        const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
        cleanUps.push(() => warn.mockRestore());
        const client = await open();
        client.send('\x80\x0b');
        await client.ending();
        while (warn.mock.calls.length === 0) await new Promise(setImmediate);
        const text = expect.stringMatching(
          /^tcp:127\.0\.0\.1:\d+ speaks memcached's binary protocol, which is not served/,
        );
        expect(warn.mock.calls).toEqual([[text, 'CairnWarning']]);
      });

      test('the first byte of a connection tells its protocol, of those that are served', async () => {
        const noop = (magic: string): string => `${magic}\x0a${'\0'.repeat(22)}`;
        const { open, cache } = await start();
        expect(await (await open()).ask(noop('\x80'), noop('\x81'))).toBe(noop('\x81'));
        expect(await (await open()).ask('mn\r\n')).toBe('MN\r\n');
        const binary = await start({ protocol: 'binary' }, cache);
        expect(await (await binary.open()).ask(noop('\x80'), noop('\x81'))).toBe(noop('\x81'));
        const text = await binary.open();
        text.send('mn\r\n');
        expect(await text.ending()).toBe('');
      });

      test('two servers may share a cache', async () => {
        const first = await start();
        const second = await start({}, first.cache);
        await (await first.open()).ask(set('a', 'b'));
        expect(await (await second.open()).ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\nb\r\nEND\r\n');
      });

      test('stats report the limits, and why connections ended', async () => {
        const { port, open } = await start({ maxConnections: 77, maxItemSize: '2mb', idleTimeout: '1h', verbosity: 3 });
        const client = await open();
        const settings = await client.ask('stats settings\r\n', 'END\r\n');
        for (const line of [
          'maxconns 77',
          `tcpport ${port}`,
          'item_size_max 2097152',
          'idle_timeout 3600',
          'verbosity 3',
        ]) {
          expect(settings).toContain(`STAT ${line}\r\n`);
        }
        expect(settings).toContain('STAT inter 127.0.0.1\r\n');
        const conns = await client.ask('stats conns\r\n', 'END\r\n');
        expect(conns).toContain(`STAT 1:addr tcp:127.0.0.1:${client.socket.localPort}\r\n`);
        expect(conns).toContain(`STAT 1:listen_addr tcp:127.0.0.1:${port}\r\n`);
        const stats = await client.ask('stats\r\n', 'END\r\n');
        expect(stats).toContain(`STAT pid ${process.pid}\r\n`);
      });
    });

    describe('listening', () => {
      test('by default on both loopback addresses, on one port', async () => {
        const { server } = await start({ host: undefined as never });
        const addresses = server.addresses.map((address) => ('host' in address ? address : undefined));
        expect(addresses[0]?.host).toBe('127.0.0.1');
        expect(new Set(addresses.map((address) => address?.port)).size).toBe(1);
        expect(addresses.every((address) => ['127.0.0.1', '::1'].includes(address?.host ?? ''))).toBe(true);
      });

      test('a port that is taken rejects with ERR_LISTEN and leaves nothing behind', async () => {
        const { port } = await start();
        const cache = new Cache({ maxMemory: '4mb' });
        cleanUps.push(() => cache.close());
        const failing = serve(cache, { host: ['127.0.0.1:0', `127.0.0.1:${port}`] });
        await expect(failing).rejects.toMatchObject({
          code: 'ERR_LISTEN',
          message: `Cannot listen on 127.0.0.1:${port}: it is in use`,
          cause: { code: 'EADDRINUSE' },
        });
      });

      test('probing says beforehand what listening would, and takes nothing', async () => {
        const { port } = await start();
        await expect(
          MemcachedServer.probe({ host: ['127.0.0.1:0', `memory:127.0.0.1:${port}`] }),
        ).rejects.toMatchObject({
          code: 'ERR_LISTEN',
          message: `Cannot listen on 127.0.0.1:${port}: it is in use`,
          cause: { code: 'EADDRINUSE' },
        });
        await expect(MemcachedServer.probe({ port: 70_000 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
        // Documentation's own network: no machine has it.
        await expect(MemcachedServer.probe({ host: '192.0.2.1', port: 0 })).rejects.toMatchObject({
          code: 'ERR_LISTEN',
        });
        const free = await freePort();
        await MemcachedServer.probe({ host: '127.0.0.1', port: free });
        const { server } = await start({ port: free });
        expect(server.addresses).toEqual([{ host: '127.0.0.1', port: free, ack: 'memory' }]);
      });

      test('a wrong option and a closed cache are refused', async () => {
        const cache = new Cache({ maxMemory: '4mb' });
        await expect(serve(cache, { port: 70_000 })).rejects.toMatchObject({
          code: 'ERR_INVALID_ARGUMENT',
        });
        await expect(serve({} as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
        cache.close();
        await expect(serve(cache, { port: 0 })).rejects.toMatchObject({ code: 'ERR_CLOSED' });
      });

      skipUnless(process.platform !== 'win32', 'a path names a pipe on Windows', 'platform').describe(
        'on a unix socket',
        () => {
          const folder = (): string => {
            const path = mkdtempSync(join(tmpdir(), 'cairn-socket-'));
            cleanUps.push(() => rmSync(path, { recursive: true, force: true }));
            return path;
          };
          const startOn = (path: string, more: ServeOptions = {}): Promise<Served> =>
            start({ path, port: undefined as never, host: undefined as never, ...more });

          test('serves there and nowhere else, for its owner only', async () => {
            const path = join(folder(), 'cairn.sock');
            const { server } = await startOn(path);
            expect(server.addresses).toEqual([{ path, ack: 'memory' }]);
            expect(statSync(path).mode & 0o777).toBe(0o700);
            const client = await MemcachedSocket.open(path);
            expect(await client.ask(set('a', 'b'))).toBe('STORED\r\n');
            expect(await client.ask('stats conns\r\n', 'END\r\n')).toContain(`STAT 1:listen_addr unix:${path}\r\n`);
            client.destroy();
          });

          test('takes the permissions it is given, and removes the file at the end', async () => {
            const path = join(folder(), 'cairn.sock');
            const { server } = await startOn(path, { pathMode: 0o770 });
            expect(statSync(path).mode & 0o777).toBe(0o770);
            await server.close();
            expect(existsSync(path)).toBe(false);
          });

          test('is refused if its path is longer than the system takes, and would be cut', async () => {
            const directory = folder();
            const longest = join(
              directory,
              'x'.repeat((process.platform === 'linux' ? 107 : 103) - directory.length - 1),
            );
            const { server } = await startOn(longest);
            expect(existsSync(longest)).toBe(true);
            await server.close();
            await expect(startOn(`${longest}x`)).rejects.toThrow(
              withCode('ERR_INVALID_ARGUMENT', /^Expected path to be at most 10[37] bytes long, .*, got 10[48]$/),
            );
            expect(readdirSync(directory)).toEqual([]);
          });

          test('has its permissions from the moment that it exists', async () => {
            const path = join(folder(), 'cairn.sock');
            const umask = process.umask(0);
            try {
              const starting = startOn(path, { pathMode: 0o600 });
              // It is made in this thread: what is seen at the end of that turn is how it was made.
              while (!existsSync(path)) await Promise.resolve();
              expect(statSync(path).mode & 0o777).toBe(0o600);
              expect(process.umask()).toBe(0);
              await starting;
              expect(statSync(path).mode & 0o777).toBe(0o600);
            } finally {
              process.umask(umask);
            }
          });

          test('has its permissions in another thread, too', async () => {
            const path = join(folder(), 'cairn.sock');
            using _cache = new Cache({ name: 'socket-of-a-thread' });
            const thread = startThread(async ({ cairn, data, say, hear }) => {
              const server = await cairn.serve(cairn.Cache.attach('socket-of-a-thread'), {
                path: data,
                pathMode: 0o620,
              });
              say('listening');
              await hear();
              await server.close();
            }, path);
            expect(await thread.next()).toBe('listening');
            expect(statSync(path).mode & 0o777).toBe(0o620);
            thread.tell('end');
            await thread.exit;
          });

          test('in a folder that is not there says so', async () => {
            const path = join(folder(), 'none', 'cairn.sock');
            await expect(startOn(path)).rejects.toMatchObject({
              code: 'ERR_LISTEN',
              message: `Cannot listen on ${path}: its folder does not exist`,
            });
          });

          test('can be probed, which leaves nothing behind', async () => {
            const path = join(folder(), 'cairn.sock');
            await MemcachedServer.probe({ path });
            expect(existsSync(path)).toBe(false);
            await startOn(path);
            await expect(MemcachedServer.probe({ path })).rejects.toMatchObject({
              code: 'ERR_LISTEN',
              cause: { code: 'EADDRINUSE' },
            });
            expect(existsSync(path)).toBe(true);
          });

          test('replaces a socket without a listener, but no other file', async () => {
            const path = join(folder(), 'cairn.sock');
            // A process that is killed leaves its socket behind.
            const worker = new Worker(
              `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.exit())`,
              {
                eval: true,
              },
            );
            await once(worker, 'exit');
            if (!existsSync(path)) {
              // Node has cleaned up after the worker: make one by hand.
              const left = createServer().listen(path);
              await once(left, 'listening');
              chmodSync(path, 0o600);
              const { renameSync } = await import('node:fs');
              renameSync(path, `${path}.left`);
              left.close();
              await once(left, 'close');
              renameSync(`${path}.left`, path);
            }
            const { server } = await startOn(path);
            await expect(startOn(path)).rejects.toMatchObject({ code: 'ERR_LISTEN', cause: { code: 'EADDRINUSE' } });
            await server.close();
            writeFileSync(path, 'an ordinary file');
            await expect(startOn(path)).rejects.toMatchObject({ code: 'ERR_LISTEN' });
            expect(existsSync(path)).toBe(true);
          });

          test('names the file that is in the way in its error, and leaves it there', async () => {
            const directory = folder();
            const path = join(directory, 'cairn.sock');
            const refused = async (why: string): Promise<void> => {
              for (const listen of [() => startOn(path), () => MemcachedServer.probe({ path })]) {
                await expect(listen()).rejects.toMatchObject({
                  code: 'ERR_LISTEN',
                  message: `Cannot listen on ${path}: ${why}`,
                });
              }
            };
            writeFileSync(path, 'notes');
            await refused('a file that is no socket is in the way');
            expect(readFileSync(path, 'utf8')).toBe('notes');
            rmSync(path);
            symlinkSync('nowhere', path);
            await refused('a symbolic link to nothing is in the way');
            rmSync(path);
            symlinkSync(directory, path);
            await refused('a symbolic link is in the way');
            rmSync(path);
            mkdirSync(path);
            await refused('a directory is in the way');
            rmdirSync(path);
            await startOn(path);
            await refused('it is in use');
          });
        },
      );
    });

    describe('limits', () => {
      test('a connection above the limit is refused with a reply, and one that ends makes room for another', async () => {
        const { server, open } = await start({ maxConnections: 2 });
        const rejected: string[] = [];
        server.on('disconnect', (_, reason) => rejected.push(reason));
        const [first, second] = [await open(), await open()];
        await first.ask('mn\r\n');
        await second.ask('mn\r\n');
        const third = await open();
        expect(await third.ending()).toBe('ERROR Too many open connections\r\n');
        expect(await first.ask('stats\r\n', 'END\r\n')).toContain('STAT rejected_connections 1\r\n');
        second.destroy();
        await untilStat(first, 'curr_connections', (count) => count === 1);
        const fourth = await open();
        expect(await fourth.ask('mn\r\n')).toBe('MN\r\n');
        await vi.waitUntil(() => rejected.includes('rejected'));
      });

      test('a slow reader stops its own connection, not the others, and loses nothing', async () => {
        const { open } = await start();
        const slow = await open();
        const other = await open();
        const value = 'v'.repeat(100_000);
        await other.ask(set('a', value));
        slow.socket.pause();
        const count = 1000;
        slow.send('get a\r\n'.repeat(count));
        // It has stopped; what it was sent is bounded by its high-water mark and the buffers of the system.
        await untilStat(other, 'conn_yields', (yields) => yields > 0);
        const written = await untilStat(other, 'bytes_written', () => true);
        expect(written).toBeLessThan(32 * 2 ** 20);
        expect(await other.ask('get none\r\n')).toBe('END\r\n');
        slow.socket.resume();
        const bytes = count * `VALUE a 0 100000\r\n${value}\r\nEND\r\n`.length;
        await slow.until('all replies', () => slow.receivedBytes === bytes);
      });

      test('small replies behind a large one that is being sent arrive unchanged', async () => {
        const { open } = await start();
        const slow = await open();
        const other = await open();
        const large = 'v'.repeat(700_000);
        await other.ask(set('large', large));
        slow.socket.pause();
        let expected = '';
        let gets = 0;
        // One request after the other until the connection stops: before that, a large reply has left in part only.
        for (let stops = false; !stops; ) {
          const small = `value ${gets}`;
          await other.ask(set('small', small));
          for (const [key, value] of [
            ['large', large],
            ['small', small],
          ] as const) {
            slow.send(`get ${key}\r\n`);
            gets++;
            expected += `VALUE ${key} 0 ${value.length}\r\n${value}\r\nEND\r\n`;
            while (!stops) {
              // Whose reply is put where that of the slow one was.
              const stats = await other.ask('stats\r\n', 'END\r\n');
              if (stats.includes(`STAT cmd_get ${gets}\r\n`)) break;
              stops = !stats.includes('STAT conn_yields 0\r\n');
            }
          }
        }
        slow.socket.resume();
        await slow.until('all replies', () => slow.receivedBytes === expected.length);
        expect(slow.take() === expected).toBe(true);
      });

      test('a reader that takes nothing for too long is dropped', async () => {
        const { server, open } = await start({ stallTimeout: 200 });
        const reasons: string[] = [];
        server.on('disconnect', (_, reason) => reasons.push(reason));
        const slow = await open();
        const other = await open();
        await other.ask(set('a', 'v'.repeat(1_000_000)));
        slow.socket.pause();
        slow.send('get a\r\n'.repeat(200));
        await untilStat(other, 'curr_connections', (count) => count === 1);
        await vi.waitUntil(() => reasons.length > 0);
        expect(reasons).toEqual(['stalled']);
      });

      test('a reader that was slow, and then waits for something here, is not dropped', async () => {
        const { server, open } = await start({ testCommands: true, stallTimeout: 1000 });
        const slow = await open();
        const other = await open();
        const value = 'v'.repeat(1_000_000);
        const reply = `VALUE a 0 1000000\r\n${value}\r\nEND\r\n`;
        await other.ask(set('a', value));
        slow.socket.pause();
        slow.send(`${'get a\r\n'.repeat(30)}mn\r\ndebugpark 1\r\n`);
        await untilStat(other, 'conn_yields', (yields) => yields > 0);
        slow.socket.resume();
        await slow.until('all replies', () => slow.receivedBytes === 30 * reply.length + 'MN\r\n'.length);
        slow.take();
        // Wait until the server drops another client as stalled: the slow reader would have been dropped by then, too.
        const [stalled, stall] = [await open(), once(server, 'disconnect')];
        stalled.send(`set b 0 0 900000\r\n${'v'.repeat(100_000)}`);
        expect((await stall)[1]).toBe('stalled');
        await stalled.ending();
        expect(await other.ask('debugresume 1 here\r\n')).toBe('OK\r\n');
        expect(await slow.ask('')).toBe('here\r\n');
      });

      test('a large value that stops arriving is dropped, and its memory is free again', async () => {
        const { open } = await start({ stallTimeout: 100 });
        const other = await open();
        const before = await untilStat(other, 'bytes', () => true);
        const slow = await open();
        slow.send(`set a 0 0 900000\r\n${'v'.repeat(500_000)}`);
        await untilStat(other, 'bytes', (bytes) => bytes > before);
        await slow.ending();
        await untilStat(other, 'bytes', (bytes) => bytes === before);
      });

      test.each([
        ['(a line of keys)', `get${' key'.repeat(50_000)}`],
        ['to append', `append a 0 0 900000\r\n${'v'.repeat(100)}`],
        ['that is refused', 'set a 0 0 2147483645\r\n'],
        ['that is refused, and has begun', `set a 0 0 2147483645\r\n${'v'.repeat(100_000)}`],
      ])('a client that stops in the middle of a large value %s is dropped', async (_what, sent) => {
        const { server, open } = await start({ stallTimeout: 100 });
        const slow = await open();
        const other = await open();
        const dropped = once(server, 'disconnect');
        slow.send(sent);
        other.send('set b 0 0 100\r\nv');
        expect(await slow.ending()).toBe('');
        expect((await dropped)[1]).toBe('stalled');
        other.send(`${'v'.repeat(99)}\r\n`);
        expect(await other.ask('get b\r\n', 'END\r\n')).toContain('STORED');
      });

      test('a client that sends nothing for too long is dropped, one that sends is not', async () => {
        const { server, open } = await start({ idleTimeout: 150 });
        const reasons: string[] = [];
        server.on('disconnect', (_, reason) => reasons.push(reason));
        const idle = await open();
        const busy = await open();
        let over = false;
        const dropped = idle.ending().then(() => {
          over = true;
        });
        while (!over) await busy.ask('mn\r\n');
        await dropped;
        await vi.waitUntil(() => reasons.length > 0);
        expect(reasons).toEqual(['idle']);
        expect(await busy.ask('stats\r\n', 'END\r\n')).toContain('STAT idle_kicks 1\r\n');
      });

      test('an item larger than the limit is refused, the connection goes on', async () => {
        const { open } = await start({ maxItemSize: '64kb' });
        const client = await open();
        expect(await client.ask(set('a', 'v'.repeat(70_000)))).toBe('SERVER_ERROR object too large for cache\r\n');
        expect(await client.ask(set('a', 'v'.repeat(60_000)))).toBe('STORED\r\n');
      });
    });

    describe('cache_memlimit', () => {
      test('shrinks and grows the cache while clients are served', async () => {
        const { cache, open } = await start();
        const client = await open();
        const value = 'v'.repeat(1000);
        const fill = (name: string): void => {
          cache.setMany(Array.from({ length: 50_000 }, (_, i) => [`${name}${i}`, value]));
        };
        fill('a');
        const before = cache.size;
        expect(await client.ask('cache_memlimit 8\r\n')).toBe('OK\r\n');
        await untilStat(client, 'curr_items', (items) => items < before / 4);
        await vi.waitUntil(() => {
          const { chargedBytes, limitBytes, memoryBytes } = cache.stats();
          return memoryBytes === 8 * 2 ** 20 && chargedBytes <= limitBytes && limitBytes < memoryBytes;
        });
        expect(await client.ask('get a49999\r\n', 'END\r\n')).toBe(`VALUE a49999 0 1000\r\n${value}\r\nEND\r\n`);
        expect(await client.ask('cache_memlimit 128 noreply\r\ncache_memlimit 1000\r\n')).toBe(
          'MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n',
        );
        expect(cache.stats().memoryBytes).toBe(128 * 2 ** 20);
        fill('b');
        fill('c');
        expect(cache.size).toBeGreaterThan(before * 1.5);
      });
    });

    describe('a client that does not close its side', () => {
      test('after it has said good-bye is closed in the end, as any other', async () => {
        const { server, open } = await start();
        const client = await open();
        const ended = once(server, 'disconnect');
        client.send('mn\r\nquit\r\n');
        expect(await client.ending()).toBe('MN\r\n');
        expect((await ended)[1]).toBe('ended');
        expect(server.connectionCount).toBe(0);
      });
    });

    describe('reply slots', () => {
      test('a parked request stops its own connection until another resolves its ticket', async () => {
        const { open } = await start({ testCommands: true });
        const parked = await open();
        const other = await open();
        expect(await parked.ask('mn\r\ndebugpark 5\r\nset a 0 0 1\r\n1\r\nget a\r\n', 'MN\r\n')).toBe('MN\r\n');
        // Until the request has been parked there is no such ticket.
        expect(await other.ask('get a\r\n')).toBe('END\r\n');
        while ((await other.ask('debugresume 5 here it is\r\n')) !== 'OK\r\n');
        await parked.until('the rest', () => parked.receivedBytes >= 40);
        expect(parked.take()).toBe('here it is\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n');
      });

      test('replies are held until they are committed, and leave in order', async () => {
        const { open } = await start({ testCommands: true });
        const writer = await open();
        const reader = await open();
        const other = await open();
        expect(await other.ask('debughold 0\r\n')).toBe('OK\r\n');
        writer.send('set a 0 0 1\r\n1\r\nmn\r\n');
        await untilStat(other, 'curr_items', (items) => items === 1);
        reader.send('get none\r\nget a\r\nmn\r\n');
        await reader.until('the first reply', () => reader.receivedBytes > 0);
        expect(await other.ask('debugcommit 0\r\n')).toBe('OK\r\n');
        expect(writer.take()).toBe('');
        expect(reader.take()).toBe('END\r\n');
        expect(await other.ask('debugcommit all\r\n')).toBe('OK\r\n');
        expect(await writer.ask('', 'MN\r\n')).toBe('STORED\r\nMN\r\n');
        expect(await reader.ask('', 'MN\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\nMN\r\n');
      });

      test('a client that breaks off gives its ticket up; one that only ends its side gets its answer', async () => {
        const { open } = await start({ testCommands: true });
        const other = await open();
        const gone = await open();
        expect(await gone.ask('mn\r\ndebugpark 1\r\n')).toBe('MN\r\n');
        gone.socket.resetAndDestroy();
        await untilStat(other, 'curr_connections', (count) => count === 1);
        expect(await other.ask('debugresume 1 x\r\n')).toBe('NOT_FOUND\r\n');

        const ended = await open();
        expect(await ended.ask('mn\r\ndebugpark 2\r\nget a\r\n')).toBe('MN\r\n');
        ended.socket.end();
        expect(await other.ask('debugresume 2 found\r\n')).toBe('OK\r\n');
        expect(await ended.ending()).toBe('found\r\nEND\r\n');
      });

      test('the clock can be moved', async () => {
        const { open } = await start({ testCommands: true });
        const client = await open();
        expect(await client.ask('set a 0 100 1\r\n1\r\ndebugtime 99\r\nget a\r\n', 'END\r\n')).toContain('VALUE a');
        expect(await client.ask('debugtime 2\r\n')).toBe('OK\r\n');
        expect(await client.ask('get a\r\n')).toBe('END\r\n');
      });

      test('there are no test commands unless they are asked for', async () => {
        const { open } = await start();
        expect(await (await open()).ask('debugpark 1\r\n')).toBe('ERROR\r\n');
      });
    });

    describe('ending', () => {
      test('leaves nothing behind that its thread would look at', async () => {
        const before = lookers.size;
        const { server, open } = await start({ enableShutdown: true, udpPort: -1 });
        await (await open()).ask('mn\r\n');
        expect(lookers.size).toBeGreaterThan(before);
        await server.close();
        expect(lookers.size).toBe(before);
      });

      test('close answers what has come, closes the connections and resolves', async () => {
        const { server, open } = await start();
        const client = await open();
        const idle = await open();
        await idle.ask('mn\r\n');
        await client.ask(set('a', 'v'.repeat(1_000_000)));
        client.socket.pause();
        client.send('get a\r\n'.repeat(5));
        await untilStat(idle, 'cmd_get', (gets) => gets > 0);
        const closing = server.close();
        client.socket.resume();
        const reply = `VALUE a 0 1000000\r\n${'v'.repeat(1_000_000)}\r\nEND\r\n`;
        expect((await client.ending()) === reply.repeat(5)).toBe(true);
        expect(await idle.ending()).toBe('');
        await closing;
        expect(server.connectionCount).toBe(0);
        await expect(open()).rejects.toThrow();
      });

      test('close does not wait longer than it is told for clients that do not read, or are parked', async () => {
        const { server, open } = await start({ testCommands: true });
        const slow = await open();
        await slow.ask(set('a', 'v'.repeat(1_000_000)));
        slow.socket.pause();
        slow.send('get a\r\n'.repeat(100));
        const parked = await open();
        parked.send('debugpark 1\r\n');
        const other = await open();
        await untilStat(other, 'conn_yields', (yields) => yields > 0);
        await server.close({ timeout: 50 });
        expect(server.connectionCount).toBe(0);
      });

      test('close and destroy may be called at any time and again', async () => {
        const { server, open } = await start();
        const client = await open();
        await client.ask('mn\r\n');
        let closes = 0;
        server.on('close', () => closes++);
        const first = server.close();
        expect(server.close()).toBe(first);
        server.destroy();
        await first;
        server.destroy();
        await server.close();
        expect(closes).toBe(1);
        expect(await client.ending()).toBe('');
      });

      test('shutdown is refused, unless the options allow it', async () => {
        const { open } = await start();
        const client = await open();
        for (const line of ['shutdown', 'shutdown graceful', 'shutdown bogus'])
          expect(await client.ask(`${line}\r\n`)).toBe('SERVER_ERROR: shutdown not enabled\r\n');
        expect(await client.ask('stats settings\r\n', 'END\r\n')).toContain('STAT shutdown_command no\r\n');
      });

      test.each([
        ['shutdown', false],
        ['shutdown graceful', true],
      ])('%s closes the server as close does, says so, and leaves the cache open', async (line, graceful) => {
        const { cache, server, open } = await start({ enableShutdown: true });
        const told: unknown[] = [];
        server.on('shutdown', (how) => told.push(how));
        server.on('close', () => told.push('close'));
        const closed = once(server, 'close');
        const idle = await open();
        await idle.ask('mn\r\n');
        const client = await open();
        expect(await client.ask('stats settings\r\n', 'END\r\n')).toContain('STAT shutdown_command yes\r\n');
        expect(await client.ask('shutdown soon\r\n')).toBe('CLIENT_ERROR invalid shutdown mode\r\n');
        client.send(`${set('a', '1')}${line}\r\nget a\r\n`);
        expect(await client.ending()).toBe('STORED\r\n');
        client.destroy();
        expect(await idle.ending()).toBe('');
        await closed;
        expect(told).toEqual([graceful, 'close']);
        await expect(open()).rejects.toThrow();
        expect(cache.get('a')).toEqual(Buffer.from('1'));
      });

      test('shutdown of one server leaves another of the same cache alone', async () => {
        const { cache, server } = await start({ enableShutdown: true });
        const other = await start({ enableShutdown: true }, cache);
        const client = await other.open();
        await client.ask(set('a', '1'));
        const leaving = await MemcachedSocket.open((server.addresses[0] as { port: number }).port);
        cleanUps.push(() => leaving.destroy());
        leaving.send('shutdown\r\n');
        await leaving.ending();
        leaving.destroy();
        await server.close();
        expect(await client.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
      });

      test('destroy does not wait for anything', async () => {
        const { server, open } = await start();
        const client = await open();
        await client.ask(set('a', 'b'));
        server.destroy();
        server.destroy();
        await client.ending();
        expect(server.connectionCount).toBe(0);
      });

      test('a server ends with its cache, which answers what its clients have sent', async () => {
        const { cache, server, open } = await start({ maxItemSize: '2mb' });
        const client = await open();
        const other = await open();
        const value = 'v'.repeat(1_000_000);
        cache.set('big', value);
        client.socket.pause();
        client.send(`get${' big'.repeat(16)}\r\n`); // more than the system takes
        await untilStat(other, 'get_hits', (hits) => hits > 0);
        const closed = cache.close();
        expect(cache.closed).toBe(false);
        client.socket.resume();
        const reply = await client.ending();
        expect(reply.length).toBe(16 * `VALUE big 0 1000000\r\n${value}\r\n`.length + 'END\r\n'.length);
        await closed;
        expect(cache.closed).toBe(true);
        expect(server.connectionCount).toBe(0);
      });

      test('a server ends at once when its cache is destroyed, or closed by another owner', async () => {
        const name = `served-${front}`;
        for (const ends of ['destroyed', 'closed by another'] as const) {
          const owner = new Cache({ maxMemory: '16mb', name });
          const cache = ends === 'destroyed' ? owner : Cache.attach(name);
          const { server, open } = await start({}, cache);
          const client = await open();
          await client.ask(set('a', 'b'));
          const closed = once(server, 'close');
          if (ends === 'destroyed') void cache.destroy();
          else void owner.close();
          client.send('get a\r\n');
          expect(await client.ending()).toBe('');
          await closed;
        }
      });

      test('the servers of a handle end with it, those of other handles go on', async () => {
        const name = `served-by-handles-${front}`;
        const owner = new Cache({ maxMemory: '16mb', name });
        const attached = Cache.attach(name);
        const { open } = await start({}, owner);
        const server = await attached.listen({ port: 0, host: '127.0.0.1', front });
        const closed = once(server, 'close');
        await attached.close();
        await closed;
        owner.set('a', 'x');
        expect(await (await open()).ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\nx\r\nEND\r\n');
      });

      test('a handle that is closed while its server starts has none', async () => {
        const cache = new Cache({ maxMemory: '4mb' });
        const starting = cache.listen({ port: 0, host: '127.0.0.1', front });
        void cache.close();
        await expect(starting).rejects.toThrow(withCode('ERR_CLOSED'));
        await expect(cache.listen({ port: 0 })).rejects.toThrow(withCode('ERR_CLOSED'));
      });

      test('await using closes it', async () => {
        const cache = new Cache({ maxMemory: '4mb' });
        const server = await serve(cache, { port: 0, host: '127.0.0.1' });
        await server[Symbol.asyncDispose]();
        expect(server.connectionCount).toBe(0);
        cache.close();
      });
    });

    describe('threads', () => {
      test('a worker serves a cache of the main thread, and its end takes its server with it', async () => {
        const cache = new Cache({ maxMemory: '16mb', name: 'served-by-a-worker' });
        cleanUps.push(() => cache.close());
        cache.set('a', 'from main');
        const worker = new Worker(
          `import(${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}).then(async ({ Cache, serve }) => {
        const server = await serve(Cache.attach('served-by-a-worker'), { port: 0, host: '127.0.0.1' });
        require('node:worker_threads').parentPort.postMessage(server.addresses[0].port);
      })`,
          { eval: true },
        );
        cleanUps.push(() => worker.terminate());
        const [port] = (await once(worker, 'message')) as [number];
        const client = await MemcachedSocket.open(port);
        expect(await client.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 9\r\nfrom main\r\nEND\r\n');
        expect(await client.ask(set('b', 'from port'))).toBe('STORED\r\n');
        expect(cache.get('b')).toEqual(Buffer.from('from port'));
        client.send('get a\r\nset c 0 0 900000\r\nxyz');
        await worker.terminate();
        await client.ending();
        expect(cache.get('a')).toBe('from main');
      });
    });
  });
}
