// What errors tell their reader: which key, which limit and what came, which of many values, and why.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, type CairnError } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { until } from '../support/threads.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache({ name: 'messages', shards: 1, maxValueBytes: 1000 });
});
afterEach(async () => {
  await cache.close();
});

describe('a value that is too large', () => {
  const message = (bytes: number | string) =>
    withCode(
      'ERR_VALUE_TOO_LARGE',
      new RegExp(`^Expected the value of "k" to be at most 1000 bytes \\(maxValueBytes\\), got ${bytes}$`),
    );

  test.each<[string, unknown, number | string]>([
    ['text', 'ä'.repeat(600), 1200],
    ['bytes', Buffer.alloc(1001), 1001],
    ['an object', { list: new Array(500).fill(1) }, 1010],
    ['a structured clone', new Map([['k', new Uint8Array(2000)]]), '20\\d\\d'],
  ])('%s: is told with the limit and its size', async (_, value, bytes) => {
    expect(() => cache.set('k', value)).toThrow(message(bytes));
    expect(() => cache.set('k', value, { ttl: 1 })).toThrow(message(bytes));
    expect(() => cache.setMany([['k', value]])).toThrow(message(bytes));
    expect(() => cache.update('k', () => value)).toThrow(message(bytes));
    await expect(cache.promises.set('k', value)).rejects.toThrow(message(bytes));
    await expect(cache.promises.setMany(new Map<string, unknown>([['a', 1]]).set('k', value))).rejects.toThrow(
      message(bytes),
    );
  });

  test('with what is added: is told with both sizes', () => {
    cache.set('k', 'x'.repeat(900));
    expect(() => cache.append('k', 'y'.repeat(200))).toThrow(message('900 and 200 more'));
    expect(() => cache.prepend('k', Buffer.alloc(101))).toThrow(message('900 and 101 more'));
    expect((cache.get('k') as string).length).toBe(900);
  });
});

describe('values that cannot be decoded', () => {
  let parsed: Cache;
  beforeEach(() => {
    parsed = Cache.attach('messages', { raw: 'json' });
    for (let i = 0; i < 300; i++) cache.set(`k${i}`, Buffer.from(`{"n":${i}}`));
    for (const key of ['k7', 'k150', 'k151']) cache.set(key, Buffer.from('no json'));
  });
  afterEach(() => parsed.close());
  const keys = Array.from({ length: 300 }, (_, i) => `k${i}`);
  const caught = async (call: () => unknown): Promise<CairnError> => {
    try {
      await call();
    } catch (error) {
      return error as CairnError;
    }
    throw new Error('Expected an error');
  };

  test('are named by their key in the error', async () => {
    for (const call of [
      () => parsed.get('k7'),
      () => parsed.getWithCas('k7'),
      () => parsed.peek('k7'),
      () => parsed.promises.get('k7'),
      () => parsed.take('k7'),
      () => parsed.promises.take('k7'),
    ]) {
      const error = await caught(call);
      expect(error).toMatchObject({ code: 'ERR_VALUE_MALFORMED', keys: ['k7'] });
      expect(error.message).toMatch(/^The value of "k7" is malformed: Cannot decode raw bytes of 7 bytes: .*JSON/);
    }
  });

  test('are listed by key in the error of getMany', async () => {
    for (const call of [() => parsed.getMany(keys), () => parsed.promises.getMany(keys)]) {
      const error = await caught(call);
      expect([...error.keys!].sort()).toEqual(['k150', 'k151', 'k7']);
      expect(error.message).toMatch(/^The value of "k\d+" is malformed, and 2 more: Cannot decode/);
      const sound = keys.filter((key) => !error.keys!.includes(key));
      expect(parsed.getMany(sound)).toEqual(sound.map((key) => ({ n: Number(key.slice(1)) })));
    }
  });

  test('end a walk when it comes to them, and not before; keys() goes past them', async () => {
    const seen: unknown[] = [];
    const error = await caught(() => {
      for (const [key] of parsed.entries({ order: 'oldest' })) seen.push(key);
    });
    expect(error.keys).toEqual(['k7']); // They were stored last.
    expect([...parsed.keys()].length).toBe(300);
    expect(seen).toEqual(keys.filter((key) => !['k7', 'k150', 'k151'].includes(key)));
  });

  test('are left out of their removal events, which come all the same', async () => {
    const heard: unknown[] = [];
    parsed.on('removal', (events) => heard.push(...events), { values: true });
    cache.delete('k7');
    cache.delete('k8');
    await until(() => heard.length === 2);
    expect(heard).toEqual([
      { key: 'k7', reason: 'deleted', valueOmitted: 'malformed' },
      { key: 'k8', reason: 'deleted', value: { n: 8 } },
    ]);
  });
});

test('the error of an unknown event lists the known ones', () => {
  expect(() => cache.on('remove' as never, () => {})).toThrow(
    withCode('ERR_INVALID_ARGUMENT', /'removal' or 'cleared' or 'removals-lost' or 'log', got "remove"/),
  );
});

test('a time to live where none is taken is refused', () => {
  cache.set('k', 'x');
  const append = cache.append.bind(cache) as (...all: unknown[]) => unknown;
  const prepend = cache.prepend.bind(cache) as (...all: unknown[]) => unknown;
  for (const verb of [append, prepend]) {
    expect(() => verb('k', 'y', { ttl: '1h' })).toThrow(
      withCode('ERR_INVALID_ARGUMENT', /left out, because the value keeps its time to live, got \{ ttl: '1h' \}/),
    );
    expect(verb('k', 'y', undefined)).toBe('stored');
  }
});
