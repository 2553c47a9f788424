// fetch() across threads: one load for all of them, also when a thread dies, stops waiting or writes meanwhile. The
// threads run the built package, the test itself the sources; both share the addon and with it the flights.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { deferred, runProgram, startThread, type Thread, type ThreadTools, until } from '../support/threads.ts';

const name = 'fetch threads';
let cache: Cache;
let threads: Thread[];

beforeEach(() => {
  cache = new Cache({ name, maxMemory: '64mb', maxValueBytes: '8mb' });
  threads = [];
});
afterEach(async () => {
  await Promise.all(threads.map((thread) => thread.worker.terminate()));
  await cache.close();
});

function start<D>(program: (tools: ThreadTools<D>) => unknown, data: D): Thread {
  const thread = startThread(program, data);
  threads.push(thread);
  return thread;
}

const counts = () => cache.stats();
/** Resolves once `count` calls wait for loads of others. */
const joined = (count: number) =>
  Promise.race([until(() => counts().fetchJoins >= count), ...threads.map((thread) => thread.failure)]);

/** Fetches 'k' with a loader that never ends; says 'loading' when it is called, and how its load was aborted. */
async function loadForEver({ cairn, data, say }: ThreadTools<{ name: string }>) {
  const load = ({ signal }: { signal: AbortSignal }) => {
    say('loading');
    signal.addEventListener('abort', () => say(`aborted: ${signal.reason?.name}`));
    return new Promise<string>(() => setInterval(() => {}, 1000));
  };
  await cairn.Cache.attach(data.name)
    .fetch('k', load)
    .catch(() => {});
}

/** Fetches 'k', which another thread loads, and says what came of it. */
async function wait({ cairn, data, say }: ThreadTools<{ name: string }>) {
  const attached = cairn.Cache.attach(data.name);
  const load = () => {
    say('loading');
    return 'loaded by the waiter';
  };
  await attached.fetch('k', load).then(
    (value: unknown) => say({ value }),
    (error: Error & { code?: unknown }) => say({ name: error.name, message: error.message, code: error.code }),
  );
}

describe('one load', () => {
  test('serves four threads and this one, for every key', async () => {
    const loads = new Int32Array(new SharedArrayBuffer(4 * 2000));
    const arrived = new Int32Array(new SharedArrayBuffer(4));
    const program = async ({
      cairn,
      data,
      say,
    }: ThreadTools<{ name: string; loads: Int32Array; arrived: Int32Array }>) => {
      const attached = cairn.Cache.attach(data.name);
      Atomics.add(data.arrived, 0, 1);
      Atomics.notify(data.arrived, 0);
      // All start together.
      for (let seen = 0; seen < 4; seen = Atomics.load(data.arrived, 0)) Atomics.wait(data.arrived, 0, seen);
      const fetch = (i: number) =>
        attached.fetch(`key${i}`, async () => {
          Atomics.add(data.loads, i, 1);
          await null;
          return { of: i };
        });
      say(await Promise.all(Array.from(data.loads, (_, i) => fetch(i))));
    };
    for (let i = 0; i < 4; i++) start(program, { name, loads, arrived });
    const answers = await Promise.all(threads.map((thread) => thread.next()));
    const expected = Array.from(loads, (_, of) => ({ of }));
    for (const answer of answers) expect(answer).toEqual(expected);
    expect([...loads].filter((count) => count !== 1)).toEqual([]);
    expect(counts()).toMatchObject({ fetchLoads: 2000, fetchFlights: 0 });
    expect(await Promise.all(threads.map((thread) => thread.exit))).toEqual([0, 0, 0, 0]);
  });

  test.for([
    ['text', 'grüße'],
    ['text with a lone surrogate', 'a\ud800'],
    ['a number', 1e21],
    ['a bigint', 5n],
    ['null', null],
    ['bytes', new Uint8Array([1, 2, 3])],
    ['an object', { a: [1, { b: 'ü' }] }],
    ['what only structured clone takes', new Map([['a', new Set([1])]])],
    ['nothing', undefined],
    ['a value too large for the cache', 'x'.repeat(10_000_000)],
  ] as [string, unknown][])('gives other threads what it gives its own: %s', async ([, value]) => {
    const load = deferred<unknown>();
    const own = cache.fetch('k', () => load.promise);
    const waiter = start(wait, { name });
    await joined(1);
    load.resolve(value);
    const bytes = value instanceof Uint8Array;
    expect(await own).toEqual(bytes ? Buffer.from(value) : value);
    expect(await waiter.next()).toEqual({ value });
    expect(await waiter.exit).toBe(0);
  });

  test('that is not to be kept still serves all', async () => {
    const load = deferred<string>();
    const own = cache.fetch('k', () => load.promise, { ttl: 0 });
    const waiter = start(wait, { name });
    await joined(1);
    load.resolve('for now');
    expect(await own).toBe('for now');
    expect(await waiter.next()).toEqual({ value: 'for now' });
    expect(cache.has('k')).toBe(false);
  });

  test('too large to be carried to other threads is loaded by them', async () => {
    const load = deferred<string>();
    const own = cache.fetch('k', () => load.promise);
    const waiter = start(wait, { name });
    await joined(1);
    load.resolve('x'.repeat(2 ** 26 + 1));
    expect(await own).toHaveLength(2 ** 26 + 1);
    expect(await waiter.next()).toBe('loading');
    expect(await waiter.next()).toEqual({ value: 'loaded by the waiter' });
  });
});

describe('an error', () => {
  class StrangeError extends Error {
    override name = 'StrangeError';
    code = 14;
  }
  test.for([
    [
      'with a code',
      Object.assign(new Error('no host'), { code: 'ENOTFOUND' }),
      { name: 'Error', message: 'no host', code: 'ENOTFOUND' },
    ],
    ['of a built-in class', new RangeError('too far'), { name: 'RangeError', message: 'too far', code: undefined }],
    ['of another class', new StrangeError('odd'), { name: 'StrangeError', message: 'odd', code: 14 }],
    ['that is text', 'just text', { name: 'Error', message: 'just text', code: undefined }],
    ['that is an object', { status: 404 }, { name: 'Error', message: '{ status: 404 }', code: undefined }],
    ['that is undefined', undefined, { name: 'Error', message: 'undefined', code: undefined }],
    [
      'with a long message',
      new Error('m'.repeat(100_000)),
      { name: 'Error', message: 'm'.repeat(8192), code: undefined },
    ],
  ] as [string, unknown, object][])('%s reaches the other thread', async ([, error, expected]) => {
    const load = deferred<string>();
    const own = cache.fetch('k', () => load.promise);
    const waiter = start(wait, { name });
    await joined(1);
    load.reject(error);
    expect(await own.catch((reason: unknown) => reason)).toBe(error);
    expect(await waiter.next()).toEqual(expected);
  });

  test('of ours is of the same class in the other thread', async () => {
    const load = deferred<unknown>();
    const thread = start(
      async ({ cairn, data, say }: ThreadTools<{ name: string }>) => {
        const attached = cairn.Cache.attach(data.name);
        const error = await attached.fetch('k', () => 1).catch((reason: unknown) => reason);
        say([error instanceof cairn.CairnTypeError, cairn.errorKind(error), String(error)]);
      },
      { name },
    );
    const own = cache.fetch('k', () => load.promise);
    await joined(1);
    load.resolve(() => {});
    const error: Error = await own.then(
      () => expect.fail(),
      (reason) => reason,
    );
    expect(await thread.next()).toEqual([true, 'misuse', String(error)]);
  });
});

describe('when the thread that loads ends', () => {
  const endings: [string, (thread: Thread) => unknown][] = [
    ['is terminated', (thread) => thread.worker.terminate()],
    ['exits', (thread) => thread.tell('exit')],
  ];
  test.for(endings)('%s: the next one that waits loads', async ([, end]) => {
    const owner = start(
      async ({ cairn, data, say, hear }: ThreadTools<{ name: string }>) => {
        const load = () => {
          say('loading');
          return new Promise<string>(() => {});
        };
        cairn.Cache.attach(data.name).fetch('k', load);
        await hear();
        process.exit(0);
      },
      { name },
    );
    expect(await owner.next()).toBe('loading');
    const first = cache.fetch('k', () => 'loaded by the next');
    await joined(1);
    const second = start(wait, { name });
    await joined(2);
    await end(owner);
    expect(await first).toBe('loaded by the next');
    expect(await second.next()).toEqual({ value: 'loaded by the next' });
    expect(cache.get('k')).toBe('loaded by the next');
  });

  test('and several after it too, the last one loads', async () => {
    for (let i = 0; i < 3; i++) {
      const thread = start(loadForEver, { name });
      if (i === 0) expect(await thread.next()).toBe('loading');
      await joined(i);
    }
    const last = cache.fetch('k', () => 'the last');
    await joined(3);
    for (const [i, thread] of threads.entries()) {
      await thread.worker.terminate();
      const next = threads[i + 1];
      if (next !== undefined) expect(await next.next()).toBe('loading');
    }
    expect(await last).toBe('the last');
  });

  test('after the key was written, those who wait look into the cache', async () => {
    const owner = start(loadForEver, { name });
    expect(await owner.next()).toBe('loading');
    const call = cache.fetch('k', () => expect.fail('loaded'));
    await joined(1);
    cache.set('k', 'written');
    await owner.worker.terminate();
    expect(await call).toBe('written');
  });

  test('without other callers, the next call loads again', async () => {
    const owner = start(loadForEver, { name });
    expect(await owner.next()).toBe('loading');
    await owner.worker.terminate();
    expect(counts().fetchFlights).toBe(0);
    expect(await cache.fetch('k', () => 'v')).toBe('v');
  });
});

describe('giving up', () => {
  test('in one thread leaves the load to the others', async () => {
    const load = deferred<string>();
    const controller = new AbortController();
    let signal: AbortSignal | undefined;
    const own = cache.fetch(
      'k',
      (context) => {
        signal = context.signal;
        return load.promise;
      },
      { signal: controller.signal },
    );
    const waiter = start(wait, { name });
    await joined(1);
    controller.abort('enough');
    await expect(own).rejects.toBe('enough');
    expect(signal?.aborted).toBe(false);
    // The load goes on for the other thread, and can be joined again here.
    const again = cache.fetch('k', () => expect.fail('loaded'));
    load.resolve('v');
    expect(await again).toBe('v');
    expect(await waiter.next()).toEqual({ value: 'v' });
  });

  test('in the last thread aborts the load in the thread that runs it', async () => {
    const owner = start(
      async ({ cairn, data, say, hear }: ThreadTools<{ name: string }>) => {
        const controller = new AbortController();
        const load = ({ signal }: { signal: AbortSignal }) => {
          say('loading');
          signal.addEventListener('abort', () => say(signal.reason.name));
          return new Promise<string>(() => {});
        };
        cairn.Cache.attach(data.name)
          .fetch('k', load, { signal: controller.signal })
          .catch((error: unknown) => say(error));
        await hear();
        controller.abort('left');
        await hear();
      },
      { name },
    );
    expect(await owner.next()).toBe('loading');
    const controller = new AbortController();
    const call = cache.fetch('k', () => expect.fail('loaded'), { signal: controller.signal });
    await joined(1);
    owner.tell('abort');
    expect(await owner.next()).toBe('left');
    controller.abort('me too');
    await expect(call).rejects.toBe('me too');
    expect(await owner.next()).toBe('AbortError');
    owner.tell('end');
    expect(await owner.exit).toBe(0);
    await until(() => counts().fetchFlights === 0);
  });

  test('by timeout while another thread loads', async () => {
    const owner = start(loadForEver, { name });
    expect(await owner.next()).toBe('loading');
    await expect(cache.fetch('k', () => expect.fail('loaded'), { timeout: 5 })).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
    });
    expect(counts().fetchFlights).toBe(1);
  });
});

describe('a write in another thread while it is loaded', () => {
  test.for(['set', 'delete', 'clear'] as const)(
    '%s: the value is not stored, and a later fetch loads anew',
    async (verb) => {
      const load = deferred<string>();
      const before = cache.fetch('k', () => load.promise);
      const writer = start(
        ({ cairn, data }: ThreadTools<{ name: string; verb: string }>) => {
          const attached = cairn.Cache.attach(data.name);
          if (data.verb === 'set') attached.set('k', 'written');
          else if (data.verb === 'delete') attached.delete('k');
          else attached.clear();
        },
        { name, verb },
      );
      await writer.exit;
      const later = cache.fetch('k', () => 'new');
      load.resolve('old');
      expect(await before).toBe('old');
      const expected = verb === 'set' ? 'written' : 'new';
      expect(await later).toBe(expected);
      expect(cache.get('k')).toBe(expected);
    },
  );
});

test('when the cache is closed by its owner, threads that wait are rejected', async () => {
  const call = cache.fetch('k', () => new Promise<string>(() => {}));
  const waiter = start(wait, { name });
  await joined(1);
  await cache.close();
  await expect(call).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  expect(await waiter.next()).toMatchObject({ code: 'ERR_CLOSED', name: 'CairnError' });
  expect(await waiter.exit).toBe(0);
});

test('when the cache is closed by its owner, loads of other threads are aborted', async () => {
  const owner = start(loadForEver, { name });
  expect(await owner.next()).toBe('loading');
  await cache.close();
  expect(await owner.next()).toBe('aborted: CairnError');
});

test('threads come, fetch, write and are terminated at any moment, and every fetch is answered', async () => {
  // Each thread fetches a few keys over and over, now and then writing one or giving up, until it is terminated; this
  // one does the same and must get an answer to every call. Whatever is left of a thread must be taken over or taken
  // away.
  const program = async ({ cairn, data, say }: ThreadTools<{ name: string; seed: number }>) => {
    const attached = cairn.Cache.attach(data.name);
    let state = data.seed;
    const below = (bound: number) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
      return (state >> 8) % bound;
    };
    say('started');
    for (;;) {
      const key = `k${below(5)}`;
      const options = below(4) === 0 ? { signal: AbortSignal.timeout(below(3)) } : { ttl: below(3) * 1000 };
      const load = () => new Promise<string>((resolve) => setTimeout(resolve, below(3), key));
      const calls: Promise<unknown>[] = Array.from({ length: 1 + below(3) }, () =>
        attached.fetch(key, load, options).catch(() => {}),
      );
      if (below(2) === 0) {
        const keys = Array.from({ length: 1 + below(5) }, () => `k${below(5)}`);
        const loadMany = async (context: { keys: readonly unknown[] }) => {
          await new Promise((resolve) => setTimeout(resolve, below(3)));
          return context.keys as string[];
        };
        calls.push(attached.fetchMany(keys, loadMany, { ...options, collect: below(2) }).catch(() => {}));
      }
      if (below(3) === 0) attached.delete(key);
      await Promise.all(calls);
    }
  };
  let stop = false;
  const mine = (async () => {
    let answers = 0;
    while (!stop) {
      const keys = ['k0', 'k1', 'k2', 'k3', 'k4'];
      const load = (key: string) => cache.fetch(key, () => sleep(1, key));
      const loadMany = async (context: { keys: readonly unknown[] }) => sleep(1, context.keys as string[]);
      const [many, ...values] = await Promise.all([cache.fetchMany(keys, loadMany), ...keys.map(load)]);
      expect([many, values]).toEqual([keys, keys]);
      for (const key of keys) cache.delete(key);
      answers += keys.length;
    }
    return answers;
  })();
  for (let round = 0; round < 12; round++) {
    const batch = [start(program, { name, seed: round * 2 + 1 }), start(program, { name, seed: round * 2 + 2 })];
    for (const thread of batch) await thread.next();
    await sleep(round * 3);
    await Promise.all(batch.map((thread) => thread.worker.terminate()));
  }
  stop = true;
  expect(await mine).toBeGreaterThan(0);
  await until(() => counts().fetchFlights === 0);
  expect(counts().fetchJoins).toBeGreaterThan(0);
});

describe('fetchMany', () => {
  test('loads each key once for all threads, whose calls ask for many of the same keys', async () => {
    const loads = new Int32Array(new SharedArrayBuffer(4 * 1000));
    const arrived = new Int32Array(new SharedArrayBuffer(4));
    type Data = { name: string; loads: Int32Array; arrived: Int32Array; from: number };
    const program = async ({ cairn, data, say }: ThreadTools<Data>) => {
      const attached = cairn.Cache.attach(data.name);
      Atomics.add(data.arrived, 0, 1);
      Atomics.notify(data.arrived, 0);
      // All start together.
      for (let seen = 0; seen < 3; seen = Atomics.load(data.arrived, 0)) Atomics.wait(data.arrived, 0, seen);
      const load = async ({ keys }: { keys: readonly (string | Uint8Array)[] }) => {
        for (const key of keys) Atomics.add(data.loads, Number(key), 1);
        await null;
        return new Map(keys.map((key) => [key, { of: Number(key) }]));
      };
      const keys = Array.from(data.loads, (_, i) => `${(i + data.from) % data.loads.length}`);
      const values = await attached.fetchMany(keys, load, { batchSize: 64 });
      say(values.map((value, i) => (value as { of: number }).of === Number(keys[i])));
    };
    for (let i = 0; i < 3; i++) start(program, { name, loads, arrived, from: i * 300 });
    for (const thread of threads) expect(await thread.next()).toEqual(Array(1000).fill(true));
    expect([...loads].filter((count) => count !== 1)).toEqual([]);
    expect(counts()).toMatchObject({ fetchLoads: 1000, fetchFlights: 0 });
  });

  test('loads the keys whose loading thread ends, and collects them', async () => {
    const program = async ({ cairn, data, say }: ThreadTools<{ name: string }>) => {
      const load = () => {
        say('loading');
        return new Promise<never>(() => setInterval(() => {}, 1000));
      };
      await cairn.Cache.attach(data.name).fetchMany(['a', 'b', 'c'], load);
    };
    const thread = start(program, { name });
    expect(await thread.next()).toBe('loading');
    const calls: (readonly unknown[])[] = [];
    const load = ({ keys }: { keys: readonly unknown[] }) => {
      calls.push(keys);
      return keys.map((key) => `value of ${key}`);
    };
    // They come one by one, as the memberships of the other thread end: the batch is loaded when it has all three.
    const call = cache.fetchMany(['a', 'b', 'c'], load, { collect: '1h', batchSize: 3 });
    await thread.worker.terminate();
    expect(await call).toEqual(['value of a', 'value of b', 'value of c']);
    expect(calls.map((keys) => [...keys].sort())).toEqual([['a', 'b', 'c']]);
  });
});

describe('a value near or after its end', () => {
  let now: number;
  let timed: Cache;
  beforeEach(async () => {
    now = 0;
    timed = new Cache({ name: 'timed threads', maxMemory: '16mb', clock: () => now });
  });
  afterEach(() => timed.close());
  const options = { ttl: 100, staleIfError: '1h', refreshAhead: 20, softTimeout: 1 };
  const notCalled = () => expect.fail('loaded');
  type Data = { options: typeof options };

  /** Fetches 'k', tells how each step goes, and loads what the test says. */
  const program = async ({ cairn, data, say, hear }: ThreadTools<Data>) => {
    const load = () => {
      say('loading');
      return hear();
    };
    say({ value: await cairn.Cache.attach('timed threads').fetch('k', load, data.options) });
    await hear();
  };

  test('is refreshed ahead by one load of all threads', async () => {
    await timed.fetch('k', () => 'old', options);
    now = 90;
    timed.has('k');
    const thread = start(program, { options });
    expect([await thread.next(), await thread.next()]).toEqual(['loading', { value: 'old' }]);
    for (let i = 0; i < 3; i++) expect(await timed.fetch('k', notCalled, options)).toBe('old');
    thread.tell('new');
    await until(() => timed.get('k') === 'new');
    expect(timed.stats().fetchLoads).toBe(2);
    thread.tell('end');
  });

  test('is given after the soft timeout while another thread loads, which goes on', async () => {
    await timed.fetch('k', () => 'old', options);
    now = 100;
    timed.has('k');
    const thread = start(program, { options: { ...options, softTimeout: 0 } });
    expect(await thread.next()).toBe('loading');
    expect(await timed.fetch('k', notCalled, options)).toBe('old');
    const waiting = timed.fetch('k', notCalled);
    thread.tell('new');
    expect(await waiting).toBe('new');
    expect(await thread.next()).toEqual({ value: 'new' });
    thread.tell('end');
  });

  test('is given after the soft timeout to a thread that then ends by itself, though the load goes on', async () => {
    await timed.fetch('k', () => 'old', options);
    now = 100;
    const load = deferred<string>();
    const own = timed.fetch('k', () => load.promise, { staleIfError: '1h' });
    const waiter = async ({ cairn, data, say }: ThreadTools<Data>) => {
      const load = () => say('loading');
      say({ value: await cairn.Cache.attach('timed threads').fetch('k', load, data.options as never) });
    };
    const thread = start(waiter, { options });
    expect(await thread.next()).toEqual({ value: 'old' });
    expect(await thread.exit).toBe(0);
    load.resolve('new');
    expect(await own).toBe('new');
  });
});

describe('a program', () => {
  test('whose load never ends falls off its end', () => {
    const { status, stderr } = runProgram(`
      const cache = new Cache();
      cache.fetch('k', () => new Promise(() => {}));
    `);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('whose worker waits for a load of the main thread lives until it is answered', () => {
    const { status, stdout, stderr } = runProgram(`
      const cache = new Cache({ name: 'x' });
      let answer;
      cache.fetch('k', () => new Promise((resolve) => { answer = resolve; }));
      startWorker('Cache.attach("x").fetch("k", () => 0).then(console.log)');
      const timer = setInterval(() => {
        if (cache.stats().fetchJoins === 0) return;
        clearInterval(timer);
        answer('from main');
      }, 1);
    `);
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'from main\n', stderr: '' });
  });

  test.for([
    ['process.exit(3)', 3, ''],
    ['process.nextTick(() => { throw new Error("on purpose") })', 1, 'Error: on purpose'],
  ] as const)('that ends with loads under way in all threads ends: %s', ([end, expected, message]) => {
    const { status, stderr } = runProgram(`
      const cache = new Cache({ name: 'x' });
      cache.fetch('led here', () => new Promise(() => {}));
      const code = 'const cache = Cache.attach("x"); cache.fetch("led here", () => 0);' +
        'cache.fetch("led there", () => new Promise(() => {})); setInterval(() => {}, 1000);';
      for (let i = 0; i < 3; i++) startWorker(code);
      setInterval(() => {
        if (cache.stats().fetchJoins >= 5) { ${end} }
      }, 1);
    `);
    expect({ status, stderr }).toEqual({ status: expected, stderr: expect.stringContaining(message) });
  });
});
