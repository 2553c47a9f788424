// Lanes with their real threads: how calls are gathered, what the queue refuses, and what becomes of calls whose thread
// dies. A thread is killed as anybody could kill it, with terminate(): just before a batch is sent to it, so that the
// batch is lost for certain, and at any moment under load.
import { AsyncLocalStorage } from 'node:async_hooks';
import { createRequire } from 'node:module';
import type { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Cache, handleOf } from '../../src/cache.ts';
import { native } from '../../src/native.ts';
import { CachePromises } from '../../src/promises/index.ts';
import { routingHash } from '../../src/request/hash.ts';
import { withCode } from '../support/errors.ts';
import { until } from '../support/threads.ts';

const opened: { cache: Cache; promises: CachePromises }[] = [];

interface Setup {
  cache: Cache;
  promises: CachePromises;
}

function setup(options: { lanes?: number; maxRequests?: number; maxBytes?: number } = {}): Setup {
  const cache = new Cache({ maxMemory: '512mb', maxValueBytes: '64mb', shards: 2 });
  const promises = new CachePromises(handleOf(cache as never), 'buffer', {
    lanes: options.lanes ?? 1,
    maxRequests: options.maxRequests ?? 65_536,
    maxBytes: options.maxBytes ?? 2 ** 30,
  });
  opened.push({ cache, promises });
  return { cache, promises };
}

afterEach(async () => {
  for (const { cache, promises } of opened.splice(0)) {
    await promises.close();
    await cache.close();
  }
});

/** A key of that lane, of a cache with two shards and two lanes. */
function keyOf(lane: number): string {
  for (let i = 0; ; i++) {
    if (routingHash(`key ${i}`) >>> 31 === lane) return `key ${i}`;
  }
}

const threads = (promises: CachePromises): Worker[] => promises.router!.threads().flat();

/**
 * Resolves when the calls that were just made have been sent, if their lanes were free; nothing has been heard since.
 */
const sent = (): Promise<void> => new Promise((resolve) => queueMicrotask(() => process.nextTick(resolve)));

/** The error that a promise rejects with; handled at once, so that Node reports no unhandled rejection. */
const errorOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => ({ resolved: value }),
    (error: unknown) => error,
  );

/** Makes a call on a lane that is free, and kills its thread. Resolves when the call is sent to the dying thread. */
async function killed(
  thread: Worker,
  call: () => Promise<unknown>,
): Promise<{ error: Promise<unknown>; dead: Promise<unknown> }> {
  const error = errorOf(call());
  const dead = thread.terminate();
  await sent();
  return { error, dead };
}

const large = Buffer.alloc(48 * 2 ** 20, 1);

describe('gathering', () => {
  test('calls of one turn share a batch', async () => {
    const { promises } = setup();
    await promises.get('a');
    const before = promises.stats().batches;
    await Promise.all(Array.from({ length: 100 }, (_, i) => promises.set(`k${i}`, i)));
    await Promise.all(Array.from({ length: 100 }, (_, i) => promises.get(`k${i}`)));
    expect(promises.stats().batches - before).toBe(2);
  });

  test('calls that answers lead to share the next batch, however many promises are in between', async () => {
    const { promises } = setup();
    await promises.get('a');
    const before = promises.stats().batches;
    const wrap = async (depth: number): Promise<unknown> => (depth === 0 ? promises.get('a') : await wrap(depth - 1));
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        await promises.get('a');
        await wrap(i % 10);
      }),
    );
    expect(promises.stats().batches - before).toBe(2);
  });

  test('one batch is in flight while the next collects', async () => {
    const { promises } = setup();
    await promises.get('a');
    const before = promises.stats().batches;
    const calls = [promises.set('first', 1)];
    // Turns in which nothing can be heard of the thread.
    for (let i = 0; i < 10; i++) {
      await sent();
      calls.push(promises.set(`k${i}`, i));
    }
    expect(promises.stats().batches - before).toBe(1);
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['stored']));
    expect(promises.stats().batches - before).toBe(2);
  });

  test('ten thousand calls at once are all answered, in batches', async () => {
    const { promises } = setup({ lanes: 2 });
    const sets = Array.from({ length: 10_000 }, (_, i) => promises.set(`k${i}`, i));
    expect(promises.stats().requests).toBe(10_000);
    expect(new Set(await Promise.all(sets))).toEqual(new Set(['stored']));
    const values = await Promise.all(Array.from({ length: 10_000 }, (_, i) => promises.get(`k${i}`)));
    expect(values.every((value, i) => value === i)).toBe(true);
    expect(promises.stats().batches).toBeLessThan(100);
  });

  test('no thread runs before it is needed, and then one for each lane', async () => {
    const { cache, promises } = setup({ lanes: 2 });
    expect(promises.router).toBeUndefined();
    await promises.get(keyOf(0));
    expect(threads(promises).length).toBe(1);
    await promises.get(keyOf(1));
    expect(threads(promises).length).toBe(2);
    expect(cache.size).toBe(0);
  });

  test('an answer larger than the bound comes in several', async () => {
    const { cache, promises } = setup();
    const keys = Array.from({ length: 40 }, (_, i) => `k${i}`);
    for (const [i, key] of keys.entries()) cache.set(key, Buffer.alloc(2 ** 20, i));
    const values = (await promises.getMany(keys)) as Buffer[];
    expect(values.every((value, i) => value.length === 2 ** 20 && value[0] === i && value[2 ** 20 - 1] === i)).toBe(
      true,
    );
  });
});

describe('the queue', () => {
  test('refuses what exceeds the number of requests, having queued nothing, and drains', async () => {
    const { cache, promises } = setup({ maxRequests: 10 });
    let drains = 0;
    promises.on('drain', () => drains++);
    const accepted = Array.from({ length: 10 }, (_, i) => promises.set(`k${i}`, i));
    await expect(promises.set('refused', 1)).rejects.toThrow(withCode('ERR_QUEUE_FULL', /10 of 10 requests/));
    await expect(promises.setMany([['refused', 1]])).rejects.toThrow(withCode('ERR_QUEUE_FULL'));
    await expect(promises.clear()).rejects.toThrow(withCode('ERR_QUEUE_FULL'));
    await promises.drained();
    expect(await promises.set('later', 1)).toBe('stored');
    expect(await Promise.all(accepted)).toEqual(Array.from({ length: 10 }, () => 'stored'));
    expect(drains).toBe(1);
    expect(cache.has('refused')).toBe(false);
    expect(cache.size).toBe(11);
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0, maxRequests: 10 });
  });

  test('counts each key of a call with many', async () => {
    const { promises } = setup({ maxRequests: 10 });
    const first = promises.getMany(['a', 'b', 'c', 'd', 'e', 'f']);
    expect(promises.stats().requests).toBe(6);
    await expect(promises.getMany(['a', 'b', 'c', 'd', 'e'])).rejects.toThrow(withCode('ERR_QUEUE_FULL'));
    const second = promises.getMany(['a', 'b', 'c', 'd']);
    expect((await first).length + (await second).length).toBe(10);
  });

  test('refuses when the bytes have reached their bound', async () => {
    const { promises } = setup({ maxBytes: 100_000 });
    const accepted = [promises.set('a', Buffer.alloc(60_000)), promises.set('b', Buffer.alloc(60_000))];
    expect(promises.stats().bytes).toBeGreaterThan(120_000);
    await expect(promises.get('a')).rejects.toThrow(withCode('ERR_QUEUE_FULL', /bytes/));
    await promises.drained();
    expect(await promises.has('a')).toBe(true);
    expect(await Promise.all(accepted)).toEqual(['stored', 'stored']);
  });

  test('takes a call of any size when it is empty', async () => {
    const { promises } = setup({ maxRequests: 10, maxBytes: 1000, lanes: 2 });
    const entries = Array.from({ length: 5000 }, (_, i): [string, string] => [`k${i}`, 'v'.repeat(100)]);
    const results = promises.setMany(entries);
    await expect(promises.get('a')).rejects.toThrow(withCode('ERR_QUEUE_FULL'));
    expect((await results).length).toBe(5000);
    expect(await promises.get('k4999')).toBe('v'.repeat(100));
  });

  test('a drain listener that throws harms no call', async () => {
    const { promises } = setup({ maxRequests: 2 });
    const uncaught = new Promise((resolve) => {
      const others = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException');
      process.once('uncaughtException', (error) => {
        for (const other of others) process.on('uncaughtException', other);
        resolve(error);
      });
    });
    promises.once('drain', () => {
      throw new Error('from the listener');
    });
    const accepted = [promises.set('a', 1), promises.set('b', 2)];
    await expect(promises.set('c', 3)).rejects.toThrow(withCode('ERR_QUEUE_FULL'));
    expect(await Promise.all(accepted)).toEqual(['stored', 'stored']);
    expect(await uncaught).toMatchObject({ message: 'from the listener' });
    expect(await promises.get('a')).toBe(1);
  });
});

describe('a thread that dies', () => {
  test('fails the calls it had, saying which, and takes the others up again', async () => {
    const { promises } = setup({ lanes: 2 });
    const [mine, other] = [keyOf(0), keyOf(1)];
    await Promise.all([promises.set(mine, 0), promises.set(other, 0)]);
    const { error, dead } = await killed(promises.router!.threads()[0]![0]!, () => promises.set(mine, 'lost'));
    // Behind it, not sent yet; and on the other lane.
    const behind = promises.replace(mine, 'behind');
    const many = promises.getMany([mine, other]);
    const elsewhere = promises.set(other, 'elsewhere');
    expect(await error).toMatchObject({
      code: 'ERR_WORKER_EXITED',
      message: expect.stringContaining(`set ${JSON.stringify(mine)} may or may not have been done`),
      cause: expect.any(Error),
    });
    await dead;
    expect(await behind).toBe('stored');
    expect(await elsewhere).toBe('stored');
    expect(await many).toEqual(['behind', 0]);
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0, restarts: 1 });
  });

  test('while it is idle is replaced unnoticed', async () => {
    const { promises } = setup();
    await promises.set('a', 1);
    for (let deaths = 1; deaths <= 5; deaths++) {
      await threads(promises)[0]!.terminate();
      expect(await promises.get('a')).toBe(1);
    }
    expect(promises.stats()).toMatchObject({ requests: 0, restarts: 5 });
  });

  test('fails a whole call of many keys', async () => {
    const { promises } = setup();
    await promises.get('a');
    const { error } = await killed(threads(promises)[0]!, () =>
      promises.setMany([
        ['a', 1],
        ['b', 2],
        ['c', 3],
      ]),
    );
    expect(await error).toMatchObject({
      code: 'ERR_WORKER_EXITED',
      message: expect.stringContaining('setMany "a" and 2 more'),
    });
  });

  test('does not hold up clear()', async () => {
    const { cache, promises } = setup({ lanes: 2 });
    await promises.setMany([
      [keyOf(0), 1],
      [keyOf(1), 1],
    ]);
    const { error } = await killed(promises.router!.threads()[0]![0]!, () => promises.set(keyOf(0), 'lost'));
    const clear = promises.clear();
    const after = promises.set(keyOf(1), 'after');
    expect(await error).toMatchObject({ code: 'ERR_WORKER_EXITED' });
    await clear;
    expect(await after).toBe('stored');
    expect(cache.size).toBe(1);
  });

  test('again and again under load loses no call: each is answered or fails', async () => {
    const { promises } = setup({ lanes: 2 });
    let answered = 0;
    let failed = 0;
    let over = false;
    const load = async (lane: number): Promise<void> => {
      for (let i = 0; !over; i++) {
        await promises.set(`${lane} ${i % 100}`, 'v'.repeat(i % 3000)).then(
          () => answered++,
          (error: unknown) => {
            expect(error).toMatchObject({ code: 'ERR_WORKER_EXITED' });
            failed++;
          },
        );
      }
    };
    const loads = Array.from({ length: 64 }, (_, i) => load(i));
    for (let deaths = 0; deaths < 10; deaths++) {
      const before = answered;
      await until(() => answered > before + 500 && threads(promises).length > 0);
      await threads(promises)[deaths % threads(promises).length]!.terminate();
    }
    over = true;
    await Promise.all(loads);
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
    expect(promises.stats().restarts).toBeGreaterThan(0);
    expect(answered).toBeGreaterThan(5000);
    expect(failed).toBeLessThanOrEqual(10 * 64);
  });

  test('and fails to start again refuses waiting calls, and is tried again by the next call', async () => {
    const { promises } = setup();
    const path = process.env['CAIRN_NATIVE_PATH'];
    process.env['CAIRN_NATIVE_PATH'] = '/nowhere/cairn.node';
    try {
      await expect(promises.set('a', 1)).rejects.toThrow(
        withCode('ERR_WORKER_EXITED', /set "a" was not done: .* did not start/),
      );
      await expect(promises.set('a', 1)).rejects.toMatchObject({
        cause: expect.objectContaining({ message: expect.stringContaining('/nowhere') }),
      });
      // What stands between two requests is done by this thread.
      const before = errorOf(promises.set('a', 1));
      const clear = promises.clear();
      const after = errorOf(promises.set('b', 1));
      for (const error of [before, after]) expect(await error).toMatchObject({ code: 'ERR_WORKER_EXITED' });
      await clear;
    } finally {
      if (path === undefined) delete process.env['CAIRN_NATIVE_PATH'];
      else process.env['CAIRN_NATIVE_PATH'] = path;
    }
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
    expect(await promises.set('a', 1)).toBe('stored');
  });

  // As `new Worker` does where the system has no more threads, and where `--permission` comes without `--allow-worker`.
  test('and cannot be created again refuses waiting calls, and is tried again by the next call', async () => {
    const { promises } = setup({ lanes: 2 });
    const noThread = vi.spyOn(createRequire(import.meta.url)('node:worker_threads'), 'Worker');
    noThread.mockImplementation(
      class {
        constructor() {
          throw new Error('no thread for you');
        }
      },
    );
    try {
      const error = await errorOf(promises.set('a', 1));
      expect(error).toEqual(withCode('ERR_WORKER_EXITED', /set "a" was not done: .* did not start: no thread for you/));
      expect(error).toMatchObject({ cause: expect.objectContaining({ message: 'no thread for you' }) });
      expect(noThread).toHaveBeenCalled();
      await promises.clear(); // Which the calling thread does.
    } finally {
      noThread.mockRestore();
    }
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
    expect(await promises.set('a', 1)).toBe('stored');
  });
});

describe('the end', () => {
  test('close() finishes what was accepted and ends the threads', async () => {
    const { cache, promises } = setup({ lanes: 2 });
    const calls = Array.from({ length: 500 }, (_, i) => promises.set(`k${i}`, i));
    const clear = promises.clear();
    const last = promises.set('last', 1);
    const closing = promises.close();
    await expect(promises.get('a')).rejects.toThrow(withCode('ERR_CLOSED'));
    const order: string[] = [];
    await Promise.all([last.then(() => order.push('last')), closing.then(() => order.push('closed'))]);
    expect(order).toEqual(['last', 'closed']);
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['stored']));
    await clear;
    expect(threads(promises)).toEqual([]);
    expect([...cache.keys()]).toEqual(['last']);
    await promises.close();
  });

  test('close() takes up a thread that dies meanwhile', async () => {
    const { promises } = setup();
    await promises.get('a');
    const { error } = await killed(threads(promises)[0]!, () => promises.set('lost', 1));
    const behind = promises.set('behind', 1);
    const closing = promises.close();
    expect(await error).toMatchObject({ code: 'ERR_WORKER_EXITED' });
    expect(await behind).toBe('stored');
    await closing;
    expect(threads(promises)).toEqual([]);
  });

  test('close() without a call before starts no thread', async () => {
    const { promises } = setup();
    await promises.close();
    await expect(promises.get('a')).rejects.toThrow(withCode('ERR_CLOSED'));
    expect(threads(promises)).toEqual([]);
  });

  test('destroy() refuses what was not sent, fails what was, and can be called again', async () => {
    const { cache, promises } = setup();
    await promises.get('a');
    const inFlight = errorOf(promises.set('large', large));
    await sent();
    const behind = errorOf(promises.set('behind', 1));
    const clear = errorOf(promises.clear());
    const afterwards = errorOf(promises.set('afterwards', 1));
    const ends = [promises.destroy(), promises.destroy(), promises.close()];
    expect(await behind).toEqual(withCode('ERR_CLOSED', /set "behind" was not done/));
    expect(await clear).toEqual(withCode('ERR_CLOSED', /clear was not done/));
    expect(await afterwards).toEqual(withCode('ERR_CLOSED'));
    expect(await inFlight).toEqual(withCode('ERR_WORKER_EXITED', /set "large" may or may not have been done/));
    await Promise.all(ends);
    expect(threads(promises)).toEqual([]);
    expect(cache.has('behind')).toBe(false);
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
  });

  test('destroy() while draining ends it, and close() resolves then', async () => {
    const { promises } = setup();
    await promises.get('a');
    const inFlight = errorOf(promises.set('large', large));
    await sent();
    const behind = errorOf(promises.set('behind', 1));
    const closing = promises.close();
    await promises.destroy();
    expect(await behind).toEqual(withCode('ERR_CLOSED'));
    expect(await inFlight).toEqual(withCode('ERR_WORKER_EXITED'));
    await closing;
  });

  test('destroy() while a thread starts refuses what waits', async () => {
    const { promises } = setup();
    const call = errorOf(promises.get('a'));
    await sent();
    const ending = promises.destroy();
    expect(await call).toEqual(withCode('ERR_CLOSED'));
    await ending;
    expect(threads(promises)).toEqual([]);
  });

  test('a cache that others close answers so, and the threads end', async () => {
    const { cache, promises } = setup();
    await promises.set('a', 1);
    const behind = errorOf(promises.get('a'));
    await cache.close();
    expect(await behind).toEqual(withCode('ERR_CLOSED', /get "a" was not done/));
    await expect(promises.get('a')).rejects.toThrow(withCode('ERR_CLOSED'));
    await until(() => threads(promises).length === 0);
  });

  test('a cache without references ends, and its threads with it', async () => {
    const { setFlagsFromString } = await import('node:v8');
    const { runInNewContext } = await import('node:vm');
    setFlagsFromString('--expose_gc');
    const gc = runInNewContext('gc') as () => void;
    const before = native.runtime().cacheCount;
    const use = async (): Promise<void> => {
      const cache = new Cache({ maxMemory: '4mb' });
      await cache.promises.set('a', 1);
    };
    await use();
    expect(native.runtime().cacheCount).toBeGreaterThan(before);
    await until(() => {
      gc();
      return native.runtime().cacheCount <= before;
    });
  });
});

describe('without memory', () => {
  const failing = (): void => {
    class NoMemory {
      constructor() {
        throw new RangeError('Array buffer allocation failed');
      }
    }
    vi.stubGlobal('SharedArrayBuffer', NoMemory);
  };
  afterEach(() => vi.unstubAllGlobals());

  test('a call is refused, having queued nothing', async () => {
    const { cache, promises } = setup();
    failing();
    await expect(promises.set('a', 1)).rejects.toThrow(withCode('ERR_OUT_OF_MEMORY'));
    await expect(promises.getMany(['a', 'b'])).rejects.toThrow(withCode('ERR_OUT_OF_MEMORY'));
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
    vi.unstubAllGlobals();
    expect(await promises.set('a', 1)).toBe('stored');
    expect(cache.size).toBe(1);
  });

  test('a call that needs one more block than there is is refused as a whole', async () => {
    const { cache, promises } = setup();
    const entries = Array.from({ length: 3000 }, (_, i): [string, number] => [`k${i}`, i]);
    const first = promises.set('first', 1);
    failing();
    await expect(promises.setMany(entries)).rejects.toThrow(withCode('ERR_OUT_OF_MEMORY'));
    vi.unstubAllGlobals();
    expect(await first).toBe('stored');
    await promises.get('a');
    expect([...cache.keys()]).toEqual(['first']);
    expect((await promises.setMany(entries)).length).toBe(3000);
    expect(cache.size).toBe(3001);
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
  });
});

test('calls keep the async context of their callers', async () => {
  const { promises } = setup();
  const storage = new AsyncLocalStorage<number>();
  await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      storage.run(i, async () => {
        await promises.get('a');
        expect(storage.getStore()).toBe(i);
        await promises.getMany(['a', 'b']);
        expect(storage.getStore()).toBe(i);
      }),
    ),
  );
});

describe('patience', () => {
  test('a call that was not sent in time is not done', async () => {
    const { cache, promises } = setup();
    // The thread has to start first, which takes it ten times as long.
    const late = errorOf(promises.set('late', 1, { timeout: 1 }));
    const many = errorOf(
      promises.setMany(
        [
          ['late', 1],
          ['later', 2],
        ],
        { timeout: 1 },
      ),
    );
    const kept = promises.set('kept', 1);
    expect(await late).toEqual(withCode('ERR_TIMEOUT', /No answer to set "late" within 1 ms: it was not done/));
    expect(await many).toEqual(withCode('ERR_TIMEOUT', /setMany "late" and 1 more within 1 ms: it was not done/));
    expect(await kept).toBe('stored');
    expect(cache.has('later')).toBe(false);
    expect(cache.has('late')).toBe(false);
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
  });

  test('a call that was sent may be done', async () => {
    const { cache, promises } = setup();
    await promises.get('a');
    // After immediates come timers, and only then what threads have said.
    await new Promise((resolve) => setImmediate(resolve));
    const call = errorOf(promises.set('large', large, { timeout: 1 }));
    await sent();
    const end = performance.now() + 5;
    while (performance.now() < end);
    expect(await call).toEqual(withCode('ERR_TIMEOUT', /it may or may not have been done/));
    await promises.get('a');
    expect(cache.has('large')).toBe(true);
  });

  test('an abort rejects with its reason, and takes back what was not sent', async () => {
    const { cache, promises } = setup();
    const controller = new AbortController();
    const reason = new Error('enough');
    const one = errorOf(promises.set('one', 1, { signal: controller.signal }));
    const many = errorOf(
      promises.setMany(
        [
          ['two', 2],
          ['three', 3],
        ],
        { signal: controller.signal },
      ),
    );
    const kept = promises.set('kept', 4);
    controller.abort(reason);
    expect(await one).toBe(reason);
    expect(await many).toBe(reason);
    await expect(promises.set('four', 4, { signal: controller.signal })).rejects.toBe(reason);
    expect(await kept).toBe('stored');
    expect([...cache.keys()]).toEqual(['kept']);
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0, restarts: 0 });
  });

  test('patience that is not needed leaves nothing behind', async () => {
    const { promises } = setup();
    const controller = new AbortController();
    expect(await promises.set('a', 1, { signal: controller.signal, timeout: '1h' })).toBe('stored');
    expect(await promises.getMany(['a'], { signal: controller.signal, timeout: 2 ** 40 })).toEqual([1]);
    controller.abort();
    expect(await promises.get('a')).toBe(1);
  });
});
