// Every option: what it takes, what it refuses, and that the refusal names the option, what was expected and what came.
import { describe, expect, test } from 'vitest';
import { Cache, type CacheOptions } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';

const make = (options: unknown): void => {
  using _cache = new Cache(options as CacheOptions);
};

describe('an option that does not exist is refused with the one that was meant', () => {
  test.each([
    ['max', 'maxEntries'],
    ['maxSize', 'maxMemory'],
    ['maxEntrySize', 'maxValueBytes'],
    ['ttlMs', 'ttl'],
    ['maxAge', 'ttl'],
    ['stdTTL', 'ttl'],
    ['maxmemory', 'maxMemory'],
    ['maxEntris', 'maxEntries'],
    ['shard', 'shards'],
    ['maxValueSize', 'maxValueBytes'],
    ['nmae', 'name'],
  ])('%s: did you mean %s?', (given, meant) => {
    expect(() => make({ [given]: 5 })).toThrow(
      withCode('ERR_INVALID_ARGUMENT', new RegExp(`"${given}".*did you mean ${meant}\\?`)),
    );
  });

  test('dispose: points to the events', () => {
    expect(() => make({ dispose() {} })).toThrow(withCode('ERR_INVALID_ARGUMENT', /on\('removal'/));
  });

  test('the error of an unknown option without a similar name lists all options', () => {
    expect(() => make({ frobnicate: 1 })).toThrow(withCode('ERR_INVALID_ARGUMENT', /expected one of name, maxMemory/));
  });

  test('verbs refuse unknown options, too', () => {
    using cache = new Cache();
    expect(() => cache.set('k', 1, { tll: 5 } as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /did you mean ttl/));
    expect(() => cache.set('k', 1, { maxAge: 5 } as never)).toThrow(
      withCode('ERR_INVALID_ARGUMENT', /did you mean ttl/),
    );
    expect(() => [...cache.keys({ ordr: 'newest' } as never)]).toThrow(
      withCode('ERR_INVALID_ARGUMENT', /did you mean order/),
    );
    expect(() => cache.incr('k', 1, { init: 5 } as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /"init"/));
    // What others call that is another option's name, which is none here.
    expect(() => cache.set('k', 1, { size: 5 } as never)).toThrow(
      withCode('ERR_INVALID_ARGUMENT', /"size" in options: expected one of ttl$/),
    );
    expect(() => cache.set('k', 1, 60 as never)).toThrow(
      withCode('ERR_INVALID_ARGUMENT', /options to be an object, got 60/),
    );
  });
});

describe('a wrong value is refused, naming option, expectation and value', () => {
  test.each<[object, typeof TypeError | typeof RangeError, RegExp]>([
    [{ name: 5 }, TypeError, /Expected name to be a string, got 5/],
    [{ name: '' }, RangeError, /Expected name to be a string of 1 to 200 characters, got ""/],
    [{ name: 'x'.repeat(201) }, RangeError, /name/],
    [{ name: 'a\nb' }, RangeError, /name.*control characters/],
    [{ name: '\ud800' }, RangeError, /name/],
    [
      { maxMemory: 0 },
      RangeError,
      /Expected maxMemory to be a positive integer of bytes, or text such as "512mb" or "25%", got 0/,
    ],
    [{ maxMemory: -1 }, RangeError, /maxMemory.*got -1/],
    [{ maxMemory: 1.5 }, RangeError, /maxMemory/],
    [{ maxMemory: Number.NaN }, RangeError, /maxMemory.*NaN/],
    [{ maxMemory: '64' + 'xb' }, RangeError, /maxMemory.*"64xb"/],
    [{ maxMemory: '0%' }, RangeError, /maxMemory/],
    [{ maxMemory: '101%' }, RangeError, /maxMemory/],
    [{ maxMemory: '' }, RangeError, /maxMemory/],
    [{ maxMemory: null }, TypeError, /maxMemory.*null/],
    [{ maxMemory: 10n }, TypeError, /maxMemory.*10n/],
    [{ maxMemory: '1mb' }, RangeError, /Expected maxMemory to be at least 4mb, got "1mb"/],
    [{ maxMemory: '64mb', maxMemoryCeiling: '32mb' }, RangeError, /maxMemoryCeiling/],
    [{ maxEntries: 0 }, RangeError, /Expected maxEntries to be an integer of at least 1, got 0/],
    [{ maxEntries: 1.5 }, RangeError, /maxEntries/],
    [{ maxEntries: '100' }, TypeError, /maxEntries.*"100"/],
    [{ maxValueBytes: '2gb' }, RangeError, /maxValueBytes/],
    [{ maxValueBytes: 0 }, RangeError, /maxValueBytes/],
    [
      { ttl: -1 },
      RangeError,
      /Expected ttl to be a non-negative integer of milliseconds, or a number with ms, s, m, h or d, such as "60s", got -1/,
    ],
    [{ ttl: 1.5 }, RangeError, /ttl.*1\.5/],
    [{ ttl: '5' }, RangeError, /ttl.*"5"/],
    [{ ttl: '5 parsecs' }, RangeError, /ttl/],
    [{ ttl: null }, TypeError, /ttl/],
    [{ shards: 3 }, RangeError, /Expected shards to be a power of two up to 256, got 3/],
    [{ shards: 512 }, RangeError, /shards/],
    [{ shards: 0 }, RangeError, /shards/],
    [{ hash: 'md5' }, RangeError, /Expected hash to be 'fast' or 'siphash', got "md5"/],
    [{ trackAccess: 1 }, TypeError, /trackAccess/],
    [{ raw: 'text' }, TypeError, /Expected raw to be 'buffer', 'string', 'json' or a function, got "text"/],
  ])('%o', (options, type, message) => {
    expect(() => make(options)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
    expect(() => make(options)).toThrow(type);
  });

  test('lanes of write-back that have no shard each', () => {
    const laned = { store: 'postgres://host/name', data: '/nowhere', maxMemory: '64mb', writeBack: { lanes: 4 } };
    const refused = (options: object, message: RegExp): void => {
      expect(() => make({ ...laned, ...options })).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
    };
    refused({ writeBack: { lanes: 3 } }, /Expected writeBack\.lanes to be a power of two up to 16, got 3/);
    refused({ writeBack: { lanes: 32 } }, /Expected writeBack\.lanes to be .* 16, got 32/);
    refused({ shards: 2 }, /writeBack\.lanes is 4, .*shards of at least 4, not 2, or fewer lanes/);
    refused({ maxMemory: '8mb' }, /writeBack\.lanes is 4, .*maxMemory of at least 16777216 bytes, not 8388608/);
    refused({ maxEntries: 4000 }, /writeBack\.lanes is 4, .*maxEntries of at least 4096, not 4000/);
  });

  test('options that are no object', () => {
    for (const options of [5, 'x', [], null])
      expect(() => make(options)).toThrow(withCode('ERR_INVALID_ARGUMENT', /options/));
  });

  test('limits that do not fit each other are refused by the store, in the same words', () => {
    const refused = (options: object, message: RegExp): void => {
      expect(() => make(options)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
      expect(() => make(options)).toThrow(RangeError);
    };
    refused(
      { maxMemory: '4mb', shards: 256 },
      /^Expected maxMemory to be at least 1073741824, at least 4194304 in each of 256 shards, got 4194304$/,
    );
    refused(
      { maxMemory: '8mb', maxValueBytes: '1gb', shards: 1 },
      /^Expected maxValueBytes to be at most \d+, half of what one of the shards can hold, got 1073741824$/,
    );
    refused(
      { maxMemory: '1gb', maxMemoryCeiling: '1000tb' },
      /^Expected maxMemoryCeiling to be at most 4398046511104, at most 17179869184 in each of 256 shards, got 1099511627776000$/,
    );
  });
});

test('a cache without options has 64 MiB and says so', () => {
  using cache = new Cache();
  expect(cache.options.maxMemory).toBe(64 * 2 ** 20);
  expect(cache.stats().memoryBytes).toBe(64 * 2 ** 20);
  expect(cache.name).toBe('');
});

test('durations and sizes are kept in milliseconds and bytes', () => {
  using cache = new Cache({ ttl: '1.5h', maxMemory: '16mb', maxMemoryCeiling: '0.5g', maxValueBytes: '2k' });
  expect(cache.options).toEqual({
    ...cache.options,
    ttl: 5_400_000,
    maxMemory: 16 * 2 ** 20,
    maxMemoryCeiling: 2 ** 29,
    maxValueBytes: 2048,
  });
});

test('options shows the values chosen for omitted options, and can be passed to a new cache', () => {
  using cache = new Cache();
  const { options } = cache;
  expect(options).toEqual({
    maxMemory: 64 * 2 ** 20,
    maxMemoryCeiling: 256 * 2 ** 20,
    maxValueBytes: 2 ** 20,
    ttl: 0,
    shards: cache.stats().shards,
    hash: 'fast',
    trackAccess: false,
    raw: 'buffer',
    promises: { lanes: cache.promises.stats().lanes, maxRequests: 65_536, maxBytes: 64 * 2 ** 20 },
    ack: 'memory',
  });
  expect(options.promises.lanes).toBeGreaterThanOrEqual(1);
  using same = new Cache(options);
  expect(same.options).toEqual(options);
  expect(Object.isFrozen(options)).toBe(true);
});

test('raw and promises are those of the handle', () => {
  using cache = new Cache({ name: 'of-a-handle', maxEntries: 10 });
  using attached = Cache.attach('of-a-handle', { raw: 'json', promises: { lanes: 1, maxRequests: 5 } });
  expect(attached.options).toEqual({
    ...cache.options,
    raw: 'json',
    promises: { lanes: 1, maxRequests: 5, maxBytes: 64 * 2 ** 20 },
  });
  expect(cache.options).toMatchObject({ name: 'of-a-handle', maxEntries: 10, raw: 'buffer' });
});

test('maxEntries may be Infinity, which is no limit', async () => {
  using cache = new Cache({ maxEntries: Number.POSITIVE_INFINITY });
  expect(cache.options).not.toHaveProperty('maxEntries');
  expect(cache.stats().maxEntries).toBe(0);
  await cache.resize({ maxEntries: 5 });
  for (let i = 0; i < 50; i++) cache.set(`k${i}`, i);
  expect([cache.stats().maxEntries, cache.size <= 5 + cache.stats().shards]).toEqual([5, true]);
  await cache.resize({ maxEntries: Number.POSITIVE_INFINITY });
  expect(cache.stats().maxEntries).toBe(0);
  for (let i = 0; i < 1000; i++) cache.set(`k${i}`, i);
  expect(cache.size).toBe(1000);
});

test('options reach the store', () => {
  using cache = new Cache({
    maxMemory: '16mb',
    maxEntries: 10,
    maxValueBytes: '100kb',
    shards: 1,
    hash: 'siphash',
    ttl: '1h',
    trackAccess: true,
  });
  for (let i = 0; i < 50; i++) cache.set(`k${i}`, i);
  expect(cache.size).toBe(10);
  expect(cache.stats().shards).toBe(1);
  expect(cache.getRemainingTTL('k49')).toBeGreaterThan(3_500_000);
  expect(() => cache.set('large', Buffer.alloc(100 * 1024 + 1))).toThrow(withCode('ERR_VALUE_TOO_LARGE'));
  expect(cache.set('fits', Buffer.alloc(100 * 1024))).toBe('stored');
});

test('maxMemory may be a share of the memory that the process may use', () => {
  using cache = new Cache({ maxMemory: '25%' });
  expect(cache.options.maxMemory).toBeGreaterThan(4 * 2 ** 20);
  expect(cache.stats().memoryBytes).toBe(cache.options.maxMemory);
});
