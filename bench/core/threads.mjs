// Two threads that read at once: from one cache, and from a cache each.
//
// A shared cache may lose to two separate ones by its locks and by lines of memory that wander between processors.
// There are two things to compare it with. Separate caches with all entries each: every thread reads from as large a
// table as the shared one is; together they need twice its memory. Separate caches with half of the entries each, of
// which each thread asks for its own half: the same memory in use, and half a table in the cache of each processor,
// which a shared table cannot have, whatever its locks cost.

import { withActors } from '../lib/actors.mjs';
import { ratio, summary } from '../lib/statistics.mjs';
import { withRange } from '../lib/table.mjs';
import { startThreads } from '../lib/threads.mjs';

const worker = new URL('./threads-worker.mjs', import.meta.url);
const modes = ['one thread', 'one cache', 'half each', 'all each', 'nothing shared'];

/** The process of the threads. Its calls run a mode and return, per thread, the nanoseconds that a get took. */
export async function actor(_name, { entries }) {
  const { Cache } = await import('cairn-cache');
  const { fill } = await import('./caches.mjs');
  const { keyOf, valueOf } = await import('./workload.mjs');
  const maxMemory = Math.max(64 * 2 ** 20, entries * 400);
  const open = (name, from, to) => {
    const cache = new Cache({ name, maxMemory });
    fill(cache, from, to, keyOf, valueOf);
    return cache;
  };
  const caches = [
    open('all', 0, entries),
    open('all too', 0, entries),
    open('first half', 0, entries / 2),
    open('second half', entries / 2, entries),
  ];
  const threads = await startThreads(worker, 2, { entries });
  return {
    calls: {
      run: ({ mode, ms }) => threads.run(mode === 'one thread' ? 1 : 2, mode, ms),
      close: () => caches.length,
    },
  };
}

export const section = {
  name: 'threads',
  title: 'two threads',
  async run({ entries, rounds, ms }) {
    // Operations per nanosecond of all threads together. `busy` leaves out the time on the run queue, but not that
    // spent waiting for a lock, as CPU time would.
    const rate = Object.fromEntries(modes.map((mode) => [mode, { busy: [], cpu: [] }]));
    await withActors(import.meta.url, ['cairn'], { options: { entries } }, async (actors) => {
      for (let round = -1; round < rounds; round++) {
        for (const mode of round % 2 === 0 ? modes : [...modes].reverse()) {
          const threads = (await actors.get('cairn').ask({ call: 'run', argument: { mode, ms } })).result;
          if (round < 0) continue;
          for (const clock of ['busy', 'cpu']) {
            rate[mode][clock].push(threads.reduce((sum, thread) => sum + 1 / thread[clock], 0));
          }
        }
      }
    });
    const results = modes.map((mode) => ({
      mode,
      gets: summary(rate[mode].busy.map((perNs) => perNs * 1e3)),
      scaling: ratio(rate[mode].busy, rate['one thread'].busy),
      cpuScaling: ratio(rate[mode].cpu, rate['one thread'].cpu),
    }));
    const text = {
      'one thread': 'one thread',
      'one cache': 'two threads, one cache',
      'half each': 'two threads, a cache each with half of the entries',
      'all each': 'two threads, a cache each with all entries',
      'nothing shared': 'control: two threads, nothing shared, no cache',
    };
    return {
      note: `${entries.toLocaleString('en-US')} entries, new key strings, uniform. Million gets/s of all threads together, without the time that other processes had the processor. The control's scaling is against itself on one thread.`,
      tables: [
        {
          headings: ['', 'M gets/s', 'x one thread', 'by CPU time'],
          rows: results.map((row) => [
            text[row.mode],
            withRange(row.gets),
            row.mode === 'nothing shared' ? '' : withRange(row.scaling),
            row.mode === 'nothing shared' ? '' : withRange(row.cpuScaling),
          ]),
        },
      ],
      results,
      targets: {
        'threads-all': ratio(rate['one cache'].busy, rate['all each'].busy),
        'threads-half': ratio(rate['one cache'].busy, rate['half each'].busy),
      },
    };
  },
};
