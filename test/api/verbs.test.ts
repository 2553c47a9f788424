// The verbs on one key: what each does to an entry that is there and to one that is not.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { expectSame } from '../support/same.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache({ shards: 1 });
});
afterEach(() => cache.close());

const order = () => [...cache.keys({ order: 'oldest' })];

describe('get', () => {
  test('gives what was set, and undefined for what was not', () => {
    cache.set('a', 'x');
    expect(cache.get('a')).toBe('x');
    expect(cache.get('b')).toBeUndefined();
  });

  test('gives a copy each time', () => {
    const value = { list: [1] };
    cache.set('a', value);
    const first = cache.get('a') as typeof value;
    expect(first).toEqual(value);
    expect(first).not.toBe(value);
    first.list.push(2);
    expect(cache.get('a')).toEqual({ list: [1] });
  });

  test('makes the entry the most recently used and counts', () => {
    for (const key of ['a', 'b', 'c']) cache.set(key, key);
    cache.get('a');
    cache.get('nothing');
    expect(order()).toEqual(['b', 'c', 'a']);
    expect(cache.stats()).toMatchObject({ gets: 2, hits: 1, misses: 1 });
  });

  test('and set are for the cache that they are called on, when several take turns', () => {
    using other = new Cache();
    // V8 cannot tell U+FFFD from a lone surrogate, so the addon is asked for such a key twice.
    const keys = ['k', '\uFFFD', 'long'.repeat(1000)];
    for (const key of keys) {
      cache.set(key, `cache ${key}`);
      other.set(key, `other ${key}`);
    }
    for (const key of keys) {
      expect([cache.get(key), other.get(key), cache.get(key)]).toEqual([
        `cache ${key}`,
        `other ${key}`,
        `cache ${key}`,
      ]);
    }
    expect([cache.size, other.size]).toEqual([keys.length, keys.length]);
    // One in the middle of the other.
    using outer = new Cache({ raw: (bytes) => `${bytes} and ${other.get('k')}` });
    outer.set('k', Buffer.from('outer'));
    expect([outer.get('k'), outer.get('k'), cache.get('k')]).toEqual([
      'outer and other k',
      'outer and other k',
      'cache k',
    ]);
  });
});

describe('peek and has', () => {
  test('answer without touching the order or the counters', () => {
    for (const key of ['a', 'b']) cache.set(key, key);
    expect(cache.peek('a')).toBe('a');
    expect(cache.has('a')).toBe(true);
    expect(cache.peek('x')).toBeUndefined();
    expect(cache.has('x')).toBe(false);
    expect(order()).toEqual(['a', 'b']);
    expect(cache.stats()).toMatchObject({ gets: 0, hits: 0, misses: 0 });
  });
});

describe('set, add, replace', () => {
  test.each([
    ['set', 'stored', 'new'],
    ['add', 'not-stored', 'old'],
    ['replace', 'stored', 'new'],
  ] as const)('%s on an entry that is there: %s', (verb, answer, value) => {
    cache.set('a', 'old');
    expect(cache[verb]('a', 'new')).toBe(answer);
    expect(cache.get('a')).toBe(value);
  });

  test.each([
    ['set', 'stored', 'new'],
    ['add', 'stored', 'new'],
    ['replace', 'not-stored', undefined],
  ] as const)('%s on an entry that is not there: %s', (verb, answer, value) => {
    expect(cache[verb]('a', 'new')).toBe(answer);
    expect(cache.get('a')).toBe(value);
  });

  test('replace a value of one kind by one of another', () => {
    const values = [
      'text',
      'ü',
      5,
      5n,
      null,
      { a: 1 },
      Buffer.from('b'),
      new Date(1),
      'x'.repeat(10_000),
      Buffer.alloc(70_000, 3),
    ];
    for (const from of values) {
      for (const to of values) {
        cache.set('a', from);
        cache.set('a', to);
        expectSame(cache.get('a'), to);
      }
    }
    expect(cache.size).toBe(1);
  });

  test('a value above the limit is refused and what was there is gone, as in memcached', () => {
    cache.set('a', 'old');
    expect(() => cache.set('a', 'x'.repeat(2 ** 20 + 1))).toThrow(withCode('ERR_VALUE_TOO_LARGE', /"a"/));
    expect(cache.has('a')).toBe(false);
    expect(cache.set('a', 'x'.repeat(2 ** 20))).toBe('stored');
    expect((cache.get('a') as string).length).toBe(2 ** 20);
  });
});

describe('append and prepend', () => {
  test('add text to text, and bytes to bytes', () => {
    cache.set('a', 'b');
    expect(cache.append('a', 'c')).toBe('stored');
    expect(cache.prepend('a', 'a')).toBe('stored');
    expect(cache.get('a')).toBe('abc');
    cache.set('raw', Buffer.from([1]));
    expect(cache.append('raw', Buffer.from([2, 255]))).toBe('stored');
    expect(cache.get('raw')).toEqual(Buffer.from([1, 2, 255]));
  });

  test.each([
    ['ascii and wide', 'a', 'ü€\u{1f511}'],
    ['wide and ascii', 'ü', 'a'],
    ['wide and a lone surrogate', 'ü', '\ud800'],
    ['two halves of a pair', 'a\ud83d', '\udd11b'],
    ['U+FFFD', 'a', '\ufffd'],
    ['long and short', 'x'.repeat(5000), 'y'],
    ['short and long', 'x', 'ü'.repeat(50_000)],
    ['empty', '', ''],
  ])('join text: %s', (_name, first, second) => {
    cache.set('a', first);
    cache.append('a', second);
    expect(cache.get('a')).toBe(first + second);
    cache.set('a', second);
    cache.prepend('a', first);
    expect(cache.get('a')).toBe(first + second);
  });

  test('keep the time to live', () => {
    cache.set('a', 'b', { ttl: '1h' });
    cache.append('a', 'c');
    expect(cache.getRemainingTTL('a')).toBeGreaterThan(3_500_000);
    cache.set('b', 'b');
    cache.append('b', 'c');
    expect(cache.getRemainingTTL('b')).toBe(Number.POSITIVE_INFINITY);
  });

  test.each([
    ['nothing', undefined],
    ['a number', 5],
    ['a bigint', 5n],
    ['JSON', { a: 1 }],
    ['a structured clone', new Date(0)],
  ])('answer not-stored on %s, and change nothing', (_name, value) => {
    if (value !== undefined) cache.set('a', value);
    expect(cache.append('a', 'x')).toBe('not-stored');
    expect(cache.prepend('a', Buffer.from('x'))).toBe('not-stored');
    expect(cache.get('a')).toEqual(value);
  });

  test('refuse pieces that are neither text nor bytes', () => {
    cache.set('a', 'x');
    for (const piece of [5, null, undefined, {}, ['x']]) {
      expect(() => cache.append('a', piece as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /piece/));
      expect(() => cache.prepend('a', piece as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /piece/));
    }
  });

  test('refuse a result above the limit and change nothing', () => {
    cache.set('a', 'x'.repeat(2 ** 20));
    expect(() => cache.append('a', 'y')).toThrow(withCode('ERR_VALUE_TOO_LARGE'));
    expect((cache.get('a') as string).length).toBe(2 ** 20);
  });
});

describe('take, delete, evict', () => {
  test('take gives the value and removes it', () => {
    cache.set('a', { x: 1 });
    expect(cache.take('a')).toEqual({ x: 1 });
    expect(cache.take('a')).toBeUndefined();
    cache.set('large', Buffer.alloc(200_000, 1));
    expectSame(cache.take('large'), Buffer.alloc(200_000, 1));
    expect(cache.size).toBe(0);
  });

  test('delete and evict say whether there was an entry', () => {
    for (const verb of ['delete', 'evict'] as const) {
      cache.set('a', 1);
      expect(cache[verb]('a')).toBe(true);
      expect(cache[verb]('a')).toBe(false);
      expect(cache.has('a')).toBe(false);
    }
    expect(cache.stats()).toMatchObject({ deletes: 2, deleteHits: 1 });
  });
});

describe('getInto', () => {
  test('copies the bytes that the port would serve and returns their number', () => {
    const target = Buffer.alloc(16, 0xee);
    cache.set('text', 'hé');
    expect(cache.getInto('text', target)).toBe(3);
    expect(target.subarray(0, 4)).toEqual(Buffer.from([0x68, 0xc3, 0xa9, 0xee]));
    cache.set('number', -1.5);
    expect(target.toString('latin1', 0, cache.getInto('number', target))).toBe('-1.5');
    cache.set('json', { a: 1 });
    expect(target.toString('latin1', 0, cache.getInto('json', target))).toBe('{"a":1}');
    expect(cache.getInto('nothing', target)).toBeUndefined();
  });

  test.each([17, 4096, 4097, 100_000])('returns %i and copies nothing if they do not fit', (bytes) => {
    cache.set('a', Buffer.alloc(bytes, 1));
    const target = Buffer.alloc(16, 0xee);
    expect(cache.getInto('a', target)).toBe(bytes);
    expect(target).toEqual(Buffer.alloc(16, 0xee));
    const large = new Uint8Array(bytes);
    expect(cache.getInto('a', large)).toBe(bytes);
    expect(large.every((byte) => byte === 1)).toBe(true);
  });

  test('takes a view of shared memory, and refuses what is no bytes', () => {
    cache.set('a', 'abc');
    const shared = new Uint8Array(new SharedArrayBuffer(8));
    expect(cache.getInto('a', shared)).toBe(3);
    expect(shared[2]).toBe(0x63);
    for (const target of [undefined, {}, new Uint16Array(4), [1], 'x']) {
      expect(() => cache.getInto('a', target as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /target/));
    }
  });
});

describe('info', () => {
  test.each<[unknown, string, number]>([
    ['abc', 'text', 3],
    ['ü', 'text', 2],
    ['\ud800', 'text', 3],
    [12, 'number', 2],
    [12n, 'bigint', 2],
    [null, 'json', 4],
    [Buffer.from('abcd'), 'bytes', 4],
    [new Date(0), 'structured', 11],
  ])('%o is %s of %i bytes', (value, kind, bytes) => {
    cache.set('a', value);
    const info = cache.info('a');
    expect(info).toMatchObject({ kind, ttl: Number.POSITIVE_INFINITY, flags: 0, fetched: false });
    if (kind !== 'structured') expect(info?.bytes).toBe(bytes);
  });

  test('knows whether an entry was read, and its version', () => {
    cache.set('a', 1);
    const before = cache.info('a');
    cache.get('a');
    expect(cache.info('a')).toMatchObject({ fetched: true, cas: before?.cas });
    cache.set('a', 2);
    expect(cache.info('a')?.cas).not.toBe(before?.cas);
    expect(cache.info('nothing')).toBeUndefined();
  });
});
