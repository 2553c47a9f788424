// `watch` over the fronts that there are: what a watching client is told, that it holds up no other client, and what
// becomes of it. The lines of each command are the matter of test/native/protocol_watch_test.cc and
// test/protocol/watch.test.ts.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Cache, type MemcachedServer, type ServeOptions, serve } from '../../src/index.ts';
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

/** A client that watches, and the lines that have come. */
class Watcher {
  readonly client: MemcachedSocket;
  text = '';

  private constructor(client: MemcachedSocket) {
    this.client = client;
  }

  static async open(client: MemcachedSocket, command = 'watch'): Promise<Watcher> {
    expect(await client.ask(`${command}\r\n`)).toBe('OK\r\n');
    return new Watcher(client);
  }

  get lines(): string[] {
    this.text += this.client.take();
    return this.text.split('\n').slice(0, -1);
  }

  /** Resolves when this text has come. */
  async until(text: string): Promise<void> {
    await vi.waitUntil(() => this.lines.some((line) => line.includes(text)), { timeout: 30_000 });
  }
}

for (const { front, describe } of FRONTS) {
  describe(`watch over the front '${front}'`, () => {
    let cache: Cache;
    let server: MemcachedServer;
    let clients: MemcachedSocket[];
    const start = async (options: ServeOptions = {}, memory = '16mb'): Promise<void> => {
      cache = new Cache({ maxMemory: memory });
      server = await serve(cache, { port: 0, host: '127.0.0.1', front, threads: 2, ...options });
    };
    const open = async (): Promise<MemcachedSocket> => {
      const [address] = server.addresses;
      const where = address !== undefined && 'port' in address ? address.port : address!.path;
      const client = await MemcachedSocket.open(where);
      clients.push(client);
      return client;
    };
    const stat = async (client: MemcachedSocket, name: string): Promise<number> => {
      const stats = await client.ask('stats\r\n', 'END\r\n');
      return Number(new RegExp(`^STAT ${name} (\\d+)\\r$`, 'm').exec(stats)?.[1]);
    };
    beforeEach(() => {
      clients = [];
    });
    afterEach(async () => {
      for (const client of clients) client.destroy();
      server.destroy();
      await server.close();
      await cache.close();
    });

    test('a client is told of what all clients do, on every thread', async () => {
      await start();
      const others = await Promise.all([open(), open(), open()]);
      const watcher = await Watcher.open(await open(), 'watch fetchers mutations deletions');
      for (const [i, client] of others.entries()) {
        await client.ask(`set k${i} 0 0 1\r\nx\r\nget k${i}\r\ndelete k${i}\r\n`, 'DELETED\r\n');
      }
      for (const i of others.keys()) {
        await watcher.until(`type=item_store key=k${i} status=stored cmd=set ttl=0 clsid=1`);
        await watcher.until(`type=item_get key=k${i} status=found clsid=1`);
        await watcher.until(`type=deleted key=k${i} cmd=delete clsid=1 size=1`);
      }
      for (const line of watcher.lines) expect(line).toMatch(/^ts=\d{10}\.\d{6} gid=\d+ type=\w+ key=/);
      const numbers = watcher.lines.map((line) => / gid=(\d+)/.exec(line)?.[1]);
      expect(new Set(numbers).size).toBe(numbers.length);
    });

    test('connections are told of, with their clients and the reason of their end', async () => {
      await start();
      const watcher = await Watcher.open(await open(), 'watch connevents');
      const one = await open();
      await one.ask('version\r\n');
      const { localPort } = one.socket;
      await watcher.until(`type=conn_new rip=127.0.0.1 rport=${localPort} transport=tcp cfd=`);
      one.send('quit\r\n');
      await one.ending();
      await watcher.until(`type=conn_close rip=127.0.0.1 rport=${localPort} transport=tcp reason=normal cfd=`);
      const gone = await open();
      await gone.ask('version\r\n');
      const gonePort = gone.socket.localPort;
      gone.socket.resetAndDestroy();
      await watcher.until(`rport=${gonePort} transport=tcp reason=error cfd=`);
      const numberOf = (text: string): string | undefined =>
        / cfd=(\d+)/.exec(watcher.lines.find((line) => line.includes(text)) ?? '')?.[1];
      expect(numberOf(`conn_new rip=127.0.0.1 rport=${localPort}`)).toBe(
        numberOf(`conn_close rip=127.0.0.1 rport=${localPort}`),
      );
    });

    test('a watching client is not idle, and one that is idle is told of', async () => {
      await start({ idleTimeout: '400ms' });
      const watcher = await Watcher.open(await open(), 'watch connevents');
      const idle = await open();
      await idle.ask('version\r\n');
      await idle.ending();
      await watcher.until('reason=idle_timeout');
      const last = await open();
      await last.ask('version\r\n');
      await watcher.until(`conn_new rip=127.0.0.1 rport=${last.socket.localPort}`);
    });

    test('evictions are told of, also those that the program causes', async () => {
      await start({}, '8mb');
      const watcher = await Watcher.open(await open(), 'watch evictions');
      let i = 0;
      const evictions = (): number => watcher.lines.filter((line) => line.includes('type=eviction key=api')).length;
      await vi.waitUntil(
        () => {
          for (let n = 0; n < 200; n++) cache.set(`api${i++}`, 'v'.repeat(10_000));
          return evictions() > 0;
        },
        { timeout: 30_000, interval: 5 },
      );
      expect(watcher.lines.find((line) => line.includes('api'))).toMatch(
        /^ts=\d+\.\d{6} gid=\d+ type=eviction key=api\d+ fetch=no ttl=-1 la=0 clsid=1 size=10000$/,
      );
    });

    test('what it sends further is discarded, and it stops when it ends', async () => {
      await start();
      const other = await open();
      const watcher = await Watcher.open(await open());
      watcher.client.send('version\r\nquit\r\n');
      await other.ask('get a\r\n');
      await watcher.until('key=a ');
      expect(watcher.text).not.toContain('VERSION');
      expect(await stat(other, 'log_watchers')).toBe(1);
      watcher.client.socket.end();
      await watcher.client.ending();
      await vi.waitUntil(async () => (await stat(other, 'log_watchers')) === 0);
      const before = await stat(other, 'log_worker_written');
      await other.ask('get a\r\n');
      expect(await stat(other, 'log_worker_written')).toBe(before);
    });

    test('one that does not read holds up no other, loses lines, and is told how many', {
      timeout: 120_000,
    }, async () => {
      // It would be disconnected after this time if it were a client that does not take its replies.
      await start({ stallTimeout: '500ms' });
      const other = await open();
      const watcher = await Watcher.open(await open());
      watcher.client.socket.pause();
      const key = '%'.repeat(250);
      const gets = `${`get ${key}\r\n`.repeat(100)}mn\r\n`;
      await vi.waitUntil(
        async () => {
          await other.ask(gets, 'MN\r\n');
          return (await stat(other, 'log_watcher_skipped')) > 1000;
        },
        { timeout: 100_000, interval: 1 },
      );
      expect(await stat(other, 'log_watchers')).toBe(1);
      watcher.client.socket.resume();
      await vi.waitUntil(
        async () => {
          await other.ask('get after\r\n', 'END\r\n');
          return watcher.lines.some((line) => /^skipped=\d+$/.test(line));
        },
        { timeout: 60_000 },
      );
      await watcher.until('key=after ');
      // Whole lines only.
      for (const line of watcher.lines) expect(line).toMatch(/^(skipped=\d+|ts=.* size=\d+)$/);
    });

    test('the end of the server is the end of its watchers', async () => {
      await start();
      const watcher = await Watcher.open(await open());
      await server.close();
      await watcher.client.ending();
      expect(server.connectionCount).toBe(0);
    });

    test('disableWatch refuses it', async () => {
      await start({ disableWatch: true });
      const client = await open();
      expect(await client.ask('watch\r\n')).toBe('CLIENT_ERROR watch commands not allowed\r\n');
    });

    test('hideKeys shows the same word for the same key, in lines and in dumps', async () => {
      await start({ hideKeys: true });
      const other = await open();
      const watcher = await Watcher.open(await open(), 'watch mutations');
      await other.ask('set secret 0 0 1\r\nx\r\nset secret 0 0 1\r\ny\r\n', 'STORED\r\nSTORED\r\n');
      await vi.waitUntil(() => watcher.lines.length === 2);
      const words = watcher.lines.map((line) => / key=(\S+)/.exec(line)?.[1]);
      expect(words[0]).toMatch(/^[0-9a-f]{16}$/);
      expect(words[1]).toBe(words[0]);
      const dump = await other.ask('lru_crawler metadump all\r\n', 'END\r\n');
      expect(dump).toContain(`key=${words[0]} `);
      expect(dump).not.toContain('secret');
      const keys = await other.ask('lru_crawler mgdump all\r\n', 'EN\r\n');
      expect(keys).toBe(`OK\r\nmg ${words[0]}\r\nEN\r\n`);
    });

    if (process.platform !== 'win32') {
      test('clients of a unix socket are told of as unix', async () => {
        const folder = mkdtempSync(join(tmpdir(), 'cairn-watch-'));
        const path = join(folder, 'cairn.sock');
        cache = new Cache({ maxMemory: '16mb' });
        server = await serve(cache, { path, front });
        const watcher = await Watcher.open(await open(), 'watch connevents');
        const one = await open();
        one.send('quit\r\n');
        await one.ending();
        await watcher.until('type=conn_new rip=unix rport=0 transport=local cfd=');
        await watcher.until('type=conn_close rip=unix rport=0 transport=local reason=normal cfd=');
        rmSync(folder, { recursive: true });
      });
    }
  });
}
