// docs/durability.md has a table of what a crash can take back: level x policy x what crashes. Here each of its cells
// is brought about, what is lost as well as what is kept: a real cache with its rings and the scribe's own loop write
// to a disk in memory that forgets, when the power goes, all that was not synced. The loop is turned by hand, so that a
// crash comes exactly when it should.

import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import type { SyncPolicy } from '../../src/log/index.ts';
import type { Report } from '../../src/scribe/message.ts';
import { MemcachedServer } from '../../src/server/index.ts';
import { FaultyDisk } from '../support/faulty-files.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { ProcessOnDisk } from '../support/process-on-disk.ts';
import { Random } from '../support/random.ts';

/** As bad as it can be: a power cut takes all that was not synced. */
class Misfortune extends Random {
  override below(): number {
    return 0;
  }
}

type Crash = 'process' | 'machine';

const INTERVAL_MS = 50;
const START_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;
const POLICIES: readonly SyncPolicy[] = ['always', `${INTERVAL_MS}ms`, 'none'];
const CRASHES: readonly Crash[] = ['process', 'machine'];

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A process whose clock stands still, with all that these tests ask of one. */
class Process extends ProcessOnDisk {
  readonly #disk: FaultyDisk;
  readonly #clock: { nowMs: number };
  #id = 0;

  constructor(disk: FaultyDisk, sync: SyncPolicy, nowMs = START_MS) {
    const clock = { nowMs };
    super(disk, { sync, clock: { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs } });
    this.#disk = disk;
    this.#clock = clock;
    ends.push(() => this.end());
  }

  pass(ms: number): void {
    this.#clock.nowMs += ms;
  }

  /** Turns until something is settled; each time the promise has its chance to be. */
  async acknowledged<T>(promise: Promise<T>): Promise<T> {
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    while (!isSettled) {
      this.turn();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return promise;
  }

  /** Asks the port for something, and turns until it has answered. */
  async told(line: string): Promise<string> {
    const server = await MemcachedServer.start(
      this.feed,
      { port: 0, host: '127.0.0.1' },
      { ack: 'logged', highestAck: 'logged', logMetrics: [] },
    );
    ends.push(async () => {
      server.destroy();
      await server.close();
    });
    const [address] = server.addresses;
    const client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
    ends.push(() => client.destroy());
    return this.acknowledged(client.ask(line, '\r\n'));
  }

  /** What `cache.sync()` asks of the log. */
  sync(): void {
    const targets = new BigUint64Array(this.feed.shardCount);
    this.feed.readTargets(targets);
    const id = ++this.#id;
    this.commands.push({ kind: 'sync', id, targets });
    const isDone = (report: Report): boolean =>
      report.kind === 'done' && report.id === id && report.error === undefined;
    while (!this.reports.some(isDone)) this.turn();
  }

  crash(crash: Crash): void {
    if (crash === 'machine') this.#disk.restart();
    else this.#disk.kill();
    this.end();
  }
}

/** Does something in one process, crashes it, and tells what the next one finds. */
async function foundAfter(
  sync: SyncPolicy,
  crash: Crash,
  body: (process: Process) => Promise<void> | void,
): Promise<Record<string, string>> {
  const disk = new FaultyDisk(new Misfortune(0));
  const first = new Process(disk, sync);
  // From here on there is something to lose.
  first.cache.set('before', 'kept');
  first.sync();
  await body(first);
  first.crash(crash);
  const second = new Process(disk, sync);
  const found = Object.fromEntries(second.cache) as Record<string, string>;
  expect(found['before']).toBe('kept');
  delete found['before'];
  return found;
}

/** A promised write at a level, waited for as its caller does. */
const promised = (ack: 'memory' | 'logged') => async (process: Process) => {
  await process.acknowledged(process.cache.promises.set('key', 'value', { ack }));
};

const KEPT = { key: 'value' };
const LOST = {};

describe.each(CRASHES)('a crash of the %s', (crash) => {
  describe.each(POLICIES)('under %s', (sync) => {
    test('takes what was written at `memory` and the log had not taken', async () => {
      // No turn: the log has not come to it.
      const found = await foundAfter(sync, crash, (process) => void process.cache.set('key', 'value'));
      expect(found).toEqual(LOST);
    });

    const isSynced = crash === 'process' || sync === 'always';
    test(`${isSynced ? 'leaves' : 'takes'} what was written at \`memory\` and the log has taken`, async () => {
      const found = await foundAfter(sync, crash, (process) => {
        process.cache.set('key', 'value');
        process.turn();
      });
      expect(found).toEqual(isSynced ? KEPT : LOST);
    });

    test(`${isSynced ? 'leaves' : 'takes'} what was just acknowledged at \`logged\``, async () => {
      expect(await foundAfter(sync, crash, promised('logged'))).toEqual(isSynced ? KEPT : LOST);
    });

    test('leaves what was there when sync() was called', async () => {
      const found = await foundAfter(sync, crash, (process) => {
        process.cache.set('key', 'value');
        process.sync();
      });
      expect(found).toEqual(KEPT);
    });
  });
});

describe.each(CRASHES)('a crash of the %s', (crash) => {
  describe.each(POLICIES)('under %s', (sync) => {
    const isKept = crash === 'process' || sync === 'always';
    test(`${isKept ? 'leaves' : 'takes'} a clear to come that was just acknowledged at \`logged\``, async () => {
      const disk = new FaultyDisk(new Misfortune(0));
      const first = new Process(disk, sync);
      first.cache.set('before', 'kept');
      first.sync();
      expect(await first.told('flush_all 3600\r\n')).toBe('OK\r\n');
      expect(first.cache.get('before')).toBe('kept');
      first.crash(crash);
      // It is there again as it was, and its time comes while there is no process.
      const second = new Process(disk, sync, START_MS + HOUR_MS / 2);
      expect(second.cache.get('before')).toBe('kept');
      second.crash('process');
      const third = new Process(disk, sync, START_MS + 2 * HOUR_MS);
      expect(third.cache.get('before')).toBe(isKept ? undefined : 'kept');
      // Once and for all.
      third.cache.set('after', 'kept');
      third.turn();
      third.crash('process');
      const fourth = new Process(disk, sync, START_MS + 3 * HOUR_MS);
      expect(Object.fromEntries(fourth.cache)).toEqual(isKept ? { after: 'kept' } : { before: 'kept', after: 'kept' });
    });
  });
});

describe('what the machine can take under an interval', () => {
  test('is what was acknowledged within it, and nothing before', async () => {
    const found = await foundAfter(`${INTERVAL_MS}ms`, 'machine', async (process) => {
      await promised('logged')(process);
      process.pass(INTERVAL_MS);
      process.turn();
      process.cache.set('later', 'value');
      process.turn();
    });
    expect(found).toEqual(KEPT);
  });
});

describe('what a level means', () => {
  test('`memory` is acknowledged at once, `logged` when the log has it, and so is a read of it', async () => {
    const process = new Process(new FaultyDisk(new Misfortune(0)), 'always');
    const { promises } = process.cache;
    expect(await promises.set('key', 'first', { ack: 'memory' })).toBe('stored');
    const read = promises.get('key');
    const write = promises.set('key', 'second', { ack: 'logged' });
    let told = 0;
    for (const promise of [read, write]) promise.then(() => told++);
    // Both have been done by then, and wait for the log.
    expect(await promises.set('other', 'value', { ack: 'memory' })).toBe('stored');
    expect(told).toBe(0);
    expect(await process.acknowledged(read)).toBe('first');
    expect(await process.acknowledged(write)).toBe('stored');
  });
});

describe('the table in docs/durability.md', () => {
  test('has the rows that are tried here', () => {
    const text = readFileSync(new URL('../../docs/durability.md', import.meta.url), 'utf8');
    const [, table = ''] = /\n\| Level, policy \|(.*?)\n\n/s.exec(text) ?? [];
    const rows = table
      .split('\n')
      .slice(2)
      .map((row) => row.split('|').map((cell) => cell.trim()));
    expect(rows.map(([, label]) => label)).toEqual([
      '`memory`, any',
      "`logged`, `'always'`",
      '`logged`, an interval',
      "`logged`, `'none'`",
      'after `await cache.sync()`, any policy',
    ]);
    // Which cells say that nothing is lost: as above.
    const says = rows.map(([, , process, machine]) => [process === 'nothing', machine === 'nothing']);
    expect(says).toEqual([
      [false, false],
      [true, true],
      [true, false],
      [true, false],
      [true, true],
    ]);
  });
});
