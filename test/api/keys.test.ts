// Keys: everything from 1 to 65,536 bytes is one, and no two are taken for the same.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, type Key, PackedKeys } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { withRandom } from '../support/random.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache({ maxMemory: '64mb' });
});
afterEach(() => cache.close());

/** Every verb that takes a key, as a call of it. */
const CALLS: Record<string, (key: Key) => unknown> = {
  get: (key) => cache.get(key),
  peek: (key) => cache.peek(key),
  take: (key) => cache.take(key),
  getWithCas: (key) => cache.getWithCas(key),
  getInto: (key) => cache.getInto(key, Buffer.alloc(8)),
  has: (key) => cache.has(key),
  info: (key) => cache.info(key),
  getRemainingTTL: (key) => cache.getRemainingTTL(key),
  getMany: (key) => cache.getMany([key]),
  'getMany of packed keys': (key) => cache.getMany(PackedKeys.from([key])),
  'set text': (key) => cache.set(key, 'x'),
  'set a number': (key) => cache.set(key, 1),
  'set with a time to live': (key) => cache.set(key, 'x', { ttl: 50_000 }),
  'set a large value': (key) => cache.set(key, 'x'.repeat(100_000)),
  'set text in doubt': (key) => cache.set(key, '\ud800'),
  add: (key) => cache.add(key, 1),
  replace: (key) => cache.replace(key, 1),
  append: (key) => cache.append(key, 'x'),
  prepend: (key) => cache.prepend(key, 'x'),
  cas: (key) => cache.cas(key, 1, 1n),
  update: (key) => cache.update(key, () => 1),
  incr: (key) => cache.incr(key),
  decr: (key) => cache.decr(key, 1, { initial: 1 }),
  setMany: (key) => cache.setMany([[key, 1]]),
  'setMany, atomic': (key) => cache.setMany([[key, 1]], { atomic: true }),
  'set of a batch': (key) => cache.batch().set(key, 1).commit(),
  'delete of a batch': (key) => cache.batch().delete(key).commit(),
  delete: (key) => cache.delete(key),
  deleteMany: (key) => cache.deleteMany([key]),
  evict: (key) => cache.evict(key),
  touch: (key) => cache.touch(key, 5),
};

describe.each(Object.entries(CALLS))('%s', (_name, call) => {
  test.each<[string, unknown, RegExp]>([
    ['empty text', '', /Expected key to be 1 to 65536 bytes long, got ""/],
    ['no bytes', Buffer.alloc(0), /1 to 65536 bytes long/],
    ['65,537 bytes of text', 'x'.repeat(65_537), /1 to 65536 bytes long, got 65537: "xxx/],
    ['65,538 bytes of wide text', 'ü'.repeat(32_769), /1 to 65536 bytes long, got 65538: /],
    ['65,537 bytes', Buffer.alloc(65_537, 1), /1 to 65536 bytes long, got 65537: /],
    ['a lone surrogate', '\ud800', /text without lone surrogates, got "\\ud800"/],
    ['a lone surrogate at the end', `${'x'.repeat(30)}\udfff`, /lone surrogates/],
    ['a lone surrogate in a long key', `${'ü'.repeat(2000)}\ud800`, /lone surrogates/],
    ['a number', 5, /a string, Buffer or Uint8Array, got 5/],
    ['a bigint', 5n, /a string, Buffer or Uint8Array, got 5n/],
    ['undefined', undefined, /a string, Buffer or Uint8Array, got undefined/],
    ['null', null, /got null/],
    ['an object', { a: 1 }, /a string, Buffer or Uint8Array/],
    ['an array of bytes', [1], /a string, Buffer or Uint8Array/],
    ['a symbol', Symbol('x'), /a string, Buffer or Uint8Array/],
    ['words of 16 bits', new Uint16Array([65]), /a string, Buffer or Uint8Array/],
  ])('refuses %s', (_what, key, message) => {
    expect(() => call(key as Key)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
    expect(cache.size).toBe(0);
  });

  test.each<[string, Key]>([
    ['one byte', 'a'],
    ['a byte of 0', '\0'],
    ['control characters', '\x01\x7f\r\n\t'],
    ['U+FFFD', '\ufffd'],
    ['U+FFFD among others', `${'ü'.repeat(700)}\ufffd`],
    ['a pair', '\u{1f511}'],
    ['250 bytes', 'k'.repeat(250)],
    ['251 bytes', 'k'.repeat(251)],
    ['1,020 bytes', 'k'.repeat(1020)],
    ['1,024 bytes', 'k'.repeat(1024)],
    ['wide text around the size of the buffer', 'ü'.repeat(511)],
    ['65,536 bytes of text', 'x'.repeat(65_536)],
    ['65,536 bytes of wide text', 'ü'.repeat(32_768)],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00])],
    ['65,536 bytes', Buffer.alloc(65_536, 0xff)],
    ['a view into the middle of a buffer', Buffer.from('..key..').subarray(2, 5)],
    ['a view of shared memory', new Uint8Array(new SharedArrayBuffer(4)).fill(7)],
  ])('takes %s', (_what, key) => {
    call(key);
    cache.set(key, 'present');
    call(key);
    call(key);
    expect(cache.size).toBeLessThanOrEqual(1);
  });
});

test('text and its bytes are one key', () => {
  cache.set('ü', 1);
  expect(cache.get(Buffer.from('ü'))).toBe(1);
  cache.set(new Uint8Array([0x61]), 2);
  expect(cache.get('a')).toBe(2);
});

test('keys that are alike are not the same', () => {
  const keys: Key[] = [
    'a',
    'a\0',
    'a\0\0',
    '\0a',
    'A',
    'a ',
    'ä',
    'a\u0308',
    Buffer.from([0xe4]),
    Buffer.from([0x61, 0xff]),
    '\ufffd',
    Buffer.from([0xef, 0xbf]),
  ];
  for (const [i, key] of keys.entries()) cache.set(key, i);
  expect(cache.size).toBe(keys.length);
  expect(cache.getMany(keys)).toEqual(keys.map((_, i) => i));
});

test('long keys that differ in one byte are not the same', () => {
  for (const length of [249, 250, 251, 1000, 5000, 65_536]) {
    const key = Buffer.alloc(length, 0x6b);
    for (const at of [0, length >> 1, length - 1]) {
      const other = Buffer.from(key);
      other[at] = 0x6c;
      cache.set(key, 'one');
      cache.set(other, 'other');
      expect(cache.getMany([key, other])).toEqual(['one', 'other']);
    }
  }
});

test('keys of every length are found again', () => {
  withRandom((random) => {
    const keys = new Map<string, number>();
    for (let length = 1; length < 3000; length = Math.ceil(length * 1.02)) {
      const key = Array.from({ length }, () =>
        String.fromCharCode(random.pick([0x61, 0x7f, 0xfc, 0x20ac, 0xfffd])),
      ).join('');
      keys.set(key, length);
      cache.set(key, length);
    }
    for (const [key, length] of keys) expect(cache.get(key)).toBe(length);
    expect(new Map(cache.entries())).toEqual(keys);
  });
});

test('names that mean something to JavaScript mean nothing here', () => {
  for (const key of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    expect(cache.get(key)).toBeUndefined();
    cache.set(key, key);
    expect(cache.get(key)).toBe(key);
  }
});
