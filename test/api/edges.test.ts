// Both surfaces at their edges: buffers that are used again, functions that read a cache while it is read, options
// that do not exist, calls that are done in part.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Cache, CairnError, PackedKeys, serve } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache({ maxMemory: '32mb', shards: 4, promises: { lanes: 2 } });
});
afterEach(() => cache.close());

// One buffer for all keys and one for all values, as readers of files have it.
function* reused(): Generator<[Uint8Array, Uint8Array]> {
  const key = Buffer.alloc(1);
  const value = Buffer.alloc(1);
  for (const letter of ['a', 'b', 'c']) {
    key.write(letter);
    value.write(letter.toUpperCase());
    yield [key, value];
  }
}
function* reusedKeys(): Generator<Uint8Array> {
  for (const [key] of reused()) yield key;
}
const LETTERS = [Buffer.from('A'), Buffer.from('B'), Buffer.from('C')];

describe('a generator that uses its buffers again', () => {
  test('stores what each pair was when it was given', async () => {
    cache.setMany(reused());
    expect(cache.getMany(['a', 'b', 'c'])).toEqual(LETTERS);
    cache.clear();
    await cache.promises.setMany(reused());
    expect(cache.getMany(['a', 'b', 'c'])).toEqual(LETTERS);
  });

  test('asks for what each key was when it was given', async () => {
    cache.setMany(reused());
    expect(cache.getMany(reusedKeys())).toEqual(LETTERS);
    expect(await cache.promises.getMany(reusedKeys())).toEqual(LETTERS);
    expect(cache.getMany(PackedKeys.from(reusedKeys())).value(0)).toEqual(LETTERS[0]);
    expect(cache.deleteMany(reusedKeys())).toEqual([true, true, true]);
  });
});

test('a raw function may read a cache while many values are read', () => {
  const names = ['d1', 'd2', 'd3'];
  for (const [index, name] of names.entries()) cache.set(name, { index });
  const raw = (bytes: Buffer) => {
    cache.getMany(names);
    return String(bytes);
  };
  const other = new Cache({ raw, shards: 1 });
  const stored = ['AAAA', 'BBBB', 'CCCC'].map((text): [string, Buffer] => [text, Buffer.from(text)]);
  other.setMany(stored);
  const keys = stored.map(([key]) => key);
  expect(other.getMany(keys)).toEqual(keys);
  expect(new Map(other)).toEqual(new Map(keys.map((key) => [key, key])));
  void other.close();
});

describe('misspelt or malformed arguments are refused', () => {
  test('an option of update that does not exist', () => {
    expect(() => cache.update('k', () => 1, { tll: 5 } as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /ttl/));
    expect(cache.has('k')).toBe(false);
  });

  test.each([{ entries: { a: 1 } }, { entries: null }, { entries: [['a', 1, 2]] }])(
    'as entries of setMany that keeps expiries: %j',
    ({ entries }) => {
      expect(() => cache.setMany(entries as never, { ttl: 'keep' })).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    },
  );

  test.each([{ keys: 'abc' }, { keys: undefined }, { keys: 5 }])('as keys to pack: %j', ({ keys }) => {
    expect(() => PackedKeys.from(keys as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /keys/));
  });

  test.each(['constructor', 'toString'])('an unknown option named %s, like a property of every object', (name) => {
    const options = { [name]: 1 } as never;
    expect(() => cache.set('k', 'v', options)).toThrow(withCode('ERR_INVALID_ARGUMENT', /expected one of ttl$/));
  });

  test('a dump block that claims more bytes than any block has, before its bytes are collected', () => {
    const [header] = cache.dump();
    const block = Buffer.alloc(8);
    block.writeUInt32LE(2 ** 31);
    expect(() => cache.load([header as Buffer, block, Buffer.alloc(100)])).toThrow(
      withCode('ERR_DUMP_MALFORMED', /2147483648 bytes/),
    );
  });
});

test('fetch refuses an object that only looks like an AbortSignal before it loads', async () => {
  const options = { signal: { aborted: false } } as never;
  await expect(cache.fetch('k', () => 1, options)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /signal/));
});

test('a promised update refuses a wrong ttl before it asks for the change', async () => {
  let count = 0;
  const change = () => ++count;
  const refused = withCode('ERR_INVALID_ARGUMENT', /ttl/);
  await expect(cache.promises.update('k', change, { ttl: 'soon' })).rejects.toThrow(refused);
  expect(count).toBe(0);
});

test('a server that is told to close with a wrong timeout rejects and goes on', async () => {
  const server = await serve(cache, { port: 0 });
  await expect(server.close({ timeout: 'soon' })).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /timeout/));
  await server.close();
});

test('bytes of a class of the caller are appended as bytes', async () => {
  class Bytes extends Uint8Array {}
  cache.set('k', 'x');
  expect(cache.append('k', new Bytes([97]))).toBe('stored');
  expect(await cache.promises.prepend('k', new Bytes([98]))).toBe('stored');
  expect(String(cache.get('k'))).toBe('bxa');
});

test('a promised count that begins with a bigint is a bigint, as the synchronous one', async () => {
  const initial = 2n ** 60n + 1n;
  cache.incr('sync', 1n, { initial });
  await cache.promises.incr('promised', 1n, { initial });
  await cache.promises.decr('down', 1n, { initial });
  for (const key of ['sync', 'promised', 'down']) expect(cache.get(key)).toBe(initial);
});

// One lane has a thread and the other has to start one, so that a short timeout mostly finds a call that is done in
// part. Whichever it finds, the message must not say otherwise.
test('a timeout never says that nothing was done when part of it was', async () => {
  const entries = Array.from({ length: 16 }, (_, index): [string, number] => [`k${index}`, index]);
  await cache.promises.get('k0');
  const error = await cache.promises.setMany(entries, { timeout: 12 }).catch((reason: unknown) => reason);
  if (error instanceof CairnError && /it was not done/.test(error.message)) {
    expect(entries.filter(([key]) => cache.has(key))).toEqual([]);
  }
});

test('a timeout says that the outcome is unknown when one lane has done its part and the other has not', async () => {
  const entries = Array.from({ length: 16 }, (_, index): [string, number] => [`k${index}`, index]);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    for (let isPartlyDone = false; !isPartlyDone; ) {
      const other = new Cache({ maxMemory: '32mb', shards: 4, promises: { lanes: 2 } });
      const { promises } = other;
      // The thread of the other lane has to start first.
      await promises.get('k0');
      const error = promises.setMany(entries, { timeout: 1000 }).catch((reason: unknown) => reason);
      while (promises.stats().requests === entries.length) await new Promise((resolve) => setImmediate(resolve));
      isPartlyDone = promises.stats().requests > 0;
      vi.advanceTimersByTime(1000);
      if (isPartlyDone) expect(await error).toEqual(withCode('ERR_TIMEOUT', /it may or may not have been done$/));
      await other.close();
    }
  } finally {
    vi.useRealTimers();
  }
});

test('batches that clear() cuts short count as bytes of the queue', async () => {
  const other = new Cache({ promises: { lanes: 1, maxBytes: '2mb' } });
  const { promises } = other;
  const calls: Promise<unknown>[] = [];
  for (let i = 0; i < 100; i++) calls.push(promises.set('a', i), promises.clear());
  const outcomes = await Promise.allSettled(calls);
  const codes = outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'done'));
  expect(new Set(codes)).toEqual(new Set(['done', 'ERR_QUEUE_FULL']));
  expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
  await other.close();
});
