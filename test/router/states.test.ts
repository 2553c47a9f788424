// Every promised method in every state of a cache: never used, open, draining, closed, destroyed, closed by its owner,
// and after the death of a lane's thread.
import { describe, expect, test } from 'vitest';
import { Cache, handleOf } from '../../src/cache.ts';
import { CachePromises } from '../../src/promises/index.ts';
import { withCode } from '../support/errors.ts';

/** Every promised verb, as a call that an open cache answers. */
const CALLS: Record<string, (promises: CachePromises) => Promise<unknown>> = {
  get: (promises) => promises.get('a'),
  peek: (promises) => promises.peek('a'),
  take: (promises) => promises.take('a'),
  getWithCas: (promises) => promises.getWithCas('a'),
  has: (promises) => promises.has('a'),
  info: (promises) => promises.info('a'),
  getRemainingTTL: (promises) => promises.getRemainingTTL('a'),
  getMany: (promises) => promises.getMany(['a', 'b']),
  'getMany of none': (promises) => promises.getMany([]),
  set: (promises) => promises.set('a', 'x'),
  'set a large value': (promises) => promises.set('a', 'x'.repeat(100_000)),
  add: (promises) => promises.add('a', 1),
  replace: (promises) => promises.replace('a', 1),
  append: (promises) => promises.append('a', 'x'),
  prepend: (promises) => promises.prepend('a', 'x'),
  cas: (promises) => promises.cas('a', 1, 1n),
  update: (promises) => promises.update('a', () => 1),
  incr: (promises) => promises.incr('a'),
  decr: (promises) => promises.decr('a', 1n),
  setMany: (promises) => promises.setMany([['a', 1]]),
  delete: (promises) => promises.delete('a'),
  evict: (promises) => promises.evict('a'),
  deleteMany: (promises) => promises.deleteMany(['a']),
  clear: (promises) => promises.clear(),
  touch: (promises) => promises.touch('a', 5),
  batch: (promises) => promises.batch().set('a', 'x').commit(),
};
/** What is no call to a lane. */
const OTHERS = ['constructor', 'drained', 'stats', 'close', 'destroy', 'handleClosed', 'router'];

/** Made on the calling thread, or answered by it: no thread of a lane has them. */
const WITHOUT_LANE = new Set(['batch', 'clear', 'getMany of none']);

const open = (): { cache: Cache; promises: CachePromises } => {
  const cache = new Cache({ shards: 1 });
  return {
    cache,
    promises: new CachePromises(handleOf(cache as never), 'buffer', { lanes: 1, maxRequests: 100, maxBytes: 2 ** 20 }),
  };
};

test('the table has every method', () => {
  const methods = Object.getOwnPropertyNames(CachePromises.prototype).filter((name) => !OTHERS.includes(name));
  expect(methods.filter((name) => !(name in CALLS))).toEqual([]);
});

describe.each(Object.entries(CALLS))('%s', (name, call) => {
  /** Closed, in whatever way: rejects, and does not throw. */
  const rejects = async (promises: CachePromises): Promise<void> => {
    await expect(call(promises)).rejects.toThrow(withCode('ERR_CLOSED', / closed$/));
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0 });
  };

  test('whileOpen', async () => {
    const { cache, promises } = open();
    await call(promises);
    expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0, restarts: 0 });
    await promises.close();
    await cache.close();
  });

  test('whileDraining', async () => {
    const { cache, promises } = open();
    const accepted = promises.set('b', 1);
    const closing = promises.close();
    await expect(call(promises)).rejects.toThrow(withCode('ERR_CLOSED'));
    expect(await accepted).toBe('stored');
    await closing;
    expect(cache.size).toBe(1);
    await cache.close();
  });

  test('whileClosed', async () => {
    const used = open();
    await used.promises.get('a');
    await used.promises.close();
    await rejects(used.promises);
    await used.cache.close();

    const unused = open();
    await unused.promises.close();
    await rejects(unused.promises);
    await unused.cache.close();

    const closedBefore = open();
    await closedBefore.cache.close();
    await rejects(closedBefore.promises);
  });

  test('whileDestroyed', async () => {
    const { cache, promises } = open();
    await promises.get('a');
    const ending = promises.destroy();
    await rejects(promises);
    await ending;
    await rejects(promises);
    await cache.close();
  });

  test('afterOwnerClosed', async () => {
    const cacheName = `states ${name}`;
    const owner = new Cache({ name: cacheName, shards: 1 });
    const attached = Cache.attach(cacheName);
    await attached.promises.set('b', 1);
    await owner.close();
    if (name === 'getMany of none') expect(await call(attached.promises)).toEqual([]);
    else await expect(call(attached.promises)).rejects.toThrow(withCode('ERR_CLOSED', / closed$/));
    await attached.close();
    await expect(call(attached.promises)).rejects.toThrow(withCode('ERR_CLOSED'));
  });

  test('afterWorkerExit', async () => {
    const { cache, promises } = open();
    await promises.get('a');
    const kill = async (): Promise<void> => {
      await promises.router!.threads()[0]![0]?.terminate();
    };
    // With the call in flight: it is sent to a thread that is told to die before it can hear of it.
    const outcome = call(promises).then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    );
    const dead = kill();
    if (WITHOUT_LANE.has(name)) expect(await outcome).toHaveProperty('value');
    else expect(await outcome).toEqual({ error: withCode('ERR_WORKER_EXITED', /may or may not have been done/) });
    await dead;
    // And afterwards.
    await call(promises);
    await kill();
    await call(promises);
    await promises.close();
    await cache.close();
  });
});
