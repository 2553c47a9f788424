// A served cache with a log, whose scribe is the test: what is drained, and when it is committed, is said by hand. So
// it can be shown who waits for which commit, through sockets and the wake-up of the server's thread. The real log, and
// crashes, are the matter of logged-process.test.ts.

import { once } from 'node:events';
import { afterEach, describe, expect, test } from 'vitest';
import { type FeedHandle, FeedState, feedOf, native, numberWord, Word } from '../../src/native.ts';
import type { ServeFront, ServeOptions } from '../../src/options.ts';
import { MemcachedServer } from '../../src/server/index.ts';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

const RING_BYTES = 256 * 1024;

/** A cache of one shard with a ring, ready to be served. */
function openLogged(): FeedHandle {
  const handle = native.openCache({
    name: '',
    description: '{}',
    join: false,
    ready: false,
    ttlMs: 0,
    memoryBytes: 16 * 2 ** 20,
    memoryBytesCeiling: 0,
    entriesMax: 0,
    shardCount: 1,
    valueBytesMax: 0,
    trackAccess: false,
    siphash: false,
    ringBytes: RING_BYTES,
  });
  if (typeof handle === 'number') throw new Error(`openCache answered ${handle}`);
  const feed = feedOf(handle);
  if (feed === undefined) throw new Error('Expected a handle with a feed');
  feed.startFeed(7, 0);
  feed.finishRecovery();
  cleanUps.push(() => handle.close());
  return feed;
}

async function start(feed: FeedHandle, options: ServeOptions = {}) {
  const server = await MemcachedServer.start(
    feed,
    { port: 0, host: '127.0.0.1', ...options },
    { ack: 'logged', highestAck: 'logged', logMetrics: ['syncs', 'snapshotAtMs'] },
  );
  cleanUps.push(async () => {
    server.destroy();
    await server.close();
  });
  const [address] = server.addresses;
  const port = address !== undefined && 'port' in address ? address.port : 0;
  const open = async (): Promise<MemcachedSocket> => {
    const client = await MemcachedSocket.open(port);
    cleanUps.push(() => client.destroy());
    return client;
  };
  return { server, open };
}

const buffer = Buffer.alloc(2 * 2 ** 20);
/** What the scribe would do next: everything that is in the rings is in the log. */
function commit(feed: FeedHandle): number {
  const bytes = feed.drain(buffer, 0);
  if (bytes > 0) feed.commitDrained(numberWord(Word.place));
  return bytes;
}

const set = (key: string, value: string): string => `set ${key} 0 0 ${value.length}\r\n${value}\r\n`;

async function statCairn(client: MemcachedSocket, name: string): Promise<string | undefined> {
  const stats = await client.ask('stats cairn\r\n', 'END\r\n');
  return new RegExp(`STAT ${name} (\\S+)\r\n`).exec(stats)?.[1];
}

/** Asks until the statistic is as it should be. */
async function untilStat(client: MemcachedSocket, name: string, value: string): Promise<void> {
  while ((await statCairn(client, name)) !== value);
}

describe('a listener that waits for the log', () => {
  test('answers a write when it is committed, and shows it to no reader before', async () => {
    const feed = openLogged();
    const { open } = await start(feed);
    const [writer, reader, other] = [await open(), await open(), await open()];
    writer.send(`${set('a', '1')}mn\r\n`);
    await untilStat(other, 'records_waiting', '1');
    reader.send('get a\r\nmn\r\n');
    await untilStat(other, 'replies_held', '2');
    expect(writer.take() + reader.take()).toBe('');
    expect(commit(feed)).toBeGreaterThan(0);
    expect(await writer.ask('', 'MN\r\n')).toBe('STORED\r\nMN\r\n');
    expect(await reader.ask('', 'MN\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\nMN\r\n');
    expect(await reader.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
  });

  test('holds the miss of a key whose deletion is not committed', async () => {
    const feed = openLogged();
    const { open } = await start(feed);
    const [writer, reader, other] = [await open(), await open(), await open()];
    writer.send(set('a', '1'));
    await untilStat(other, 'records_waiting', '1');
    commit(feed);
    expect(await writer.ask('', 'STORED\r\n')).toBe('STORED\r\n');
    writer.send('delete a\r\n');
    await untilStat(other, 'records_waiting', '1');
    reader.send('get a\r\n');
    await untilStat(other, 'replies_held', '3');
    expect(writer.take() + reader.take()).toBe('');
    commit(feed);
    expect(await reader.ask('', 'END\r\n')).toBe('END\r\n');
    expect(await writer.ask('', 'DELETED\r\n')).toBe('DELETED\r\n');
  });

  test('does not make a listener at level memory wait', async () => {
    const feed = openLogged();
    const logged = await start(feed);
    const memory = await start(feed, { ack: 'memory' });
    expect([logged.server.ack, memory.server.ack]).toEqual(['logged', 'memory']);
    const quick = await memory.open();
    expect(await quick.ask(`${set('a', '1')}get a\r\n`, 'END\r\n')).toBe('STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n');
    expect(await statCairn(quick, 'ack')).toBe('memory');
    const patient = await logged.open();
    expect(await statCairn(patient, 'ack')).toBe('logged');
    patient.send('get a\r\n');
    await untilStat(await logged.open(), 'replies_held', '1');
    expect(patient.take()).toBe('');
    commit(feed);
    expect(await patient.ask('', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
  });

  test('is one of several of one server, which counts their clients together', async () => {
    const feed = openLogged();
    const { server, open } = await start(feed, { host: ['127.0.0.1', 'memory:127.0.0.1'], maxConnections: 3 });
    expect([server.ack, ...server.addresses.map(({ ack }) => ack)]).toEqual(['logged', 'logged', 'memory']);
    const [, address] = server.addresses;
    const quick = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
    cleanUps.push(() => quick.destroy());
    expect(await quick.ask(`${set('a', '1')}get a\r\n`, 'END\r\n')).toBe('STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n');
    const [patient, other] = [await open(), await open()];
    patient.send('get a\r\n');
    await untilStat(quick, 'replies_held', '1');
    expect([await statCairn(quick, 'ack'), await statCairn(other, 'ack')]).toEqual(['memory', 'logged']);
    expect(patient.take()).toBe('');
    commit(feed);
    expect(await patient.ask('', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
    expect(await (await open()).ending()).toBe('ERROR Too many open connections\r\n');
  });

  test('answers writes that are committed while it closes, and cuts off the others at the timeout', async () => {
    const feed = openLogged();
    const { server, open } = await start(feed);
    const [client, other] = [await open(), await open()];
    client.send(set('a', '1'));
    await untilStat(other, 'records_waiting', '1');
    const closing = server.close();
    expect(await other.ending()).toBe('');
    commit(feed);
    expect(await client.ending()).toBe('STORED\r\n');
    await closing;

    const second = await start(feed);
    const [late, watching] = [await second.open(), await second.open()];
    late.send(set('b', '1'));
    await untilStat(watching, 'records_waiting', '1');
    await second.server.close({ timeout: 50 });
    expect(await late.ending()).toBe('');
  });

  test('does not take a client for idle whose reply it holds', async () => {
    const feed = openLogged();
    const { server, open } = await start(feed, { idleTimeout: 100 });
    const [held, idle] = [await open(), await open()];
    held.send(set('a', '1'));
    const [, reason] = await once(server, 'disconnect');
    expect(await idle.ending()).toBe('');
    expect([reason, server.connectionCount]).toEqual(['idle', 1]);
    commit(feed);
    expect(await held.ask('', 'STORED\r\n')).toBe('STORED\r\n');
  });
});

describe('a log without room', () => {
  /** Sets of 8 KiB until the ring is full; resolves when the connection is parked. */
  async function fill(client: MemcachedSocket, other: MemcachedSocket): Promise<number> {
    const count = Math.ceil(RING_BYTES / 8192) + 1;
    for (let i = 0; i < count; i++) client.send(set(`k${i}`, 'v'.repeat(8192)));
    await untilStat(other, 'requests_parked', '1');
    return count;
  }

  test('parks a request until there is room', async () => {
    const feed = openLogged();
    const { open } = await start(feed);
    const [writer, other] = [await open(), await open()];
    const count = await fill(writer, other);
    expect(writer.take()).toBe('');
    expect(Number(await statCairn(other, 'ring_fill_worst'))).toBeGreaterThan(0.9);
    // The commit wakes the connection, whose last requests then wait for the next one.
    commit(feed);
    await writer.until('some replies', () => writer.receivedBytes > 0);
    await untilStat(other, 'records_waiting', '2');
    commit(feed);
    await writer.until('all replies', () => writer.receivedBytes === count * 'STORED\r\n'.length);
    expect(await statCairn(other, 'requests_refused')).toBe('0');
  });

  test('is reported by refusals and stats while it is full', async () => {
    const feed = openLogged();
    const { open } = await start(feed);
    const [writer, other] = [await open(), await open()];
    const count = await fill(writer, other);
    feed.setFeedState(FeedState.full);
    expect(await other.ask(set('x', '1'))).toBe('SERVER_ERROR the log is full\r\n');
    expect(await statCairn(other, 'log')).toBe('full');
    expect(await other.ask('get none\r\n')).toBe('END\r\n');
    // What was parked was refused; what is held waits on.
    expect(writer.take()).toBe('');
    feed.setFeedState(FeedState.running);
    commit(feed);
    await writer.until('the last reply', () => writer.receivedBytes >= count * 'STORED\r\n'.length);
    expect(writer.take()).toMatch(/^(STORED\r\n)+(SERVER_ERROR the log is full\r\n)+$/);
    other.send(set('x', '1'));
    await untilStat(await open(), 'records_waiting', '1');
    commit(feed);
    expect(await other.ask('')).toBe('STORED\r\n');
  });

  test('closes the connections whose replies it held when it has been full for long', async () => {
    const feed = openLogged();
    const { open } = await start(feed);
    const [writer, reader, other] = [await open(), await open(), await open()];
    writer.send(set('a', '1'));
    await untilStat(other, 'records_waiting', '1');
    feed.setFeedState(FeedState.full);
    expect(await reader.ask('get a\r\n')).toBe('SERVER_ERROR the log is full\r\n');
    expect(writer.take()).toBe('');
    feed.setFeedState(FeedState.stuck);
    expect(await writer.ending()).toBe('');
    expect(await statCairn(other, 'log')).toBe('full');
    expect(await reader.ask(set('b', '1'))).toBe('SERVER_ERROR the log is full\r\n');
    feed.setFeedState(FeedState.running);
    commit(feed);
    expect(await reader.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
  });

  test('closes the connections whose replies it held when it fails, and refuses from then on', async () => {
    const feed = openLogged();
    const { open } = await start(feed);
    const [writer, reader, other] = [await open(), await open(), await open()];
    writer.send(set('kept', '1'));
    await untilStat(other, 'records_waiting', '1');
    commit(feed);
    expect(await writer.ask('', 'STORED\r\n')).toBe('STORED\r\n');
    writer.send(set('lost', '1'));
    await untilStat(other, 'records_waiting', '1');
    reader.send('get kept\r\nget lost\r\n');
    expect(await reader.ask('', 'END\r\n')).toBe('VALUE kept 0 1\r\n1\r\nEND\r\n');
    feed.setFeedState(FeedState.failed);
    expect(await writer.ending()).toBe('');
    expect(await reader.ending()).toBe('');
    expect(await other.ask('get kept\r\n', 'END\r\n')).toBe('VALUE kept 0 1\r\n1\r\nEND\r\n');
    const failed = 'SERVER_ERROR the log cannot be written\r\n';
    expect(await other.ask('get lost\r\n')).toBe(failed);
    expect(await other.ask(set('x', '1'))).toBe(failed);
    expect(await other.ask(set('x', 'v'.repeat(100_000)))).toBe(failed);
    expect(await other.ask('flush_all\r\n')).toBe(failed);
    expect(await statCairn(other, 'log')).toBe('failed');
  });
});

describe('stats cairn', () => {
  test('has the numbers that the log reports, times as ages', async () => {
    const feed = openLogged();
    const { open } = await start(feed);
    const client = await open();
    feed.setLogMetrics(Float64Array.of(12, 0));
    const stats = await client.ask('stats cairn\r\n', 'END\r\n');
    expect(stats).toMatch(
      /^STAT version \S+\r\nSTAT ack logged\r\nSTAT log running\r\n(?:STAT output_\w+ \d+\r\n)*STAT ring_bytes 0\r\nSTAT ring_capacity_bytes 262144\r\n/,
    );
    expect(stats).toMatch(/STAT requests_refused 0\r\nSTAT syncs 12\r\nEND\r\n$/);
    feed.setLogMetrics(Float64Array.of(12, Date.now() - 60_000));
    const age = Number(await statCairn(client, 'snapshot_age_ms'));
    expect(age).toBeGreaterThanOrEqual(59_999);
    expect(age).toBeLessThan(3_600_000);
  });
});

const fronts: readonly ServeFront[] = hasNativeFront() ? ['native', 'node'] : ['node'];

describe.each(fronts)(
  'while changes are slowed, because the database does not take them, with the front %s',
  (front) => {
    const SLOW_MS = 30;

    test('each change of a client is answered later, its reads and other clients are not', async () => {
      const feed = openLogged();
      const { open } = await start(feed, { ack: 'memory', front });
      const [writer, reader] = [await open(), await open()];
      await writer.ask(set('n', '1'), 'STORED\r\n');
      feed.setSlowdown(SLOW_MS);
      let isAnswered = false;
      const answered = writer.ask(`${set('n', '2')}incr n 1 noreply\r\nget n\r\n`, 'END\r\n').then((reply) => {
        isAnswered = true;
        return reply;
      });
      // Both changes wait, one after the other.
      for (;;) {
        const [changes] = feed.slowedChanges();
        if (changes === 2) break;
        expect(isAnswered).toBe(false);
        expect(await reader.ask('get n\r\n', 'END\r\n')).toContain('VALUE n');
      }
      expect(await answered).toBe('STORED\r\nVALUE n 0 1\r\n3\r\nEND\r\n');
      expect(feed.slowedChanges()).toEqual([2, 2 * SLOW_MS]);
    });

    test('a client that waits goes on at once when that ends, and one that leaves is forgotten', async () => {
      const feed = openLogged();
      const { open } = await start(feed, { ack: 'memory', front });
      const [client, other] = [await open(), await open()];
      feed.setSlowdown(600_000);
      const answered = client.ask(set('n', '1'), 'STORED\r\n');
      other.send(set('gone', '1'));
      while (feed.slowedChanges()[0] < 2) await new Promise((resolve) => setTimeout(resolve, 1));
      other.destroy();
      feed.setSlowdown(0);
      expect(await answered).toBe('STORED\r\n');
    });
  },
);
