// Published traces with published counts. Two independent implementations agree on the misses of an exact LRU for each
// trace and capacity; with one shard the store must come to the same integers, because its order is that of an exact
// LRU and its entry limit is exact. With many shards it may differ a little: the bound is stated below.
//
// The traces are not part of the project: they are looked for in CAIRN_TRACES, or in ../shared/traces beside it.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeAll, expect } from 'vitest';
import { skipUnless } from '../support/skip.ts';

interface Reference {
  traces: Record<
    string,
    {
      file: string;
      format: string;
      requests: number;
      by_entry_count?: Record<
        string,
        { lru_exact: { misses: number; hits: number; evictions: number; items_at_end: number } }
      >;
    }
  >;
}

interface Counts {
  requests: number;
  hits: number;
  misses: number;
  evictions: number;
  entries: number;
}

const root = join(import.meta.dirname, '..', '..');
const folder = process.env['CAIRN_TRACES'] ?? join(root, '..', 'shared', 'traces');
const found = existsSync(join(folder, 'reference.json'));
const traceTest = skipUnless(
  found,
  `no traces in ${process.env['CAIRN_TRACES'] ?? '../shared/traces'} (set CAIRN_TRACES)`,
);
const reference: Reference = found ? JSON.parse(readFileSync(join(folder, 'reference.json'), 'utf8')) : { traces: {} };
const program = join(root, 'native', 'build-test', 'trace_replay');

/** The keys of a trace, one a line, as the replay reads them. */
function keysOf(name: string): Buffer {
  const { file, format } = reference.traces[name]!;
  const text = gunzipSync(readFileSync(join(folder, file)));
  if (!format.includes('csv')) return text;
  const [, ...lines] = text.toString().trimEnd().split('\n');
  return Buffer.from(`${lines.map((line) => line.split(',')[1]).join('\n')}\n`);
}

function replay(keys: Buffer, entriesMax: string, shards: number): Counts {
  const args = ['--entries-max', entriesMax, '--shards', String(shards)];
  const { stdout, stderr, status } = spawnSync(program, args, { input: keys, encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return JSON.parse(stdout);
}

if (found) {
  beforeAll(() => {
    const steps = JSON.stringify(join(root, 'scripts', 'lib', 'steps.mjs'));
    const script = `(await import(${steps})).buildNativeTests('build-test', [], ['trace_replay'])`;
    const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`trace_replay does not build: ${stderr}`);
  }, 600_000);
}

for (const [name, trace] of Object.entries(reference.traces)) {
  if (trace.by_entry_count === undefined) continue;
  traceTest(
    `one shard has exactly the misses of an exact LRU on ${name}`,
    () => {
      const keys = keysOf(name);
      for (const [capacity, { lru_exact: exact }] of Object.entries(trace.by_entry_count!)) {
        expect(replay(keys, capacity, 1), `at ${capacity} entries`).toEqual({
          requests: trace.requests,
          hits: exact.hits,
          misses: exact.misses,
          evictions: exact.evictions,
          entries: exact.items_at_end,
        });
      }
    },
    120_000,
  );
}

traceTest(
  'sixteen shards miss at most 0.3 points more or less than one on arc-oltp',
  () => {
    const trace = reference.traces['arc-oltp']!;
    const keys = keysOf('arc-oltp');
    for (const [capacity, { lru_exact: exact }] of Object.entries(trace.by_entry_count!)) {
      const { misses } = replay(keys, capacity, 16);
      const points = (Math.abs(misses - exact.misses) / trace.requests) * 100;
      expect(points, `at ${capacity} entries`).toBeLessThanOrEqual(0.3);
    }
  },
  120_000,
);
