import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache();
});
afterEach(() => cache.close());

describe('incr and decr', () => {
  test('count, and the value is a number again', () => {
    cache.set('n', 10);
    expect(cache.incr('n')).toBe(11);
    expect(cache.incr('n', 5)).toBe(16);
    expect(cache.decr('n', 6)).toBe(10);
    expect(cache.get('n')).toBe(10);
  });

  test('decr stops at 0', () => {
    cache.set('n', 3);
    expect(cache.decr('n', 5)).toBe(0);
    expect(cache.get('n')).toBe(0);
  });

  test('incr wraps at 2^64, as memcached does', () => {
    cache.set('n', 2n ** 64n - 1n);
    expect(cache.incr('n', 2n)).toBe(1n);
    expect(cache.get('n')).toBe(1n);
  });

  test('bigints are exact and stay bigints, numbers stay numbers', () => {
    cache.set('b', 2n ** 60n);
    expect(cache.incr('b', 1n)).toBe(2n ** 60n + 1n);
    expect(cache.get('b')).toBe(2n ** 60n + 1n);
    expect(cache.incr('fresh', 1n, { initial: 2n ** 63n })).toBe(2n ** 63n);
    expect(cache.get('fresh')).toBe(2n ** 63n);
    cache.set('n', 1);
    expect(cache.incr('n', 2n)).toBe(3n);
    expect(cache.get('n')).toBe(3);
  });

  test('count decimal text, which stays text', () => {
    cache.set('t', '41');
    expect(cache.incr('t')).toBe(42);
    expect(cache.get('t')).toBe('42');
  });

  test('an absent entry stays absent, or begins at initial', () => {
    expect(cache.incr('n')).toBeUndefined();
    expect(cache.has('n')).toBe(false);
    expect(cache.incr('n', 5, { initial: 100 })).toBe(100);
    expect(cache.incr('n', 5, { initial: 100 })).toBe(105);
    expect(cache.decr('m', 5, { initial: 0 })).toBe(0);
  });

  test('give ttl to an entry that they make; an existing entry keeps its time to live', () => {
    cache.incr('n', 1, { initial: 1, ttl: '1h' });
    expect(cache.getRemainingTTL('n')).toBeGreaterThan(3_500_000);
    cache.incr('n', 1, { initial: 1, ttl: '9h' });
    expect(cache.getRemainingTTL('n')).toBeLessThanOrEqual(3_600_000);
    cache.set('m', 1);
    cache.incr('m', 1, { initial: 1, ttl: '1h' });
    expect(cache.getRemainingTTL('m')).toBe(Number.POSITIVE_INFINITY);
  });

  test.each([
    ['text', 'abc'],
    ['a fraction', 1.5],
    ['a negative number', -5],
    ['NaN', Number.NaN],
    ['JSON', { a: 1 }],
    ['a structured clone', new Date(0)],
    ['2^64', 2n ** 64n],
  ])('answer not-stored on %s, and change nothing', (_name, value) => {
    cache.set('n', value);
    expect(cache.incr('n')).toBe('not-stored');
    expect(cache.decr('n', 1, { initial: 5 })).toBe('not-stored');
    expect(cache.get('n')).toEqual(value);
  });

  test.each<[unknown, RegExp]>([
    [-1, /by.*decr\(\) subtracts/],
    [1.5, /by/],
    [2 ** 53, /by/],
    [Number.NaN, /by/],
    [-1n, /by/],
    [2n ** 64n, /by/],
    ['1', /by.*"1"/],
    [null, /by/],
  ])('refuse a delta of %o', (by, message) => {
    expect(() => cache.incr('n', by as number)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
  });

  test('refuse a wrong initial', () => {
    expect(() => cache.incr('n', 1, { initial: -1 })).toThrow(withCode('ERR_INVALID_ARGUMENT', /initial/));
    expect(() => cache.incr('n', 1, { initial: '5' as never })).toThrow(withCode('ERR_INVALID_ARGUMENT', /initial/));
  });

  test('give numbers up to 2^53 exactly', () => {
    cache.set('n', 2 ** 53 - 2);
    expect(cache.incr('n')).toBe(2 ** 53 - 1);
  });
});
