// The writer of a cache that is not open yet, with a clock that the test moves: how long it waits for a database.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Cursor } from '../../src/backend/index.ts';
import { EmbeddedLog, LogReader, lockedByCaller } from '../../src/log/index.ts';
import type { RecoveryProgress } from '../../src/options/types.ts';
import { EarlyWriter, WAIT_MS } from '../../src/write-back/early-writer.ts';
import { laneOf } from '../../src/write-back/share.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { makeRecord } from '../support/records.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { type Fault, WorldBackend, WorldDatabase } from '../support/writer-world.ts';

const directories = new DataDirectories('early-writer');
const RECORDS = 20;

let clock: VirtualClock;
let database: WorldDatabase;
let log: EmbeddedLog;
let fault: Fault | undefined;
let callMs: number;
let progress: RecoveryProgress[];
let writer: EarlyWriter;
/** Of a cache that writes through. */
const mode = { dropsRefused: false };

beforeEach(() => {
  clock = new VirtualClock();
  database = new WorldDatabase();
  log = EmbeddedLog.open({ directory: directories.fresh(), lockDirectory: lockedByCaller });
  for (let counter = 1; counter <= RECORDS; counter++) {
    const record = makeRecord({ kind: 'set', key: `k${counter}`, value: 'v', epoch: log.epoch, counter });
    log.append({ records: [record], recordCount: 1, epoch: log.epoch, expectPosition: log.end });
  }
  [fault, callMs, progress] = [undefined, 1, []];
  mode.dropsRefused = false;
  writer = new EarlyWriter({
    connector: async () => async () => {
      const backend = new WorldBackend(database, clock);
      backend.fault = () => fault;
      backend.callMs = callMs;
      return backend;
    },
    store: 'default',
    options: {
      ...{ lanes: 1, limits: { rows: 1, bytes: 1000, delayMs: 50 }, rules: [], rowsPerSecond: 0, ackTimeoutMs: 0 },
      ...{ retainMs: 0, sweepRows: 0, syncsLog: false, slowdownMs: 0 },
      get dropsRefused() {
        return mode.dropsRefused;
      },
      loads: { timeoutMs: 1000, negativeMs: 1000, failsAsMiss: false },
      warmUp: undefined,
    },
    reached: new SharedArrayBuffer(8),
    clock,
    random: () => 0,
  });
});

afterEach(async () => {
  const closed = writer.close();
  await clock.advance(10_000);
  await closed;
  log.close();
});

const onProgress = (each: RecoveryProgress): unknown => progress.push(each);
const reach = (): Promise<void> => writer.reach(log, 0n, onProgress);

/** What a promise comes to while time passes. */
async function outcome(promise: Promise<void>, ms: number): Promise<unknown> {
  let end: unknown = 'open';
  promise.then(
    () => {
      end = 'done';
    },
    (error) => {
      end = error;
    },
  );
  // What the writer reads of files takes turns of the event loop, for which the clock does not wait.
  for (let passed = 0; passed < ms && end === 'open'; passed += 1000) {
    await clock.advance(Math.min(1000, ms - passed));
    await new Promise((resolve) => setImmediate(resolve));
  }
  return end;
}

test('a database with the cursors of other lanes, at different places, gets those of this cache', async () => {
  const ends = [...log.entries(0n)].filter(({ kind }) => kind === 'records').map(({ end }) => end);
  const cursorAt = (lane: number, end: bigint): Cursor => {
    const { epoch, writer } = new LogReader(log).stateAt(end)!;
    return { lane, laneCount: 2, logId: log.logId, position: end, epoch, writer, holderEpoch: 0, holderWriter: 0n };
  };
  // What the lane that is further has, the other one may lack.
  database.cursors = [cursorAt(0, ends[5]!), cursorAt(1, ends[11]!)];
  expect(await outcome(reach(), 20_000)).toBe('done');
  expect(await outcome(writer.write(ends[2]!, onProgress), 20_000)).toBe('done');
  expect(database.cursors).toMatchObject([{ lane: 0, laneCount: 1, position: ends[11] }]);
  expect(database.history.map((effect) => effect.split('@')[0])).toEqual(
    ['k7', 'k8', 'k9', 'k10', 'k11', 'k12'].filter((key) => laneOf(Buffer.from(key), 2) === 0),
  );
  expect(await outcome(writer.write(log.end, onProgress), 20_000)).toBe('done');
  expect(database.cursors).toMatchObject([{ laneCount: 1, position: ends.at(-1) }]);
});

describe('a database that does not answer', () => {
  test('is waited for, and then the opening is refused by name', async () => {
    fault = 'before';
    const reached = reach();
    expect(await outcome(reached, WAIT_MS - 1000)).toBe('open');
    const error = await outcome(reached, 2000);
    expect(error).toEqual(withCode('ERR_STORE_AWAY', /memory:world could not be written for 60 s: connection lost/));
    expect(progress.at(-1)!.problem).toBe('connection lost');
    expect(database.history).toEqual([]);
  });

  test('is waited for as long if only a person can mend it, and goes on when that is done', async () => {
    fault = 'halt';
    const reached = reach();
    expect(await outcome(reached, WAIT_MS - 1000)).toBe('open');
    fault = undefined;
    expect(await outcome(reached, 500)).toBe('open');
    fault = 'halt';
    expect(await outcome(reached, 1000)).toEqual(withCode('ERR_STORE_AWAY', /no such table/));
  });

  test('and comes back, gets everything up to the position, and nothing behind it', async () => {
    fault = 'before';
    const reached = reach();
    expect(await outcome(reached, 30_000)).toBe('open');
    fault = undefined;
    expect(await outcome(reached, 20_000)).toBe('done');
    const tenth = [...log.entries(0n)].filter(({ kind }) => kind === 'records')[9]!;
    expect(await outcome(writer.write(tenth.end, onProgress), 20_000)).toBe('done');
    expect(database.history).toHaveLength(10);
    expect(writer.written).toMatchObject({ records: 10, deadLetters: 0 });
    expect(await outcome(writer.write(log.end, onProgress), 20_000)).toBe('done');
    expect(database.history).toHaveLength(RECORDS);
    expect(progress.at(-1)).toMatchObject({ source: 'write-back', records: RECORDS });
  });
});

test('what the database refuses is kept for the writer of the open cache, which tells memory', async () => {
  mode.dropsRefused = true;
  database.refused.add('k3');
  expect(await outcome(reach(), 10_000)).toBe('done');
  expect(await outcome(writer.write(log.end, onProgress), 20_000)).toBe('done');
  expect(database.letters.map(({ change }) => change.key.toString())).toEqual(['k3']);
  expect(writer.written.deadLetters).toBe(1);
});

test('a slow database is waited for while it confirms something', async () => {
  expect(await outcome(reach(), 10_000)).toBe('done');
  const writing = writer.write(log.end, onProgress);
  callMs = WAIT_MS - 10_000;
  expect(await outcome(writing, RECORDS * WAIT_MS)).toBe('done');
});

test('a database that stops to answer in the middle is refused, and keeps what it has', async () => {
  expect(await outcome(reach(), 10_000)).toBe('done');
  const writing = writer.write(log.end, onProgress);
  fault = 'before';
  expect(await outcome(writing, WAIT_MS + 2000)).toEqual(withCode('ERR_STORE_AWAY', /connection lost/));
  expect(database.history.length).toBeLessThan(RECORDS);
});
