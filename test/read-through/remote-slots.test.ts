// Clients of the port whose requests wait for a database, while their later requests are executed: over both fronts, in
// each protocol. A map whose reads of some keys wait for the test is the database; then PostgreSQL is.

import { afterEach, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/index.ts';
import { Cache, type ServeFront, serve } from '../../src/index.ts';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { countExtras, packet, repliesIn, words } from '../support/binary-packets.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { postgresOfTests } from '../support/databases-of-tests.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { Random } from '../support/random.ts';
import { skipUnless } from '../support/skip.ts';

const directories = new DataDirectories('remote-slots');
const fronts: readonly ServeFront[] = hasNativeFront() ? ['native', 'node'] : ['node'];
const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** Reads of keys that begin with `slow` wait until the gate is opened. */
class Gate {
  readonly store = new PlainStore();
  waiting = 0;
  open!: () => void;
  readonly #opened = new Promise<void>((resolve) => {
    this.open = resolve;
  });

  row(key: string, value: string): void {
    this.store.rows.set(key, { value: Buffer.from(value), codec: 0, clientFlags: 0, expiresWallMs: 0, version: 1n });
  }
  backend(): Backend {
    const plain = plainBackend(this.store, Date.now);
    const load = async (keys: readonly Buffer[]): ReturnType<Backend['load']> => {
      if (keys.some((key) => key.toString().startsWith('slow'))) {
        this.waiting++;
        await this.#opened;
      }
      return plain.load(keys);
    };
    return { ...plain, load };
  }
}

describe.each(fronts)('with the front %s', (front) => {
  async function serveGated(): Promise<{ gate: Gate; client: MemcachedSocket; other: MemcachedSocket }> {
    const gate = new Gate();
    gate.row('slow', '1');
    gate.row('slow2', '2');
    const cache = await Cache.open({ store: gate.backend(), mode: 'read-through' });
    cleanUps.push(() => cache.close());
    const server = await serve(cache, { port: 0, front });
    cleanUps.push(() => server.close());
    cleanUps.push(() => gate.open());
    const open = async (): Promise<MemcachedSocket> => {
      const socket = await MemcachedSocket.open((server.addresses[0] as { port: number }).port);
      cleanUps.push(() => socket.destroy());
      return socket;
    };
    return { gate, client: await open(), other: await open() };
  }
  // Waits until a request that is behind the waiting one has been executed.
  const untilFound = (other: MemcachedSocket, key: string): Promise<void> =>
    expect.poll(() => other.ask(`mg ${key} v\r\nmn\r\n`, 'MN\r\n')).toMatch(/^VA /);

  test('requests behind one that waits are executed, and replies leave in order', async () => {
    const { gate, client, other } = await serveGated();
    client.send('get slow\r\nset b 0 0 1\r\nB\r\nget b slow2 b\r\nincr slow 4\r\nget b\r\nset last 0 0 1\r\nL\r\n');
    await untilFound(other, 'last');
    expect(client.receivedBytes).toBe(0);
    // The connection is read on.
    client.send('set later 0 0 1\r\nx\r\nmn\r\n');
    await untilFound(other, 'later');
    expect(client.receivedBytes).toBe(0);
    gate.open();
    expect(await client.ask('', 'MN\r\n')).toBe(
      'VALUE slow 0 1\r\n1\r\nEND\r\nSTORED\r\nVALUE b 0 1\r\nB\r\nVALUE slow2 0 1\r\n2\r\nVALUE b 0 1\r\nB\r\nEND\r\n' +
        '5\r\nVALUE b 0 1\r\nB\r\nEND\r\nSTORED\r\nSTORED\r\nMN\r\n',
    );
  });

  test('quiet requests of the meta protocol', async () => {
    const { gate, client, other } = await serveGated();
    client.send('mg none q v\r\nmg slow q v k\r\nms last 1 q\r\nL\r\nma slow v\r\nmg slow2 v\r\nmn\r\n');
    await untilFound(other, 'last');
    expect(client.receivedBytes).toBe(0);
    gate.open();
    expect(await client.ask('', 'MN\r\n')).toBe('VA 1 kslow\r\n1\r\nVA 1\r\n2\r\nVA 1\r\n2\r\nMN\r\n');
  });

  test('the binary protocol', async () => {
    const { gate, client, other } = await serveGated();
    const flags = words(0, 0);
    const requests = [
      packet(0x0d, { key: 'slow' }),
      packet(0x09, { key: 'none' }),
      packet(0x11, { key: 'last', value: 'L', extras: flags }),
      packet(0x05, { key: 'slow', extras: countExtras(5n, 0n, 0) }),
      packet(0x00, { key: 'slow2' }),
      packet(0x0a, { opaque: 7 }),
    ];
    client.send(Buffer.concat(requests));
    await untilFound(other, 'last');
    expect(client.receivedBytes).toBe(0);
    gate.open();
    await client.until('the reply to the noop', () => client.receivedBytes >= 24 * 4 + 4 + 4 + 1 + 8 + 4 + 1);
    const replies = repliesIn(client.take()).map(({ opcode, key, value }) => [opcode, key, value]);
    expect(replies).toEqual([
      [0x0d, 'slow', '1'],
      [0x05, '', '\0\0\0\0\0\0\0\x06'],
      [0x00, '', '2'],
      [0x0a, '', ''],
    ]);
  });

  test('a client that ends its side, or quits, gets what it waits for; one that leaves holds up no other', async () => {
    const { gate, client, other } = await serveGated();
    client.send('get slow\r\nset last 0 0 1\r\nL\r\nquit\r\nget slow2\r\n');
    await untilFound(other, 'last');
    other.send('get slow2 slow\r\nset gone 0 0 1\r\nG\r\n');
    const third = await MemcachedSocket.open(other.socket.remotePort!);
    cleanUps.push(() => third.destroy());
    await untilFound(third, 'gone');
    other.destroy();
    third.send('get slow\r\nmn\r\n');
    third.socket.end();
    gate.open();
    expect(await client.ending()).toBe('VALUE slow 0 1\r\n1\r\nEND\r\nSTORED\r\n');
    expect(await third.ending()).toBe('VALUE slow 0 1\r\n1\r\nEND\r\nMN\r\n');
  });

  test('more requests than a connection has slots, and more replies than it keeps', async () => {
    const { gate, client, other } = await serveGated();
    const large = 'v'.repeat(60_000);
    await other.ask(`set large 0 0 60000\r\n${large}\r\n`);
    const keys = Array.from({ length: 3000 }, (_, i) => `slow-${i}`);
    for (const key of keys) gate.row(key, key);
    const replies: string[] = [];
    for (const key of keys) {
      replies.push(`VALUE ${key} 0 ${key.length}\r\n${key}\r\nEND\r\n`);
      client.send(`get ${key}\r\n`);
    }
    for (let i = 0; i < 40; i++) {
      replies.push(`VALUE large 0 60000\r\n${large}\r\nEND\r\n`);
      client.send('get large\r\n');
    }
    await expect.poll(() => gate.waiting).toBeGreaterThan(0);
    gate.open();
    const got = await client.ask('mn\r\n', 'MN\r\n');
    expect(got === `${replies.join('')}MN\r\n`).toBe(true);
  });
});

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('with PostgreSQL', () => {
  const server = postgresOfTests();

  test.each(fronts)('random streams answer as if all values were in memory, with the front %s', async (front) => {
    const random = new Random();
    await server.reset();
    const keys = Array.from({ length: 12 }, (_, i) => `key-${i}`);
    const written = await Cache.open({ store: server.url(), data: directories.fresh(), writeBack: { delay: 1 } });
    cleanUps.push(() => written.close());
    const plain = new Cache();
    cleanUps.push(() => plain.close());
    const sockets: MemcachedSocket[] = [];
    for (const cache of [written, plain]) {
      const port = await serve(cache, { port: 0, front });
      cleanUps.push(() => port.close());
      const socket = await MemcachedSocket.open((port.addresses[0] as { port: number }).port);
      cleanUps.push(() => socket.destroy());
      sockets.push(socket);
    }
    for (let round = 0; round < 20; round++) {
      let stream = '';
      for (let i = 0; i < 60; i++) {
        const [key, second] = [random.pick(keys), random.pick(keys)];
        stream += random.pick([
          `get ${key} ${second}\r\n`,
          `set ${key} 0 0 2\r\n${random.below(90) + 10}\r\n`,
          `incr ${key} 3\r\n`,
          `append ${key} 0 0 1\r\n5\r\n`,
          `mg ${key} v k q\r\n`,
          `add ${key} 0 0 1 noreply\r\n1\r\n`,
        ]);
      }
      const [got, expected] = await Promise.all(sockets.map((socket) => socket.ask(`${stream}mn\r\n`, 'MN\r\n')));
      expect(got, `CAIRN_SEED=${random.seed}, round ${round}`).toBe(expected);
      // The next round finds about half of the values in the database alone.
      await written.drain();
      for (const key of keys) if (random.below(2) === 0) written.evict(key);
    }
  });
});
