// What every front has to do, whatever it is made of: the tables of src/server/front.ts as tests. A front is held to
// them by a harness that makes it listen and opens clients; the service and the cache behind it are real.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import type { DisconnectReason, Front, FrontLimits, FrontOwner } from '../../src/server/front.ts';
import { sessions } from '../../src/server/native-session.ts';
import type { MemcachedSocket } from '../support/memcached-socket.ts';
import { startTestService } from '../support/service.ts';

export interface FrontHarness {
  /** Makes a front that does not listen yet. */
  make(owner: FrontOwner, limits: FrontLimits): Front;
  /** Makes it listen at an address that no other front has. */
  listen(front: Front): Promise<void>;
  /** Connects a client; rejects if it cannot. */
  connect(front: Front): Promise<MemcachedSocket>;
  /** Lets the client be gone: it resets the connection, where the system has that. */
  vanish(client: MemcachedSocket): void;
  dispose?(): void;
}

export interface FrontTraits {
  /**
   * A client can reset its connection. On a unix socket it can only close it, which looks like the end of its side
   * until a reply fails to be written.
   */
  readonly hasReset: boolean;
  /** The system keeps less than one large reply for a client. */
  readonly buffersLittle: boolean;
  /** What a client is told that is one too many. */
  readonly refusal?: string;
}

const LIMITS: FrontLimits = { maxConnections: 100, idleTimeoutMs: 0, stallTimeoutMs: 30_000 };
const LARGE_BYTES = 900_000;

export function describeFront(name: string, traits: FrontTraits, makeHarness: () => FrontHarness): void {
  describe(`${name} as a front`, () => {
    let harness: FrontHarness;
    let cache: Cache;
    let service: number;
    let front: Front;
    let clients: MemcachedSocket[];
    let ended: DisconnectReason[];
    let cacheClosed: number;
    const open = async (): Promise<MemcachedSocket> => {
      const client = await harness.connect(front);
      clients.push(client);
      return client;
    };
    /** Makes another front in its place, which has not begun to serve. */
    const make = async (limits: Partial<FrontLimits> = {}): Promise<void> => {
      await front?.destroy();
      front = harness.make(
        {
          connected: () => {},
          disconnected: (_, reason) => ended.push(reason),
          failed: (error) => {
            throw error;
          },
          noRoom: (error) => {
            throw error;
          },
          cacheClosed: () => {
            cacheClosed++;
            void front.destroy();
          },
        },
        { ...LIMITS, ...limits },
      );
      front.hearConnections(true);
      await harness.listen(front);
    };
    const serve = async (limits: Partial<FrontLimits> = {}): Promise<void> => {
      await make(limits);
      front.serve(service);
    };
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
    };
    const repliesOf = (count: number): number =>
      count * (`VALUE large 0 ${LARGE_BYTES}\r\n`.length + LARGE_BYTES + '\r\nEND\r\n'.length);

    beforeEach(async () => {
      harness = makeHarness();
      cache = new Cache({ maxMemory: '32mb' });
      cache.set('large', Buffer.alloc(LARGE_BYTES, 'v'));
      cache.set('small', Buffer.from('s'));
      service = startTestService(cache);
      clients = [];
      ended = [];
      cacheClosed = 0;
    });
    afterEach(async () => {
      for (const client of clients) client.destroy();
      await front.destroy();
      // Which is refused, and ends the process, if a session is left.
      sessions.endService(service);
      await cache.close();
      harness.dispose?.();
    });

    describe('the front', () => {
      test('that is new: disconnects a client', async () => {
        await make();
        const client = await open();
        expect(await client.ending()).toBe('');
        expect([front.connectionCount, ended]).toEqual([0, []]);
        expect(front.addresses).toHaveLength(1);
      });

      test('that is open: serves clients, each for itself', async () => {
        await serve();
        const [a, b] = [await open(), await open()];
        expect(await a.ask('set k 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
        expect(await b.ask('get k\r\n', 'END\r\n')).toBe('VALUE k 0 1\r\n1\r\nEND\r\n');
        expect(front.connectionCount).toBe(2);
      });

      test('that is open: has a limit of connections, and says so', async () => {
        await serve({ maxConnections: 1 });
        const first = await open();
        await first.ask('mn\r\n');
        expect(await (await open()).ending()).toBe(traits.refusal ?? 'ERROR Too many open connections\r\n');
        await until(() => ended.length === 1);
        expect(ended).toEqual(['rejected']);
        expect(await first.ask('mn\r\n')).toBe('MN\r\n');
      });

      test('that is closing: refuses clients and answers what it was sent', async () => {
        await serve();
        const client = await open();
        client.send('get large\r\n'.repeat(5));
        await client.until('the first reply', () => client.receivedBytes > 0);
        const closing = front.close(5_000);
        await expect(open().then((late) => late.ending()))
          .resolves.toBe('')
          .catch(() => {});
        await client.until('all replies', () => client.receivedBytes === repliesOf(5));
        client.destroy();
        await closing;
        expect([front.connectionCount, ended]).toEqual([0, ['ended']]);
      });

      test('that is closing: does not wait longer than it is told', async () => {
        await serve();
        const client = await open();
        client.socket.pause();
        client.send('get large\r\n'.repeat(50));
        await until(() => front.connectionCount === 1);
        await front.close(50);
        expect(front.connectionCount).toBe(0);
      });

      test('that is destroyed, open or new, is closed, and may be closed and destroyed again', async () => {
        await serve();
        const client = await open();
        client.send('debugpark 1\r\n');
        await until(() => front.connectionCount === 1);
        await Promise.all([front.destroy(), front.destroy(), front.close(1_000)]);
        expect(await client.ending()).toBe('');
        expect(front.connectionCount).toBe(0);
        await front.close(1_000);
        await expect(open()).rejects.toThrow();
        await make();
        await front.close(1_000);
        await expect(open()).rejects.toThrow();
      });

      test('tells when the cache has been closed', async () => {
        await serve();
        await cache.close();
        await until(() => cacheClosed > 0);
      });
    });

    describe('a connection whose session is read', () => {
      beforeEach(() => serve());

      test('is fed bytes however they are cut', async () => {
        const client = await open();
        for (const byte of 'set k 0 0 3\r\nabc\r\n') client.send(byte);
        expect(await client.ask('get k\r\n', 'END\r\n')).toBe('STORED\r\nVALUE k 0 3\r\nabc\r\nEND\r\n');
      });

      test('is answered and ended when its client ends its side', async () => {
        const client = await open();
        client.send('get small\r\nget');
        client.socket.end();
        expect(await client.ending()).toBe('VALUE small 0 1\r\ns\r\nEND\r\n');
        await until(() => ended.length === 1);
        expect(ended).toEqual(['ended']);
      });

      test('is gone with its client', async () => {
        const client = await open();
        client.send('set k 0 0 500000\r\nabc');
        await until(() => front.connectionCount === 1);
        harness.vanish(client);
        await until(() => front.connectionCount === 0);
      });
    });

    describe('a connection whose session waits', () => {
      beforeEach(() => serve());
      const overfed = async (): Promise<MemcachedSocket> => {
        const client = await open();
        client.socket.pause();
        client.send('get large\r\n'.repeat(40));
        return client;
      };

      test('for its replies to leave: gets all of them, and another is served meanwhile', async () => {
        const client = await overfed();
        expect(await (await open()).ask('mn\r\n')).toBe('MN\r\n');
        client.socket.resume();
        await client.until('all replies', () => client.receivedBytes === repliesOf(40));
        expect(await client.ask('mn\r\n', 'MN\r\n')).toMatch(/MN\r\n$/);
      });

      test('for its replies to leave: gets them also when its client has ended its side', async () => {
        const client = await overfed();
        client.socket.end();
        client.socket.resume();
        await client.until('all replies', () => client.receivedBytes === repliesOf(40));
        await until(() => front.connectionCount === 0);
      });

      test('for its replies to leave: is dropped with its client, and no more is executed for it', async () => {
        const client = await overfed();
        const other = await open();
        await other.ask('mn\r\n');
        harness.vanish(client);
        await until(() => front.connectionCount === 1);
        const gets = cache.stats().hits;
        expect(await other.ask('mn\r\n')).toBe('MN\r\n');
        expect(cache.stats().hits).toBe(gets);
      });

      test('for a commit or a load: goes on when it is woken, in order', async () => {
        const [client, other] = [await open(), await open()];
        client.send('mn\r\ndebugpark 3\r\nget small\r\n');
        await client.until('its first reply', () => client.receivedBytes > 0);
        while ((await other.ask('debugresume 3 loaded\r\n')) !== 'OK\r\n');
        expect(await client.ask('', 'END\r\n')).toBe('MN\r\nloaded\r\nVALUE small 0 1\r\ns\r\nEND\r\n');
        expect(await other.ask('debughold 0\r\n')).toBe('OK\r\n');
        client.send('set k 0 0 1\r\n1\r\nmn\r\n');
        while (cache.get('k') === undefined) await other.ask('mn\r\n');
        expect(client.take()).toBe('');
        expect(await other.ask('debugcommit all\r\n')).toBe('OK\r\n');
        expect(await client.ask('', 'MN\r\n')).toBe('STORED\r\nMN\r\n');
      });

      const gone = traits.hasReset ? 'leaves it' : 'leaves it when its reply cannot be written';
      test(`for a load, when its client is gone: ${gone}`, async () => {
        const [client, other] = [await open(), await open()];
        await other.ask('mn\r\n');
        client.send('mn\r\ndebugpark 4\r\n');
        await client.until('its first reply', () => client.receivedBytes > 0);
        harness.vanish(client);
        if (traits.hasReset) await until(() => front.connectionCount === 1);
        expect(await other.ask('debugresume 4 x\r\n')).toBe(traits.hasReset ? 'NOT_FOUND\r\n' : 'OK\r\n');
        await until(() => front.connectionCount === 1);
        expect(await other.ask('debugresume 4 x\r\n')).toBe('NOT_FOUND\r\n');
      });

      test('for its next turn: executes thousands of requests, with others in between', async () => {
        const [client, other] = [await open(), await open()];
        client.send(`${'get none\r\n'.repeat(100_000)}mn\r\n`);
        expect(await other.ask('mn\r\n')).toBe('MN\r\n');
        await client.until('all replies', () => client.receivedBytes === 500_000 + 4);
      });
    });

    describe('a connection whose session is over', () => {
      beforeEach(() => serve());

      test('throws away what comes, and is closed by its client', async () => {
        const client = await open();
        expect(await client.ask('mn\r\nquit\r\n', 'MN\r\n')).toBe('MN\r\n');
        client.send('set k 0 0 1\r\n1\r\n');
        client.socket.end();
        expect(await client.ending()).toBe('');
        await until(() => ended.length === 1);
        expect([ended, cache.get('k')]).toEqual([['ended'], undefined]);
      });

      test('is closed at once if its client speaks a protocol that is not served', async () => {
        await front.destroy();
        sessions.endService(service);
        service = startTestService(cache, 'ascii');
        await serve();
        const [binary, tls] = [await open(), await open()];
        binary.send('\x80\x0b\0\0');
        expect(await binary.ending()).toBe('');
        tls.send('\x16\x03\x01');
        expect(await tls.ending()).toBe('');
        await until(() => ended.length === 2);
        expect(ended.sort()).toEqual(['binary', 'tls']);
      });
    });

    describe('a connection that takes too long', () => {
      test('to send anything is closed', async () => {
        await serve({ idleTimeoutMs: 100 });
        const client = await open();
        expect(await client.ask('mn\r\n')).toBe('MN\r\n');
        expect(await client.ending()).toBe('');
        await until(() => ended.length === 1);
        expect(ended).toEqual(['idle']);
      });

      test.each([
        ['to take its replies', (client: MemcachedSocket) => client.send('get large\r\n'.repeat(60))],
        ['in the middle of a large value', (client: MemcachedSocket) => client.send('set k 0 0 500000\r\nabc')],
      ])('%s is closed', async (_, stall) => {
        await serve({ stallTimeoutMs: 100 });
        const client = await open();
        await client.ask('mn\r\n');
        client.socket.pause();
        stall(client);
        await until(() => ended.length === 1);
        expect(ended).toEqual(['stalled']);
      });

      if (traits.buffersLittle) {
        test('to take a reply that leaves room for others is closed', async () => {
          await serve({ stallTimeoutMs: 100 });
          const client = await open();
          await client.ask('mn\r\n');
          client.socket.pause();
          client.send('get large\r\n');
          await until(() => ended.length === 1);
          expect(ended).toEqual(['stalled']);
        });
      }

      test('for a parked request is not closed', async () => {
        await serve({ idleTimeoutMs: 60, stallTimeoutMs: 60 });
        const client = await open();
        client.send('mn\r\ndebugpark 5\r\n');
        await client.until('its first reply', () => client.receivedBytes > 0);
        const clock = await open();
        // The other one becomes idle and is closed: a full timeout has passed.
        await clock.ask('mn\r\n');
        await clock.ending();
        const waker = await open();
        while ((await waker.ask('debugresume 5 here\r\n')) !== 'OK\r\n');
        expect(await client.ask('', 'here\r\n')).toBe('MN\r\nhere\r\n');
      });
    });
  });
}
