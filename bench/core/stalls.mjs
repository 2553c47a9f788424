// How long the event loop stands still at worst, while a large cache is filled, churned, cleared and closed.
//
// The work is done in turns of 100 operations, a turn of the event loop each. The length of a turn is what it took less
// what the thread waited for a processor that others had; whatever else it waited for (a lock, a garbage collector)
// counts. The control makes the same strings and stores nothing, so what is left over it is the cache's.

import { freemem } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { withActors } from '../lib/actors.mjs';
import { moment } from '../lib/clock.mjs';
import { summary } from '../lib/statistics.mjs';
import { number, withRange } from '../lib/table.mjs';
import { makeCache, mustHold } from './caches.mjs';
import { KEY_BYTES, keyOf, VALUE_BYTES, valueOf } from './workload.mjs';

const TURN_OPERATIONS = 100;
// What the largest of the rivals takes for an entry, and then some.
const ENTRY_BYTES_MOST = 400;
const phases = ['fill', 'churn', 'clear', 'after clear', 'close', 'after close'];

export async function actor(name, { entries }) {
  if (name === 'warm-up') return { calls: { run: () => touchMemory(entries * ENTRY_BYTES_MOST) } };
  let sink = 0;
  const nothing = { get: () => undefined, set: (key, value) => void (sink += key.length + value.length), clear() {} };
  let cache =
    name === 'control'
      ? nothing
      : await makeCache(name, { entries, entryBytes: KEY_BYTES + VALUE_BYTES, evicts: true });

  /** The longest of `turns` turns, in milliseconds. */
  async function longest(turns, body) {
    let worst = 0;
    await nextTurn();
    let start = moment();
    for (let turn = 0; turn < turns; turn++) {
      body(turn);
      await nextTurn();
      const end = moment();
      worst = Math.max(worst, end.ms - start.ms - (end.queuedMs - start.queuedMs));
      start = end;
    }
    return worst;
  }
  const store = (first) => (turn) => {
    const from = first + turn * TURN_OPERATIONS;
    for (let i = from; i < from + TURN_OPERATIONS; i++) cache.set(keyOf(i), valueOf(i));
  };
  const read = (turn) => {
    for (let i = 0; i < TURN_OPERATIONS; i++) cache.get(keyOf((turn * TURN_OPERATIONS + i) % entries));
  };
  return {
    calls: {
      async run() {
        const turns = Math.ceil(entries / TURN_OPERATIONS);
        const worst = {};
        worst.fill = await longest(turns, store(0));
        if (name !== 'control') mustHold(cache.size > entries * 0.95, `${name} holds ${cache.size} entries`);
        worst.churn = await longest(Math.ceil(turns * 0.4), store(entries));
        worst.clear = await longest(1, () => cache.clear());
        // Whatever was put off until later happens now, while the cache is used again.
        worst['after clear'] = await longest(Math.ceil(turns / 10), store(0));
        await longest(Math.ceil(turns / 10), read);
        worst.close = await longest(1, () => {
          cache.close?.();
          cache = nothing;
        });
        worst['after close'] = await longest(Math.ceil(turns / 10), store(0));
        return { worst, sink };
      },
    },
  };
}

// A virtual machine gets its memory from the host page by page, when it is first used: that has been seen to take 5 ms
// for the 2 MiB of a large page, which no cache here causes. So memory is used once before the measurement.
function touchMemory(bytes) {
  const PIECE_BYTES = 64 * 2 ** 20;
  const count = Math.ceil(Math.min(bytes, freemem() * 0.8) / PIECE_BYTES);
  const pieces = Array.from({ length: count }, () => Buffer.allocUnsafeSlow(PIECE_BYTES).fill(1));
  return { touched: pieces.length * PIECE_BYTES };
}

export const section = {
  name: 'stalls',
  title: 'the longest stall of the event loop',
  async run({ quick, rounds }) {
    const entries = quick ? 50_000 : 5_000_000;
    const names = ['control', 'cairn', 'lru-cache'];
    const runs = Object.fromEntries(names.map((name) => [name, []]));
    await withActors(import.meta.url, ['warm-up'], { options: { entries } }, (actors) =>
      actors.get('warm-up').ask({ call: 'run' }),
    );
    for (let round = 0; round < Math.min(rounds, 5); round++) {
      for (const name of names) {
        const execArgv = ['--expose-gc', '--max-old-space-size=8192'];
        await withActors(import.meta.url, [name], { options: { entries }, execArgv }, async (actors) => {
          runs[name].push((await actors.get(name).ask({ call: 'run' })).result.worst);
        });
      }
    }
    const results = names.map((name) => {
      const ofPhase = (phase) => summary(runs[name].map((run) => run[phase]));
      const byPhase = Object.fromEntries(phases.map((phase) => [phase, ofPhase(phase)]));
      // What a cache does it does in every run, what the machine does in some: of each phase, the run in which it was
      // disturbed least.
      const always = Math.max(...Object.values(byPhase).map(({ min }) => min));
      return {
        name,
        phases: byPhase,
        worst: summary(runs[name].map((run) => Math.max(...Object.values(run)))),
        always,
      };
    });
    const [control, cairn] = results;
    const beyondControl = ({ always }) => always - control.always;
    const stall = { ...summary([beyondControl(cairn)]), samples: runs.cairn.length };
    return {
      note: `${entries.toLocaleString('en-US')} entries of ${KEY_BYTES} + ${VALUE_BYTES} bytes; milliseconds, the longest of all turns of ${TURN_OPERATIONS} operations. What a turn takes besides (some 0.1 ms) is in it. "In every run": the longest phase, of each phase the run with the shortest stall.`,
      tables: [
        {
          headings: ['', ...names],
          rows: [
            ...phases.map((phase) => [phase, ...results.map((row) => withRange(row.phases[phase]))]),
            ['longest of all', ...results.map((row) => withRange(row.worst))],
            ['in every run', ...results.map((row) => number(row.always))],
            ['less the control', '', ...results.slice(1).map((row) => number(beyondControl(row)))],
          ],
        },
      ],
      results,
      targets: { stall },
    };
  },
};
