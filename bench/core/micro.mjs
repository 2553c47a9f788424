// Every verb of every cache, measured by Benchmark.js: a suite for each cache in its own process. The figures are
// Benchmark.js's (wall clock); CPU time per operation is taken beside them.

import Benchmark from 'benchmark';
import { withActors } from '../lib/actors.mjs';
import { threadCpuNs } from '../lib/clock.mjs';
import { versionOf } from '../lib/machine.mjs';
import { number } from '../lib/table.mjs';
import { cacheNames, fill, makeCache } from './caches.mjs';
import { KEY_BYTES, keyOf, requestStream, uniformNumbers, VALUE_BYTES, valueOf } from './workload.mjs';

const REQUESTS = 2 ** 16;
const MASK = REQUESTS - 1;
const TRANSACTION = 1000;

/** What the last call returned. */
export let sink;

/** The rows: what a call does, and how many operations that is. A cache without the verb has no such row. */
function verbs({ cache, roomy, keys, values, entries }) {
  const numbers = uniformNumbers(REQUESTS, entries);
  const hits = Array.from(numbers, (at) => keys[at]);
  const misses = Array.from(numbers, (at) => keys[at + entries]);
  const stream = requestStream(numbers);
  let i = 0;
  let fresh = entries;
  const rows = {
    'get, hit': () => roomy.get(hits[i++ & MASK]),
    'get, hit, new key string': () => {
      const at = (i++ & MASK) * KEY_BYTES;
      return roomy.get(stream.latin1Slice(at, at + KEY_BYTES));
    },
    'get, miss': () => roomy.get(misses[i++ & MASK]),
    has: () => roomy.has(hits[i++ & MASK]),
  };
  if (roomy.set !== undefined) {
    rows['set, overwrite'] = () => {
      const at = i++ & MASK;
      return roomy.set(hits[at], values[numbers[at]]);
    };
    rows['set, new key evicts'] = () => {
      if (++fresh === 2 * entries) fresh = 0;
      return cache.set(keys[fresh], values[fresh % entries]);
    };
  } else {
    const pairs = [];
    for (let k = 0; k < TRANSACTION; k++) pairs.push([hits[k], values[numbers[k]]]);
    rows['set, overwrite'] = () => roomy.setAll(pairs);
    rows['set, overwrite'].operations = TRANSACTION;
  }
  if (roomy.delete !== undefined) {
    rows['delete and set again'] = () => {
      const at = i++ & MASK;
      roomy.delete(hits[at]);
      return roomy.set(hits[at], values[numbers[at]]);
    };
  }
  if (roomy.getMany !== undefined && roomy.setMany !== undefined) {
    const many = (body) => Object.assign(body, { operations: 64 });
    rows['getMany of 64'] = many(() => {
      const at = i & MASK;
      i += 64;
      return roomy.getMany(hits.slice(at, at + 64));
    });
  }
  return rows;
}

export async function actor(name, { entries, maxTime }) {
  const options = { entries, entryBytes: KEY_BYTES + VALUE_BYTES };
  const keys = Array.from({ length: 2 * entries }, (_, i) => keyOf(i));
  const values = Array.from({ length: entries }, (_, i) => valueOf(i));
  const filled = async (more) => {
    const cache = await makeCache(name, { ...options, ...more });
    fill(
      cache,
      0,
      entries,
      (i) => keys[i],
      (i) => values[i],
    );
    return cache;
  };
  const roomy = await filled({});
  const cache = roomy.set === undefined ? undefined : await filled({ evicts: true });
  return {
    calls: {
      run() {
        const rows = [];
        const suite = new Benchmark.Suite(name);
        for (const [verb, body] of Object.entries(verbs({ cache, roomy, keys, values, entries }))) {
          let calls = 0;
          let cpu;
          // The result goes where the compiler cannot follow it, because it removes unused work.
          const counted = () => {
            calls++;
            sink = body();
          };
          const each = body.operations ?? 1;
          suite.add(verb, counted, {
            maxTime,
            // Benchmark.js's own choice, except in a run that only shows that everything works.
            ...(maxTime < 1 && { minTime: maxTime, minSamples: 1 }),
            onStart: () => {
              cpu = threadCpuNs();
              calls = 0;
            },
            onComplete: ({ target }) => {
              if (target.error !== undefined) throw target.error;
              rows.push({
                verb,
                perSecond: target.hz * each,
                marginPercent: target.stats.rme,
                cpuNs: (threadCpuNs() - cpu) / (calls * each),
                samples: target.stats.sample.length,
              });
            },
          });
        }
        suite.run({ async: false });
        return rows;
      },
    },
  };
}

export const section = {
  name: 'micro',
  title: 'every verb of every cache (Benchmark.js)',
  async run({ quick, entries }) {
    const maxTime = quick ? 0.002 : 1;
    const results = {};
    for (const name of cacheNames) {
      await withActors(import.meta.url, [name], { options: { entries, maxTime } }, async (actors) => {
        results[name] = (await actors.get(name).ask({ call: 'run' })).result;
      });
    }
    const rows = [...new Set(Object.values(results).flatMap((found) => found.map(({ verb }) => verb)))];
    const cell = (name, verb) => {
      const row = results[name].find((each) => each.verb === verb);
      return row === undefined ? '-' : `${number(row.perSecond / 1e6)} ±${row.marginPercent.toFixed(0)}%`;
    };
    const cpu = (name, verb) => number(results[name].find((each) => each.verb === verb)?.cpuNs);
    const version = (name) => (name === 'Map' ? name : `${name} ${versionOf(name === 'cairn' ? 'cairn-cache' : name)}`);
    return {
      note: `${entries.toLocaleString('en-US')} entries of ${KEY_BYTES} + ${VALUE_BYTES} bytes, strings, kept unless it says new. lmdb: in a file, without sync, ${TRANSACTION} writes a transaction. Map: no limit, no order.`,
      tables: [
        {
          title: 'million operations per second (wall clock)',
          headings: ['', ...cacheNames.map(version)],
          rows: rows.map((verb) => [verb, ...cacheNames.map((name) => cell(name, verb))]),
        },
        {
          title: 'nanoseconds of CPU time per operation',
          headings: ['', ...cacheNames],
          rows: rows.map((verb) => [verb, ...cacheNames.map((name) => cpu(name, verb))]),
        },
      ],
      results,
    };
  },
};
