// The loader alone: a table of loads and a database in memory, and the time of a virtual clock.

import { afterEach, expect, test } from 'vitest';
import type { Backend, Loaded, RowValue } from '../../src/backend/index.ts';
import { lookers } from '../../src/native/wake.ts';
import type { LoadHandle } from '../../src/native.ts';
import { RuleSet } from '../../src/rules/index.ts';
import { LoaderService, type LoaderServiceOptions } from '../../src/write-back/loader.ts';
import { deferred } from '../support/threads.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const BATCH_KEYS = 256;
const TIMEOUT_MS = 1000;

class World {
  readonly clock = new VirtualClock();
  /** Keys that wait to be drained, with their numbers. */
  readonly #pending: (number | Buffer)[] = [];
  #ids = 0;
  /** How loads have ended, by their keys. */
  readonly ends = new Map<string, string>();
  readonly #keys = new Map<number, string>();
  /** For how long this thread works for each list of loads that ends. */
  finishMs = 0;
  /** How many keys each question had. */
  readonly asked: number[] = [];
  /** What each question comes to. */
  answer: (keys: readonly Buffer[]) => Promise<Loaded> = async (keys) => this.rowsOf(keys);
  /** Everything before this is in the database. */
  position = 0n;
  reached = 0n;
  doubts = 0;
  opened = 0;
  constructor(options: Partial<LoaderServiceOptions> = {}) {
    const handle = {
      attachLoader: () => true,
      detachLoader() {},
      drainLoads: (most: number) => this.#pending.splice(0, 2 * most),
      finishLoads: (rows: readonly unknown[]) => this.#finish(rows),
    } as unknown as LoadHandle;
    const backend = {
      load: (keys: readonly Buffer[]) => {
        this.asked.push(keys.length);
        return this.answer(keys);
      },
    } as unknown as Backend;
    const world = this;
    const loader = new LoaderService({
      handle,
      source: {
        get reached() {
          return [world.reached];
        },
        doubt: () => void this.doubts++,
        use: (run) => run(backend),
      },
      stubs: undefined,
      rules: undefined,
      limits: { timeoutMs: TIMEOUT_MS, negativeMs: 5000, failsAsMiss: false },
      clock: this.clock,
      random: () => 0,
      on: { asked() {}, failed() {}, opened: () => void this.opened++ },
      ...options,
    });
    loaders.push(loader);
  }

  /** Requests wait for keys. */
  begin(...keys: string[]): void {
    for (const key of keys) {
      this.#keys.set(++this.#ids, key);
      this.#pending.push(this.#ids, Buffer.from(key));
    }
    for (const looker of lookers) looker.look();
  }

  get waiting(): number {
    return this.#pending.length / 2;
  }

  // Places of loads.ts: number, kind, value or reason, codec, flags, time.
  #finish(rows: readonly unknown[]): void {
    for (let at = 0; at < rows.length; at += 6) {
      const [id, kind, value, , , ms] = rows.slice(at, at + 6) as [number, number, unknown, number, number, number];
      this.ends.set(
        this.#keys.get(id)!,
        ['', `value ${value}`, `absent ${ms}`, 'again', `failed ${value}`, `unknown ${value}`][kind]!,
      );
    }
    this.clock.pass(this.finishMs);
  }

  /** A row for each key that begins with `row`. */
  rowsOf(keys: readonly Buffer[]): Loaded {
    const rows = keys.map((key): RowValue | undefined =>
      key.toString().startsWith('row')
        ? { value: key, codec: 1, clientFlags: 0, expiresWallMs: 0, version: 1n }
        : undefined,
    );
    return {
      rows,
      cursors: [
        {
          lane: 0,
          laneCount: 1,
          logId: 7n,
          position: this.position,
          epoch: 1,
          writer: 1n,
          holderEpoch: 1,
          holderWriter: 1n,
        },
      ],
    };
  }
}

const loaders: LoaderService[] = [];
afterEach(() => {
  for (const loader of loaders.splice(0)) loader.close();
});

const keys = (count: number): string[] => Array.from({ length: count }, (_, i) => `key-${i}`);

test('many loads that need no database are ended in slices, and other work of the thread has its turn between', async () => {
  const world = new World({ rules: new RuleSet([{ prefix: '', skip: true, deleteOnExpire: true }]) });
  const turns: (() => void)[] = [];
  world.clock.yield = () => new Promise((resolve) => turns.push(resolve));
  // Three lists are a slice: the third ends behind its 10 ms.
  world.finishMs = 4;
  world.begin(...keys(7 * BATCH_KEYS));
  expect([world.ends.size, turns.length]).toEqual([3 * BATCH_KEYS, 1]);
  world.begin('more');
  await world.clock.settle();
  expect([world.ends.size, turns.length], 'no other slice begins meanwhile').toEqual([3 * BATCH_KEYS, 1]);
  turns[0]!();
  await world.clock.settle();
  expect([world.ends.size, turns.length]).toEqual([6 * BATCH_KEYS, 2]);
  turns[1]!();
  await world.clock.settle();
  expect([world.ends.size, world.waiting, turns.length]).toEqual([7 * BATCH_KEYS + 1, 0, 2]);
  expect(world.ends.get('key-0')).toBe('absent 5000');
  expect(world.asked).toEqual([]);
});

test('at most four questions are asked at a time, and further loads wait for their answers', async () => {
  const world = new World();
  const answers: (() => void)[] = [];
  world.answer = (asked) => new Promise((resolve) => answers.push(() => resolve(world.rowsOf(asked))));
  world.begin('row', ...keys(5 * BATCH_KEYS));
  await world.clock.settle();
  expect([world.asked, world.waiting]).toEqual([Array(4).fill(BATCH_KEYS), BATCH_KEYS + 1]);
  answers[0]!();
  await world.clock.settle();
  expect([world.asked.length, world.waiting, world.ends.size]).toEqual([5, 1, BATCH_KEYS]);
  expect([world.ends.get('row'), world.ends.get('key-0')]).toEqual(['value row', 'absent 5000']);
});

test('an answer from before what the database has had is not used: it is asked again, as long as a load may take', async () => {
  const world = new World();
  world.reached = 100n;
  world.begin('row', 'none');
  await world.clock.advance(TIMEOUT_MS / 2);
  expect(world.ends.size).toBe(0);
  expect(world.doubts).toBe(world.asked.length);
  expect(world.doubts).toBeGreaterThan(5);
  world.position = 100n;
  await world.clock.advance(100);
  expect(Object.fromEntries(world.ends)).toEqual({ row: 'value row', none: 'absent 5000' });

  world.position = 99n;
  // More than the failures in a row that open the circuit: the database does answer.
  for (const key of ['row 1', 'row 2', 'row 3', 'row 4']) {
    world.begin(key);
    await world.clock.advance(2 * TIMEOUT_MS);
    expect(world.ends.get(key)).toBe('failed the database has gone back to an earlier state');
  }
  expect(world.opened).toBe(0);
});

test('a database that fails three times in a row is left in peace, and then asked one question', async () => {
  const world = new World();
  world.answer = async () => {
    throw new Error('connection refused');
  };
  for (const key of ['a', 'b']) {
    world.begin(key);
    await world.clock.settle();
  }
  // Not in a row.
  const { answer } = world;
  world.answer = async (asked) => world.rowsOf(asked);
  world.begin('row');
  await world.clock.settle();
  world.answer = answer;
  for (const key of ['a', 'b', 'c']) {
    world.begin(key);
    await world.clock.settle();
    expect(world.ends.get(key)).toBe('failed connection refused');
  }
  expect([world.asked.length, world.opened]).toEqual([6, 1]);
  world.begin('d');
  expect(world.ends.get('d')).toBe('failed the database does not answer: connection refused');
  expect(world.asked.length).toBe(6);
  await world.clock.advance(TIMEOUT_MS);
  world.answer = async (asked) => world.rowsOf(asked);
  world.begin('row 2');
  world.begin('refused');
  await world.clock.settle();
  expect([world.ends.get('row 2'), world.ends.get('refused')?.slice(0, 6), world.asked.length]).toEqual([
    'value row 2',
    'failed',
    7,
  ]);
  world.begin('row 3');
  await world.clock.settle();
  expect(world.ends.get('row 3'), 'one success is enough').toBe('value row 3');
});

test('a question without an answer fails in its time, and its late answer is not used', async () => {
  const world = new World();
  const answer = deferred<void>();
  world.answer = async (asked) => {
    await answer.promise;
    return world.rowsOf(asked);
  };
  world.begin('row');
  await world.clock.advance(TIMEOUT_MS - 1);
  expect(world.ends.size).toBe(0);
  await world.clock.advance(1);
  expect(world.ends.get('row')).toBe(`failed the database did not answer within ${TIMEOUT_MS} ms`);
  world.ends.clear();
  answer.resolve();
  await world.clock.settle();
  expect(world.ends.size).toBe(0);
});

test('by an option a value is unknown while the database does not answer, and not when it answers with less', async () => {
  const world = new World({ limits: { timeoutMs: TIMEOUT_MS, negativeMs: 5000, failsAsMiss: true } });
  world.answer = () => new Promise(() => {});
  world.begin('late');
  await world.clock.advance(TIMEOUT_MS);
  expect(world.ends.get('late')).toMatch(/^unknown the database did not answer within/);
  world.answer = () => Promise.reject(new Error('connection refused'));
  for (const key of ['a', 'b']) {
    world.begin(key);
    await world.clock.settle();
    expect(world.ends.get(key)).toBe('unknown connection refused');
  }
  world.begin('in peace');
  expect(world.ends.get('in peace')).toBe('unknown the database does not answer: connection refused');
  await world.clock.advance(TIMEOUT_MS);
  world.answer = async (asked) => world.rowsOf(asked);
  world.reached = 100n;
  world.begin('behind');
  await world.clock.advance(2 * TIMEOUT_MS);
  expect(world.ends.get('behind')).toBe('failed the database has gone back to an earlier state');
});
