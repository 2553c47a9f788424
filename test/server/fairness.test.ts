// What one client may ask of the thread that serves all: counted in native calls and turns of the event loop, never in
// time. The clients run in the server's own thread, so a turn of the loop is a turn of both.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, type MemcachedServer, serve } from '../../src/index.ts';
import { sessions } from '../../src/server/native-session.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const VALUE_BYTES = 500_000;
/** 1,000 requests of 100 large values each: 50 GB of replies. */
const LARGE_GETS = `get ${Array.from({ length: 100 }, (_, i) => `big${i % 10}`).join(' ')}\r\n`.repeat(1000);

let cache: Cache;
let server: MemcachedServer;
let clients: MemcachedSocket[];
let calls: NativeCalls;

/** The native calls that serve sessions, in all and per turn of the event loop. */
class NativeCalls {
  /** By session. */
  readonly counts = new Map<number, number>();
  /** The most that one session had in one turn. */
  mostInATurn = 0;
  /** The most bytes that one session was fed in one turn. */
  mostBytesInATurn = 0;
  #turn = new Map<number, { calls: number; bytes: number }>();
  readonly #real = { ...sessions };

  constructor() {
    const { feedSession, continueSession, endSession } = this.#real;
    sessions.feedSession = (session, chunk, backlog) => {
      this.#count(session, chunk.length);
      return feedSession(session, chunk, backlog);
    };
    sessions.continueSession = (session, backlog) => {
      this.#count(session, 0);
      return continueSession(session, backlog);
    };
    sessions.endSession = (session, backlog) => {
      this.#count(session, 0);
      return endSession(session, backlog);
    };
  }

  get total(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }

  restore(): void {
    const { feedSession, continueSession, endSession } = this.#real;
    Object.assign(sessions, { feedSession, continueSession, endSession });
  }

  #count(session: number, bytes: number): void {
    this.counts.set(session, (this.counts.get(session) ?? 0) + 1);
    if (this.#turn.size === 0) setImmediate(() => this.#turn.clear());
    const turn = this.#turn.get(session) ?? { calls: 0, bytes: 0 };
    turn.calls++;
    turn.bytes += bytes;
    this.#turn.set(session, turn);
    this.mostInATurn = Math.max(this.mostInATurn, turn.calls);
    this.mostBytesInATurn = Math.max(this.mostBytesInATurn, turn.bytes);
  }
}

beforeEach(async () => {
  cache = new Cache({ maxMemory: '64mb' });
  for (let i = 0; i < 10; i++) cache.set(`big${i}`, Buffer.alloc(VALUE_BYTES, 'x'));
  server = await serve(cache, { port: 0, host: '127.0.0.1', testCommands: true, front: 'node' });
  clients = [];
  calls = new NativeCalls();
});
afterEach(async () => {
  calls.restore();
  for (const client of clients) client.destroy();
  server.destroy();
  await server.close();
  await cache.close();
});

async function open(): Promise<MemcachedSocket> {
  const [address] = server.addresses;
  const client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
  clients.push(client);
  return client;
}

/** Native calls until another client has its answer. */
async function callsUntilAnswered(client: MemcachedSocket): Promise<number> {
  const before = calls.total;
  expect(await client.ask('version\r\n')).toMatch(/^VERSION /);
  return calls.total - before;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Resolves when no native call has been made for a few turns. */
async function settled(): Promise<void> {
  for (let quiet = 0, before = -1; quiet < 50; quiet++) {
    if (before !== calls.total) quiet = 0;
    before = calls.total;
    await turn();
  }
}

/** A client that takes no replies, and has as many large ones on their way as make the server stop reading from it. */
async function overfed(): Promise<MemcachedSocket> {
  const client = await open();
  client.send(LARGE_GETS);
  await client.until('the first replies', () => client.receivedBytes > 4 * VALUE_BYTES);
  client.socket.pause();
  return client;
}

describe('a client that leaves in the middle of large replies disturbs no other', () => {
  const ways: [string, (client: MemcachedSocket) => unknown][] = [
    ['closes', (client) => client.destroy()],
    ['resets the connection', (client) => client.socket.resetAndDestroy()],
    [
      'ends its side, then resets the connection',
      async (client) => {
        client.socket.end();
        await turn();
        client.socket.resetAndDestroy();
      },
    ],
  ];
  test.each(ways)('and %s', async (_, leave) => {
    const other = await open();
    await callsUntilAnswered(other);
    const leaver = await overfed();
    await leave(leaver);
    // Its own last call, if the system had taken what was written before, and the other's.
    for (let round = 0; round < 5; round++) expect(await callsUntilAnswered(other)).toBeLessThanOrEqual(4);
    while (server.connectionCount > 1) await turn();
    expect(await callsUntilAnswered(other)).toBe(1);
    expect(await other.ask('stats\r\n', 'END\r\n')).toContain('STAT curr_connections 1\r\n');
  });

  test('while a request of it is parked: its ticket is free again', async () => {
    const other = await open();
    const leaver = await open();
    leaver.send('debugpark 7\r\nget big0\r\n');
    await settled();
    leaver.socket.resetAndDestroy();
    while (server.connectionCount > 1) await turn();
    expect(await other.ask('debugresume 7 text\r\n')).toBe('NOT_FOUND\r\n');
    expect(await callsUntilAnswered(other)).toBe(1);
  });

  test('while its parked request has many others behind it: they are dropped when it goes on', async () => {
    const other = await open();
    const leaver = await open();
    leaver.send(`debugpark 7\r\n${LARGE_GETS}`);
    await settled();
    leaver.socket.resetAndDestroy();
    await settled();
    expect(await other.ask('debugresume 7 text\r\n')).toBe('OK\r\n');
    for (let round = 0; round < 5; round++) expect(await callsUntilAnswered(other)).toBeLessThanOrEqual(8);
    while (server.connectionCount > 1) await turn();
    expect(await callsUntilAnswered(other)).toBe(1);
  });
});

describe('a client has its turn and no more', () => {
  test('that takes large replies as fast as they come', async () => {
    const other = await open();
    const greedy = await open();
    greedy.send(LARGE_GETS);
    await greedy.until('the first replies', () => greedy.receivedBytes > 20 * VALUE_BYTES);
    for (let round = 0; round < 5; round++) expect(await callsUntilAnswered(other)).toBeLessThanOrEqual(16);
    expect(calls.mostInATurn).toBeLessThanOrEqual(6);
    greedy.destroy();
  });

  test('that sends thousands of small gets in one go', async () => {
    const other = await open();
    const greedy = await open();
    const count = 500_000;
    greedy.send(`${'get a\r\n'.repeat(count)}mn\r\n`);
    await greedy.until('the first replies', () => greedy.receivedBytes > 0);
    for (let round = 0; round < 5; round++) expect(await callsUntilAnswered(other)).toBeLessThanOrEqual(64);
    await greedy.until('all replies', () => greedy.receivedBytes === count * 'END\r\n'.length + 'MN\r\n'.length);
    expect(calls.mostBytesInATurn).toBeLessThanOrEqual(256 * 1024 + 64 * 1024);
  });

  test('whose one line names a million keys', async () => {
    const other = await open();
    const greedy = await open();
    greedy.send(`get${' a'.repeat(1_000_000)}\r\n`);
    await greedy.until('the end of the line', () => calls.total > 40);
    for (let round = 0; round < 5; round++) expect(await callsUntilAnswered(other)).toBeLessThanOrEqual(64);
    await greedy.until('the reply', () => greedy.receivedBytes === 'END\r\n'.length);
    // 4,096 keys a call.
    expect(calls.total).toBeGreaterThan(240);
  });

  test('that sends large values without a pause and wants no replies', async () => {
    const other = await open();
    const greedy = await open();
    const set = `set v 0 0 60000 noreply\r\n${'v'.repeat(60_000)}\r\n`;
    greedy.send(set.repeat(200));
    while (calls.total < 4) await turn();
    for (let round = 0; round < 5; round++) expect(await callsUntilAnswered(other)).toBeLessThanOrEqual(64);
    expect(await greedy.ask('mn\r\n')).toBe('MN\r\n');
    expect(calls.mostBytesInATurn).toBeLessThanOrEqual(256 * 1024 + 64 * 1024);
  });
});
