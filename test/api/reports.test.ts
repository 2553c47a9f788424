// What a cache says of itself can be shown and logged: reports as JSON, the object on the console, and misuse of it.
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { Cache, type CairnError, serve } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { membersOf } from '../support/members.ts';
import { until } from '../support/threads.ts';

const data = new DataDirectories('reports');

describe('reports', () => {
  test('can be logged as JSON, at the first start of a cache and at every later one', async () => {
    const directory = data.fresh();
    const notices: unknown[] = [];
    for (const start of [1, 2]) {
      const cache = await Cache.open({ data: directory, maxMemory: '8mb', snapshot: { every: 1 } });
      cache.on('log', (notice) => notices.push(notice));
      cache.set('a', 1);
      const summary = await cache.snapshot();
      expect(summary.position).toBeTypeOf('bigint');
      expect(JSON.parse(JSON.stringify(summary)).position).toBe(String(summary.position));
      const recovery = JSON.parse(JSON.stringify(cache.recovery));
      if (start === 2) expect(recovery.snapshot.position).toBe(String(cache.recovery!.snapshot!.position));
      expect(JSON.parse(JSON.stringify(cache.stats())).log.state).toBe('running');
      await until(() => notices.length >= start);
      await cache.close();
    }
    for (const notice of notices) expect(JSON.parse(JSON.stringify(notice)).kind).toBeTypeOf('string');
  });

  test('of the log come once to a listener of once, and not to one that was removed', async () => {
    const cache = await Cache.open({ data: data.fresh(), maxMemory: '8mb' });
    let count = 0;
    const listener = () => count++;
    cache.once('log', listener);
    cache.on('log', listener);
    for (const expected of [2, 3, 4]) {
      await cache.snapshot();
      await until(() => count >= expected);
      expect(count).toBe(expected);
    }
    cache.off('log', listener);
    await cache.snapshot();
    await cache.sync();
    expect(count).toBe(4);
    await cache.close();
  });

  test('of an entry can be logged as JSON, too, and are otherwise plain objects', async () => {
    using cache = new Cache();
    cache.set('a', 1);
    const { cas } = cache.getWithCas('a')!;
    const infos = [cache.info('a')!, (await cache.promises.info('a'))!];
    for (const info of infos) {
      expect(JSON.parse(JSON.stringify(info))).toMatchObject({ kind: 'number', cas: String(cas), flags: 0 });
      expect(structuredClone(info)).toEqual(info);
      expect(Object.keys(info)).not.toContain('toJSON');
    }
    for (const found of [cache.getWithCas('a')!, (await cache.promises.getWithCas('a'))!]) {
      expect(JSON.stringify(found)).toBe(`{"value":1,"cas":"${cas}"}`);
    }
  });

  test('leave unknown numbers undefined', async () => {
    using cache = new Cache();
    cache.set('a', 1);
    expect(cache.info('a')!.idleSeconds).toBeUndefined();
    expect((await cache.promises.info('a'))!.idleSeconds).toBeUndefined();
    using tracked = new Cache({ trackAccess: true });
    tracked.set('a', 1);
    expect(tracked.info('a')!.idleSeconds).toBe(0);
    const logged = await Cache.open({ data: data.fresh(), maxMemory: '8mb' });
    expect(logged.stats().log!.snapshotAgeMs).toBeUndefined();
    await logged.snapshot();
    expect(logged.stats().log!.snapshotAgeMs).toBeGreaterThanOrEqual(0);
    await logged.close();
  });
});

describe('the object', () => {
  test('shows its name, entries, memory and hit ratio', async () => {
    const cache = new Cache({ name: 'shown' });
    expect(inspect(new Cache())).toMatch(/^Cache \{ entries: 0, memory: '[\d.]+ of 64 MiB', hitRatio: undefined \}$/);
    cache.set('a', 1);
    for (const key of ['a', 'a', 'x']) cache.get(key);
    expect(inspect(cache)).toMatch(/^Cache "shown" \{ entries: 1, memory: '[\d.]+ of 64 MiB', hitRatio: 0\.667 \}$/);
    expect(inspect({ cache })).toContain('cache: Cache "shown"');
    await cache.close();
    expect(inspect(cache)).toBe('Cache "shown" (closed)');
  });

  test('cannot be sent to another thread, and the error says what to do', () => {
    using cache = new Cache({ name: 'sent' });
    expect(() => structuredClone(cache)).toThrow(/Cache\.attach\(name\)/);
    expect(() => new Worker('', { eval: true, workerData: { cache } })).toThrow(/Cache\.attach\(name\)/);
    expect(() => cache.set('itself', cache)).toThrow(withCode('ERR_VALUE_NOT_STORABLE'));
  });

  test('says so when a method is called without it', async () => {
    using cache = new Cache();
    const proxy = new Proxy(cache, {});
    const wrong = (call: () => unknown, method: string) =>
      expect(call).toThrow(withCode('ERR_INVALID_ARGUMENT', new RegExp(`Cache\\.${method} was called without`)));
    for (const property of ['size', 'promises', 'name', 'options'] as const) {
      const message = new RegExp(`Cache\\.${property} was read from .*: write cache\\.${property}\\. A Proxy`);
      expect(() => proxy[property]).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
    }
    for (const { name, property } of membersOf(Cache.prototype)) {
      const { value } = property;
      if (typeof value !== 'function') continue;
      wrong(() => value('k', 1), name);
      wrong(() => value.call({}, 'k', 1), name);
      wrong(() => value.call(proxy, 'k', 1), name);
    }
    const prototype: object = Object.getPrototypeOf(cache.promises);
    for (const { name, property } of membersOf(prototype)) {
      const { value } = property;
      if (typeof value !== 'function') continue;
      const error = withCode(
        'ERR_INVALID_ARGUMENT',
        new RegExp(`^CachePromises\\.${name} was called without its cache`),
      );
      for (const receiver of [undefined, {}, new Proxy(cache.promises, {})]) {
        expect(() => value.call(receiver, 'k', 1)).toThrow(error);
      }
    }
    const { get } = cache.promises;
    expect(() => get('k')).toThrow(/write cache\.promises\.get\(\.\.\.\), or/);
    await expect(serve({} as Cache)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /Expected cache to be a Cache/));
  });

  test('of another copy of the package is recognised, and the error names the folder of the copy', async () => {
    const copy = Object.defineProperty({ get: () => 1 }, 'constructor', { value: class Cache {} });
    const known = (globalThis as Record<symbol, unknown>)[Symbol.for('cairn-cache.copies')] as unknown[];
    known.push({ folder: '/elsewhere/', names: () => ['theirs'] });
    try {
      expect(() => Cache.attach('theirs')).toThrow(
        withCode('ERR_NO_SUCH_CACHE', /copy of cairn-cache in \/elsewhere\//),
      );
      expect(() => Cache.attach('nobodys')).toThrow(withCode('ERR_NO_SUCH_CACHE', /none is open$/));
      await expect(serve(copy as unknown as Cache)).rejects.toThrow(/a Cache of another copy .*\/elsewhere\//);
    } finally {
      known.pop();
    }
  });
});

describe('options', () => {
  test.each([
    ['updateAgeOnGet', /use touch\(key, ttl\)/],
    ['allowStale', /use fetch\(key, loader, \{ staleWhileRevalidate \}\)/],
    ['ttlAutopurge', /use no option: what is over leaves memory by itself/],
    ['useClones', /use no option: values are always copies/],
    ['checkperiod', /use no option/],
    ['EX', /did you mean ttl\?/],
    ['stdTTL', /did you mean ttl\?/],
  ])('of other caches are explained: %s', (name, message) => {
    expect(() => new Cache({ [name]: 1 } as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
  });

  test('of Redis at set are too', () => {
    using cache = new Cache();
    expect(() => cache.set('k', 1, { EX: 60 } as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /did you mean ttl/));
    expect(() => cache.set('k', 1, { NX: true } as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /use add\(/));
  });

  test('that are in the wrong place say where they belong, and not what was given', () => {
    expect(() => new Cache({ data: './d' })).toThrow(/^A cache with data is opened by 'await Cache\.open\(/);
    expect(() => new Cache({ sync: 'none' })).toThrow(/^The option sync is for a cache with a log: give data/);
  });

  test('that are no duration get an error that lists the units', () => {
    expect(() => new Cache({ ttl: '5 minutes' })).toThrow(/with ms, s, m, h or d, such as "60s", got "5 minutes"/);
  });

  test('that ask for more memory than there is are warned of, once', async () => {
    const codes: unknown[] = [];
    const listen = (warning: Error) => codes.push((warning as CairnError).code);
    process.on('warning', listen);
    for (let i = 0; i < 2; i++) {
      // Refused afterwards, for the ceiling.
      expect(() => new Cache({ maxMemory: '1000tb', maxMemoryCeiling: '1gb' })).toThrow(/maxMemoryCeiling/);
    }
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', listen);
    expect(codes).toEqual(['CAIRN_MEMORY']);
  });
});

test('an error of setMany has what came of each entry, and is not in the way of JSON', () => {
  using cache = new Cache();
  let error: CairnError | undefined;
  try {
    cache.setMany([
      ['a', 1],
      ['b', () => 1],
    ]);
  } catch (caught) {
    error = caught as CairnError;
  }
  expect(error!.results).toEqual(['stored', error]);
  expect(JSON.parse(JSON.stringify(error))).toMatchObject({ code: 'ERR_VALUE_NOT_STORABLE' });
});
