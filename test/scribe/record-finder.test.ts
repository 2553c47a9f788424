// The record of a change is found by its key and version, wherever it is: in the rings, in the log, in the log of an
// earlier life with another number of shards. Random writes, turns of the scribe, snapshots, cursors and openings;
// a model has every change. A record that is not found lies before the cursor that the log is kept for.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { LogReader } from '../../src/log/index.ts';
import { type FeedHandle, feedOf, type NativeHandle, native } from '../../src/native.ts';
import { RecordReader } from '../../src/request/record.ts';
import type { Question } from '../../src/scribe/commands.ts';
import { openEmbeddedLog } from '../../src/scribe/embedded.ts';
import { LogKeeper } from '../../src/scribe/keeper.ts';
import { CONTROL_WORDS, type Command, type Report } from '../../src/scribe/message.ts';
import { RecordFinder } from '../../src/scribe/record-finder.ts';
import type { Scribe } from '../../src/scribe/scribe.ts';
import { startScribe } from '../../src/scribe/start.ts';
import { FaultyDisk } from '../support/faulty-files.ts';
import { Random } from '../support/random.ts';

const NAME = 'record finder';
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

function openNative(shardCount: number, hasBackend: boolean): NativeHandle {
  const owner = native.openCache({
    ...{ name: NAME, description: '', join: false, ready: false, ttlMs: 0, trackAccess: false, siphash: false },
    ...{ memoryBytes: 2 ** 26, memoryBytesCeiling: 2 ** 26, entriesMax: 0, shardCount, hasBackend },
    ...{ valueBytesMax: 2 ** 20, ringBytes: 2 ** 22 },
  });
  if (typeof owner === 'number') throw new Error(`The cache cannot be opened: ${owner}`);
  return owner;
}

/** A cache with a backend and its log on a disk, all in this thread. */
class Life {
  readonly feed: FeedHandle;
  readonly cache: Cache<string>;
  readonly scribe: Scribe;
  readonly finder: RecordFinder;
  readonly #reports: Report[] = [];
  readonly #commands: Command[] = [];
  #id = 0;

  constructor(disk: FaultyDisk, shardCount: number, hasBackend = true) {
    const owner = openNative(shardCount, hasBackend);
    ends.push(() => owner.close());
    this.feed = feedOf(owner)!;
    const progress = new SharedArrayBuffer(64);
    this.scribe = startScribe({
      handle: this.feed,
      data: {
        cacheId: owner.cacheId,
        directory: '/data',
        sync: 'always',
        segmentBytes: 65_536,
        limitBytes: 2 ** 30,
        snapshots: { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: false },
        cursor: { name: 'store' },
        start: 'log',
        control: new SharedArrayBuffer(4 * CONTROL_WORDS),
        progress,
      },
      openLog: openEmbeddedLog(disk.files()),
      clock: { wallMs: () => 1_800_000_000_000, steadyMs: () => performance.now() },
      hear: () => this.#commands.shift(),
      say: (report) => void this.#reports.push(report),
    });
    this.finder = new RecordFinder(this.feed, new LogReader({ directory: '/data', progress, files: disk.files() }));
    this.cache = Cache.attach<string>(NAME);
  }

  turn(): void {
    this.feed.poke();
    this.scribe.turn();
  }

  tell(question: Question): Extract<Report, { kind: 'done' }> {
    const id = ++this.#id;
    this.#commands.push({ ...question, id });
    for (;;) {
      this.turn();
      const answer = this.#reports.find((report) => report.kind === 'done' && report.id === id);
      if (answer?.kind === 'done') return answer;
    }
  }

  /** A position behind all that was done. */
  sync(): bigint {
    const targets = new BigUint64Array(this.feed.shardCount);
    this.feed.readTargets(targets);
    return this.tell({ kind: 'sync', targets }).result as bigint;
  }

  /** The value that the log or the rings have; undefined: they have none. */
  find(key: string, version: bigint): string | undefined {
    const found = this.finder.find(Buffer.from(key), version);
    if (found.kind === 'gone') return undefined;
    const reader = new RecordReader(found.record);
    expect(reader.next()).toBe(true);
    expect(reader.version).toBe(version);
    expect(reader.key.toString()).toBe(key);
    return reader.value.toString();
  }
}

interface Change {
  readonly key: string;
  readonly version: bigint;
  readonly value: string;
  /** It is before the cursor. */
  isStored: boolean;
}

describe('a change', () => {
  test.each([1, 2, 3, 4])('is found wherever it is, unless it is before the cursor (seed %i)', (seed) => {
    const random = new Random(seed);
    const disk = new FaultyDisk(new Random(seed));
    const changes: Change[] = [];
    const counts = { ring: 0, log: 0, gone: 0 };
    for (let lifeNumber = 0; lifeNumber < 5; lifeNumber++) {
      const life = new Life(disk, random.pick([1, 2, 8]));
      for (let i = 0; i < 800; i++) {
        const key = `k${random.below(100)}`;
        const value = `${changes.length} ${'x'.repeat(random.below(random.below(40) === 0 ? 100_000 : 400))}`;
        life.cache.set(key, value);
        changes.push({ key, value, version: life.cache.getWithCas(key)!.cas, isStored: false });
        if (random.below(20) === 0) life.turn();
        if (random.below(100) === 0) expect(life.tell({ kind: 'snapshot' }).error).toBeUndefined();
        if (random.below(150) === 0) {
          const end = life.sync();
          const moved = life.tell({ kind: 'cursor', name: 'store', act: { advance: end } });
          expect(moved.error).toBeUndefined();
          for (const change of changes) change.isStored = true;
        }
        const sought = random.pick(changes);
        const isInRing = life.feed.findInRing(Buffer.from(sought.key), sought.version, new Uint8Array(200_000)) > 0;
        const found = life.find(sought.key, sought.version);
        if (found !== undefined) expect(found).toBe(sought.value);
        else expect(sought.isStored, `${sought.key} of ${sought.version} in life ${lifeNumber}`).toBe(true);
        counts[isInRing ? 'ring' : found === undefined ? 'gone' : 'log']++;
      }
      if (random.below(2) === 0) {
        const answer = life.tell({ kind: 'close', timeoutMs: 0, takesSnapshot: false });
        expect(answer.error).toBeUndefined();
      } else life.sync();
      ends.pop()!();
      life.feed.close();
    }
    for (const count of Object.values(counts)) expect(count).toBeGreaterThan(50);
  });

  test('is found while the thread of the scribe writes, rotates, takes snapshots and truncates', async () => {
    const data = mkdtempSync(join(tmpdir(), 'cairn-finder-'));
    ends.push(() => rmSync(data, { recursive: true }));
    const owner = openNative(8, true);
    const keeper = await LogKeeper.open(
      feedOf(owner)!,
      {
        directory: data,
        sync: 'none',
        segmentBytes: 65_536,
        limitBytes: 2 ** 30,
        snapshots: { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: false },
        cursor: { name: 'store' },
        start: 'log',
      },
      () => {},
    );
    const cache = Cache.attach<string>(NAME);
    const finder = new RecordFinder(feedOf(owner)!, new LogReader(keeper.files!));
    const random = new Random(11);
    const changes: Change[] = [];
    const counts = { found: 0, gone: 0 };
    for (let round = 0; round < 60; round++) {
      for (let i = 0; i < 150; i++) {
        const key = `k${random.below(500)}`;
        const value = `${changes.length} ${'x'.repeat(random.below(1000))}`;
        cache.set(key, value);
        changes.push({ key, value, version: cache.getWithCas(key)!.cas, isStored: false });
        // Often one of the newest, which is on its way to the log.
        const sought = random.below(2) === 0 ? random.pick(changes.slice(-50)) : random.pick(changes);
        const found = finder.find(Buffer.from(sought.key), sought.version);
        counts[found.kind]++;
        if (found.kind === 'gone') expect(sought.isStored, `${sought.key} of ${sought.version}`).toBe(true);
        else {
          const reader = new RecordReader(found.record);
          reader.next();
          expect(reader.value.toString()).toBe(sought.value);
        }
      }
      if (round % 10 === 9) {
        const end = await keeper.committedUpTo('durable');
        for (const change of changes) change.isStored = true;
        await keeper.cursor('store').advance(end);
        await keeper.snapshot();
      } else await new Promise((resolve) => setImmediate(resolve));
    }
    expect(counts.found).toBeGreaterThan(500);
    expect(counts.gone).toBeGreaterThan(500);
    cache.close();
    await keeper.release(0, false);
  });

  test('of a cache without a backend is found in the rings only', () => {
    const life = new Life(new FaultyDisk(new Random(1)), 2, false);
    life.cache.set('a', '1');
    const { cas } = life.cache.getWithCas('a')!;
    expect(life.find('a', cas)).toBe('1');
    life.sync();
    expect(life.find('a', cas)).toBeUndefined();
  });
});
