import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { expectSame } from '../support/same.ts';

let cache: Cache<unknown>;
beforeEach(() => {
  cache = new Cache();
});
afterEach(() => cache.close());

describe('getWithCas and cas', () => {
  test('store only over the version that was read', () => {
    cache.set('a', 'one');
    const found = cache.getWithCas('a');
    expect(found?.value).toBe('one');
    expect(cache.cas('a', 'two', found!.cas)).toBe('stored');
    expect(cache.cas('a', 'three', found!.cas)).toBe('exists');
    expect(cache.get('a')).toBe('two');
  });

  test('say that the entry is gone', () => {
    cache.set('a', 1);
    const { cas } = cache.getWithCas('a')!;
    cache.delete('a');
    expect(cache.cas('a', 2, cas)).toBe('not-found');
    expect(cache.getWithCas('a')).toBeUndefined();
  });

  test('answer exists for the version of an entry that was deleted and set again', () => {
    cache.set('a', 1);
    const { cas } = cache.getWithCas('a')!;
    cache.delete('a');
    cache.set('a', 1);
    expect(cache.cas('a', 2, cas)).toBe('exists');
  });

  test('answer exists for a version from before a clear', () => {
    cache.set('a', 1);
    const { cas } = cache.getWithCas('a')!;
    cache.clear();
    cache.set('a', 1);
    expect(cache.cas('a', 2, cas)).toBe('exists');
  });

  test('work for values of every kind and size', () => {
    for (const value of ['x', 5, { a: 1 }, new Date(1), Buffer.alloc(100_000, 1), 'ü\ud800', 'y'.repeat(100_000)]) {
      cache.set('a', 'before');
      expect(cache.cas('a', value, cache.getWithCas('a')!.cas)).toBe('stored');
      expectSame(cache.getWithCas('a')?.value, value);
    }
  });

  test('getWithCas and info agree', () => {
    cache.set('a', 1);
    expect(cache.getWithCas('a')?.cas).toBe(cache.info('a')?.cas);
  });

  test.each([
    [5, /cas.*5/],
    [undefined, /cas/],
    ['1', /cas/],
    [-1n, /cas/],
    [2n ** 64n, /cas/],
  ])('refuse %o as a version', (cas, message) => {
    expect(() => cache.cas('a', 1, cas as bigint)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
  });

  test('take a time to live', () => {
    cache.set('a', 1);
    cache.cas('a', 2, cache.getWithCas('a')!.cas, { ttl: '1h' });
    expect(cache.getRemainingTTL('a')).toBeGreaterThan(3_500_000);
    cache.cas('a', 3, cache.getWithCas('a')!.cas, { ttl: 'keep' });
    expect(cache.getRemainingTTL('a')).toBeGreaterThan(3_500_000);
    cache.cas('a', 4, cache.getWithCas('a')!.cas);
    expect(cache.getRemainingTTL('a')).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('update', () => {
  test('replaces the value by what the function makes of it', () => {
    cache.set('list', [1]);
    expect(cache.update('list', (list) => [...(list as number[]), 2])).toEqual([1, 2]);
    expect(cache.get('list')).toEqual([1, 2]);
  });

  test('makes an entry if there is none', () => {
    expect(cache.update('n', (n) => ((n as number | undefined) ?? 0) + 1)).toBe(1);
    expect(cache.get('n')).toBe(1);
  });

  test('stores nothing if the function returns undefined', () => {
    cache.set('a', 1);
    expect(cache.update('a', () => undefined)).toBe(1);
    expect(cache.update('b', () => undefined)).toBeUndefined();
    expect(cache.has('b')).toBe(false);
  });

  test('calls its function again if the entry has changed meanwhile', () => {
    cache.set('a', 1);
    const seen: unknown[] = [];
    cache.update('a', (value) => {
      seen.push(value);
      if (seen.length === 1) cache.set('a', 10);
      return (value as number) + 1;
    });
    expect(seen).toEqual([1, 10]);
    expect(cache.get('a')).toBe(11);
  });

  test('calls its function again if the entry appeared or went meanwhile', () => {
    const seen: unknown[] = [];
    cache.update('a', (value) => {
      seen.push(value);
      if (seen.length === 1) cache.set('a', 5);
      if (seen.length === 2) cache.delete('a');
      return 7;
    });
    expect(seen).toEqual([undefined, 5, undefined]);
    expect(cache.get('a')).toBe(7);
  });

  test('throws after a thousand tries, having stored nothing', () => {
    let tries = 0;
    const meddle = () => {
      cache.set('a', ++tries);
      return 'mine';
    };
    expect(() => cache.update('a', meddle)).toThrow(withCode('ERR_TIMEOUT', /"a"/));
    expect(tries).toBe(1000);
    expect(cache.get('a')).toBe(1000);
  });

  test('keeps the time to live unless one is given', () => {
    cache.set('a', 1, { ttl: '1h' });
    cache.update('a', () => 2);
    expect(cache.getRemainingTTL('a')).toBeGreaterThan(3_500_000);
    cache.update('a', () => 3, { ttl: 0 });
    expect(cache.getRemainingTTL('a')).toBe(Number.POSITIVE_INFINITY);
  });

  test('lets the error of the function through and stores nothing', () => {
    cache.set('a', 1);
    const error = new Error('mine');
    expect(() =>
      cache.update('a', () => {
        throw error;
      }),
    ).toThrow(error);
    expect(cache.get('a')).toBe(1);
    expect(() => cache.update('a', 5 as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /change/));
  });
});
