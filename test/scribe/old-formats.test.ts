// A cache opens directories that programs of format 1 and 2 have written, and goes on in them. What is in the cache
// must not change by that, wherever the opening is cut off, and whatever recovery has to begin with; and no version
// that a client holds from before means anything any more.

import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { BATCH_HEADER_BYTES } from '../../src/log/format.ts';
import { EmbeddedLog, FORMAT_VERSION, lockedByCaller, survey } from '../../src/log/index.ts';
import { epochOf } from '../../src/request/record.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { FaultyDisk, PowerCut } from '../support/faulty-files.ts';
import { age, aged, appendOld, COUNTER } from '../support/old-formats.ts';
import { ProcessOnDisk } from '../support/process-on-disk.ts';
import { Random } from '../support/random.ts';
import { makeRecord, type RecordParts } from '../support/records.ts';

const data = new DataDirectories('old-formats');
const set = (key: string, value: string): RecordParts => ({ kind: 'set', key, value });
const damage = (directory: string) =>
  survey(directory, { isDeep: true }).problems.filter(({ kind }) => kind === 'damage');

test.each([1, 2])(
  'a batch that a process of format %i may not have synced is written again in that format',
  (version) => {
    const directory = data.fresh();
    appendOld(directory, 700, [set('a', '1')]);
    age(directory, version);
    const path = join(directory, '000000000001.log');
    // Without the mark of its end, as after a crash.
    truncateSync(path, readFileSync(path).length - BATCH_HEADER_BYTES);
    EmbeddedLog.open({ directory, lockDirectory: lockedByCaller }).close();
    const { segments, problems } = survey(directory, { isDeep: true });
    expect(problems.filter(({ kind }) => kind !== 'note')).toEqual([]);
    const formats = segments.map(({ header, scan }) => [header.formatVersion, scan.recordCount]);
    expect(formats).toEqual([
      [version, 0],
      [version, 1],
      [FORMAT_VERSION, 0],
    ]);
  },
);

// What the formats have in common, written in each: sets, deletes, touches, clears, several openings, a touch that
// gives what had an expiry none. Only versions and what they mean differ.
test('the same changes in each format come to the same cache', async () => {
  const far = Date.now() + 9e8;
  const lives: RecordParts[][] = [
    [set('cleared', '1'), set('too', '2'), { kind: 'delete', key: 'never there' }],
    [{ kind: 'clear' }, set('kept', '3'), { ...set('forever', '4'), expiresWallMs: 1 }, set('gone', '5')],
    [
      { kind: 'touch', key: 'forever' },
      { kind: 'touch', key: 'kept', expiresWallMs: far },
      { kind: 'delete', key: 'gone' },
      { ...set('flagged', '6'), clientFlags: 7 },
    ],
  ];
  const states: unknown[] = [];
  for (const version of [1, 2, FORMAT_VERSION]) {
    const directory = data.fresh();
    for (const [life, parts] of lives.entries()) {
      const epoch = 2 + 2 * life;
      if (version < 3) {
        appendOld(directory, epoch, parts);
        continue;
      }
      const log = EmbeddedLog.open({ directory, lockDirectory: lockedByCaller });
      const records = parts.map((part, i) =>
        makeRecord({ codec: part.kind === 'set' ? 1 : 0, epoch: log.epoch, counter: COUNTER + i, ...part }),
      );
      log.append({ records, recordCount: records.length, epoch: log.epoch, expectPosition: log.end });
      log.close();
    }
    if (version < 3) age(directory, version);
    expect(damage(directory)).toEqual([]);
    for (let opening = 0; opening < 2; opening++) {
      const cache = await data.open<string>(directory);
      const infos = [...cache].map(([key, value]) => {
        const { ttl, flags } = cache.info(key)!;
        const isFar = Math.abs(Date.now() + ttl - far) < 60_000;
        return [key, value, isFar ? 'far' : ttl, flags];
      });
      states.push(infos.sort());
      await cache.close();
    }
  }
  expect(states[0]).toEqual([
    ['flagged', '6', Number.POSITIVE_INFINITY, 7],
    ['forever', '4', Number.POSITIVE_INFINITY, 0],
    ['kept', '3', 'far', 0],
  ]);
  for (const state of states) expect(state).toEqual(states[0]);
});

describe('a directory of format 2', () => {
  test('is recovered, and written in format 3 from there on', async () => {
    const directory = data.fresh();
    appendOld(directory, 700, [
      set('a', 'first'),
      set('b', 'second'),
      { kind: 'clearAt', expiresWallMs: Date.now() + 9e8 },
    ]);
    age(directory);
    const cache = await data.open(directory);
    expect(Object.fromEntries(cache)).toEqual({ a: 'first', b: 'second' });
    expect(cache.cas('a', 'mistaken', (700n << 44n) + BigInt(COUNTER))).toBe('exists');
    const { cas } = cache.getWithCas('a')!;
    expect(epochOf(cas)).toBe(0);
    expect(cache.cas('a', 'changed', cas)).toBe('stored');
    expect(epochOf(cache.getWithCas('a')!.cas)).toBe(702);
    await cache.sync();
    await data.crash(cache);
    // The log has both formats now; with each opening it is read the same way.
    for (let life = 2; life < 5; life++) {
      const again = await data.open(directory, { snapshot: { atClose: life === 3 } });
      expect(Object.fromEntries(again)).toEqual({ a: 'changed', b: 'second' });
      again.set('c', life);
      expect(epochOf(again.getWithCas('c')!.cas)).toBe(700 + 2 * life);
      again.delete('c');
      await again.close();
      expect(damage(directory)).toEqual([]);
    }
  });

  test('has clears that take what is of a lower epoch, and nothing else', async () => {
    const directory = data.fresh();
    // Of a shard that was cleared a moment later than the first, and whose counter is lower.
    appendOld(directory, 6, [
      set('gone', 'before'),
      { kind: 'clear', counter: 900_000 },
      { ...set('kept', 'behind'), counter: 5 },
    ]);
    const log = readdirSync(directory).filter((name) => name.endsWith('.log'));
    // The first record is of the epoch before.
    for (const name of log) {
      const bytes = readFileSync(join(directory, name));
      const at = bytes.indexOf('gone') - 40;
      if (at < 0) continue;
      bytes.writeBigUInt64LE((5n << 44n) + 950_000n, at + 8);
      const batch = at - 64;
      bytes.writeUInt32LE(crc32(bytes.subarray(at, at + bytes.readUInt32LE(batch + 4))), batch + 56);
      bytes.writeUInt32LE(crc32(bytes.subarray(batch, batch + 60)), batch + 60);
      writeFileSync(join(directory, name), bytes);
    }
    age(directory);
    const cache = await data.open(directory);
    expect(Object.fromEntries(cache)).toEqual({ kept: 'behind' });
    cache.clear();
    cache.set('new', 'value');
    await cache.close();
    const again = await data.open(directory);
    expect(Object.fromEntries(again)).toEqual({ new: 'value' });
    await again.close();
  });

  test('is recovered where its epochs have begun anew', async () => {
    const directory = data.fresh();
    const generation = 2 ** 20;
    appendOld(directory, generation - 1, [set('a', 'old'), set('b', 'old'), set('c', 'old')]);
    appendOld(directory, generation + 3, [set('a', 'newer'), { kind: 'delete', key: 'b' }]);
    appendOld(directory, 2 * generation + 1, [set('d', 'newest')]);
    age(directory);
    const cache = await data.open(directory);
    expect(Object.fromEntries(cache)).toEqual({ a: 'newer', c: 'old', d: 'newest' });
    cache.set('a', 'last');
    expect(epochOf(cache.getWithCas('a')!.cas)).toBe(2 * generation + 3);
    await cache.close();
    const again = await data.open(directory);
    expect(Object.fromEntries(again)).toEqual({ a: 'last', c: 'old', d: 'newest' });
    await again.close();
  });

  test('is recovered from an old snapshot and the log of both formats, if the new one is damaged', async () => {
    const directory = data.fresh();
    let cache = await data.open(directory);
    for (const key of ['a', 'deleted', 'cleared', 'kept']) cache.set(key, 'old');
    await cache.close();
    age(directory);
    cache = await data.open(directory, { snapshot: { atClose: false } });
    cache.set('a', 'new');
    cache.delete('deleted');
    await cache.snapshot();
    cache.clear();
    cache.set('kept', 'new');
    await cache.close();
    const newest = readdirSync(directory)
      .filter((name) => name.endsWith('.snapshot'))
      .sort()
      .at(-1)!;
    const bytes = readFileSync(join(directory, newest));
    bytes[bytes.length - 60]! ^= 1;
    writeFileSync(join(directory, newest), bytes);
    const again = await data.open(directory);
    expect(again.recovery?.unusable).toHaveLength(1);
    expect(Object.fromEntries(again)).toEqual({ kept: 'new' });
    await again.close();
  });
});

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

function lifeOn(disk: FaultyDisk): ProcessOnDisk {
  const life = new ProcessOnDisk(disk, { segmentBytes: 2 ** 16 });
  ends.push(() => life.end());
  return life;
}

test('an opening that is cut off anywhere goes on with the old directory or with the new segment', () => {
  const before = new FaultyDisk(new Random());
  appendOld('/data', 700, [set('a', 'first'), set('b', 'second')], before.files());
  const image = new Map(
    [...before.image()].map(([path, bytes]) => [path, path.endsWith('.log') ? aged(bytes) : bytes]),
  );
  let cuts = 0;
  for (let isOver = false; !isOver; cuts++) {
    const disk = FaultyDisk.of(image, new Random(cuts));
    disk.fate = ({ index }) => (index === cuts ? 'cut' : 'ok');
    try {
      const life = lifeOn(disk);
      life.end();
      isOver = true;
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
    }
    disk.restart();
    disk.fate = () => 'ok';
    // Then it works, and what is written goes on from there.
    const second = lifeOn(disk);
    expect(Object.fromEntries(second.cache), `cut at ${cuts}`).toEqual({ a: 'first', b: 'second' });
    second.cache.set('b', 'third');
    second.cache.delete('a');
    second.turn();
    second.end();
    disk.kill();
    const third = lifeOn(disk);
    expect(Object.fromEntries(third.cache), `cut at ${cuts}`).toEqual({ b: 'third' });
    third.end();
  }
  expect(cuts).toBeGreaterThan(8);
});
