// The process that holds a database, in virtual time: it claims the database before it changes anything, and from then
// on no lane of the process before changes anything.

import { afterEach, describe, expect, test } from 'vitest';
import type { Cursor, WriteBatch } from '../../src/backend/index.ts';
import { isHeldBy } from '../../src/write-back/holder.ts';
import { laneOf } from '../../src/write-back/share.ts';
import { LOOK_MS } from '../../src/write-back/writer.ts';
import { type Fault, WorldDatabase, WorldLog } from '../support/writer-world.ts';
import { CALL_TIMEOUT_MS, closeWorlds, set, World } from '../support/written-world.ts';

afterEach(closeWorlds);

const TAKEN_OVER = expect.stringMatching(
  /^Another process has taken memory:world over, with a copy of the log in \/data/,
);

/** A key of each of four lanes. */
const keys = [0, 1, 2, 3].map((lane) => {
  for (let i = 0; ; i++) if (laneOf(Buffer.from(`key-${i}`), 4) === lane) return `key-${i}`;
});
const setAll = (value: string) => keys.map((key) => set(key, value));
const all = (value: string): Record<string, string> => Object.fromEntries(keys.map((key) => [key, value]));

function laned(lanes: number, log?: WorldLog, database?: WorldDatabase): World {
  const world = new World(log, database);
  world.lanes = lanes;
  return world;
}

let writers = 1000n;
/** A copy of a log that another process has opened. */
function openedCopy(log: WorldLog): WorldLog {
  const copy = new WorldLog();
  copy.entries.push(...log.entries);
  copy.epoch = log.epoch;
  copy.writer = writers++;
  copy.takeOver();
  return copy;
}

/** A process with four lanes that has written, and the heir that has taken over and written nothing. */
async function succession(lanes = 4): Promise<{ zombie: World; heir: World; held: readonly Cursor[] }> {
  const zombie = await laned(4).run();
  zombie.log.append(...setAll('old'));
  await zombie.run();
  const heir = await laned(lanes, openedCopy(zombie.log), zombie.database).run(1);
  for (let ms = 0; heir.writer.state !== 'writing' && ms < 1000; ms++) await heir.run(1);
  expect(heir.writer.state).toBe('writing');
  return { zombie, heir, held: heir.database.cursors };
}

/** The batches that reach the database. */
function batchesOf(world: World): WriteBatch[] {
  const batches: WriteBatch[] = [];
  world.fault = (_, batch) => {
    if (batch !== undefined) batches.push(batch);
    return undefined;
  };
  return batches;
}

describe('a process that has taken over', () => {
  test.each([4, 1])('with %i lanes and written nothing has stopped the one before in every lane', async (lanes) => {
    const { zombie, heir, held } = await succession(lanes);
    zombie.log.append(...setAll('of the zombie'), ...keys.map((key) => set(`${key} zombie`, '1')));
    await zombie.run(10_000);
    expect(zombie.states).toEqual(['writing', 'refused']);
    expect(zombie.causes).toEqual([TAKEN_OVER]);
    await expect(zombie.writer.drain(zombie.log.end())).rejects.toMatchObject({ code: 'ERR_STORE_REFUSED' });
    expect(heir.rows).toEqual(all('old'));
    expect(heir.database.cursors).toEqual(held);
    heir.log.append(...setAll('of the heir'));
    await heir.run(5000);
    expect(heir.rows).toEqual(all('of the heir'));
    expect(heir.states).toEqual(['writing']);
  });

  test('is found out by one that has nothing to write', async () => {
    const { zombie } = await succession();
    await zombie.run(2 * LOOK_MS);
    expect(zombie.causes).toEqual([TAKEN_OVER]);
  });

  test('has named itself in all lanes of the database at once, before anything else', async () => {
    const before = await laned(4).run();
    before.log.append(...setAll('old'));
    await before.run();
    await before.close();
    const places = before.database.cursors;
    before.log.takeOver();
    before.log.append(...setAll('new'));
    const heir = laned(2, before.log, before.database);
    const batches = batchesOf(heir);
    await heir.run();
    const [claim, ...others] = batches;
    const { epoch, writer } = before.log;
    const moved = places.map((from) => ({ from, to: { ...from, holderEpoch: epoch, holderWriter: writer } }));
    expect([{ from: claim!.from, to: claim!.to }, ...claim!.also!]).toEqual(moved);
    expect(claim!.changes).toEqual([]);
    const cursors = others.flatMap(({ from, to, also = [] }) => [
      from,
      to,
      ...also.flatMap((move) => [move.from, move.to]),
    ]);
    const named = cursors.filter((cursor) => cursor !== undefined);
    expect(isHeldBy(named, before.log.takeover)).toBe(true);
    expect(heir.rows).toEqual(all('new'));
  });

  test.each([1, 4])('names itself in a new database too, in each of its %i lanes', async (lanes) => {
    const zombie = await laned(lanes).run();
    expect(zombie.database.cursors).toHaveLength(lanes);
    expect(isHeldBy(zombie.database.cursors, zombie.log.takeover)).toBe(true);
    const heir = await laned(lanes, openedCopy(zombie.log), zombie.database).run();
    zombie.log.append(...setAll('of the zombie'));
    await zombie.run(10_000);
    expect(zombie.causes).toEqual([TAKEN_OVER]);
    expect(heir.rows).toEqual({});
  });

  test('claims nothing again when only its thread has begun anew', async () => {
    const { zombie, heir } = await succession();
    await heir.close();
    const next = laned(4, heir.log, heir.database);
    const batches = batchesOf(next);
    await next.run();
    expect(batches).toEqual([]);
    expect(next.writer.state).toBe('writing');
    await zombie.close();
  });

  test('stops writing when a later one has taken over from it in its turn', async () => {
    const { zombie, heir } = await succession();
    const last = await laned(4, openedCopy(heir.log), heir.database).run();
    zombie.log.append(...setAll('of the zombie'));
    heir.log.append(...setAll('of the heir'));
    await heir.run(10_000);
    await zombie.run(10_000);
    expect(heir.causes).toEqual([TAKEN_OVER]);
    expect(zombie.causes).toEqual([TAKEN_OVER]);
    last.log.append(...setAll('last'));
    await last.run();
    expect(last.rows).toEqual(all('last'));
  });
});

test('a directory that was left gets the database back by no number of openings, and its successor by one', async () => {
  const { zombie, heir } = await succession();
  await zombie.close();
  for (let opening = 0; opening < 4; opening++) {
    zombie.log.takeOver();
    const again = await laned(4, zombie.log, zombie.database).run(5000);
    expect(again.states).toEqual(['refused']);
    expect(again.causes).toEqual([TAKEN_OVER]);
  }
  heir.log.append(...setAll('of the heir'));
  await heir.run();
  expect(heir.rows).toEqual(all('of the heir'));
  await heir.close();
  heir.log.takeOver();
  const next = await laned(2, heir.log, heir.database).run();
  expect(next.states).toEqual(['writing']);
});

describe('of two processes with copies of equal age', () => {
  test('the first to claim the database writes, and the other is refused', async () => {
    const before = await laned(4).run();
    before.log.append(...setAll('old'));
    await before.run();
    const worlds = [0, 1].map(() => laned(4, openedCopy(before.log), before.database));
    await Promise.all(worlds.map((world) => world.run(5000)));
    expect(worlds.map(({ writer }) => writer.state).sort()).toEqual(['refused', 'writing']);
    const [refused] = worlds.filter(({ writer }) => writer.state === 'refused');
    expect(refused!.causes).toEqual([TAKEN_OVER]);
    for (const [i, { log }] of worlds.entries()) log.append(...setAll(`${i}`));
    await Promise.all(worlds.map((world) => world.run(5000)));
    const winner = worlds.findIndex(({ writer }) => writer.state === 'writing');
    expect(before.rows).toEqual(all(`${winner}`));
  });

  test('no lane of the other changes anything, whichever calls the two make at a time', async () => {
    for (let delay = 0; delay < 12; delay++) {
      const database = new WorldDatabase();
      const log = new WorldLog();
      const worlds = [0, 1].map(() => laned(4, openedCopy(log), database));
      for (const [i, world] of worlds.entries()) world.log.append(...setAll(`${i}`));
      const holders = new Set<bigint>();
      database.onCommit = ({ changes, to }) => {
        if (changes.length > 0) holders.add(to.holderWriter);
      };
      await worlds[0]!.run(delay);
      for (let ms = 0; ms < 3000; ms++) for (const world of worlds) await world.run(1);
      expect(holders.size).toBe(1);
      expect(worlds.map(({ writer }) => writer.state).sort()).toEqual(['refused', 'writing']);
      await closeWorlds();
    }
  });
});

describe('the claim of a database', () => {
  const faults: Fault[] = ['before', 'after', 'hangs', 'late', 'halt'];
  test.each(faults)('that fails (%s) is made until it stands, and nothing is changed before', async (fault) => {
    const before = await laned(4).run();
    before.log.append(...setAll('old'));
    await before.run();
    await before.close();
    before.log.takeOver();
    before.log.append(...setAll('new'));
    const heir = laned(4, before.log, before.database);
    const { takeover } = before.log;
    heir.failNext('write', fault, fault);
    before.database.onCommit = ({ changes, from }) => {
      if (changes.length > 0 && !isHeldBy([from!], takeover)) throw new Error('Changed before the claim');
    };
    await heir.run(4 * CALL_TIMEOUT_MS + 120_000);
    expect(heir.rows).toEqual(all('new'));
    expect(heir.writer.state).toBe('writing');
    expect(new Set(before.database.history).size).toBe(before.database.history.length);
  });

  test('of a process that has died, with its effect late, does not keep the next one out', async () => {
    const before = await laned(4).run();
    await before.close();
    before.log.takeOver();
    const dead = laned(4, before.log, before.database);
    dead.failNext('write', 'late');
    await dead.run(500);
    const { writer } = before.log;
    before.log.takeOver();
    // Its calls are slow: the claim of the dead one has its effect between the look at the cursors and its own.
    const heir = laned(4, before.log, before.database);
    heir.callMs = 800;
    const holders: bigint[] = [];
    before.database.onCommit = ({ to }) => void holders.push(to.holderWriter);
    for (let turns = 0; heir.writer.state !== 'writing' && turns < 1000; turns++) {
      for (const world of [dead, heir]) await world.run(100);
    }
    expect(new Set(holders)).toEqual(new Set([writer, before.log.writer]));
    before.log.append(...setAll('new'));
    await heir.run(10_000);
    expect(heir.rows).toEqual(all('new'));
  });

  test('waits for the entry of the log by which it is made: the writer is halted, and goes on when it is there', async () => {
    const before = await laned(4).run();
    await before.close();
    const { cursors } = before.database;
    before.log.takeOver();
    before.log.append(...setAll('new'));
    let isFull = true;
    before.log.takenOver = async () => {
      if (isFull) throw new Error('the disk is full');
    };
    const heir = await laned(4, before.log, before.database).run(60_000);
    expect(heir.states).toEqual(['halted']);
    expect(heir.causes).toEqual(['the disk is full']);
    expect(heir.database.cursors).toEqual(cursors);
    isFull = false;
    await heir.run(3000);
    expect(heir.states).toEqual(['halted', 'writing']);
    expect(heir.rows).toEqual(all('new'));
  });

  test('is not waited for by a writer that is closed meanwhile', async () => {
    const before = await laned(4).run();
    await before.close();
    const { cursors } = before.database;
    before.log.takeOver();
    let asked = 0;
    // One that is asked again and again without a pause would never let the test go on.
    before.log.takenOver = async () => {
      if (++asked < 1000) throw new Error('the disk is full');
    };
    const heir = await laned(4, before.log, before.database).run(60_000);
    expect(asked).toBeGreaterThan(10);
    const last = asked;
    await heir.close();
    expect(asked).toBe(last);
    expect(heir.database.cursors).toEqual(cursors);
  });

  test('is of all lanes: one that another opening still holds is claimed with the others', async () => {
    const before = await laned(4).run();
    await before.close();
    before.log.takeOver();
    const { epoch, writer } = before.log;
    before.database.cursors = before.database.cursors.map((cursor) =>
      cursor.lane === 3 ? cursor : { ...cursor, holderEpoch: epoch, holderWriter: writer },
    );
    const heir = await laned(4, before.log, before.database).run();
    expect(heir.database.cursors.map(({ holderWriter }) => holderWriter)).toEqual(Array(4).fill(writer));
    expect(heir.states).toEqual(['writing']);
  });

  test('is refused if another process holds any lane of the database', async () => {
    const before = await laned(4).run();
    await before.close();
    before.log.takeOver();
    const { cursors } = before.database;
    before.database.cursors = cursors.map((cursor) =>
      cursor.lane === 3 ? { ...cursor, holderEpoch: before.log.epoch + 1 } : cursor,
    );
    const heir = await laned(4, before.log, before.database).run();
    expect(heir.causes).toEqual([TAKEN_OVER]);
    expect(heir.batches).toEqual([]);
  });

  test('is not made by a writer that is paused', async () => {
    const before = await laned(4).run();
    await before.close();
    const { cursors } = before.database;
    before.log.takeOver();
    const heir = laned(4, before.log, before.database);
    heir.writer.pause();
    await heir.run(60_000);
    expect(heir.states).toEqual(['paused']);
    expect(heir.database.cursors).toEqual(cursors);
    heir.writer.resume();
    await heir.run();
    expect(isHeldBy(heir.database.cursors, before.log.takeover)).toBe(true);
  });

  test('is refused by name where the database does not keep it: its module leaves out parts of the cursor', async () => {
    const database = new WorldDatabase();
    const world = laned(4, new WorldLog(), database);
    database.onCommit = () => {
      database.cursors = database.cursors.map(
        ({ holderEpoch: _epoch, holderWriter: _writer, ...rest }) => rest as Cursor,
      );
    };
    world.log.append(...setAll('1'));
    await world.run(10_000);
    expect(world.states).toEqual(['refused']);
    expect(world.causes).toEqual([expect.stringContaining('keeps cursors without their holder')]);
    expect(world.rows).toEqual({});
  });

  test('of a database of level idempotent is that of its one lane', async () => {
    const zombie = laned(1);
    zombie.level = 'idempotent';
    await zombie.run();
    const heir = laned(1, openedCopy(zombie.log), zombie.database);
    heir.level = 'idempotent';
    const batches = batchesOf(heir);
    await heir.run();
    expect(batches.map(({ also }) => also)).toEqual([undefined]);
    zombie.log.append(set('a', '1'));
    await zombie.run(10_000);
    expect(zombie.causes).toEqual([TAKEN_OVER]);
    expect(heir.rows).toEqual({});
  });
});

test('a database that has gone back to when another process held it is claimed again, and gets what it lacks', async () => {
  const { zombie, heir } = await succession();
  const putBack = zombie.database.backUp();
  await zombie.close();
  const last = await laned(4, openedCopy(heir.log), heir.database).run();
  last.log.append(...setAll('last'));
  await last.run();
  putBack();
  last.log.append(set(keys[0]!, 'once more'));
  await last.run(LOOK_MS + 5000);
  expect(last.told).toEqual([expect.stringMatching(/^healing [1-9]/), 'healed']);
  expect(last.rows).toEqual({ ...all('last'), [keys[0]!]: 'once more' });
  expect(isHeldBy(last.database.cursors, last.log.takeover)).toBe(true);
  heir.log.append(...setAll('of the heir'));
  await heir.run(10_000);
  expect(heir.causes).toEqual([TAKEN_OVER]);
  expect(last.rows).toEqual({ ...all('last'), [keys[0]!]: 'once more' });
});
