// Several lanes of a writer, in virtual time: each goes its own way, atomic batches bring them together, and another
// number of lanes takes over where the last one was.

import { afterEach, describe, expect, test } from 'vitest';
import type { WriteBatch } from '../../src/backend/index.ts';
import { HALTED_RETRY_MS } from '../../src/write-back/backoff.ts';
import { QUIET_MS } from '../../src/write-back/batcher.ts';
import { laneOf, Share } from '../../src/write-back/share.ts';
import { LOOK_MS } from '../../src/write-back/writer.ts';
import type { RecordParts } from '../support/records.ts';
import { type Fault, noMarks, WorldDatabase, WorldLog } from '../support/writer-world.ts';
import { closeWorlds, set, World } from '../support/written-world.ts';

afterEach(closeWorlds);

/** The first keys of a lane. */
function keysOf(lane: number, laneCount: number, count = 1): string[] {
  const keys: string[] = [];
  for (let i = 0; keys.length < count; i++) {
    if (laneOf(Buffer.from(`key-${i}`), laneCount) === lane) keys.push(`key-${i}`);
  }
  return keys;
}

const [first, second, third, fourth] = [0, 1, 2, 3].map((lane) => keysOf(lane, 4)[0]!) as [
  string,
  string,
  string,
  string,
];

function laned(lanes: number, log?: WorldLog, database?: WorldDatabase): World {
  const world = new World(log, database);
  world.lanes = lanes;
  return world;
}

let ids = 0n;
/** The records of an atomic batch that sets keys to a value. */
function atomic(value: string, ...keys: string[]): RecordParts[] {
  const id = ++ids;
  return keys.map((key, index) => ({ ...set(key, value), batch: { id, count: keys.length, index } }));
}

const touches = (batch: WriteBatch | undefined, key: string): boolean =>
  batch?.changes.some((change) => change.key.toString() === key) ?? false;

const positions = ({ database }: World): bigint[] => database.cursors.map(({ position }) => position);

test('every key has one lane, a lane has whole shards, and more lanes divide them further', () => {
  for (let i = 0; i < 1000; i++) {
    const key = Buffer.from(`${i * 7919}`);
    expect(laneOf(key, 1)).toBe(0);
    for (const count of [2, 4, 8, 16]) {
      expect(
        Share.all(count)
          .filter((share) => share.has(key))
          .map(({ lane }) => lane),
      ).toEqual([laneOf(key, count)]);
      expect(laneOf(key, count) >> 1).toBe(laneOf(key, count / 2));
    }
  }
  expect(Share.all(4).map((share) => share.shards(8))).toEqual([
    [0, 2],
    [2, 4],
    [4, 6],
    [6, 8],
  ]);
});

describe('four lanes', () => {
  test('have a cursor each, from the first transaction on, and carry what the log has', async () => {
    const world = laned(4);
    const written: WriteBatch[] = [];
    world.fault = (_, batch) => {
      if (batch !== undefined) written.push(batch);
      return undefined;
    };
    await world.run();
    expect(world.database.cursors).toEqual(
      [0, 1, 2, 3].map((lane) => ({
        lane,
        laneCount: 4,
        logId: 7n,
        position: 0n,
        ...{ epoch: 0, writer: 0n, holderEpoch: 1, holderWriter: 100n },
      })),
    );
    for (let i = 0; i < 100; i++) world.log.append(set(`key-${i}`, `${i}`));
    await world.run();
    expect(Object.keys(world.rows)).toHaveLength(100);
    expect(world.database.history).toHaveLength(100);
    const [making, ...batches] = written;
    expect(making).toMatchObject({ changes: [], also: { length: 3 } });
    expect(batches).toHaveLength(4);
    for (const { changes, to, also } of batches) {
      expect(also).toBeUndefined();
      for (const { key } of changes) expect(laneOf(key, 4)).toBe(to.lane);
    }
    expect(world.writer.isIdle).toBe(true);
    expect(world.states).toEqual(['writing']);
  });

  test('are all written when drain resolves, and their cursors come along when the writer is closed', async () => {
    const world = await laned(4).run();
    world.limits = { rows: 100, bytes: 2 ** 20, delayMs: 1_000_000 };
    const slow = await laned(4, world.log, world.database).run();
    await world.close();
    const end = world.log.append(set(first, '1'), set(third, '1')).end;
    const drained = slow.writer.drain(end);
    await slow.run(10);
    await drained;
    expect(slow.rows).toEqual({ [first]: '1', [third]: '1' });
    const closed = slow.writer.close(1000);
    await slow.run(10);
    await closed;
    expect(positions(slow)).toEqual([end, end, end, end]);
    expect(slow.log.confirmed).toBe(end);
  });

  test('leave nothing that the log seems to owe, when drain resolves and when the log is quiet', async () => {
    const world = await laned(4).run();
    const end = world.log.append(set(first, '1')).end;
    const drained = world.writer.drain(end);
    await world.run(20);
    await drained;
    expect(positions(world)).toEqual([end, end, end, end]);
    const later = world.log.append(set(second, '1')).end;
    await world.run(2 * QUIET_MS);
    expect(positions(world)).toEqual([later, later, later, later]);
    await world.run(2000);
    expect(world.log.confirmed).toBe(later);
  });

  test('are not moved along for each entry of another, also behind a drain', async () => {
    const world = await laned(4).run();
    const end = world.log.append(set(first, '1')).end;
    const drained = world.writer.drain(end);
    await world.run(20);
    await drained;
    let barren = 0;
    world.fault = (_, batch) => {
      if (batch?.changes.length === 0) barren++;
      return undefined;
    };
    for (let i = 0; i < 5; i++) {
      world.log.append(set(second, `${i}`));
      await world.run(QUIET_MS / 10);
    }
    expect(world.rows[second]).toBe('4');
    expect(barren).toBe(0);
  });

  test('drain what a database has that does not answer any more: nothing is waited for', async () => {
    const world = await laned(4).run();
    const end = world.log.append(set(first, '1')).end;
    await world.run(100);
    world.fault = () => 'before';
    const drained = world.writer.drain(end);
    await world.run(100);
    await drained;
    let isClosed = false;
    void world.writer.close(Number.POSITIVE_INFINITY).then(() => {
      isClosed = true;
    });
    await world.run(5000);
    expect(isClosed).toBe(true);
  });

  test('say that all was recovered before the log forgets any of it', async () => {
    const world = laned(4);
    const end = world.log.append(set(first, '1'), set(second, '1')).end;
    const told: string[] = [];
    world.marksOf = ({ lane }) => ({ ...noMarks, openedAt: end, raiseRecovered: () => void told.push(`lane ${lane}`) });
    const { advance } = world.log;
    world.log.advance = (position) => {
      told.push('log');
      return advance.call(world.log, position);
    };
    await world.run(5000);
    const before = told.slice(0, told.indexOf('log'));
    expect(new Set(before)).toEqual(new Set(['lane 0', 'lane 1', 'lane 2', 'lane 3']));
    expect(told).toContain('log');
  });

  test('write no more rows a second than one may', async () => {
    const world = laned(4);
    world.rowsPerSecond = 10;
    world.limits = { rows: 5, bytes: 2 ** 20, delayMs: 20 };
    for (let i = 0; i < 80; i++) world.log.append(set(`key-${i}`, '1'));
    await world.run(4000);
    // The first batch, and one every half a second; each may have a few rows less.
    expect(world.database.rows.size).toBeGreaterThan(20);
    expect(world.database.rows.size).toBeLessThanOrEqual(45);
  });

  test('are paused together, and resumed', async () => {
    const world = await laned(4).run();
    world.writer.pause();
    expect(world.writer.state).toBe('paused');
    world.log.append(set(first, '1'), set(second, '1'), ...atomic('2', third, fourth));
    await world.run(10_000);
    expect(world.rows).toEqual({});
    world.writer.resume();
    expect(world.writer.state).toBe('writing');
    await world.run();
    expect(world.rows).toEqual({ [first]: '1', [second]: '1', [third]: '2', [fourth]: '2' });
  });

  test('need a database that moves several cursors in one transaction', async () => {
    const world = laned(4);
    world.level = 'idempotent';
    world.log.append(set(first, '1'));
    await world.run();
    expect(world.writer.state).toBe('refused');
    expect(world.causes[0]).toMatch(/^memory:world is of level idempotent.*lanes: 1/);
    expect(world.rows).toEqual({});
  });
});

test('one lane needs such a database too, where the cursors of several are still to become its own', async () => {
  const before = await laned(4).run();
  await before.close();
  before.log.takeOver();
  const { cursors } = before.database;
  const world = laned(1, before.log, before.database);
  world.level = 'idempotent';
  world.log.append(set(first, '1'));
  await world.run();
  expect(world.writer.state).toBe('refused');
  expect(world.rows).toEqual({});
  expect(world.database.cursors).toEqual(cursors);
});

describe('a lane', () => {
  test.each<[Fault, string]>([
    ['halt', 'halted'],
    ['before', 'retrying'],
  ])('whose table answers "%s" is alone in that, and the writer shows it', async (fault, state) => {
    const world = await laned(4).run();
    world.fault = (_, batch) => (touches(batch, second) ? fault : undefined);
    for (let i = 0; i < 10; i++) {
      world.log.append(...[first, second, third, fourth].map((key) => set(key, `${i}`)));
      await world.run(100);
    }
    expect(world.rows).toEqual({ [first]: '9', [third]: '9', [fourth]: '9' });
    expect(world.writer.state).toBe(state);
    expect(world.writer.has(world.log.end())).toBe(false);
    expect(world.writer.owed).toMatchObject({ records: 10, oldestMs: 0 });
    // The log keeps what the lane owes.
    expect(world.log.confirmed).toBe(0n);
    world.fault = () => undefined;
    await world.run(HALTED_RETRY_MS * 2);
    expect(world.rows[second]).toBe('9');
    expect(world.writer.state).toBe('writing');
    expect(world.states).toEqual(['writing', state, 'writing']);
    expect(world.writer.owed.records).toBe(0);
    await world.run(2000);
    expect(world.log.confirmed).toBeGreaterThan(0n);
  });

  test('that is halted is not waited for at the end; the others are written', async () => {
    const world = await laned(4).run();
    world.fault = (_, batch) => (touches(batch, second) ? 'halt' : undefined);
    world.log.append(set(second, '1'));
    await world.run(100);
    world.log.append(set(first, '2'), set(second, '2'));
    const closed = world.writer.close(60_000);
    await world.run(200);
    await closed;
    expect(world.rows).toEqual({ [first]: '2' });
    world.log.takeOver();
    const next = await laned(4, world.log, world.database).run();
    expect(next.rows).toEqual({ [first]: '2', [second]: '2' });
    expect(next.database.history).toHaveLength(2);
  });

  test('that is halted is not waited for by those that share an atomic batch with it, at the end either', async () => {
    const world = await laned(4).run();
    world.fault = (_, batch) => (touches(batch, second) ? 'halt' : undefined);
    world.log.append(set(second, '1'), set(third, '1'));
    // The last lane waits for the third, which waits for the first, which waits for the second.
    world.log.append(...atomic('batch', second, first));
    world.log.append(...atomic('batch', first, third));
    world.log.append(...atomic('batch', third, fourth));
    await world.run(1000);
    let isClosed = false;
    void world.writer.close(Number.POSITIVE_INFINITY).then(() => {
      isClosed = true;
    });
    await world.run(5000);
    expect(isClosed).toBe(true);
    expect(world.rows).toEqual({ [third]: '1' });
  });

  test('that is halted is not waited for by those that shared an atomic batch with it before', async () => {
    const world = laned(4);
    world.limits = { rows: 100, bytes: 2 ** 20, delayMs: 600_000 };
    await world.run();
    world.log.append(...atomic('1', first, second));
    await world.run();
    world.fault = (_, batch) => (touches(batch, second) ? 'halt' : undefined);
    const { end } = world.log.append(set(second, '2'));
    world.writer.drain(end).catch(() => {});
    await world.run();
    expect(world.writer.state).toBe('halted');
    let tries = 0;
    world.fault = (_, batch) =>
      touches(batch, second) ? 'halt' : touches(batch, first) && tries++ < 3 ? 'before' : undefined;
    world.log.append(set(first, '2'));
    void world.writer.close(Number.POSITIVE_INFINITY);
    await world.run(5000);
    expect(world.rows).toEqual({ [first]: '2', [second]: '1' });
  });

  test('that becomes halted while the end waits for it, or for one that waits for it, ends that', async () => {
    const world = await laned(4).run();
    let fault: Fault = 'before';
    world.fault = (_, batch) => (touches(batch, second) || touches(batch, fourth) ? fault : undefined);
    world.log.append(set(second, '1'), set(fourth, '1'));
    world.log.append(...atomic('batch', second, first));
    await world.run(1000);
    let isClosed = false;
    void world.writer.close(Number.POSITIVE_INFINITY).then(() => {
      isClosed = true;
    });
    await world.run(5000);
    expect(isClosed).toBe(false);
    fault = 'halt';
    await world.run(60_000);
    expect(isClosed).toBe(true);
  });

  test('whose call hangs is tried again over another connection, as are those of the others', async () => {
    const world = await laned(4).run();
    let isFirst = true;
    world.fault = (_, batch) => {
      if (!isFirst || !touches(batch, second)) return undefined;
      isFirst = false;
      return 'hangs';
    };
    world.log.append(set(first, '1'), set(second, '1'));
    await world.run(100);
    expect(world.rows).toEqual({ [first]: '1' });
    await world.run(10_000);
    expect(world.rows).toEqual({ [first]: '1', [second]: '1' });
    expect(world.backends).toHaveLength(2);
  });
});

describe('an atomic batch of several lanes', () => {
  test('is one transaction, behind all that its lanes had before it; the other lanes go on', async () => {
    const world = laned(4);
    const batches: string[][] = [];
    world.database.onCommit = ({ changes }) => {
      if (changes.length > 0) batches.push(changes.map(({ key }) => key.toString()).sort());
    };
    await world.run();
    world.log.append(set(first, 'before'));
    world.log.append(set(fourth, 'alone'));
    world.log.append(...atomic('together', first, third), set(second, 'beside'), set(third, 'last'));
    world.log.append(set(first, 'after'));
    await world.run();
    expect(world.rows).toEqual({ [first]: 'after', [second]: 'beside', [third]: 'last', [fourth]: 'alone' });
    expect(batches).toContainEqual([first, third].sort());
    expect(batches).toContainEqual([second]);
    expect(batches.filter((keys) => keys.includes(first))).toEqual([[first], [first, third].sort(), [first]]);
  });

  test('in an entry with another is written with it, and all lanes of both come together', async () => {
    const world = await laned(4).run();
    const batches: string[][] = [];
    world.database.onCommit = ({ changes }) => {
      if (changes.length > 0) batches.push(changes.map(({ key }) => key.toString()));
    };
    world.log.append(...atomic('1', first, second), ...atomic('2', third, fourth));
    await world.run();
    expect(batches.map((keys) => new Set(keys))).toEqual([new Set([first, second, third, fourth])]);
    expect(world.rows).toEqual({ [first]: '1', [second]: '1', [third]: '2', [fourth]: '2' });
  });

  test('that waits for a lane does not keep the writer from its end', async () => {
    const world = await laned(4).run();
    world.fault = (_, batch) => (touches(batch, second) ? 'before' : undefined);
    world.log.append(set(second, 'held'));
    world.log.append(...atomic('together', first, second));
    await world.run(5000);
    let hasEnded = false;
    void world.writer.ended.then(() => {
      hasEnded = true;
    });
    await world.close();
    expect(hasEnded).toBe(true);
    expect(world.rows).toEqual({});
  });

  test('is owed, and counted once, until the database has it', async () => {
    const world = laned(4);
    world.callMs = 50;
    await world.run();
    const { end } = world.log.append(...atomic('1', first, second));
    const counts = new Set<number>();
    for (let ms = 0; ms < 500; ms++) {
      await world.run(1);
      counts.add(world.writer.owed.records);
      if (world.writer.has(end)) expect(world.rows).toEqual({ [first]: '1', [second]: '1' });
    }
    expect(world.writer.has(end)).toBe(true);
    expect(counts).toEqual(new Set([0, 2]));
  });

  test('counts as the rows that it changes where rows are limited', async () => {
    const world = laned(4);
    world.rowsPerSecond = 2;
    await world.run();
    world.log.append(...atomic('1', first, second));
    await world.run(500);
    world.log.append(set(third, '2'));
    await world.run(400);
    expect(world.rows).toEqual({ [first]: '1', [second]: '1' });
    await world.run(1000);
    expect(world.rows[third]).toBe('2');
  });

  test('of one lane needs no other', async () => {
    const world = await laned(4).run();
    const [one, other] = keysOf(2, 4, 2) as [string, string];
    let joint = 0;
    world.fault = (_, batch) => {
      if (batch?.also !== undefined) joint++;
      return touches(batch, first) ? 'halt' : undefined;
    };
    world.log.append(set(first, '1'));
    world.log.append(...atomic('1', one, other));
    await world.run();
    expect(world.rows).toEqual({ [one]: '1', [other]: '1' });
    expect(joint).toBe(0);
  });

  test('waits for a lane that is held up, and holds up those that it has a part in', async () => {
    const world = await laned(4).run();
    world.fault = (_, batch) => (touches(batch, second) ? 'before' : undefined);
    world.log.append(set(second, 'held'));
    world.log.append(...atomic('together', first, second));
    world.log.append(set(first, 'behind'), set(third, 'free'));
    await world.run(10_000);
    expect(world.rows).toEqual({ [third]: 'free' });
    expect(world.writer.state).toBe('retrying');
    world.fault = () => undefined;
    await world.run(60_000);
    expect(world.rows).toEqual({ [first]: 'behind', [second]: 'together', [third]: 'free' });
  });

  test.each<Fault>(['before', 'after', 'hangs', 'late', 'halt'])(
    'has its effect once, whole, where its transaction answers "%s", and so do two in a row',
    async (fault) => {
      const world = await laned(4).run();
      const torn: string[] = [];
      world.database.onCommit = () => {
        const { rows } = world;
        if (rows[first] !== rows[third] || rows[first] !== rows[fourth]) torn.push(JSON.stringify(rows));
      };
      const faults: (Fault | undefined)[] = [fault, undefined, fault, fault];
      world.fault = (_, batch) => (batch?.also === undefined ? undefined : faults.shift());
      world.log.append(...atomic('1', first, third, fourth));
      world.log.append(set(second, '1'));
      world.log.append(...atomic('1', first, third, fourth), ...atomic('2', first, third, fourth));
      for (let i = 0; i < 3; i++) world.log.append(...atomic('3', first, third, fourth));
      await world.run(5 * HALTED_RETRY_MS);
      expect(world.rows).toEqual({ [first]: '3', [second]: '1', [third]: '3', [fourth]: '3' });
      expect(torn).toEqual([]);
      expect(faults).toEqual([]);
      expect(new Set(world.database.history).size).toBe(world.database.history.length);
      expect(world.writer.state).toBe('writing');
    },
  );

  test.each([undefined, 'after' as const])(
    'that the database refuses is told to the memory of the lanes of its keys, also if COMMIT answers "%s"',
    async (fault) => {
      const world = laned(4);
      const told: string[][] = [[], [], [], []];
      world.marksOf = ({ lane }) => ({
        openedAt: 0n,
        collect: () => new BigUint64Array(1),
        isWanted: () => false,
        refuse: ({ change }) => void told[lane]!.push(`refused ${change.key}`),
        raise: () => void told[lane]!.push('raised'),
        raiseBetween() {},
        raiseRecovered() {},
      });
      world.database.refused.add(second);
      await world.run();
      world.fault = (_, batch) => (batch?.also === undefined ? undefined : fault);
      world.log.append(set(second, 'alone'));
      await world.run();
      world.log.append(...atomic('1', first, second));
      await world.run();
      expect(told[1]).toEqual([`refused ${second}`, 'raised', `refused ${second}`, 'raised']);
      for (const lane of [0, 2, 3]) expect(told[lane]).not.toContain(`refused ${second}`);
      expect(told[0]).toContain('raised');
      expect(world.batches.at(-1)!.deadLetters).toHaveLength(1);
    },
  );
});

describe('another number of lanes', () => {
  test.each([
    [1, 4],
    [4, 1],
    [2, 16],
    [16, 2],
  ])('from %i to %i goes on where the last were, wherever each of them was', async (from, to) => {
    const before = await laned(from).run();
    const keys = Array.from({ length: 40 }, (_, i) => `key-${i}`);
    // A part of the lanes is held up, so that the cursors are at different places.
    before.fault = (_, batch) => (batch !== undefined && batch.to.lane % 2 === 1 ? 'before' : undefined);
    before.log.append(...keys.map((key) => set(key, '1')));
    await before.run();
    before.log.append(...keys.map((key) => set(key, '2')), ...atomic('batch', ...keys.slice(0, 5)));
    await before.run();
    await before.close();
    before.log.takeOver();
    const next = await laned(to, before.log, before.database).run(5000);
    expect(next.database.cursors.map(({ lane, laneCount }) => [lane, laneCount])).toEqual(
      Array.from({ length: to }, (_, lane) => [lane, to]),
    );
    next.log.append(...keys.slice(20).map((key) => set(key, '3')));
    await next.run();
    expect(next.rows).toEqual(Object.fromEntries(keys.map((key, i) => [key, i < 5 ? 'batch' : i < 20 ? '2' : '3'])));
    expect(new Set(next.database.history).size).toBe(next.database.history.length);
    expect(next.states).toEqual(['writing']);
    expect(next.writer.isHealing).toBe(false);
  });

  test('does not wait for the delay of what the lanes before owe', async () => {
    const before = await laned(4).run();
    before.fault = (_, batch) => (touches(batch, second) ? 'before' : undefined);
    before.log.append(set(first, '1'), set(second, '1'));
    await before.run();
    await before.close();
    before.log.takeOver();
    const next = laned(2, before.log, before.database);
    next.limits = { rows: 100, bytes: 2 ** 20, delayMs: 600_000 };
    await next.run(5000);
    expect(next.database.cursors).toHaveLength(2);
    expect(next.rows).toEqual({ [first]: '1', [second]: '1' });
  });

  test('in a mode that keeps no dead letter leaves none, and memory is told of each refused change', async () => {
    const before = laned(4);
    before.database.refused.add(second);
    await before.run();
    before.fault = (_, batch) => (touches(batch, second) ? 'before' : undefined);
    before.log.append(set(second, 'refused'));
    before.log.append(set(first, '1'));
    await before.run();
    await before.close();
    before.log.takeOver();
    const next = laned(2, before.log, before.database);
    next.dropsRefused = true;
    const told: string[] = [];
    next.marksOf = ({ lane }) => ({ ...noMarks, refuse: ({ change }) => void told.push(`${lane} ${change.key}`) });
    // The thread of the writer may die once it has moved the old lanes.
    next.fault = (_, batch) => (batch?.to.laneCount === 2 ? 'hangs' : undefined);
    await next.run(1000);
    expect(told).toEqual([]);
    expect(next.database.letters).toHaveLength(1);
    next.fault = () => undefined;
    await next.run(20_000);
    expect(next.database.cursors).toHaveLength(2);
    expect(told).toEqual([`0 ${second}`]);
    expect(next.database.letters).toEqual([]);
    expect(next.rows).toEqual({ [first]: '1' });
  });

  // The process ends at each call of the database in turn, before it has an effect or after.
  test.each<[string, Fault]>([
    ['before its effect', 'hangs'],
    ['behind its effect', 'after'],
  ])('takes over also if it is killed at any call %s', async (_, lastFault) => {
    for (let calls = 0; ; calls++) {
      const log = new WorldLog();
      const database = new WorldDatabase();
      const keys = Array.from({ length: 24 }, (_, i) => `key-${i}`);
      database.onCommit = () => {
        const found = new Set(keys.slice(0, 6).map((key) => database.rows.get(key)?.value));
        if (found.size !== 1) throw new Error(`Torn: ${[...found]}`);
      };
      let isKilled = false;
      let round = 0;
      for (const lanes of [1, 4, 2, 1]) {
        round++;
        log.append(...keys.slice(6).map((key) => set(key, `${round}`)), ...atomic(`${round}`, ...keys.slice(0, 6)));
        const killed = laned(lanes, log, database);
        let left = calls;
        let isDead = false;
        killed.fault = () => {
          if (isDead) return 'hangs';
          if (left-- > 0) return undefined;
          isDead = true;
          isKilled = true;
          return lastFault;
        };
        await killed.run(2000);
        log.takeOver();
      }
      const last = await laned(4, log, database).run(5000);
      expect(last.rows).toEqual(Object.fromEntries(keys.map((key) => [key, '4'])));
      expect(new Set(database.history).size).toBe(database.history.length);
      expect(last.writer.state).toBe('writing');
      await closeWorlds();
      if (!isKilled) break;
      expect(calls).toBeLessThan(50);
    }
  });

  test('is refused where the cursors are not those of all lanes, and nothing is written', async () => {
    const world = await laned(4).run();
    await world.close();
    const { cursors } = world.database;
    const three = Array.from({ length: 3 }, (_, lane) => ({ ...cursors[lane]!, laneCount: 3 }));
    for (const edited of [
      cursors.slice(1),
      three,
      cursors.map((each, i) => (i === 2 ? { ...each, laneCount: 2 } : each)),
    ]) {
      const database = new WorldDatabase();
      database.cursors = edited;
      const log = new WorldLog();
      log.append(set(first, '1'));
      const next = await laned(2, log, database).run(10_000);
      expect(next.writer.state).toBe('refused');
      expect(next.causes[0]).toMatch(/not those of all lanes/);
      expect(next.rows).toEqual({});
      expect(database.cursors).toEqual(edited);
    }
  });
});

describe('a database that goes back to an earlier state', () => {
  test('gets what every lane lacks from the log, once', async () => {
    const world = await laned(4).run();
    world.log.append(set(first, '1'), set(second, '1'));
    await world.run();
    const putBack = world.database.backUp();
    world.log.append(set(first, '2'), ...atomic('2', second, third));
    await world.run();
    putBack();
    world.log.append(set(fourth, '3'));
    await world.run(LOOK_MS + 5000);
    expect(world.rows).toEqual({ [first]: '2', [second]: '2', [third]: '2', [fourth]: '3' });
    expect(world.told).toEqual([expect.stringMatching(/^healing [1-9]/), 'healed']);
    expect(world.writer.isHealing).toBe(false);
    expect(world.writer.reached).toEqual(positions(world));
  });

  test('never counts as having everything once that is known, until it has', async () => {
    const world = laned(4);
    world.callMs = 50;
    await world.run();
    world.log.append(set(first, '1'), set(second, '1'));
    await world.run();
    const putBack = world.database.backUp();
    const { end } = world.log.append(set(first, '2'), ...atomic('2', second, third));
    await world.run(5000);
    putBack();
    world.writer.doubt();
    let reads = 0;
    world.fault = (call) => {
      if (call === 'readCursors') reads++;
      return undefined;
    };
    // Four lanes look; what is read next is where to begin again.
    let isKnown = false;
    for (let ms = 0; ms < 2000; ms++) {
      await world.run(1);
      isKnown ||= reads > 4;
      if (isKnown && world.writer.has(end)) expect(world.rows).toEqual({ [first]: '2', [second]: '2', [third]: '2' });
    }
    expect(isKnown).toBe(true);
    expect(world.writer.has(end)).toBe(true);
    expect(world.told).toEqual([expect.stringMatching(/^healing [1-9]/), 'healed']);
  });

  test('is found out where only a lane that is idle has gone back', async () => {
    const world = await laned(4).run();
    world.log.append(set(first, '1'));
    await world.run();
    const putBack = world.database.backUp();
    world.log.append(set(second, '1'));
    await world.run();
    putBack();
    await world.run(2 * LOOK_MS);
    expect(world.rows).toEqual({ [first]: '1', [second]: '1' });
    expect(world.told).toEqual([expect.stringMatching(/^healing [1-9]/), 'healed']);
  });

  test('while a lane waits for another has that lane begin anew, behind what the database lacks', async () => {
    const world = await laned(4).run();
    const [, other] = keysOf(0, 4, 2) as [string, string];
    const putBack = world.database.backUp();
    world.log.append(set(other, '1'));
    await world.run();
    world.fault = (_, batch) => (touches(batch, second) ? 'before' : undefined);
    world.log.append(set(second, 'held'));
    world.log.append(...atomic('together', first, second));
    await world.run();
    putBack();
    world.log.append(set(third, '1'));
    await world.run(5000);
    world.fault = () => undefined;
    await world.run(60_000);
    expect(world.rows).toEqual({ [other]: '1', [first]: 'together', [second]: 'together', [third]: '1' });
  });

  test('to when it had another number of lanes is brought to those of now', async () => {
    const before = await laned(2).run();
    before.log.append(set(first, '1'), set(third, '1'));
    await before.run();
    const putBack = before.database.backUp();
    await before.close();
    before.log.takeOver();
    const world = await laned(4, before.log, before.database).run();
    world.log.append(set(first, '2'), ...atomic('2', second, fourth));
    await world.run();
    expect(world.database.cursors).toHaveLength(4);
    putBack();
    await world.run(LOOK_MS + 5000);
    expect(world.rows).toEqual({ [first]: '2', [second]: '2', [third]: '1', [fourth]: '2' });
    expect(world.database.cursors).toHaveLength(4);
    expect(world.told).toEqual([expect.stringMatching(/^healing [1-9]/), 'healed']);
    expect(world.writer.state).toBe('writing');
    expect(new Set(world.database.history).size).toBe(world.database.history.length);
  });
});
