// Who holds a cache, and what every method does in every state: open, closed, attached, its owner closed.
import { describe, expect, test } from 'vitest';
import { Cache, PackedKeys } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { membersOf } from '../support/members.ts';
import { until } from '../support/threads.ts';

let number = 0;
const freshName = () => `life cycle ${number++}`;

/** Every method and property that answers ERR_CLOSED on a closed cache, as a call that works on an open one. */
const CALLS: Record<string, (cache: Cache) => unknown> = {
  get: (cache) => cache.get('a'),
  peek: (cache) => cache.peek('a'),
  take: (cache) => cache.take('a'),
  getWithCas: (cache) => cache.getWithCas('a'),
  getInto: (cache) => cache.getInto('a', Buffer.alloc(8)),
  has: (cache) => cache.has('a'),
  info: (cache) => cache.info('a'),
  getRemainingTTL: (cache) => cache.getRemainingTTL('a'),
  getMany: (cache) => cache.getMany(['a', 'b']),
  'getMany of packed keys': (cache) => cache.getMany(PackedKeys.from(['a', 'b'])),
  'set text': (cache) => cache.set('a', 'x'),
  'set a number': (cache) => cache.set('a', 1),
  'set with options': (cache) => cache.set('a', 'x', { ttl: 50_000 }),
  add: (cache) => cache.add('a', 1),
  replace: (cache) => cache.replace('a', 1),
  append: (cache) => cache.append('a', 'x'),
  prepend: (cache) => cache.prepend('a', 'x'),
  cas: (cache) => cache.cas('a', 1, 1n),
  update: (cache) => cache.update('a', () => 1),
  incr: (cache) => cache.incr('a'),
  decr: (cache) => cache.decr('a'),
  setMany: (cache) => cache.setMany([['a', 1]]),
  'setMany, atomic': (cache) => cache.setMany([['a', 1]], { atomic: true }),
  batch: (cache) => cache.batch().set('a', 1).commit(),
  delete: (cache) => cache.delete('a'),
  deleteMany: (cache) => cache.deleteMany(['a']),
  evict: (cache) => cache.evict('a'),
  touch: (cache) => cache.touch('a', 5),
  clear: (cache) => cache.clear(),
  size: (cache) => cache.size,
  stats: (cache) => cache.stats(),
  resetStats: (cache) => cache.resetStats(),
  keys: (cache) => [...cache.keys()],
  values: (cache) => [...cache.values()],
  entries: (cache) => [...cache.entries()],
  '[Symbol.iterator]': (cache) => [...cache],
  'keys, none of them': (cache) => [...cache.keys({ limit: 0 })],
  dump: (cache) => [...cache.dump()],
  load: (cache) => cache.load(DUMP_OF_ONE),
};
const DUMP_OF_ONE = (() => {
  using cache = new Cache();
  cache.set('z', 1);
  return Buffer.concat([...cache.dump()]);
})();

/** Methods that are tested elsewhere in every state (test/api/fetch, removal; test/router), or that never throw. */
const OTHERS = new Set([
  'close',
  'destroy',
  'sync',
  'snapshot',
  'recovery',
  'drain',
  'listen',
  'closed',
  'name',
  'options',
  'resize',
  'fetch',
  'fetchWithInfo',
  'fetchMany',
  'fetchManySettled',
  'wrap',
  'writeBack',
  'on',
  'once',
  'off',
  'addListener',
  'removeListener',
  'promises',
]);

describe.each(Object.entries(CALLS))('%s', (_name, call) => {
  test('works while the cache is open, and on an attached handle', () => {
    const name = freshName();
    using cache = new Cache({ name });
    cache.set('a', 'x');
    expect(() => call(cache)).not.toThrow();
    using attached = Cache.attach(name);
    expect(() => call(attached)).not.toThrow();
  });

  test('throws ERR_CLOSED once this handle is closed', async () => {
    const name = freshName();
    const cache = new Cache({ name });
    await cache.close();
    expect(() => call(cache)).toThrow(withCode('ERR_CLOSED', new RegExp(`${name}.*closed`)));
  });

  test('throws ERR_CLOSED once the owner has closed', async () => {
    const name = freshName();
    const owner = new Cache({ name });
    const attached = Cache.attach(name);
    await owner.close();
    expect(() => call(attached)).toThrow(withCode('ERR_CLOSED'));
    expect(attached.closed).toBe(true);
  });

  test('throws ERR_CLOSED on a closed handle while others go on', async () => {
    const name = freshName();
    using owner = new Cache({ name });
    const attached = Cache.attach(name);
    await attached.close();
    expect(() => call(attached)).toThrow(withCode('ERR_CLOSED'));
    expect(() => call(owner)).not.toThrow();
  });
});

test('the table above has every method that there is', () => {
  const names = new Set(Object.keys(CALLS).map((name) => name.split(/[ ,]/)[0]));
  for (const { name } of membersOf(Cache.prototype)) {
    expect(names.has(name) || OTHERS.has(name), name).toBe(true);
  }
});

test.each<[string, (cache: Cache) => Promise<unknown>]>([
  ['fetchWithInfo', (cache) => cache.fetchWithInfo('a', () => 1)],
  ['fetchMany', (cache) => cache.fetchMany(['a'], () => [1])],
  ['a wrapped function', (cache) => cache.wrap(async (id: string) => id, { key: (id) => id })('a')],
])('%s rejects with ERR_CLOSED on a closed cache', async (_name, call) => {
  const cache = new Cache();
  await expect(call(cache)).resolves.toBeDefined();
  await cache.close();
  await expect(call(cache)).rejects.toThrow(withCode('ERR_CLOSED'));
});

describe('close', () => {
  test('may be called again, and before anything was done', async () => {
    const cache = new Cache();
    expect(cache.closed).toBe(false);
    await cache.close();
    await cache.close();
    expect(cache.closed).toBe(true);
    await expect(cache.resize({ maxEntries: 5 })).rejects.toThrow(withCode('ERR_CLOSED'));
  });

  test('happens at the end of a block', async () => {
    let kept: Cache;
    {
      using cache = new Cache();
      kept = cache;
    }
    expect(kept.closed).toBe(true);
    {
      await using cache = await Cache.open();
      kept = cache;
    }
    expect(kept.closed).toBe(true);
  });

  test('leaves name and options readable', async () => {
    const name = freshName();
    const cache = new Cache({ name, ttl: 5 });
    await cache.close();
    expect(cache.name).toBe(name);
    expect(cache.options.ttl).toBe(5);
  });

  test('of an attached handle detaches it and does no more', async () => {
    const name = freshName();
    using cache = new Cache({ name });
    const attached = Cache.attach(name);
    attached.set('a', 1);
    await attached.close();
    expect(cache.get('a')).toBe(1);
    expect(Cache.names).toContain(name);
  });

  test('of the owner frees the name', async () => {
    const name = freshName();
    const cache = new Cache({ name });
    using attached = Cache.attach(name);
    cache.set('a', 1);
    await cache.close();
    expect(Cache.names).not.toContain(name);
    expect(() => Cache.attach(name)).toThrow(withCode('ERR_NO_SUCH_CACHE'));
    using next = new Cache({ name });
    expect(next.get('a')).toBeUndefined();
    expect(attached.closed).toBe(true);
  });
});

describe('names', () => {
  test('a taken one is refused by name', () => {
    const name = freshName();
    using _cache = new Cache({ name });
    expect(() => new Cache({ name })).toThrow(withCode('ERR_NAME_TAKEN', new RegExp(`"${name}"`)));
  });

  test('no name is as good as another: caches without one do not meet', () => {
    using one = new Cache();
    using other = new Cache();
    one.set('a', 1);
    expect(other.has('a')).toBe(false);
    expect(Cache.names).not.toContain('');
  });

  test('an unknown one is refused, with those that are known', () => {
    const name = freshName();
    using _cache = new Cache({ name });
    expect(() => Cache.attach('absent')).toThrow(withCode('ERR_NO_SUCH_CACHE', new RegExp(`"absent".*"${name}"`)));
  });

  test.each([5, '', undefined, null, {}])('%o is refused as a name', (name) => {
    expect(() => Cache.attach(name as string)).toThrow(withCode('ERR_INVALID_ARGUMENT', /name/));
  });

  test('may hold any text', () => {
    const name = `${freshName()} ü \u{1f511} "quoted"`;
    using cache = new Cache({ name });
    cache.set('a', 1);
    using attached = Cache.attach(name);
    expect(attached.get('a')).toBe(1);
    expect(attached.name).toBe(name);
    expect(Cache.names).toContain(name);
  });
});

describe('Cache.open', () => {
  test('joins a cache of equal options; both own it, and it ends with the last of them', async () => {
    const options = { name: freshName(), maxMemory: '16mb', ttl: '1h' };
    const one = await Cache.open(options);
    const two = await Cache.open({ ...options, maxMemory: 16 * 2 ** 20, ttl: 3_600_000 });
    one.set('a', 1);
    expect(two.get('a')).toBe(1);
    await one.close();
    expect(two.get('a')).toBe(1);
    expect(Cache.names).toContain(options.name);
    await two.close();
    expect(Cache.names).not.toContain(options.name);
  });

  test('joins with the options that the cache shows, and with none that differ from them', async () => {
    const one = await Cache.open({ name: freshName(), maxMemory: '32mb', maxEntries: 1000 });
    const two = await Cache.open(one.options);
    const three = await Cache.open(two.options);
    expect(three.options).toEqual(one.options);
    one.set('a', 1);
    await one.close();
    expect(three.get('a')).toBe(1);
    await expect(Cache.open({ ...three.options, maxEntries: 1001 })).rejects.toThrow(withCode('ERR_NAME_TAKEN'));
    await expect(Cache.open({ ...three.options, shards: 4 })).rejects.toThrow(withCode('ERR_NAME_TAKEN'));
    expect(() => new Cache(three.options)).toThrow(withCode('ERR_NAME_TAKEN'));
    await two.close();
    await three.close();
    expect(Cache.names).not.toContain(one.name);
  });

  test('refuses other options', async () => {
    const name = freshName();
    using _cache = new Cache({ name, maxMemory: '16mb' });
    await expect(Cache.open({ name, maxMemory: '32mb' })).rejects.toThrow(withCode('ERR_NAME_TAKEN'));
    await expect(Cache.open({ name: 5 as never })).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
  });

  test('makes one if there is none, with or without a name', async () => {
    await using one = await Cache.open();
    await using two = await Cache.open({ name: freshName() });
    expect([one.set('a', 1), two.set('a', 2)]).toEqual(['stored', 'stored']);
    expect([one.get('a'), two.get('a')]).toEqual([1, 2]);
  });
});

describe('attach', () => {
  test('gives the options that the cache was made with', () => {
    const name = freshName();
    using cache = new Cache({ name, maxMemory: '16mb', ttl: '5s' });
    using attached = Cache.attach(name);
    expect(attached.options).toEqual(cache.options);
    expect(attached.options).toMatchObject({ name, maxMemory: 16 * 2 ** 20, ttl: 5000 });
  });

  test('reads bytes as this handle wants them', () => {
    const name = freshName();
    using cache = new Cache({ name });
    using text = Cache.attach(name, { raw: 'string' });
    using parsed = Cache.attach(name, { raw: (bytes, flags) => ({ bytes: bytes.length, flags }) });
    for (const bytes of [Buffer.from('{"a":1}'), Buffer.alloc(100_000, 0x61)]) {
      cache.set('k', bytes);
      expect(cache.get('k')).toEqual(bytes);
      expect(text.get('k')).toBe(bytes.toString());
      expect(text.getMany(['k'])).toEqual([bytes.toString()]);
      expect([...text.values()]).toEqual([bytes.toString()]);
      expect(parsed.get('k')).toEqual({ bytes: bytes.length, flags: 0 });
    }
    expect(() => Cache.attach(name, { raw: 5 as never })).toThrow(withCode('ERR_INVALID_ARGUMENT', /raw/));
    expect(() => Cache.attach(name, { ttl: 5 } as never)).toThrow(withCode('ERR_INVALID_ARGUMENT', /"ttl"/));
  });
});

test('a function that reads bytes may use the cache itself', () => {
  using cache: Cache = new Cache({
    shards: 1, // values() then gives the newest two exactly
    raw: (bytes) => {
      const depth = bytes[0]!;
      if (depth > 0) cache.getMany(['other', 'json', 'more']);
      return depth === 0 ? 'end' : [depth, ...[...cache.values({ limit: 2 })].map(() => 'seen'), cache.get('end')];
    },
  });
  cache.setMany([
    ['json', { a: 1 }],
    ['end', Buffer.from([0])],
    ['other', Buffer.from([0, 0])],
    ['more', new Map([[1, 2]])],
    ['k1', Buffer.from([1])],
    ['k2', Buffer.from([2])],
  ]);
  cache.touch('json');
  cache.touch('more');
  const read = (depth: number) => [depth, 'seen', 'seen', 'end'];
  expect(cache.getMany(['k1', 'json', 'k2', 'more', 'end'])).toEqual([
    read(1),
    { a: 1 },
    read(2),
    new Map([[1, 2]]),
    'end',
  ]);
});

describe('a cache that is never closed', () => {
  // Collecting needs --expose-gc, which a running process can switch on.
  const collect = async () => {
    const { setFlagsFromString } = await import('node:v8');
    const { runInNewContext } = await import('node:vm');
    setFlagsFromString('--expose-gc');
    (runInNewContext('gc') as () => void)();
    await new Promise((resolve) => setImmediate(resolve));
  };

  test('ends once its last handle is collected', async () => {
    const name = freshName();
    (() => {
      new Cache({ name }).set('a', 1);
    })();
    expect(Cache.names).toContain(name);
    for (let i = 0; Cache.names.includes(name); i++) {
      if (i === 100) throw new Error('It was not collected');
      await collect();
    }
    expect(() => Cache.attach(name)).toThrow(withCode('ERR_NO_SUCH_CACHE'));
  });

  test('does not disturb caches that were made before it or after it', async () => {
    const name = freshName();
    const before = new Cache();
    (() => {
      new Cache({ name }).set('k', 'collected');
    })();
    const behind = new Cache();
    before.set('k', 'before');
    behind.set('k', 'behind');
    for (let i = 0; Cache.names.includes(name); i++) {
      if (i === 100) throw new Error('It was not collected');
      await collect();
    }
    const later = [new Cache(), new Cache()];
    expect(later.map((cache) => cache.get('k'))).toEqual([undefined, undefined]);
    for (const [i, cache] of later.entries()) cache.set('k', `later ${i}`);
    expect([before, behind, ...later].map((cache) => cache.get('k'))).toEqual([
      'before',
      'behind',
      'later 0',
      'later 1',
    ]);
    await behind.close();
    expect(() => behind.get('k')).toThrow(withCode('ERR_CLOSED'));
    expect(() => behind.set('k', 'v')).toThrow(withCode('ERR_CLOSED'));
    expect([before, ...later].map((cache) => cache.get('k'))).toEqual(['before', 'later 0', 'later 1']);
    for (const cache of [before, ...later]) cache.destroy();
  });

  test('lives while an attached handle does, though its owner is collected', async () => {
    const name = freshName();
    (() => {
      new Cache({ name }).set('a', 1);
    })();
    const attached = Cache.attach(name);
    for (let i = 0; i < 5; i++) await collect();
    expect(attached.get('a')).toBe(1);
    await attached.close();
    await until(() => {
      void collect();
      return !Cache.names.includes(name);
    });
  });

  test('is not collected under a walk that goes on', async () => {
    const walk = (() => {
      const cache = new Cache();
      for (let i = 0; i < 1000; i++) cache.set(`k${i}`, i);
      return cache.keys();
    })();
    let count = 0;
    for (const _key of walk) {
      count++;
      if (count % 100 === 0) await collect();
    }
    expect(count).toBe(1000);
  });
});

test('opening and closing again and again does not take more and more memory', async () => {
  const round = async () => {
    for (let i = 0; i < 100; i++) {
      const cache = new Cache({ maxMemory: '8mb' });
      for (let k = 0; k < 20; k++) cache.set(`k${k}`, 'x'.repeat(10_000));
      await cache.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  };
  for (let i = 0; i < 5; i++) await round();
  const rss = process.memoryUsage().rss;
  for (let i = 0; i < 20; i++) await round();
  // 2,000 caches that each used 200 KiB: had they stayed, that were 400 MiB more.
  await until(() => process.memoryUsage().rss - rss < 100 * 2 ** 20);
});

test('64 caches at once, by name and without', () => {
  const caches = Array.from({ length: 64 }, (_, i) => new Cache(i % 2 === 0 ? { name: `one of 64: ${i}` } : {}));
  for (const [i, cache] of caches.entries()) cache.set('me', i);
  for (const [i, cache] of caches.entries()) expect(cache.get('me')).toBe(i);
  expect(Cache.names.filter((name) => name.startsWith('one of 64'))).toHaveLength(32);
  for (const cache of caches) cache[Symbol.dispose]();
  expect(Cache.names.filter((name) => name.startsWith('one of 64'))).toEqual([]);
});
