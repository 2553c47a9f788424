// Published traces with published counts. Two independent implementations agree on the misses of an exact LRU for each
// trace and capacity; with one shard a cache must come to the same integers, because its order is that of an exact LRU
// and its entry limit is exact. With many shards it may differ a little: the bound is stated below.
//
// The traces are not part of the project: they are looked for in CAIRN_TRACES, or in ../shared/traces beside it.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect } from 'vitest';
import { Cache } from '../../src/index.ts';
import { skipUnless } from '../support/skip.ts';

interface Counts {
  hits: number;
  misses: number;
  evictions: number;
  items_at_end: number;
}

interface Trace {
  file: string;
  requests: number;
  by_entry_count?: Record<string, { lru_exact: Counts }>;
}

const folder = process.env['CAIRN_TRACES'] ?? join(import.meta.dirname, '..', '..', '..', 'shared', 'traces');
const reference = join(folder, 'reference.json');
const traceTest = skipUnless(
  existsSync(reference),
  'there are no traces in ../shared/traces (CAIRN_TRACES names another folder)',
  'platform',
);

const traceOf = (name: string): Trace => JSON.parse(readFileSync(reference, 'utf8')).traces[name];
const keysOf = (trace: Trace): string[] =>
  gunzipSync(readFileSync(join(folder, trace.file)))
    .toString()
    .trimEnd()
    .split('\n');

/** Reads through: a hit, or else the key is stored. */
function replay(keys: string[], maxEntries: number, shards: number): Counts {
  using cache = new Cache({ maxMemory: '256mb', maxEntries, shards });
  let misses = 0;
  for (const key of keys) {
    if (cache.get(key) !== undefined) continue;
    misses++;
    cache.set(key, 'v');
  }
  const { hits, misses: counted, evictions, entries } = cache.stats();
  expect(counted).toBe(misses);
  return { hits, misses, evictions, items_at_end: entries };
}

for (const name of ['arc-oltp', 'cache2k-web12', 'lirs-loop']) {
  traceTest(
    `with one shard the misses on ${name} are those of an exact LRU`,
    () => {
      const trace = traceOf(name);
      const keys = keysOf(trace);
      expect(keys.length).toBe(trace.requests);
      const capacities = Object.entries(trace.by_entry_count!);
      expect(capacities.length).toBeGreaterThan(0);
      for (const [capacity, { lru_exact: exact }] of capacities) {
        expect(replay(keys, Number(capacity), 1), `at ${capacity} entries`).toEqual(exact);
      }
    },
    120_000,
  );
}

traceTest(
  'with 16 shards the miss ratio on arc-oltp is within 0.3 points of an exact LRU',
  () => {
    const trace = traceOf('arc-oltp');
    const keys = keysOf(trace);
    for (const [capacity, { lru_exact: exact }] of Object.entries(trace.by_entry_count!)) {
      const { misses } = replay(keys, Number(capacity), 16);
      const points = (Math.abs(misses - exact.misses) / trace.requests) * 100;
      expect(points, `at ${capacity} entries`).toBeLessThanOrEqual(0.3);
    }
  },
  120_000,
);
