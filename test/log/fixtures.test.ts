// Logs that earlier versions have written, kept forever: every version to come has to open, recover and continue each
// of them. fixtures/v1 and v2 were written by those versions, as makeLog() has it except for what they did not know;
// fixtures/v3 by makeLog(). As long as 3 is the version that is written, makeLog() has to give the same bytes again, so
// that the format does not change by accident. A new version gets its own folder, written once with
// CAIRN_WRITE_FIXTURES=1; existing folders are not touched.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { FORMAT_VERSION } from '../../src/log/format.ts';
import { describeSurvey, recover, survey } from '../../src/log/index.ts';
import { RecordReader } from '../../src/request/record.ts';
import { FaultyDisk } from '../support/faulty-files.ts';
import { appendNow, DIRECTORY, keysIn, keysOf, LogDisk } from '../support/logs.ts';
import { Random } from '../support/random.ts';
import { makeRecord } from '../support/records.ts';

const folder = fileURLToPath(new URL('./fixtures', import.meta.url));

/** Segments that were filled, left by a crash, abandoned after an error, and closed; two snapshots; cursors. */
function makeLog(): Map<string, Buffer> {
  const disk = new LogDisk();
  let log = disk.open({ segmentBytes: 4096 });
  // Keeps everything.
  log.cursor('archive').advance(0n);
  for (let i = 0; i < 8; i++) {
    disk.nowMs += 1000;
    appendNow(log, `filled ${i}`, { count: 2, valueBytes: 300 });
  }
  const snapshot = (...keys: string[]): void => {
    const writer = log.snapshots.begin({
      position: log.committed,
      recordsBefore: log.recordsBefore,
      epoch: log.epoch,
    });
    for (const key of keys) writer.add(makeRecord({ kind: 'set', key, value: 'snapshot', epoch: 1 }), 1);
    const steps = writer.finish(log.durable, log.epoch);
    while (!steps.next().done);
    log.reclaim();
  };
  snapshot('s1', 's2');
  // A crash.
  disk.disk.kill();
  disk.nowMs += 60_000;
  log = disk.open({ segmentBytes: 4096, sync: 'none' });
  log.cursor('write-back').advance(appendNow(log, 'second life').end);
  // An error of the disk.
  let isFailing = true;
  disk.disk.fate = ({ kind }) => {
    if (kind !== 'sync' || !isFailing) return 'ok';
    isFailing = false;
    return 'EIO';
  };
  appendNow(log, 'written twice');
  log.sync();
  snapshot('s1', 's2', 's3');
  const batch = [
    makeRecord({ kind: 'set', key: 'a', value: 'value', epoch: 2, clientFlags: 5, codec: 1, expiresWallMs: 9e15 }),
    makeRecord({ kind: 'delete', key: 'b', epoch: 2, counter: 2 }),
    makeRecord({ kind: 'touch', key: 'c', epoch: 2, counter: 3, expiresWallMs: 1 }),
    makeRecord({ kind: 'clear', epoch: 5, counter: 1 }),
    makeRecord({ kind: 'clearAt', epoch: 5, counter: 2, expiresWallMs: 9e15 }),
  ];
  log.append({ records: batch, recordCount: 5, epoch: 5, expectPosition: log.end });
  log.cursor('change feed').advance(log.committed);
  log.close();
  return disk.disk.image();
}

/** The files of a version's folder, as a disk has them. */
function kept(version: number): Map<string, Buffer> {
  const path = join(folder, `v${version}`);
  return new Map(readdirSync(path).map((name) => [`${DIRECTORY}/${name}`, readFileSync(join(path, name))]));
}

const present = join(folder, `v${FORMAT_VERSION}`);
if (process.env['CAIRN_WRITE_FIXTURES'] === '1' && !existsSync(present)) {
  mkdirSync(present, { recursive: true });
  for (const [path, bytes] of makeLog()) writeFileSync(join(present, path.slice(DIRECTORY.length + 1)), bytes);
}

describe.each([1, 2, 3])('a log that version %i has written', (version) => {
  const open = (): LogDisk => new LogDisk(FaultyDisk.of(kept(version), new Random(1)));
  // Of its last batch.
  const last = version === 1 ? ['a', 'b', 'c', ''] : ['a', 'b', 'c', '', ''];

  test('is sound', () => {
    const found = survey(DIRECTORY, { files: open().disk.files(), isDeep: true });
    expect(found.problems).toEqual([]);
    expect(found.segments.map(({ name }) => name)).toEqual([
      '000000000001.log',
      '000000000002.log',
      '000000000003.log',
      '000000000004.log',
      '000000000005.log',
    ]);
  });

  test('is opened and read', () => {
    const disk = open();
    const log = disk.open();
    expect(keysIn(log)).toEqual([
      ...Array.from({ length: 8 }, (_, i) => [`filled ${i}.1`, `filled ${i}.2`]).flat(),
      'second life.1',
      'written twice.1',
      ...last,
    ]);
    expect(log.epoch).toBe(version < 3 ? 5 : 7);
    expect(disk.notices).toEqual([]);
    const feed = log.cursors().get('write-back')!;
    expect([...log.entries(feed)].flatMap(keysOf)).toEqual(['written twice.1', ...last]);
    expect(log.cursors().get('change feed')).toBeGreaterThan(feed);
  });

  test('is recovered from its newest snapshot', () => {
    const keys: string[] = [];
    const { snapshot } = recover({
      log: open().open(),
      apply(records, { source }) {
        const reader = new RecordReader(records);
        while (reader.next()) keys.push(`${source} ${reader.key}`);
      },
    });
    expect(snapshot?.number).toBe(2);
    expect(keys).toEqual(['snapshot s1', 'snapshot s2', 'snapshot s3', ...last.map((key) => `log ${key}`)]);
  });

  test('is continued', () => {
    const disk = open();
    const log = disk.open();
    appendNow(log, 'new');
    log.cursor('write-back').advance(log.committed);
    log.close();
    expect(keysIn(disk.open()).at(-1)).toBe('new.1');
  });

  test('says of what version it is, and of which if a newer one goes on with it', () => {
    const disk = open();
    const title = (): string => [...describeSurvey(survey(DIRECTORY, { files: disk.disk.files(), isDeep: false }))][0]!;
    expect(title()).toMatch(new RegExp(`^Log [0-9a-f]{16} in .*, format ${version}$`));
    disk.open();
    expect(title()).toMatch(version < 3 ? new RegExp(`, format ${version} and 3$`) : /, format 3$/);
  });

  test('has the bytes that are written now, if that is the version', () => {
    if (version !== FORMAT_VERSION) return;
    const now = makeLog();
    const then = kept(version);
    expect([...now.keys()].sort()).toEqual([...then.keys()].sort());
    for (const [path, bytes] of now) expect(bytes.equals(then.get(path)!), path).toBe(true);
  });
});
