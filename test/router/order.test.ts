// Promised calls are made at random, many at a time and without awaiting them, and each is compared with what a Map
// says at the moment of the call. The answers can only be right if requests for one key are executed in the order in
// which they were called, if clear() stands between what was called before and after it, and if nothing is lost,
// doubled or mixed up between batches and lanes. Values of all sizes make batches that run out of room.
import { isDeepStrictEqual } from 'node:util';
import { expect, test } from 'vitest';
import { Cache, handleOf } from '../../src/cache.ts';
import { CachePromises } from '../../src/promises/index.ts';
import { Random } from '../support/random.ts';

class Model {
  readonly promises: CachePromises;
  readonly random: Random;
  readonly #entries = new Map<string, unknown>();
  readonly #pending: Promise<void>[] = [];
  #calls = 0;

  constructor(promises: CachePromises, random: Random) {
    this.promises = promises;
    this.random = random;
  }

  get calls(): number {
    return this.#calls;
  }

  /** Makes one random call. */
  call(): void {
    const { promises, random } = this;
    const entries = this.#entries;
    const key = this.#key();
    const value = this.#value();
    const present = entries.get(key);
    const keys = Array.from({ length: random.below(20) }, () => this.#key());
    random.pick([
      () => this.#expect(promises.get(key), present),
      () => this.#expect(promises.get(key), present),
      () => this.#expect(promises.peek(key), present),
      () => this.#expect(promises.has(key), entries.has(key)),
      () =>
        this.#expect(
          promises.getMany(keys),
          keys.map((each) => entries.get(each)),
        ),
      () => {
        this.#expect(promises.set(key, value), 'stored');
        entries.set(key, value);
      },
      () => {
        this.#expect(promises.set(key, value), 'stored');
        entries.set(key, value);
      },
      () => {
        this.#expect(promises.add(key, value), entries.has(key) ? 'not-stored' : 'stored');
        if (!entries.has(key)) entries.set(key, value);
      },
      () => {
        this.#expect(promises.replace(key, value), entries.has(key) ? 'stored' : 'not-stored');
        if (entries.has(key)) entries.set(key, value);
      },
      () => {
        const pairs = keys.map((each): [string, unknown] => [each, this.#value()]);
        this.#expect(
          promises.setMany(pairs),
          pairs.map(() => 'stored'),
        );
        for (const [each, its] of pairs) entries.set(each, its);
      },
      () => {
        this.#expect(promises.take(key), present);
        entries.delete(key);
      },
      () => this.#expect(promises.delete(key), entries.delete(key)),
      () => this.#expect(promises.evict(key), entries.delete(key)),
      () =>
        this.#expect(
          promises.deleteMany(keys),
          keys.map((each) => entries.delete(each)),
        ),
      () => this.#expect(promises.touch(key, 0), entries.has(key)),
      () => {
        const counter = `n${random.below(4)}`;
        const now = (entries.get(counter) as number | undefined) ?? 99;
        const next = entries.has(counter) ? now + 3 : 100;
        this.#expect(promises.incr(counter, 3, { initial: 100 }), next);
        entries.set(counter, next);
      },
      () => {
        const text = `t${random.below(4)}`;
        const now = entries.get(text) as string | undefined;
        this.#expect(promises.append(text, 'x'), now === undefined ? 'not-stored' : 'stored');
        if (now !== undefined) entries.set(text, `${now}x`);
        else {
          this.#expect(promises.add(text, ''), 'stored');
          entries.set(text, '');
        }
      },
      () => {
        if (random.below(20) > 0) return;
        this.#expect(promises.clear(), undefined);
        entries.clear();
      },
    ])();
  }

  /** Waits for all calls. */
  async settle(): Promise<void> {
    await Promise.all(this.#pending.splice(0));
    expect((await this.promises.getMany(this.#entries.keys())).length).toBe(this.#entries.size);
  }

  #expect(promise: Promise<unknown>, expected: unknown): void {
    const number = this.#calls++;
    this.#pending.push(
      promise.then((value) => {
        if (!isDeepStrictEqual(value, expected)) expect({ number, value }).toEqual({ number, value: expected });
      }),
    );
  }

  #key(): string {
    return `k${this.random.below(30)}`;
  }

  #value(): unknown {
    const { random } = this;
    const size = random.pick([0, 5, 5, 100, 100, 3000, 17_000, random.below(50) === 0 ? 600_000 : 10]);
    return random.pick([
      () => 'v'.repeat(size),
      () => Buffer.alloc(size, random.below(256)),
      () => random.below(9),
      () => [size],
    ])();
  }
}

test.each([1, 2, 5])('calls of one thread keep their order per key, with %i lanes', async (lanes) => {
  const random = new Random();
  const cache = new Cache({ maxMemory: '256mb', shards: 8 });
  const promises = new CachePromises(handleOf(cache as never), 'buffer', {
    lanes,
    maxRequests: 2 ** 20,
    maxBytes: 2 ** 30,
  });
  const model = new Model(promises, random);
  try {
    for (let round = 0; round < 60; round++) {
      const calls = random.pick([1, 10, 100, 500]);
      for (let i = 0; i < calls; i++) {
        model.call();
        // Now and then the calls are spread over turns, so that batches are cut anywhere.
        if (random.below(100) === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      if (random.below(3) === 0) await model.settle();
    }
    await model.settle();
  } catch (error) {
    throw new Error(`Failed with CAIRN_SEED=${random.seed}`, { cause: error });
  }
  expect(promises.stats()).toMatchObject({ requests: 0, bytes: 0, lanes, restarts: 0 });
  expect(promises.stats().batches).toBeLessThan(model.calls);
  await promises.close();
  await cache.close();
});
