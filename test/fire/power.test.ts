// The whole way from a verb to the disk and back, over power cuts: a real cache with its rings, the scribe's own loop,
// and the log on a disk in memory (support/faulty-files.ts) that forgets, reorders and tears what was not synced, and
// fails now and then. All of it runs in this thread, turn by turn, so that a cut meets every file call of an append, a
// rotation, a snapshot, a recovery and a close. What the log alone does is in test/log/crash.test.ts; here it is
//   - that what was acknowledged is there: an answer counts once it is committed, or, where commits are not synced,
//     once a sync was answered;
//   - that what is there was there at one moment: all writes up to some version of a shard, and none behind it. After
//     the end of a process that is at least what was committed, after a power cut what was acknowledged;
//   - that values and versions do not go back, over all the lives of a disk (support/history-check.ts).

import { describe, expect, test } from 'vitest';
import { CairnError } from '../../src/errors.ts';
import { Cache } from '../../src/index.ts';
import type { SyncPolicy } from '../../src/log/index.ts';
import { type FeedHandle, feedOf, native } from '../../src/native.ts';
import { openEmbeddedLog } from '../../src/scribe/embedded.ts';
import { CONTROL_WORDS, type Command, type Report } from '../../src/scribe/message.ts';
import type { Scribe } from '../../src/scribe/scribe.ts';
import { startScribe } from '../../src/scribe/start.ts';
import { FaultyDisk, PowerCut } from '../support/faulty-files.ts';
import { type Answer, type Operation, Recorder } from '../support/history.ts';
import { expectLegal } from '../support/history-check.ts';
import { Random } from '../support/random.ts';
import { askNow } from './harness/api-doors.ts';
import { unspell, Workload, type WorkloadOptions } from './harness/workload.ts';

/** CAIRN_TEST_FACTOR=20 makes it a long one. */
const DISKS: number = 30 * Number(process.env['CAIRN_TEST_FACTOR'] ?? 1);
const LIVES_PER_DISK = 12;
const WORKLOAD: WorkloadOptions = { registers: 24, valueBytesMax: 20_000, clearEvery: 100, expires: false };
const KEYS: readonly string[] = Workload.keys(WORKLOAD);
const NAME = 'power';
const MEMORY_BYTES: number = 32 * 2 ** 20;

type Contents = ReadonlyMap<string, string>;

/** A write that was done in memory, with what all shards had given out by then, and what they hold. */
interface Moment {
  readonly operation: Operation | undefined;
  readonly answer: Answer | undefined;
  readonly targets: BigUint64Array;
  readonly contents: Contents;
}

/** A disk, and what the test knows of it. */
class World {
  readonly random: Random;
  readonly disk: FaultyDisk;
  readonly shardCount: number;
  readonly recorder: Recorder;
  /** Moments since what is certainly on the disk, the first of them; and which of them was the last to be committed. */
  moments: Moment[] = [{ operation: undefined, answer: undefined, targets: new BigUint64Array(), contents: new Map() }];
  committed = 0;
  wallMs = 1_800_000_000_000;
  #count = 0;
  readonly seen = { cuts: 0, kills: 0, closes: 0, snapshots: 0, writes: 0, kept: 0, gone: 0 };

  constructor(random: Random) {
    this.random = random;
    this.disk = new FaultyDisk(random);
    this.shardCount = random.pick([1, 1, 4]);
    this.recorder = new Recorder(() => this.#count++);
  }
}

/** One process: opens the cache, compares, writes, and ends somehow. */
class Process {
  readonly #world: World;
  readonly #sync: SyncPolicy;
  readonly #isSick: boolean;
  readonly #commands: Command[] = [];
  readonly #reports: Report[] = [];
  readonly #syncs = new Map<number, BigUint64Array>();
  #id = 0;

  constructor(world: World) {
    this.#world = world;
    this.#sync = world.random.pick(['always', 'always', '5ms', 'none']);
    this.#isSick = world.random.below(4) === 0;
  }

  live(): void {
    const { random, disk, recorder, seen, shardCount } = this.#world;
    const life = recorder.startLife();
    this.#spoilDisk();
    const owner = native.openCache({
      ...{ name: NAME, description: '', join: false, ready: false, ttlMs: 0, trackAccess: false, siphash: false },
      ...{ memoryBytes: MEMORY_BYTES, memoryBytesCeiling: MEMORY_BYTES, entriesMax: 0, shardCount },
      ...{ valueBytesMax: 2 ** 20, ringBytes: 2 ** 20 },
    });
    if (typeof owner === 'number') throw new Error(`The cache cannot be opened: ${owner}`);
    const feed = feedOf(owner)!;
    let cache: Cache | undefined;
    let isClosed = false;
    try {
      const scribe = this.#start(feed);
      cache = Cache.attach(NAME, { raw: 'string' });
      this.#compare(cache, feed);
      this.#work(cache, feed, scribe, life);
      if (random.below(4) === 0) isClosed = this.#close(feed, scribe);
    } catch (error) {
      if (!isOfDisk(error)) throw error;
    }
    if (isClosed && !disk.isOut && random.below(2) === 0) seen.closes++;
    else if (disk.isOut || random.below(2) === 0) {
      seen.cuts++;
      this.#world.committed = 0;
      disk.restart();
    } else {
      seen.kills++;
      disk.kill();
    }
    recorder.endLife('crash');
    void cache?.close();
    owner.close();
  }

  #spoilDisk(): void {
    const { random, disk } = this.#world;
    const cutAt = random.below(3) === 0 ? disk.callCount + random.below(300) : -1;
    let stays = 0;
    disk.fate = ({ index, kind }) => {
      if (index === cutAt) return 'cut';
      if (!this.#isSick || kind === 'read' || kind === 'open' || kind === 'list') return 'ok';
      if (stays === 0 && random.below(30) === 0) stays = random.pick([1, 2, 6]);
      if (stays === 0) return 'ok';
      stays--;
      return random.pick(['EIO', 'ENOSPC'] as const);
    };
  }

  #start(feed: FeedHandle): Scribe {
    const world = this.#world;
    const { random } = world;
    return startScribe({
      handle: feed,
      data: {
        cacheId: feed.cacheId,
        directory: '/data',
        sync: this.#sync,
        segmentBytes: random.pick([4096, 16_384, 65_536]),
        limitBytes: random.pick([2 ** 19, 2 ** 30]),
        snapshots: {
          everyMs: random.pick([0, 20]),
          logBytes: random.pick([2 ** 40, 10_000, 50_000]),
          isTakenAtClose: random.below(2) === 0,
        },
        start: 'log',
        control: new SharedArrayBuffer(4 * CONTROL_WORDS),
      },
      openLog: openEmbeddedLog(world.disk.files()),
      clock: { wallMs: () => world.wallMs, steadyMs: () => world.wallMs },
      hear: () => this.#commands.shift(),
      say: (report) => void this.#reports.push(report),
    });
  }

  /** What was recovered was there at one moment that is not too old, and is what everybody sees. */
  #compare(cache: Cache, feed: FeedHandle): void {
    const world = this.#world;
    const found = new Map([...cache.entries()].map(([key, value]) => [String(key), unspell(String(value))]));
    if (world.shardCount === 1) {
      const at = world.moments.findLastIndex(({ contents }) => isSame(contents, found));
      expect(at, 'what is there is what was there at no moment').toBeGreaterThanOrEqual(0);
      expect(at, 'what is there was there before it was replaced for good').toBeGreaterThanOrEqual(world.committed);
      world.seen.kept += at;
      world.seen.gone += world.moments.length - 1 - at;
    }
    world.moments = [{ operation: undefined, answer: undefined, targets: this.#targets(feed), contents: found }];
    world.committed = 0;
    for (const key of KEYS) {
      const operation = world.recorder.ask(0, { verb: 'get', key });
      world.recorder.answer(operation, askNow(cache, operation));
    }
  }

  #work(cache: Cache, feed: FeedHandle, scribe: Scribe, life: number): void {
    const { random } = this.#world;
    const work = new Workload(random, `l${life}n`, WORKLOAD);
    for (let left = random.below(60); left > 0; left--) {
      for (let i = random.below(6); i > 0; i--) this.#ask(cache, feed, work);
      if (random.below(6) === 0) this.#command('sync', feed);
      if (random.below(20) === 0) this.#command('snapshot', feed);
      this.#turn(feed, scribe);
    }
  }

  #ask(cache: Cache, feed: FeedHandle, work: Workload): void {
    const { recorder, moments, random, seen } = this.#world;
    const question = work.next();
    const { verb, key } = question;
    const operation = recorder.ask(random.below(3), verb === 'gat' ? { verb: 'get', key } : question);
    const answer = askNow(cache, operation);
    if (answer === 'refused') {
      recorder.answer(operation, answer);
      return;
    }
    work.learn({ ...operation, answer });
    const contents = new Map(verb === 'clear' ? [] : moments.at(-1)!.contents);
    const value = verb === 'clear' ? undefined : cache.peek(key);
    if (value === undefined) contents.delete(key);
    else contents.set(key, unspell(String(value)));
    if (verb !== 'get') seen.writes++;
    moments.push({ operation, answer, targets: this.#targets(feed), contents });
  }

  #command(kind: 'sync' | 'snapshot', feed: FeedHandle): void {
    const id = ++this.#id;
    const targets = this.#targets(feed);
    this.#syncs.set(id, targets);
    this.#commands.push(kind === 'sync' ? { kind, id, targets } : { kind, id });
  }

  #turn(feed: FeedHandle, scribe: Scribe): void {
    const world = this.#world;
    // A log in trouble waits for time to pass, and nothing else makes it.
    world.wallMs += this.#isSick ? 200 : world.random.below(10);
    feed.poke();
    scribe.turn();
    while (world.committed + 1 < world.moments.length && feed.covered(world.moments[world.committed + 1]!.targets)) {
      world.committed++;
    }
    if (this.#sync === 'always') this.#acknowledge(world.committed);
    for (const report of this.#reports.splice(0)) {
      if (report.kind === 'notice') {
        expect(report.notice.kind).not.toBe('lost');
        if (report.notice.kind === 'snapshot') world.seen.snapshots++;
      }
      if (report.kind === 'done' && report.error === undefined) this.#onDone(report.id);
    }
  }

  // A snapshot that is done has brought to the disk what was there when it was asked for, as a sync has.
  #onDone(id: number): void {
    const { moments } = this.#world;
    const targets = this.#syncs.get(id);
    if (targets === undefined) return;
    this.#syncs.delete(id);
    const at = moments.findLastIndex((moment) => moment.targets.every((version, i) => version <= targets[i]!));
    this.#acknowledge(at);
  }

  /** The moments up to this one are on the disk. */
  #acknowledge(count: number): void {
    const world = this.#world;
    for (const { operation, answer } of world.moments.slice(0, count + 1)) {
      if (operation !== undefined && operation.answer === undefined) world.recorder.answer(operation, answer!);
    }
    if (count <= 0) return;
    world.moments = world.moments.slice(count);
    world.committed = Math.max(0, world.committed - count);
  }

  #close(feed: FeedHandle, scribe: Scribe): boolean {
    const id = ++this.#id;
    this.#syncs.set(id, this.#targets(feed));
    this.#commands.push({ kind: 'close', id, timeoutMs: 0, takesSnapshot: true });
    // With a sick disk it may never end.
    for (let turns = 0; turns < 300 && this.#syncs.has(id); turns++) this.#turn(feed, scribe);
    return !this.#syncs.has(id);
  }

  #targets(feed: FeedHandle): BigUint64Array {
    const targets = new BigUint64Array(feed.shardCount);
    feed.readTargets(targets);
    return targets;
  }
}

function isOfDisk(error: unknown): boolean {
  return error instanceof PowerCut || (error instanceof CairnError && /^ERR_LOG_(IO|FULL)$/.test(error.code));
}

function isSame(a: Contents, b: Contents): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}

describe('a cache over power cuts', () => {
  const random = new Random();
  test(`keeps what it has acknowledged, over ${DISKS} disks, seed ${random.seed}`, { timeout: 3_600_000 }, () => {
    const total: Record<string, number> = {};
    for (let i = 0; i < DISKS; i++) {
      const world = new World(random);
      try {
        for (let life = 0; life < LIVES_PER_DISK; life++) new Process(world).live();
        expectLegal(world.recorder);
      } catch (error) {
        throw new Error(`Failed on disk ${i} with CAIRN_SEED=${random.seed}`, { cause: error });
      }
      for (const [name, count] of Object.entries(world.seen)) total[name] = (total[name] ?? 0) + count;
    }
    // It has met all that it is about.
    for (const [name, count] of Object.entries(total)) expect(count, name).toBeGreaterThan(0);
  });
});
