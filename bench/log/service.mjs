// The log behind a cache: its cost to writers that wait for it and to writers that do not, how fast a cache comes back,
// and what a snapshot does to the others.

import { closeSync, fdatasyncSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { processCpuNs, threadCpuNs } from '../lib/clock.mjs';
import { ratio, summary } from '../lib/statistics.mjs';
import { number, printTable, withRange } from '../lib/table.mjs';

const WRITERS = [1, 16, 64, 512];
const POLICIES = ['always', '10ms', 'none'];
const VALUE = 'v'.repeat(100);
const RECORD_BYTES = 160;
/** The most CPU of a set whose writer does not wait, as a multiple of the same without a log. */
const CPU_TARGET = 1.25;
const RING_MIB = 16;

const keyOf = (writer, i) => `key:${String(writer).padStart(5, '0')}:${String(i).padStart(10, '0')}`;

/**
 * A number of writers, each with one call in flight, until the time is over. Latencies in milliseconds, of one call in
 * eight.
 */
async function write(promises, writers, ms, keysEach) {
  const latencies = [];
  const end = performance.now() + ms;
  const begun = performance.now();
  let done = 0;
  const writer = async (w) => {
    for (let i = 0; performance.now() < end; i++) {
      const isTimed = (i & 7) === 0;
      const start = isTimed ? performance.now() : 0;
      await promises.set(keyOf(w, i % keysEach), VALUE);
      if (isTimed) latencies.push(performance.now() - start);
      done++;
    }
  };
  await Promise.all(Array.from({ length: writers }, (_, w) => writer(w)));
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))];
  return { perSecond: (done * 1000) / (performance.now() - begun), p50: at(0.5), p99: at(0.99), p999: at(0.999) };
}

/** The least work for all waiting writers: one write of their records, and one sync. */
function byHand(folder, writers, ms, isSynced) {
  mkdirSync(folder, { recursive: true });
  const bytes = Buffer.alloc(writers * RECORD_BYTES, 'v');
  const file = openSync(join(folder, 'by-hand'), 'w');
  const begun = performance.now();
  let groups = 0;
  for (; performance.now() - begun < ms; groups++) {
    writeSync(file, bytes);
    if (isSynced) fdatasyncSync(file);
  }
  const elapsed = performance.now() - begun;
  closeSync(file);
  rmSync(folder, { recursive: true });
  return { perSecond: (groups * writers * 1000) / elapsed, p50: elapsed / groups };
}

async function acknowledged(root, { rounds, ms }, Cache) {
  for (const sync of POLICIES) {
    const rows = [];
    for (const writers of WRITERS) {
      const hand = [];
      const ours = [];
      for (let round = 0; round < rounds; round++) {
        const runs = [
          () => hand.push(byHand(join(root, 'hand'), writers, sync === 'always' ? ms : 50, sync === 'always')),
          async () => {
            const folder = join(root, 'cache');
            const cache = await Cache.open({
              maxMemory: '256mb',
              data: folder,
              sync,
              logLimit: '64gb',
              snapshot: { every: 0, logBytes: '32gb', atClose: false },
            });
            await write(cache.promises, writers, ms / 4, 1000);
            ours.push(await write(cache.promises, writers, ms, 1000));
            await cache.close();
            rmSync(folder, { recursive: true });
          },
        ];
        if (round % 2 === 1) runs.reverse();
        for (const run of runs) await run();
      }
      const of = (samples, name) => summary(samples.map((sample) => sample[name]));
      const speed = ratio(
        ours.map(({ perSecond }) => perSecond),
        hand.map(({ perSecond }) => perSecond),
      );
      rows.push([
        `${number(writers)} writers`,
        sync === 'always' ? withRange(of(hand, 'perSecond')) : '-',
        withRange(of(ours, 'perSecond')),
        sync === 'always' ? withRange(speed, 'x') : '-',
        sync === 'always' ? number(of(hand, 'p50').median) : '-',
        number(of(ours, 'p50').median),
        number(of(ours, 'p99').median),
      ]);
    }
    printTable(
      [`sync: ${sync}`, 'by hand, sets/s', 'cache, sets/s', 'cache : by hand', 'sync ms', 'p50 ms', 'p99 ms'],
      rows,
    );
  }
}

/**
 * CPU of the writing thread for a set that is not awaited, with a log and without; beside it that of all threads with a
 * log, the scribe's included. Both caches have the same memory for entries: what differs otherwise is how many of them
 * the processor's caches hold.
 */
async function unacknowledged(root, { rounds }, Cache) {
  const count = 100_000;
  const workloads = {
    'new keys, evicting': { mib: 48, key: (round, i) => keyOf(round, i) },
    'the same keys, built for each call': { mib: 256, key: (_, i) => keyOf(0, i) },
    'the same keys, kept as strings': {
      mib: 256,
      keys: Array.from({ length: count }, (_, i) => keyOf(0, i)),
    },
  };
  const rows = [];
  for (const [name, { mib, key, keys }] of Object.entries(workloads)) {
    for (const sync of ['always', 'none']) {
      const folder = join(root, 'cpu');
      const plain = new Cache({ maxMemory: `${mib}mb` });
      const options = { data: folder, sync, logLimit: '64gb', ringSize: `${RING_MIB}mb` };
      const snapshot = { every: 0, logBytes: '32gb', atClose: false };
      const logged = await Cache.open({ maxMemory: `${mib + RING_MIB}mb`, ...options, snapshot });
      const pass = (cache, round) => {
        const begun = threadCpuNs();
        if (keys === undefined) for (let i = 0; i < count; i++) cache.set(key(round, i), VALUE);
        else for (const each of keys) cache.set(each, VALUE);
        return (threadCpuNs() - begun) / count;
      };
      const costs = { plain: [], logged: [], all: [] };
      for (let round = 0; round < rounds + 3; round++) {
        const before = pass(plain, round);
        const begun = processCpuNs();
        const after = pass(logged, round);
        await logged.sync();
        if (round < 3) continue;
        costs.plain.push(before);
        costs.logged.push(after);
        costs.all.push((processCpuNs() - begun) / count);
      }
      plain.close();
      await logged.close();
      rmSync(folder, { recursive: true });
      const cost = ratio(costs.logged, costs.plain);
      rows.push([
        `${name}, sync: ${sync}`,
        withRange(summary(costs.plain)),
        withRange(summary(costs.logged)),
        withRange(cost, 'x'),
        withRange(summary(costs.all)),
        cost.median <= CPU_TARGET ? 'reached' : 'missed',
      ]);
    }
  }
  printTable(
    ['CPU ns of a set, not waited for', 'no log', 'log', 'log : no log', 'log, all threads', `target ${CPU_TARGET}x`],
    rows,
  );
}

async function recovery(root, { entries }, Cache) {
  const folder = join(root, 'recovery');
  const snapshot = { every: 0, logBytes: '32gb', atClose: false };
  const options = { maxMemory: '1gb', data: folder, sync: 'none', logLimit: '64gb', ringSize: '64mb', snapshot };
  const rows = [];
  let cache = await Cache.open(options);
  for (let i = 0; i < entries; i++) {
    cache.set(keyOf(0, i), VALUE);
    if (i % 100_000 === 0) await cache.sync();
  }
  await cache.sync();
  const open = async (name) => {
    const begun = performance.now();
    cache = await Cache.open(options);
    const elapsedMs = performance.now() - begun;
    const { records, bytes, elapsedMs: recoveryMs } = cache.recovery;
    rows.push([
      name,
      number(records),
      number(elapsedMs),
      number((records * 1000) / recoveryMs),
      number((bytes * 1000) / recoveryMs / 2 ** 20),
    ]);
  };
  await cache.close();
  await open('from the log');
  await cache.snapshot();
  await cache.close();
  await open('from a snapshot');
  await cache.close();
  rmSync(folder, { recursive: true });
  printTable(['recovery', 'records', 'ms to open', 'records/s', 'MiB/s'], rows);
}

async function withSnapshots(root, { rounds, ms, entries }, Cache) {
  const folder = join(root, 'snapshots');
  const snapshot = { every: 0, logBytes: '32gb', atClose: false };
  const options = { maxMemory: '1gb', data: folder, sync: 'always', logLimit: '64gb', ringSize: '64mb', snapshot };
  const cache = await Cache.open(options);
  for (let i = 0; i < entries; i++) {
    cache.set(keyOf(600, i), VALUE);
    if (i % 100_000 === 0) await cache.sync();
  }
  const samples = { quiet: [], busy: [] };
  let taken = 0;
  for (let round = 0; round < rounds; round++) {
    samples.quiet.push(await write(cache.promises, 64, ms, 1000));
    let isOver = false;
    const taking = (async () => {
      while (!isOver) {
        await cache.snapshot();
        taken++;
      }
    })();
    samples.busy.push(await write(cache.promises, 64, ms, 1000));
    isOver = true;
    await taking;
  }
  await cache.close();
  rmSync(folder, { recursive: true });
  const names = { quiet: 'no snapshot', busy: `one after the other (${taken} taken)` };
  const rows = Object.entries(names).map(([kind, name]) => [
    name,
    ...['perSecond', 'p50', 'p99', 'p999'].map((field) =>
      withRange(summary(samples[kind].map((sample) => sample[field]))),
    ),
  ]);
  printTable([`64 writers, ${number(entries)} entries`, 'sets/s', 'p50 ms', 'p99 ms', 'p99.9 ms'], rows);
}

/** All tables. */
export async function measureService(root, settings, Cache) {
  console.log(
    '== cache: promised sets, each acknowledged when its record is in the log (the loop, its lane and the scribe',
  );
  console.log('   share the processors); by hand: one write and one sync for as many records as there are writers\n');
  await acknowledged(root, settings, Cache);
  await unacknowledged(root, settings, Cache);
  await recovery(root, settings, Cache);
  await withSnapshots(root, settings, Cache);
}
