// How one cache scales with its threads: by its number of shards, and by the share of reads. Not part of the whole run,
// as it takes minutes: `npm run bench -- core --only sweep`.
//
// Two figures decide about a number of shards: what two threads on one cache reach beside two caches (with as many
// shards, and half of the entries each), and what a thread alone pays for more shards.

import { withActors } from '../lib/actors.mjs';
import { ratio, summary } from '../lib/statistics.mjs';
import { withRange } from '../lib/table.mjs';
import { startThreads } from '../lib/threads.mjs';

const worker = new URL('./sweep-worker.mjs', import.meta.url);
const SHARDS = [1, 4, 8, 16, 64, 256];
const READS = [100, 90, 50];
const MODES = ['one thread', 'one cache', 'apart'];

/** The process of the threads. Its calls run a mode and return, per thread, the nanoseconds that a request took. */
export async function actor(_name, { entries }) {
  const { Cache } = await import('cairn-cache');
  const { fill } = await import('./caches.mjs');
  const { keyOf, valueOf } = await import('./workload.mjs');
  const open = (name, shards, from, to) => {
    // A shard has 4 MiB at least.
    const maxMemory = Math.max(64 * 2 ** 20, entries * 400, shards * 4 * 2 ** 20);
    const cache = new Cache({ name, maxMemory, shards });
    fill(cache, from, to, keyOf, valueOf);
    return cache;
  };
  const caches = SHARDS.flatMap((shards) => [
    open(`all ${shards}`, shards, 0, entries),
    open(`0 ${shards}`, shards, 0, entries / 2),
    open(`1 ${shards}`, shards, entries / 2, entries),
  ]);
  const threads = await startThreads(worker, 2, { entries });
  return {
    calls: {
      run: ({ mode, shards, reads, ms }) => threads.run(mode === 'one thread' ? 1 : 2, { mode, shards, reads }, ms),
      close: () => caches.length,
    },
  };
}

export const section = {
  name: 'sweep',
  title: 'threads x shards x share of reads',
  apart: true,
  async run({ entries, rounds, ms }) {
    const cells = READS.flatMap((reads) => SHARDS.map((shards) => ({ reads, shards, rate: {} })));
    for (const cell of cells) for (const mode of MODES) cell.rate[mode] = [];
    await withActors(import.meta.url, ['cairn'], { options: { entries } }, async (actors) => {
      for (let round = -1; round < rounds; round++) {
        for (const cell of round % 2 === 0 ? cells : [...cells].reverse()) {
          for (const mode of MODES) {
            const argument = { mode, shards: cell.shards, reads: cell.reads, ms };
            const threads = (await actors.get('cairn').ask({ call: 'run', argument })).result;
            // Requests per nanosecond of all threads together, without the time on the run queue.
            if (round >= 0) cell.rate[mode].push(threads.reduce((sum, { busy }) => sum + 1 / busy, 0));
          }
        }
      }
    });
    const millions = (rate) => summary(rate.map((perNs) => perNs * 1e3));
    const results = cells.map(({ reads, shards, rate }) => {
      const fewest = cells.find((other) => other.reads === reads && other.shards === 4).rate['one thread'];
      return {
        reads,
        shards,
        one: millions(rate['one thread']),
        dearer: ratio(fewest, rate['one thread']),
        together: millions(rate['one cache']),
        scaling: ratio(rate['one cache'], rate.apart),
      };
    });
    return {
      note: `${entries.toLocaleString('en-US')} entries, new key strings, uniform; writes store a present key. Million requests/s of all threads together, without the time that other processes had the processor.`,
      tables: READS.map((reads) => ({
        title: `${reads} % reads`,
        headings: ['shards', 'one thread', 'its time, x 4 shards', 'two threads, one cache', 'x two caches'],
        rows: results
          .filter((row) => row.reads === reads)
          .map((row) => [
            String(row.shards),
            withRange(row.one),
            withRange(row.dearer, 'x'),
            withRange(row.together),
            withRange(row.scaling, 'x'),
          ]),
      })),
      results,
      targets: {},
    };
  },
};
