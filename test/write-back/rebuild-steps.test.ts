// The batches of a rebuild, with a database whose calls fail as the test says, and a clock that the test moves.

import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { WriteBatch } from '../../src/backend/index.ts';
import { EmbeddedLog, lockedByCaller } from '../../src/log/index.ts';
import type { Rule } from '../../src/rules/index.ts';
import { historyOf, STORE_CURSOR } from '../../src/write-back/message.ts';
import { type RebuildProgress, type Rebuilt, rebuild } from '../../src/write-back/rebuild.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { makeRecord, type RecordParts } from '../support/records.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { type Fault, WorldBackend, WorldDatabase } from '../support/writer-world.ts';

const directories = new DataDirectories('rebuild-steps');
/** More than one batch. */
const KEYS = 1500;

let clock: VirtualClock;
let database: WorldDatabase;
let directory: string;
let fault: (call: 'open' | 'readCursors' | 'write', batch?: WriteBatch) => Fault | undefined;
let logs: EmbeddedLog[];

// A log whose first records are gone, with a snapshot; the database has nothing.
beforeEach(() => {
  clock = new VirtualClock();
  database = new WorldDatabase();
  directory = directories.fresh();
  fault = () => undefined;
  logs = [];
  const log = EmbeddedLog.open({ directory, lockDirectory: lockedByCaller, segmentBytes: 8192, sync: 'none' });
  let counter = 0;
  const appendRecord = (record: Buffer): void => {
    log.append({ records: [record], recordCount: 1, epoch: log.epoch, expectPosition: log.end });
  };
  const append = (parts: RecordParts): void =>
    appendRecord(makeRecord({ ...parts, epoch: log.epoch, counter: ++counter }));
  for (let i = 0; i < 200; i++) append({ kind: 'set', key: `gone:${i}`, value: 'v'.repeat(100) });
  log.sync();
  const { committed, recordsBefore, epoch } = log;
  const snapshot = log.snapshots.begin({ position: committed, recordsBefore, epoch });
  for (let i = 0; i < KEYS; i++) {
    const record = makeRecord({ kind: 'set', key: `key:${i}`, value: 'old', epoch, counter: ++counter });
    snapshot.add(record, 1);
  }
  const steps = snapshot.finish(log.durable, epoch);
  while (!steps.next().done);
  for (let i = 0; i < KEYS; i += 2) append({ kind: 'set', key: `key:${i}`, value: 'new' });
  append({ kind: 'delete', key: 'key:3' });
  const early = makeRecord({ kind: 'set', key: 'key:5', value: 'early', epoch, counter: ++counter });
  appendRecord(early);
  append({ kind: 'set', key: 'key:5', value: 'late' });
  // As a scribe does that is started again.
  appendRecord(early);
  append({ kind: 'set', key: 'n:1', value: '7', delta: 2n });
  append({ kind: 'set', key: 'n:1', value: '8', delta: 1n });
  log.sync();
  log.cursor(STORE_CURSOR).advance(committed);
  log.truncate(committed);
  expect(log.oldestReadable).toBeGreaterThan(0n);
  log.close();
});

afterEach(() => {
  for (const log of logs) log.close();
});

/** Begins a rebuild from a directory. */
function begin(from = directory, onProgress: (progress: RebuildProgress) => void = () => {}): Promise<Rebuilt> {
  const log = EmbeddedLog.look({ directory: from, lockDirectory: lockedByCaller, segmentBytes: 8192 });
  logs.push(log);
  const connect = async (): Promise<WorldBackend> => {
    const backend = new WorldBackend(database, clock);
    backend.fault = (call, batch) => fault(call, batch);
    return backend;
  };
  const rules: Rule[] = [{ prefix: 'n:', skip: false, deleteOnExpire: true, counter: true }];
  return rebuild({ log, connect, rules, onProgress, clock });
}

/** Lets time pass until all have ended. */
async function ended<T>(...runs: Promise<T>[]): Promise<PromiseSettledResult<T>[]> {
  let results: PromiseSettledResult<T>[] | undefined;
  void Promise.allSettled(runs).then((all) => {
    results = all;
  });
  while (results === undefined) await clock.advance(1000);
  return results;
}

/** What the rows are then. */
function expectWhole(): void {
  const expected = new Map<string, string>([['n:1', '8']]);
  for (let i = 0; i < KEYS; i++) expected.set(`key:${i}`, i % 2 === 0 ? 'new' : 'old');
  expected.delete('key:3');
  expected.set('key:5', 'late');
  const found = [...database.rows].filter(([key]) => !key.startsWith('gone:')).map(([key, { value }]) => [key, value]);
  expect(new Map(found as [string, string][])).toEqual(expected);
}

test('the rows are what the log has, and of a counter the value that the cache saw, as often as it is done', async () => {
  const kinds = new Set<string>();
  database.onCommit = ({ changes }) => {
    for (const { kind } of changes) kinds.add(kind);
  };
  const back = database.backUp();
  await ended(begin());
  expectWhole();
  // The log says that the database lacks nothing.
  const [log] = logs;
  for (const name of [STORE_CURSOR, historyOf(STORE_CURSOR)])
    expect(log!.cursors().get(name)).toBe(database.cursors[0]!.position);
  expect(database.cursors[0]!.position).toBe(log!.committed);
  const { rows } = database;
  back();
  database.rows = rows;
  const [again] = await ended(begin());
  expect(again).toMatchObject({ status: 'fulfilled', value: { hasCounters: true, hasHistory: false } });
  expectWhole();
  expect([...kinds].sort()).toEqual(['delete', 'set']);
});

describe('a call of the database that fails', () => {
  test('with its effect or without it, is found out, and nothing is counted twice', async () => {
    const [plain] = await ended(begin());
    const { rows } = (plain as PromiseFulfilledResult<Rebuilt>).value;
    for (const kind of ['before', 'after', 'hangs'] as const) {
      database = new WorldDatabase();
      const seen = new Map<unknown, number>();
      // Each batch and each question fails once.
      fault = (call, batch) => {
        const what = batch ?? call;
        const count = seen.get(what) ?? 0;
        seen.set(what, count + 1);
        return count === 0 ? kind : undefined;
      };
      const [result] = await ended(begin());
      expect(result, kind).toMatchObject({ status: 'fulfilled', value: { rows, deadLetters: 0 } });
      expect(new Set(database.history).size).toBe(database.history.length);
      expectWhole();
    }
  });

  test('ten times in a row ends the command, and one that only a person can mend ends it at once', async () => {
    for (const [kind, times] of [
      ['before', 10],
      ['halt', 1],
    ] as const) {
      let count = 0;
      fault = (call) => {
        if (call !== 'write') return undefined;
        count++;
        return kind;
      };
      const [result] = await ended(begin());
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { message: expect.stringMatching(/connection|table/) },
      });
      expect(count, kind).toBe(times);
    }
    expect(database.cursors).toEqual([]);
  });
});

test('of two at the same time, from copies of one directory, one is refused', async () => {
  const copy = directories.fresh();
  cpSync(directory, copy, { recursive: true });
  // The one that is first stops behind its first batch, where the other one finds it.
  let isStopped = false;
  fault = (_call, batch) => {
    if (batch?.from === undefined || isStopped) return undefined;
    isStopped = true;
    return 'before';
  };
  const batches = [0, 0];
  const results = await ended(...[directory, copy].map((from, i) => begin(from, () => batches[i]!++)));
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  const refused = results.find((each) => each.status === 'rejected') as PromiseRejectedResult;
  expect(refused.reason).toEqual(withCode('ERR_STORE_REFUSED', /written by another process/));
  // It has taken no batch of the other for its own.
  expect(batches[results.indexOf(refused)]).toBe(0);
  expectWhole();
});

test('a log that is damaged is refused, and neither it nor the database is changed', async () => {
  const segments = readdirSync(directory).filter((name) => name.endsWith('.log'));
  const damaged = join(directory, segments.sort().at(-3)!);
  const bytes = readFileSync(damaged);
  bytes[4000]! ^= 0xff;
  writeFileSync(damaged, bytes);
  const filesOf = (): unknown =>
    readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'latin1')]);
  const files = filesOf();
  const [result] = await ended(begin());
  expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ERR_LOG_CORRUPT' } });
  expect([database.cursors, database.rows.size]).toEqual([[], 0]);
  expect(filesOf()).toEqual(files);
});
