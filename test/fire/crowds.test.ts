// A server under clients that hurt: crowds of them stop reading, leave in mid-answer or in mid-request, send a byte at
// a time, connect and go by the thousand, or stay and say nothing. Meanwhile another client is answered, and the memory
// of the server, which is a separate process, stays within its bounds.
//
// Here in short. At length, with figures: CAIRN_TEST_FACTOR=20 npx vitest run test/fire/crowds.test.ts
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { type CliProcess, startCli } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const FACTOR = Number(process.env['CAIRN_TEST_FACTOR'] ?? 1);
const CROWD = 60 * FACTOR;
const MIB = 2 ** 20;
const LARGE_BYTES = 900_000;
const OUTPUT_LIMIT = 16 * MIB;
/** The limit may be exceeded by a quarter, and each thread that serves may exceed it by the replies of one client. */
const OUTPUT_SLACK = OUTPUT_LIMIT / 4 + 2 * 4 * MIB;
const PATIENCE = { timeout: 120_000, interval: 20 };

skipUnless(hasNativeFront(), 'the native front is there on Linux only', 'platform').describe(
  'a crowd of clients',
  () => {
    let server: CliProcess;
    let port: number;
    let other: MemcachedSocket;

    async function start(): Promise<void> {
      server = startCli(['serve', '-p', '-1', '-c', '20000', '-t', '2', '-m', '64', '--output-limit', '16mb']);
      await server.printed('Listening on');
      port = Number(/127\.0\.0\.1:(\d+)/.exec(server.stdout)?.[1]);
      other = await MemcachedSocket.open(port);
    }
    async function stop(): Promise<void> {
      other?.destroy();
      await server?.stop();
    }

    beforeAll(async () => {
      await start();
      const large = 'l'.repeat(LARGE_BYTES);
      expect(await other.ask(`set large 0 0 ${LARGE_BYTES}\r\n${large}\r\n`)).toBe('STORED\r\n');
      expect(await other.ask('set small 0 0 1\r\ns\r\n')).toBe('STORED\r\n');
    });
    afterAll(stop);

    async function stat(name: string): Promise<number> {
      const topic = name.startsWith('output_') ? 'stats cairn\r\n' : 'stats\r\n';
      return Number(new RegExp(`^STAT ${name} (\\d+)`, 'm').exec(await other.ask(topic, 'END\r\n'))?.[1]);
    }
    const isAnswered = async (): Promise<void> => {
      expect(await other.ask('get small\r\n', 'END\r\n')).toBe('VALUE small 0 1\r\ns\r\nEND\r\n');
    };
    const untilAlone = (): Promise<boolean> =>
      vi.waitUntil(async () => (await stat('curr_connections')) === 1, PATIENCE);
    const status = (of: string, task = ''): number =>
      Number(
        new RegExp(`^${of}:\\s+(\\d+)`, 'm').exec(
          readFileSync(`/proc/${server.child.pid}${task}/status`, 'latin1'),
        )?.[1],
      );
    const rssBytes = (): number => 1024 * status('VmRSS');
    const told = (text: string): void => {
      if (FACTOR > 1) console.log(text);
    };

    /** Opens clients, a hundred at a time. */
    async function crowd(count: number): Promise<MemcachedSocket[]> {
      const clients: MemcachedSocket[] = [];
      while (clients.length < count) {
        const some = Array.from({ length: Math.min(100, count - clients.length) }, () => MemcachedSocket.open(port));
        clients.push(...(await Promise.all(some)));
      }
      return clients;
    }

    test('that stops reading: their replies stay within the limit, those deaf for longest are dropped', async () => {
      const before = rssBytes();
      const clients = await crowd(CROWD);
      let most = 0;
      for (const client of clients) {
        client.socket.pause();
        client.send('get large\r\n'.repeat(20));
        await isAnswered();
        most = Math.max(most, await stat('output_bytes'));
      }
      // Of one whose replies are more than the system takes, at least 1 MiB waits.
      await vi.waitUntil(async () => (await stat('output_drops')) >= CROWD - OUTPUT_LIMIT / MIB, PATIENCE);
      most = Math.max(most, await stat('output_bytes'));
      const grown = rssBytes() - before;
      told(`${CROWD} that stop reading: ${most} bytes of replies, RSS grown by ${grown}`);
      expect(most).toBeGreaterThan(OUTPUT_LIMIT / 2);
      expect(most).toBeLessThanOrEqual(OUTPUT_LIMIT + OUTPUT_SLACK);
      expect(grown).toBeLessThan(OUTPUT_LIMIT + OUTPUT_SLACK + 32 * MIB);
      for (const client of clients) client.destroy();
      await untilAlone();
      expect(await stat('output_bytes')).toBe(0);
    });

    test('that leaves in mid-answer leaves nothing', async () => {
      const clients = await crowd(CROWD);
      for (const client of clients) client.send('get large\r\n'.repeat(5));
      await Promise.all(
        clients.map(async (client) => {
          // Dropped for the limit is gone too.
          await client.until('some of an answer', () => client.receivedBytes > 0).catch(() => {});
          client.socket.resetAndDestroy();
        }),
      );
      await isAnswered();
      await untilAlone();
      expect(await stat('output_bytes')).toBe(0);
    });

    test('that is killed in mid-request stores nothing', async () => {
      const items = await stat('curr_items');
      const clients = await crowd(CROWD);
      for (const [i, client] of clients.entries()) {
        client.send(`set half${i} 0 0 ${i % 2 === 0 ? 100 : 200_000}\r\nthe beginning`);
      }
      await isAnswered();
      for (const client of clients) client.socket.resetAndDestroy();
      await untilAlone();
      expect(await stat('curr_items')).toBe(items);
    });

    test('that sends a byte at a time is answered, each and in full', async () => {
      const clients = await crowd(CROWD);
      const request = 'get small\r\n';
      for (const byte of request) {
        for (const client of clients) client.send(byte);
        await isAnswered();
      }
      for (const client of clients) {
        expect(await client.ask('', 'END\r\n')).toBe('VALUE small 0 1\r\ns\r\nEND\r\n');
        client.destroy();
      }
      await untilAlone();
    });

    test('that connects and goes, again and again, does not wake the main thread', async () => {
      const count = 40 * CROWD;
      const wakes = () => status('voluntary_ctxt_switches', `/task/${server.child.pid}`);
      const before = wakes();
      const begun = performance.now();
      const connections = await stat('total_connections');
      for (let i = 0; i < count; i += 100) {
        for (const client of await crowd(100)) client.socket.resetAndDestroy();
        await isAnswered();
      }
      await untilAlone();
      expect(await stat('total_connections')).toBeGreaterThanOrEqual(connections + count);
      const woken = wakes() - before;
      const ms = performance.now() - begun;
      told(
        `${count} that connect and go, ${Math.round((1000 * count) / ms)} a second: the main thread woke ${woken} times`,
      );
      // It looks ten times a second whether its cache is there.
      expect(woken).toBeLessThan(count / 10 + ms / 10);
    });

    test('that says nothing costs at most 8 KiB each', async () => {
      // Of a new server: one that has had clients has memory for more.
      await stop();
      await start();
      const count = Math.max(1000, 5 * CROWD);
      expect(await other.ask('get small\r\n', 'END\r\n')).toBe('END\r\n');
      const before = rssBytes();
      const clients = await crowd(count);
      await vi.waitUntil(async () => (await stat('curr_connections')) === count + 1, PATIENCE);
      const each = (rssBytes() - before) / count;
      told(`${count} that say nothing: ${Math.round(each)} bytes of RSS each`);
      expect(each).toBeGreaterThan(0);
      expect(each).toBeLessThanOrEqual(8192);
      for (const client of clients) client.destroy();
      await untilAlone();
    });
  },
);
