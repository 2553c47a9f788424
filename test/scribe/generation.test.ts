// When the epochs of a log are half used up, the next opening begins a new generation, in which versions count from the
// beginning again. What is in the cache must not change by that, wherever the opening is cut off, and whatever recovery
// has to begin with; and no version that somebody holds from before means anything any more.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { EmbeddedLog, type Files, lockedByCaller, survey } from '../../src/log/index.ts';
import { epochOf } from '../../src/request/record.ts';
import { DataDirectories, endThread, keeperOf } from '../support/data-directories.ts';
import { FaultyDisk, PowerCut } from '../support/faulty-files.ts';
import { ProcessOnDisk } from '../support/process-on-disk.ts';
import { Random } from '../support/random.ts';
import { makeRecord, type RecordParts } from '../support/records.ts';

const data = new DataDirectories('generation');
const HALF = 2 ** 19;
const COUNTER = 77;

/** Raises the epochs of a log as so many clears would, each with an entry behind it; the last of them is left. */
function raise(directory: string, epoch: number, records: RecordParts[] = [], files?: Files): void {
  const log = EmbeddedLog.open({ directory, lockDirectory: lockedByCaller, ...(files && { files }) });
  const batch = [{ kind: 'clear', epoch } as const, ...records].map((record, i) =>
    makeRecord({ counter: COUNTER + i, codec: record.kind === 'clear' ? 0 : 1, epoch, ...record }),
  );
  log.append({ records: batch, recordCount: batch.length, epoch, expectPosition: log.end });
  log.close();
}

const set = (key: string, value: string): RecordParts => ({ kind: 'set', key, value });

describe('a cache whose epochs are half used up', () => {
  test('has everything, and counts from the beginning', async () => {
    const directory = data.fresh();
    raise(directory, HALF, [
      set('a', 'first'),
      set('b', 'second'),
      { kind: 'clearAt', expiresWallMs: Date.now() + 9e8 },
    ]);
    const cache = await data.open(directory);
    expect(Object.fromEntries(cache)).toEqual({ a: 'first', b: 'second' });
    const held = (BigInt(HALF) << 44n) + BigInt(COUNTER + 1);
    expect(cache.cas('a', 'mistaken', held)).toBe('exists');
    const { cas } = cache.getWithCas('a')!;
    expect(epochOf(cas)).toBe(0);
    expect(cache.cas('a', 'changed', cas)).toBe('stored');
    expect(epochOf(cache.getWithCas('a')!.cas)).toBe(1);
    await cache.sync();
    await data.crash(cache);
    // The log has both generations now; with each opening it is read the same way.
    for (let life = 2; life < 5; life++) {
      const again = await data.open(directory, { snapshot: { atClose: life === 3 } });
      expect(Object.fromEntries(again)).toEqual({ a: 'changed', b: 'second' });
      again.set('c', life);
      expect(epochOf(again.getWithCas('c')!.cas)).toBe(life);
      again.delete('c');
      await again.close();
    }
    const log = EmbeddedLog.open({ directory, lockDirectory: lockedByCaller });
    expect(log.epoch).toBe(2 ** 20 + 5);
    log.close();
    expect(survey(directory, { isDeep: true }).problems.filter(({ kind }) => kind === 'damage')).toEqual([]);
  });

  test.each([
    ['all that are for clears are used', 2 ** 20 - 2 ** 16],
    ['all are used', 2 ** 20 - 1],
  ])('can be cleared again, where %s', async (_, epoch) => {
    const directory = data.fresh();
    raise(directory, epoch, [set('a', 'first')]);
    const cache = await data.open(directory);
    expect(cache.get('a')).toBe('first');
    cache.clear();
    cache.set('b', 1);
    expect(epochOf(cache.getWithCas('b')!.cas)).toBe(2);
    await cache.close();
    const last = await data.open(directory);
    expect(Object.fromEntries(last)).toEqual({ b: 1 });
    await last.close();
  });

  test('goes on in its generation when another thread takes the log over', async () => {
    const directory = data.fresh();
    raise(directory, HALF - 1, [set('a', 'first')]);
    const cache = await data.open(directory, { snapshot: { atClose: false } });
    cache.on('log', () => {});
    cache.clear();
    cache.set('b', 1);
    expect(epochOf(cache.getWithCas('b')!.cas)).toBe(HALF + 1);
    await endThread(keeperOf(cache));
    cache.set('c', 1);
    await cache.sync();
    await cache.close();
    const { segments } = survey(directory, { isDeep: true });
    expect(segments.length).toBeGreaterThan(0);
    for (const { header } of segments) expect(header.epoch).toBeLessThan(2 ** 20);
    const again = await data.open(directory);
    expect(Object.fromEntries(again)).toEqual({ b: 1, c: 1 });
    expect(epochOf(again.getWithCas('b')!.cas)).toBe(0);
    await again.close();
  });

  test('is recovered from an old snapshot and the log of both generations, if the new one is damaged', async () => {
    const directory = data.fresh();
    raise(directory, 5, [set('a', 'old'), set('deleted', 'old'), set('cleared', 'old'), set('kept', 'old')]);
    let cache = await data.open(directory);
    await cache.close();
    raise(directory, HALF, [set('a', 'half'), set('deleted', 'half'), set('cleared', 'half'), set('kept', 'half')]);
    cache = await data.open(directory, { snapshot: { atClose: false } });
    cache.set('a', 'new');
    cache.delete('deleted');
    await cache.snapshot();
    cache.clear();
    cache.set('kept', 'new');
    await cache.close();
    // Half of it can be read.
    const newest = readdirSync(directory)
      .filter((name) => name.endsWith('.snapshot'))
      .sort()
      .at(-1)!;
    const bytes = readFileSync(join(directory, newest));
    bytes[bytes.length - 60]! ^= 1;
    writeFileSync(join(directory, newest), bytes);
    const again = await data.open(directory);
    expect(again.recovery?.unusable).toHaveLength(1);
    expect(again.recovery?.snapshot).toBeDefined();
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

test('an opening that is cut off anywhere has begun a generation or has not', () => {
  const random = new Random();
  const before = new FaultyDisk(random);
  raise('/data', HALF, [set('a', 'first'), set('b', 'second')], before.files());
  const image = before.image();
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
    expect(epochOf(second.cache.getWithCas('b')!.cas)).toBeLessThan(3);
    second.turn();
    second.end();
    disk.kill();
    const third = lifeOn(disk);
    expect(Object.fromEntries(third.cache), `cut at ${cuts}`).toEqual({ b: 'third' });
    third.end();
  }
  expect(cuts).toBeGreaterThan(8);
});
