// The steps of a warm-up, over a database whose answers and failures a test decides: what it asks for, what it counts,
// and when it ends.

import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Backend, makeBackend } from '../../src/backend/index.ts';
import { handleOf } from '../../src/cache.ts';
import { Cache } from '../../src/index.ts';
import { RuleSet } from '../../src/rules/index.ts';
import { bytes, Subject, set } from '../../src/testing/harness.ts';
import { quietClock, type WriterClock } from '../../src/write-back/clock.ts';
import { WarmUp, type WarmUpTask } from '../../src/write-back/warm-up.ts';
import { WarmUpNumbers, type WarmUpStats } from '../../src/write-back/warm-up-numbers.ts';
import { DataDirectories } from '../support/data-directories.ts';

const directories = new DataDirectories('warm-up-steps');
/** Several batches of a warm-up, and several pieces of a scan. */
const ROWS = 700;
/** Of one batch. */
const BATCH = 128;
const keys = Array.from({ length: ROWS }, (_, i) => `key:${i}`);

let backend: Backend;
let cache: Cache;
let walks: number;
/** The keys of each question to the database. */
let asked: string[][];
/** What a question to the database meets before it is asked. */
let onLoad: (names: readonly string[]) => void;
/** What a walk meets behind each piece with rows. */
let onPiece: () => void;
/** Rows that are gone when they are asked for. */
let gone: Set<string>;
/** How long the warm-up was to wait; it never does. */
let waits: number[];

beforeEach(async () => {
  [walks, asked, waits, gone] = [0, [], [], new Set()];
  onLoad = () => {};
  onPiece = () => {};
  backend = await makeBackend(`lmdb:${join(directories.fresh(), 'database')}`);
  await backend.open();
  cache = await Cache.open({ store: watched(backend), mode: 'read-through' });
});
afterEach(async () => {
  await cache.close();
  await backend.close();
});

function watched(real: Backend): Backend {
  const [scan, load] = [real.scan.bind(real), real.load.bind(real)];
  return Object.assign(real, {
    scan: async function* (signal?: AbortSignal) {
      walks++;
      for await (const piece of scan(signal)) {
        yield piece;
        if (piece.rows.length > 0) onPiece();
      }
    },
    load: async (given: readonly Buffer[]) => {
      const names = given.map(String);
      asked.push(names);
      onLoad(names);
      const loaded = await load(given);
      return { ...loaded, rows: loaded.rows.map((row, i) => (gone.has(names[i]!) ? undefined : row)) };
    },
  });
}

const fill = (names = keys): Promise<unknown> =>
  new Subject(() => backend).write(...names.map((name) => set(name, 'value')));

const clock: WriterClock = {
  ...quietClock,
  after(ms, callback) {
    waits.push(ms);
    return quietClock.after(0, callback);
  },
};

type Given = Partial<Omit<WarmUpTask, 'options'>> & { readonly rowsPerSecond?: number };

function begin({ rowsPerSecond = 0, ...given }: Given = {}): WarmUp {
  return new WarmUp({
    cacheId: handleOf(cache as Cache<never>).cacheId,
    use: (run) => run(backend),
    options: { prefix: '', limit: 0, rowsPerSecond },
    ...{ rules: undefined, numbers: WarmUpNumbers.memory(), clock, random: Math.random },
    ...given,
  });
}

async function warmed({ numbers = WarmUpNumbers.memory(), ...given }: Given = {}): Promise<WarmUpStats> {
  const warmUp = begin({ numbers, ...given });
  await warmUp.ended;
  warmUp.close();
  return new WarmUpNumbers(numbers).stats;
}

test('a question that fails begins a walk again, until all rows are there', async () => {
  await fill();
  let failures = 0;
  onLoad = () => {
    if (asked.length === 2 && failures++ === 0) throw new Error('the connection is lost');
  };
  expect(await warmed()).toMatchObject({ state: 'done', rows: ROWS });
  expect(failures).toBe(1);
  expect([walks, cache.size, waits.length]).toEqual([2, ROWS, 1]);
});

test('a batch of rows that are gone meanwhile does not end it', async () => {
  await fill();
  onLoad = (names) => {
    if (gone.size === 0) gone = new Set(names);
  };
  expect(await warmed()).toMatchObject({ state: 'done', rows: ROWS - BATCH });
  expect([gone.size, cache.size]).toEqual([BATCH, ROWS - BATCH]);
});

test('rows in memory are counted once, also if the walk that has counted them breaks off', async () => {
  await fill();
  for (const key of ['key:0', 'key:1']) cache.set(key, 'newer');
  onPiece = () => {
    if (walks === 1) throw new Error('the connection is lost');
  };
  expect(await warmed()).toMatchObject({ state: 'done', rows: ROWS - 2, residentRows: 2 });
  expect([walks, cache.get('key:0')]).toEqual([2, 'newer']);
});

test('a batch waits until the rows of the one before have had their time', async () => {
  await fill(keys.slice(0, 300));
  const standing = { ...clock, steadyMs: () => 0 };
  expect(await warmed({ rowsPerSecond: BATCH, clock: standing })).toMatchObject({ state: 'done', rows: 300 });
  expect(waits).toEqual([1000, 2000]);
});

test('long keys are gathered whole, and their bytes and the time are counted', async () => {
  const long = keys.map((key) => key.padEnd(200, '.'));
  await fill(long);
  let nowMs = 0;
  const stats = await warmed({ clock: { ...clock, steadyMs: () => ++nowMs } });
  expect(stats).toMatchObject({ state: 'done', rows: ROWS, bytes: ROWS * (200 + bytes('value').length) });
  // It tells of itself at the end.
  expect(stats.elapsedMs).toBe(nowMs - 1);
  expect(long.every((key) => cache.has(key))).toBe(true);
});

test('keys that a rule keeps out of the database are not asked for', async () => {
  await fill();
  const rules = new RuleSet([{ prefix: 'key:1', skip: true, deleteOnExpire: false }]);
  const others = keys.filter((key) => !key.startsWith('key:1'));
  expect(await warmed({ rules })).toMatchObject({ state: 'done', rows: others.length });
  expect(asked.flat().sort()).toEqual([...others].sort());
});

test('one that is over stays so in a thread that begins later, and one that is closed says so', async () => {
  await fill();
  const numbers = WarmUpNumbers.memory();
  new WarmUpNumbers(numbers).state = 'full';
  expect(await warmed({ numbers })).toMatchObject({ state: 'full', rows: 0 });
  expect(walks).toBe(0);
  const other = WarmUpNumbers.memory();
  const warmUp = begin({ numbers: other, use: () => new Promise(() => {}) });
  warmUp.close();
  expect(new WarmUpNumbers(other).stats.state).toBe('closed');
});
