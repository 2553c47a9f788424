import { afterEach, describe, expect, test } from 'vitest';
import { HALTED_RETRY_MS } from '../../src/write-back/backoff.ts';
import { BARREN_BYTES_MAX } from '../../src/write-back/batcher.ts';
import { LOG_CURSOR_MS } from '../../src/write-back/following-cursor.ts';
import { LOOK_MS } from '../../src/write-back/writer.ts';
import type { RecordParts } from '../support/records.ts';
import { type Fault, noMarks, type WorldDatabase, WorldLog } from '../support/writer-world.ts';
import { CALL_TIMEOUT_MS, closeWorlds, set, World } from '../support/written-world.ts';

afterEach(closeWorlds);

describe('a writer', () => {
  test('carries what the log has to the database, and what comes later', async () => {
    const world = new World();
    world.log.append(set('a', '1'), set('b', '1'));
    await world.run();
    expect(world.rows).toEqual({ a: '1', b: '1' });
    world.log.append({ kind: 'delete', key: 'a' });
    world.log.append(set('c', '1'));
    await world.run();
    expect(world.rows).toEqual({ b: '1', c: '1' });
    expect(world.database.cursors).toMatchObject([{ position: world.log.end(), epoch: 1, writer: 100n, logId: 7n }]);
    expect(world.states).toEqual(['writing']);
    expect(world.writer.confirmed).toBe(world.log.end());
  });

  test('gathers for the delay, and coalesces', async () => {
    const world = await new World().run();
    for (let i = 0; i < 10; i++) {
      world.log.append(set('a', `${i}`));
      await world.run(1);
    }
    await world.run();
    expect(world.database.history).toEqual([`a@${(1n << 32n) + 10n}`]);
    expect(world.batches).toMatchObject([{ recordCount: 10, changes: { length: 1 } }]);
  });

  test('goes on gathering while a write is in flight, and writes that as one batch', async () => {
    const world = new World();
    world.callMs = 100;
    await world.run();
    world.log.append(set('a', '0'));
    await world.run(30);
    for (let i = 1; i < 50; i++) {
      world.log.append(set(`key-${i}`, '1'), set('a', `${i}`));
      await world.run(1);
    }
    await world.run();
    expect(world.database.batchSizes).toEqual([1, 50]);
    expect(world.rows).toMatchObject({ a: '49', 'key-1': '1' });
  });

  test('holds at most two batches in memory, however long the log is', async () => {
    const world = new World();
    world.callMs = 1000;
    world.limits = { rows: 10, bytes: 2 ** 20, delayMs: 0 };
    for (let i = 0; i < 500; i++) world.log.append(set(`key-${i}`, '1'));
    await world.run(3500);
    expect(world.writer.owed.records).toBeLessThanOrEqual(20);
    await world.run(60_000);
    expect(world.database.rows.size).toBe(500);
    expect(Math.max(...world.database.batchSizes)).toBe(10);
  });

  test('writes no more rows a second than it may', async () => {
    const world = new World();
    world.rowsPerSecond = 10;
    world.limits = { rows: 5, bytes: 2 ** 20, delayMs: 20 };
    for (let i = 0; i < 20; i++) world.log.append(set(`key-${i}`, '1'));
    const counts: number[] = [];
    for (let ms = 0; ms < 2000; ms += 500) {
      await world.run(500);
      counts.push(world.database.rows.size);
    }
    expect(counts).toEqual([5, 10, 15, 20]);
  });

  test('keeps its batch size when sets and deletes mix', async () => {
    const world = new World();
    world.limits = { rows: 1000, bytes: 2 ** 20, delayMs: 20 };
    for (let i = 0; i < 5000; i++) {
      world.log.append(i % 5 === 4 ? { kind: 'delete', key: `key-${i}` } : set(`key-${i}`, '1'));
    }
    await world.run();
    expect(world.database.batchSizes).toEqual([1000, 1000, 1000, 1000, 1000]);
  });

  test('writes a clear to no row', async () => {
    const world = new World();
    world.log.append(set('a', '1'));
    world.log.append({ kind: 'clear' });
    await world.run();
    world.log.append({ kind: 'clear' });
    await world.run();
    expect(world.rows).toEqual({ a: '1' });
    expect(world.database.batchSizes).toEqual([1]);
  });

  test('gives the log room back also when there are only clears, for which it writes now and then', async () => {
    const world = await new World().run();
    world.log.append({ kind: 'clear' });
    world.log.append(...Array<RecordParts>(BARREN_BYTES_MAX / 64).fill({ kind: 'clear' }));
    await world.run(10_000);
    expect([world.log.confirmed, world.writer.isIdle]).toEqual([0n, true]);
    world.log.append(...Array<RecordParts>(BARREN_BYTES_MAX / 64).fill({ kind: 'clear' }));
    await world.run(10_000);
    expect(world.database.batchSizes).toEqual([0]);
    expect(world.log.confirmed).toBe(world.log.end());
  });

  test('says since when the oldest change waits, also of a log that it has not read yet', async () => {
    const world = new World();
    world.fault = () => 'before';
    world.log.takeOver();
    world.log.timeMs = 5000;
    await world.run();
    expect(world.writer.owed.oldestMs, 'there is no change').toBeUndefined();
    world.log.append(set('a', '1'));
    world.log.timeMs = 6000;
    world.log.append(set('b', '1'));
    await world.run();
    expect(world.writer.owed.oldestMs).toBe(5000);
    world.fault = () => undefined;
    await world.run(60_000);
    expect(world.writer.owed.oldestMs).toBeUndefined();
  });

  test('says since when the oldest change waits that it cannot read, wherever in the log that is', async () => {
    const world = new World();
    const read = world.log.read.bind(world.log);
    let isBroken = false;
    world.log.read = async function* (from, signal) {
      for await (const entry of read(from, signal)) {
        if (isBroken) throw new Error('an input/output error');
        yield entry;
      }
    };
    for (const timeMs of [5000, 7000]) {
      isBroken = true;
      world.log.timeMs = timeMs;
      world.log.append(set('a', `${timeMs}`));
      await world.run();
      expect(world.writer.owed).toMatchObject({ records: 0, oldestMs: timeMs });
      isBroken = false;
      await world.run(60_000);
      expect(world.writer.owed.oldestMs).toBeUndefined();
    }
    expect(world.rows).toEqual({ a: '7000' });
  });

  test('says of a batch how long the database took, all tries included', async () => {
    const world = await new World().run();
    world.backends[0]!.callMs = 50;
    world.log.append(set('a', '1'));
    await world.run();
    world.failNext('write', 'before');
    world.log.append(set('b', '1'));
    await world.run(10_000);
    const [one, other] = world.batches.map(({ elapsedMs }) => elapsedMs);
    expect(one).toBe(50);
    expect(other).toBeGreaterThanOrEqual(100);
  });

  test('moves the cursor of the log at most every second, also after the last batch', async () => {
    const world = await new World().run();
    world.log.append(set('a', '1'));
    await world.run(100);
    const first = world.log.confirmed;
    expect(first).toBe(world.log.end());
    world.log.append(set('a', '2'));
    await world.run(100);
    expect(world.database.cursors[0]?.position).toBe(world.log.end());
    expect(world.log.confirmed).toBe(first);
    await world.run(LOG_CURSOR_MS);
    expect(world.log.confirmed).toBe(world.log.end());
  });
});

test('the log keeps what was recovered until all of it is in the database: no mark says which part is', async () => {
  const world = new World();
  world.limits = { rows: 1, bytes: 2 ** 20, delayMs: 0 };
  const [first, second] = [world.log.append(set('a', '1')), world.log.append(set('b', '1'))];
  const raisedAt: bigint[] = [];
  world.marks = {
    ...noMarks,
    openedAt: second.end,
    raiseRecovered: () => {
      if (raisedAt.length === 0) raisedAt.push(world.log.confirmed);
    },
  };
  world.failNext('write', undefined, undefined, ...Array<Fault>(1000).fill('before'));
  await world.run(10 * LOG_CURSOR_MS);
  expect(world.database.cursors[0]?.position).toBe(first.end);
  expect([world.log.confirmed, raisedAt]).toEqual([0n, []]);
  world.fault = () => undefined;
  await world.run(60_000);
  expect(raisedAt, 'the marks are first').toEqual([0n]);
  expect(world.log.confirmed).toBe(second.end);
});

describe('a record that lies in the log twice, because a scribe was started again', () => {
  // The row has the newer value, and the older record comes once more.
  async function twice(between: (world: World) => World): Promise<World> {
    let world = await new World().run();
    const copies = [world.log.append(set('a', '1'), set('b', '1')), world.log.append({ kind: 'delete', key: 'b' })];
    copies.push(world.log.append(set('a', '2')));
    await world.run();
    world = between(world);
    world.log.takeOver();
    for (const copy of copies) {
      world.log.appendAgain(copy);
      await world.run();
      expect(world.rows).toEqual({ a: '2' });
    }
    return world;
  }

  test('is written once: no row goes back', async () => {
    const world = await twice((it) => it);
    expect(world.database.batchSizes).toEqual([2]);
    world.log.append(set('a', '3'), set('b', '3'));
    await world.run();
    expect(world.rows).toEqual({ a: '3', b: '3' });
  });

  test('is written once also if another writer begins between the two', async () => {
    const world = await twice(({ log, database }) => {
      log.confirmed = 0n;
      return new World(log, database);
    });
    expect(world.database.batchSizes).toEqual([2]);
  });

  test('but versions of another format of the log are not compared with it', async () => {
    const world = new World();
    world.log.formatVersion = 2;
    world.log.epoch = 2 ** 19;
    world.log.append(set('a', 'old'));
    await world.run();
    world.log.formatVersion = 3;
    world.log.epoch = 3;
    world.log.takeOver();
    world.log.append(set('a', 'new'));
    await world.run();
    expect(world.rows).toEqual({ a: 'new' });
  });
});

describe('a database that is away', () => {
  test('at start: the log is written when it is there', async () => {
    const world = new World();
    let isAway = true;
    world.fault = () => (isAway ? 'before' : undefined);
    world.log.append(set('a', '1'));
    await world.run(60_000);
    expect(world.writer.state).toBe('retrying');
    expect(world.causes).toEqual(['connection lost']);
    isAway = false;
    await world.run(11_000);
    expect(world.rows).toEqual({ a: '1' });
    expect(world.states).toEqual(['retrying', 'writing']);
  });

  test('for a day, under load: tries on, and the rows are the last values', async () => {
    const world = await new World().run();
    world.fault = () => 'before';
    for (let hour = 0; hour < 24; hour++) {
      world.log.append(set('a', `${hour}`), set(`hour-${hour}`, '1'));
      await world.run(3_600_000);
    }
    expect(world.retries).toBeGreaterThan(24 * 300);
    world.fault = () => undefined;
    await world.run(60_000);
    expect(world.rows).toMatchObject({ a: '23', 'hour-0': '1', 'hour-23': '1' });
    expect(world.writer.state).toBe('writing');
  });

  test('in the middle: a batch whose COMMIT was not answered is written once', async () => {
    const world = await new World().run();
    world.failNext('write', 'after');
    world.log.append(set('a', '1'));
    await world.run();
    expect(world.database.history).toHaveLength(1);
    world.log.append(set('a', '2'));
    await world.run();
    expect(world.database.history).toHaveLength(2);
    expect(world.batches).toHaveLength(2);
  });

  test('a failed batch is written again as it was; a newer value of its key comes behind it', async () => {
    const world = await new World().run();
    world.failNext('write', 'before', 'before');
    world.log.append(set('k', 'A'), set('k', 'B'));
    await world.run(30);
    world.log.append(set('k', 'C'));
    await world.run();
    expect(world.rows).toEqual({ k: 'C' });
    const versions = world.database.history.map((each) => Number(BigInt(each.split('@')[1]!) & 0xffffffffn));
    expect(versions).toEqual([2, 3]);
  });

  test('a call that never returns counts as failed, and its connection is closed', async () => {
    const world = await new World().run();
    world.failNext('write', 'hangs');
    world.log.append(set('a', '1'));
    await world.run(CALL_TIMEOUT_MS + 1000);
    expect(world.rows).toEqual({ a: '1' });
    expect(world.backends.map(({ isClosed }) => isClosed)).toEqual([true, false]);
  });

  test('a call that never returns, and has its effect while the batch is written again, has it once', async () => {
    const world = await new World().run();
    world.callMs = 600;
    world.failNext('write', 'late');
    world.log.append(set('a', '1'));
    await world.run(CALL_TIMEOUT_MS + 20_000);
    expect(world.database.history).toHaveLength(1);
    expect(world.writer.state).toBe('writing');
  });

  test('that refuses writes and answers reads is asked less and less often, and counts as away until a write succeeds', async () => {
    const world = await new World().run();
    let isFull = true;
    world.fault = (call) => (call === 'write' && isFull ? 'before' : undefined);
    world.log.append(set('a', '1'));
    await world.run(60_000);
    expect(world.retries).toBeLessThan(30);
    expect(world.states).toEqual(['writing', 'retrying']);
    isFull = false;
    await world.run(20_000);
    expect(world.rows).toEqual({ a: '1' });
    expect(world.states).toEqual(['writing', 'retrying', 'writing']);
  });

  test('gets no transaction while the writer is paused, also if it comes back meanwhile', async () => {
    const world = await new World().run();
    let isAway = true;
    world.fault = () => (isAway ? 'before' : undefined);
    world.log.append(set('a', '1'));
    await world.run(1000);
    world.writer.pause();
    isAway = false;
    await world.run(60_000);
    expect(world.rows).toEqual({});
    expect(world.writer.state).toBe('paused');
    world.writer.resume();
    await world.run(1000);
    expect(world.rows).toEqual({ a: '1' });
    expect(world.writer.state).toBe('writing');
  });

  test('an error that only a person can mend halts it, and it tries on slowly', async () => {
    const world = await new World().run();
    let isMended = false;
    world.fault = (call) => (call === 'write' && !isMended ? 'halt' : undefined);
    world.log.append(set('a', '1'));
    await world.run(100);
    expect(world.states).toEqual(['writing', 'halted']);
    const before = world.retries;
    await world.run(3 * HALTED_RETRY_MS);
    expect(world.retries - before).toBeLessThanOrEqual(4);
    isMended = true;
    await world.run(2 * HALTED_RETRY_MS);
    expect(world.rows).toEqual({ a: '1' });
    expect(world.writer.state).toBe('writing');
  });
});

describe('a cursor', () => {
  // A world whose database has what another writer of this log has written.
  async function written(): Promise<World> {
    const world = new World();
    world.log.append(set('a', '1'));
    world.log.append(set('b', '1'));
    await world.run();
    await world.close();
    return world;
  }

  test('is where the next writer goes on', async () => {
    const { log, database } = await written();
    log.takeOver();
    log.append(set('c', '1'));
    const next = await new World(log, database).run();
    expect(next.database.history).toHaveLength(3);
    expect(next.rows).toEqual({ a: '1', b: '1', c: '1' });
  });

  test('that is further than the log knows is believed: the process was killed before it could note it', async () => {
    const { log, database } = await written();
    log.confirmed = 0n;
    log.append(set('c', '1'));
    const next = await new World(log, database).run();
    expect(next.database.history).toHaveLength(3);
  });

  const refusals: [string, (world: World) => void, string][] = [
    ['of another log', ({ database }) => patch(database, { logId: 8n }), 'belongs to another log'],
    ['behind the end of the log', ({ database }) => patch(database, { position: 9999n }), 'a copy of the log'],
    [
      'where no entry ends',
      ({ database, log }) => patch(database, { position: log.end() - 1n }, log),
      'a copy of the log',
    ],
    [
      'whose holder took the log over later',
      ({ database }) => patch(database, { holderEpoch: 2 }),
      'taken memory:world over',
    ],
    [
      'whose holder is as old as this process',
      ({ database }) => patch(database, { holderWriter: 9n }),
      'taken memory:world over',
    ],
    ['of another epoch', ({ database }) => patch(database, { epoch: 2 }), 'a copy of the log'],
    ['of another writer, in a copy of the log', ({ database }) => patch(database, { writer: 9n }), 'a copy of the log'],
    [
      'before the beginning of the log',
      ({ database, log }) => {
        patch(database, { position: log.entries[0]!.position + 1n });
        log.begin = log.entries[0]!.end;
      },
      'gone back to an earlier state, to position 1 of the log',
    ],
    ['of one of several lanes', ({ database }) => patch(database, { laneCount: 2 }), 'not those of all lanes'],
    ['that is missing', ({ database }) => database.cursors.splice(0), 'has no cursor'],
  ];

  function patch(database: WorldDatabase, parts: object, log?: WorldLog): void {
    if (log !== undefined) log.confirmed = 0n;
    database.cursors = [{ ...database.cursors[0]!, ...parts }];
  }

  test.each(refusals)('%s is refused by name, and nothing is written', async (_, change, message) => {
    const world = await written();
    change(world);
    world.log.append(set('c', '1'));
    const next = await new World(world.log, world.database).run(120_000);
    expect(next.writer.state).toBe('refused');
    expect(next.causes[0]).toContain(message);
    expect(next.causes[0]).toMatch(/memory:world .*\/data/s);
    expect(next.database.history).toHaveLength(2);
    await expect(next.writer.drain(world.log.end())).rejects.toMatchObject({ code: 'ERR_STORE_REFUSED' });
  });

  test('that another writer has moved stops this one', async () => {
    const zombie = await new World().run();
    zombie.log.append(set('a', 'old'));
    await zombie.run();
    // A copy of the log that goes its own way.
    const copy = new WorldLog();
    copy.entries.push(...zombie.log.entries);
    copy.takeOver();
    copy.append(set('a', 'new'));
    const other = await new World(copy, zombie.database).run();
    expect(other.rows).toEqual({ a: 'new' });
    zombie.log.append(set('a', 'older'), set('z', 'zombie'));
    await zombie.run(120_000);
    expect(zombie.rows).toEqual({ a: 'new' });
    expect(zombie.states).toEqual(['writing', 'refused']);
    expect(zombie.causes).toEqual([expect.stringContaining('a copy of the log')]);
  });

  test('that disappears with its database stops the writer', async () => {
    const world = await new World().run();
    world.log.append(set('a', '1'));
    await world.run();
    world.database.cursors = [];
    world.log.append(set('a', '3'));
    await world.run(60_000);
    expect(world.causes).toEqual([expect.stringContaining('has no cursor')]);
    expect(world.rows).toEqual({ a: '1' });
  });
});

describe('a database that goes back to an earlier state', () => {
  // It has had a = 1, 2, 3 and b = 1, and has only the first of these. The answer puts it back.
  async function written(retainMs = 600_000): Promise<{ world: World; putBack: () => void }> {
    const world = new World();
    world.retainMs = retainMs;
    await world.run();
    world.log.append(set('a', '1'));
    await world.run();
    const putBack = world.database.backUp();
    world.log.append(set('a', '2'));
    world.log.append(set('b', '1'));
    await world.run();
    world.log.append(set('a', '3'));
    await world.run();
    return { world, putBack };
  }

  test('is healed also where the last of what it had changed no row', async () => {
    const world = new World();
    world.limits = { ...world.limits, rows: 2 };
    await world.run();
    world.log.append(set('z', '0'));
    await world.run();
    const putBack = world.database.backUp();
    world.log.append(set('a', '1'));
    await world.run();
    // One batch, which ends behind the clear.
    world.log.append(set('b', '1'));
    world.log.append({ kind: 'clear' });
    await world.run();
    const { reached } = world.writer;
    expect(reached).toEqual([world.log.end()]);
    putBack();
    world.writer.doubt();
    await world.run(60_000);
    expect([world.writer.isHealing, world.writer.confirmed]).toEqual([false, ...reached]);
    expect(world.rows).toEqual({ z: '0', a: '1', b: '1' });
  });

  test('gets what it lacks from the log, and what comes meanwhile; drain waits for all of it', async () => {
    const { world, putBack } = await written();
    putBack();
    const from = world.database.cursors[0]!.position;
    const before = world.log.end();
    const { end } = world.log.append(set('c', '1'));
    const drained = world.writer.drain(before).then(() => 'drained');
    await world.run(10_000);
    expect(await drained).toBe('drained');
    expect(world.rows).toEqual({ a: '3', b: '1', c: '1' });
    expect(world.database.history).toHaveLength(new Set(world.database.history).size);
    expect(world.states).toEqual(['writing', 'healing', 'writing']);
    expect(world.told).toEqual([`healing ${before - from}`, 'healed']);
    expect([world.writer.confirmed, world.writer.reached, world.writer.isHealing]).toEqual([end, [end], false]);
  });

  test('is found out also if nothing is to be written, and at once if there is a doubt', async () => {
    const { world, putBack } = await written();
    putBack();
    await world.run(LOOK_MS);
    await world.run();
    expect(world.rows).toEqual({ a: '3', b: '1' });
    putBack();
    world.writer.doubt();
    await world.run(100);
    expect(world.rows).toEqual({ a: '3', b: '1' });
    expect(world.told).toHaveLength(4);
  });

  test('again before it is healed is healed from there', async () => {
    const { world, putBack } = await written();
    world.limits = { rows: 1, bytes: 1, delayMs: 0 };
    const slow = new World(world.log, world.database);
    await world.close();
    slow.limits = { rows: 1, bytes: 1, delayMs: 0 };
    slow.callMs = 100;
    putBack();
    await slow.run(250);
    expect(slow.writer.isHealing).toBe(true);
    putBack();
    await slow.run(LOOK_MS);
    expect(slow.rows).toEqual({ a: '3', b: '1' });
    expect(slow.database.history).toHaveLength(new Set(slow.database.history).size);
  });

  test('and the cache ends meanwhile: the log owes it from there to the next writer, which heals it', async () => {
    const { world, putBack } = await written();
    putBack();
    world.fault = (call) => (call === 'write' ? 'before' : undefined);
    const { position } = world.database.cursors[0]!;
    await world.run(LOOK_MS + 1000);
    expect(world.log.confirmed).toBe(position);
    await world.close();
    expect(world.log.confirmed).toBe(position);
    world.log.takeOver();
    const next = await new World(world.log, world.database).run();
    expect(next.rows).toEqual({ a: '3', b: '1' });
    expect(next.writer.state).toBe('writing');
  });

  test('while the thread of the writer is restarted is healed by the next one, though the log had not noted all', async () => {
    const { world, putBack } = await written();
    world.log.confirmed = 0n;
    putBack();
    const next = new World(world.log, world.database);
    next.reached = world.reached;
    expect(next.writer.reached).toEqual([world.log.end()]);
    await next.run();
    expect(next.told).toEqual([expect.stringMatching(/^healing [1-9]/), 'healed']);
    expect(next.rows).toEqual({ a: '3', b: '1' });
  });

  test('further than the log goes is refused by name, and nothing is written', async () => {
    const { world, putBack } = await written();
    putBack();
    world.log.begin = world.log.entries[1]!.end;
    const drained = world.writer.drain(world.log.append(set('a', '4')).end);
    const outcome = drained.catch(({ code, message }) => [code, message]);
    await world.run(60_000);
    expect(await outcome).toEqual([
      'ERR_STORE_REFUSED',
      expect.stringMatching(/^memory:world has gone back .* written up to \d+ and is kept from \d+ on/),
    ]);
    expect(world.rows).toEqual({ a: '1' });
  });

  test('further than the log goes by the time it is read is refused, too', async () => {
    const { world, putBack } = await written();
    putBack();
    world.log.keepHistory = async () => {};
    const { goBack } = world.log;
    world.log.goBack = async (position) => {
      world.log.begin = world.log.entries[1]!.end;
      await goBack.call(world.log, position);
    };
    world.log.append(set('a', '4'));
    await world.run(60_000);
    expect(world.writer.state).toBe('refused');
    expect(world.rows).toEqual({ a: '1' });
  });

  test('gets a record that lies in the log twice once, though the first copy is before where it goes back to', async () => {
    const world = await new World().run();
    const first = world.log.append(set('a', '1'));
    await world.run();
    await world.run(LOOK_MS);
    world.log.append(set('a', '2'));
    await world.run();
    const putBack = world.database.backUp();
    world.log.appendAgain(first);
    world.log.append(set('b', '1'));
    await world.run();
    putBack();
    await world.run(2 * LOOK_MS);
    expect(world.rows).toEqual({ a: '2', b: '1' });
  });

  test('is not healed of what it had before the history that is kept', async () => {
    const { world } = await written(0);
    await world.run(120_000);
    expect(world.log.history).toBeUndefined();
    expect(world.writer.history).toEqual({ ms: 0, bytes: 0 });
  });
});

describe('history', () => {
  // A change every second, for this time.
  async function live(world: World, ms: number): Promise<void> {
    for (let i = 0; i < ms / 1000; i++) {
      world.log.append(set('a', `${i}`));
      await world.run(1000);
    }
  }
  const entryAt = (world: World, secondsAgo: number) => world.log.entries.at(-1 - secondsAgo)!.end;

  test('begins where the database was as long ago as is kept, or little before', async () => {
    const world = new World();
    world.retainMs = 80_000;
    await live(world, 400_000);
    expect(world.log.history).toBeLessThanOrEqual(entryAt(world, 80));
    expect(world.log.history).toBeGreaterThan(entryAt(world, 80 + 25));
    expect(world.writer.history.ms).toBeGreaterThanOrEqual(80_000);
    expect(world.writer.history.bytes).toBe(Number(world.log.end() - world.log.history!));
  });

  test('does not age while the database is away', async () => {
    const world = new World();
    world.retainMs = 80_000;
    await live(world, 200_000);
    const { history } = world.log;
    world.fault = () => 'before';
    await live(world, 600_000);
    expect(world.log.history).toBe(history);
  });

  test('is not shortened by a restart', async () => {
    const world = new World();
    world.retainMs = 80_000;
    await live(world, 200_000);
    const { history } = world.log;
    await world.close();
    const next = new World(world.log, world.database);
    next.retainMs = 80_000;
    await live(next, 70_000);
    expect(world.log.history).toBe(history);
    await live(next, 30_000);
    expect(world.log.history).toBeGreaterThan(history!);
  });

  test('that the log has no room for is told once, until all is kept again', async () => {
    const world = new World();
    world.retainMs = 80_000;
    await live(world, 200_000);
    for (let i = 0; i < 3; i++) {
      world.log.history = entryAt(world, 10);
      world.log.begin = world.log.history;
      await live(world, 20_000);
    }
    expect(world.told).toEqual([expect.stringMatching(/^short \d+$/)]);
    expect(Number(world.told[0]!.slice(6))).toBeLessThan(60_000);
    await live(world, 120_000);
    world.log.history = entryAt(world, 10);
    world.log.begin = world.log.history;
    await live(world, 20_000);
    expect(world.told).toHaveLength(2);
  });
});

test('a cursor that the thread before has moved further is where the writer goes on', async () => {
  const world = await new World().run();
  const before = await new World(world.log, world.database).run();
  before.callMs = 1;
  world.callMs = 1;
  // Both write the same entries at the same time; each entry has its effects once.
  for (let i = 0; i < 20; i++) {
    world.log.append(set(`key-${i}`, '1'), set('a', `${i}`));
    await world.run(i % 3 === 0 ? 50 : 5);
    await before.run(i % 2 === 0 ? 50 : 5);
  }
  await world.run();
  await before.run();
  expect(world.rows).toMatchObject({ a: '19', 'key-0': '1', 'key-19': '1' });
  expect(world.database.history).toHaveLength(new Set(world.database.history).size);
  expect([world.writer.state, before.writer.state]).toEqual(['writing', 'writing']);
});

describe('a change that the database refuses for good', () => {
  function refusing(world: World): World {
    world.database.refused.add('bad');
    world.marks = {
      ...noMarks,
      collect: (_, versions) => versions ?? new BigUint64Array(1),
      refuse: ({ change, error }) => world.told.push(`${error.message} ${change.key}`),
      raise: () => world.told.push('raised'),
      raiseBetween: (from, to) => world.told.push(`raised from ${from} to ${to}`),
    };
    return world;
  }

  test.each([
    ['is a dead letter', false, undefined],
    ['is found as one if COMMIT was not answered', false, 'after'],
    ['is kept nowhere in a mode that keeps none', true, undefined],
    ['is kept nowhere then if COMMIT was not answered, either', true, 'after'],
  ] as const)('%s, and memory is told of it before the mark', async (_, dropsRefused, fault) => {
    const world = refusing(new World());
    world.dropsRefused = dropsRefused;
    world.failNext('write', fault);
    world.log.append(set('bad', '1'), set('good', '1'));
    await world.run();
    expect(world.rows).toEqual({ good: '1' });
    expect(world.told).toEqual(['refused bad', 'raised']);
    expect(world.batches.map(({ deadLetters }) => deadLetters.length)).toEqual([1]);
    expect(world.database.letters.map(({ change }) => change.key.toString())).toEqual(dropsRefused ? [] : ['bad']);
  });

  test('is told by the next thread if the one that wrote it has died before', async () => {
    const first = new World();
    first.database.refused.add('bad');
    const { end } = first.log.append(set('bad', '1'), set('good', '1'));
    await first.run();
    await first.close();
    // It had noted nothing.
    first.log.confirmed = 0n;
    const next = refusing(new World(first.log, first.database));
    next.dropsRefused = true;
    await next.run();
    expect(next.told).toEqual(['refused bad', `raised from 0 to ${end}`]);
    expect(next.database.letters).toEqual([]);
  });
});

test('a change that a caller waits for does not wait for the delay', async () => {
  const world = new World();
  let isWanted = false;
  world.marks = { ...noMarks, isWanted: () => isWanted };
  world.limits = { ...world.limits, delayMs: 3_600_000 };
  world.log.append(set('a', '1'));
  await world.run(60_000);
  expect(world.rows).toEqual({});
  isWanted = true;
  world.writer.hurry();
  await world.run(10);
  expect(world.rows).toEqual({ a: '1' });
});

test('records that the log has lost are not passed over: what is before them is written, and it halts', async () => {
  const world = new World();
  world.log.append(set('a', '1'));
  world.log.lose(3);
  world.log.append(set('b', '1'));
  await world.run(120_000);
  expect(world.rows).toEqual({ a: '1' });
  expect(world.writer.state).toBe('halted');
  expect(world.causes.at(-1)).toContain('3 records of the log in /data');
});

describe('pause', () => {
  test('writes nothing until resume', async () => {
    const world = await new World().run();
    world.writer.pause();
    world.log.append(set('a', '1'));
    await world.run(60_000);
    expect(world.rows).toEqual({});
    expect(world.writer.state).toBe('paused');
    world.writer.resume();
    await world.run();
    expect(world.rows).toEqual({ a: '1' });
    expect(world.states).toEqual(['writing', 'paused', 'writing']);
  });

  test('before the database has answered counts too', async () => {
    const world = new World();
    world.writer.pause();
    world.log.append(set('a', '1'));
    await world.run(60_000);
    expect([world.rows, world.writer.state]).toEqual([{}, 'paused']);
  });
});

describe('drain', () => {
  test('does not wait for the delay', async () => {
    const world = new World();
    world.limits = { rows: 100, bytes: 2 ** 20, delayMs: 3_600_000 };
    await world.run();
    const { end } = world.log.append(set('a', '1'));
    const drained = world.writer.drain(end);
    await world.run(100);
    await drained;
    expect(world.rows).toEqual({ a: '1' });
  });

  test('resolves at once if there is nothing to write', async () => {
    const world = new World();
    world.log.takeOver();
    world.log.append({ kind: 'clear' });
    await world.run();
    await world.writer.drain(world.log.end());
    expect(world.database.batchSizes).toEqual([]);
  });

  test('waits for a database that is away', async () => {
    const world = await new World().run();
    world.fault = () => 'before';
    let isDrained = false;
    const drained = world.writer.drain(world.log.append(set('a', '1')).end).then(() => {
      isDrained = true;
    });
    await world.run(60_000);
    expect(isDrained).toBe(false);
    world.fault = () => undefined;
    await world.run(20_000);
    await drained;
    expect(world.rows).toEqual({ a: '1' });
  });

  test('ends when its caller does not wait any more', async () => {
    const world = await new World().run();
    world.fault = () => 'before';
    const controller = new AbortController();
    const drained = world.writer.drain(world.log.append(set('a', '1')).end, controller.signal);
    const outcome = drained.catch((error) => error);
    await world.run(1000);
    controller.abort(new Error('too long'));
    expect(await outcome).toEqual(new Error('too long'));
    world.fault = () => undefined;
    await world.run(20_000);
    expect(world.rows).toEqual({ a: '1' });
  });
});

describe('close', () => {
  test('writes what the log has, and notes in the log how far it is', async () => {
    const world = new World();
    world.limits = { rows: 100, bytes: 2 ** 20, delayMs: 3_600_000 };
    await world.run();
    world.log.append(set('a', '1'));
    const closed = world.writer.close(10_000);
    await world.run();
    await closed;
    expect(world.rows).toEqual({ a: '1' });
    expect(world.log.confirmed).toBe(world.log.end());
    expect(world.backends.map(({ isClosed }) => isClosed)).toEqual([true]);
    expect(world.writer.state).toBe('closed');
  });

  test('leaves the rest to the next start when the time is over', async () => {
    const world = await new World().run();
    world.fault = () => 'before';
    world.log.append(set('a', '1'));
    const closed = world.writer.close(2000);
    await world.run(10_000);
    await closed;
    expect(world.rows).toEqual({});
    const next = await new World(world.log, world.database).run();
    expect(next.rows).toEqual({ a: '1' });
  });

  test('does not wait for a call that hangs', async () => {
    const world = await new World().run();
    world.fault = () => 'hangs';
    world.log.append(set('a', '1'));
    const closed = world.writer.close(1000);
    await world.run(4000);
    await closed;
    expect(world.writer.state).toBe('closed');
  });

  test('twice is once, and drain says that it is closed', async () => {
    const world = await new World().run();
    const first = world.writer.close(0);
    expect(world.writer.close(0)).toBe(first);
    await world.run(5000);
    await first;
    const { end } = world.log.append(set('a', '1'));
    await expect(world.writer.drain(end)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  });
});
