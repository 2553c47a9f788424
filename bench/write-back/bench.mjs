// `npm run bench -- write-back`: how fast each backend writes batches, beside a raw loop of the same statements on the
// same database, and what deletes among the sets cost.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { threadCpuNs } from '../lib/clock.mjs';
import { describeMachine, printMachine } from '../lib/machine.mjs';
import { namesOption, numberOption, readOptions } from '../lib/options.mjs';
import { ratio, summary as summarize } from '../lib/statistics.mjs';
import { number, printTable, withRange } from '../lib/table.mjs';
import { SUBJECTS } from './subjects.mjs';

export const summary = 'batches written to each database, beside a raw loop of the same statements';

const LEAST = 0.8;

export const help = `npm run bench -- write-back [options]

  --only NAMES      ${Object.keys(SUBJECTS).join(',')} (default: those whose package and server are here)
  --postgres URL    a PostgreSQL to use; its tables with the prefix cairn_bench_ are dropped (default: a new cluster)
  --dir PATH        where databases in files go (default: the folder for temporary files)
  --rows N          rows of a batch (default 1000)
  --value N         bytes of a value (default 256)
  --rounds N        alternating rounds (default 7)
  --ms N            milliseconds of a measurement (default 1000)
  --quick           a few seconds: shows that it runs
`;

/** Distinct keys of the load. */
const KEYS = 200_000;

/** Changes of one batch; every fifth is a delete if they are mixed. Keys are drawn by a seed, each once in a batch. */
function changesOf(state, { rows, value, isMixed }) {
  const bytes = Buffer.alloc(value, 'v');
  const seen = new Set();
  const changes = [];
  while (changes.length < rows) {
    state.seed = (Math.imul(state.seed, 1_103_515_245) + 12_345) >>> 0;
    const index = state.seed % KEYS;
    if (seen.has(index)) continue;
    seen.add(index);
    const key = Buffer.from(`key:${String(index).padStart(16, '0')}`);
    const version = ++state.version;
    if (isMixed && changes.length % 5 === 4) changes.push({ kind: 'delete', key, version });
    else changes.push({ kind: 'set', key, value: bytes, codec: 2, clientFlags: 0, expiresWallMs: 0, version });
  }
  return changes;
}

/** Writes batches for a time. Making the changes does not count. */
async function time(write, state, settings) {
  let rows = 0;
  let ms = 0;
  let cpuNs = 0;
  let batches = 0;
  while (ms < settings.ms) {
    const changes = changesOf(state, settings);
    const cpuAtStart = threadCpuNs();
    const start = performance.now();
    await write(changes);
    ms += performance.now() - start;
    cpuNs += threadCpuNs() - cpuAtStart;
    rows += changes.length;
    batches++;
  }
  return { rowsPerSecond: (rows * 1000) / ms, cpuNs: cpuNs / rows, batchMs: ms / batches };
}

/** A writer that moves the cursor with each batch. */
function through(backend) {
  let from;
  const identity = { lane: 0, laneCount: 1, logId: 1n, epoch: 1, writer: 1n, holderEpoch: 1, holderWriter: 1n };
  return async (changes) => {
    const to = { ...identity, position: (from?.position ?? 0n) + 1n };
    const outcome = await backend.write({ changes, from, to });
    if (outcome.kind !== 'committed') throw new Error(`A batch was ${outcome.kind}`);
    from = to;
  };
}

async function measure(name, settings, place) {
  const subject = await SUBJECTS[name](place);
  try {
    await subject.backend.open();
    const writers = { raw: subject.raw, backend: through(subject.backend) };
    const samples = { raw: [], backend: [], mixed: [] };
    const state = { seed: 1, version: 1n << 32n };
    const run = async (kind) => {
      const isMixed = kind === 'mixed';
      const write = isMixed ? writers.backend : writers[kind];
      samples[kind].push(await time(write, state, { ...settings, isMixed }));
    };
    // Tables that are filled, plans and code that are warm.
    for (const kind of ['raw', 'backend', 'mixed']) await run(kind);
    for (const kind of Object.keys(samples)) samples[kind] = [];
    for (let round = 0; round < settings.rounds; round++) {
      const kinds = ['raw', 'backend', 'mixed'];
      for (const kind of round % 2 === 0 ? kinds : kinds.reverse()) await run(kind);
    }
    return samples;
  } finally {
    await subject.backend.close();
    await subject.end();
  }
}

const each = (samples, field) => samples.map((sample) => sample[field]);

export async function run(args) {
  const values = readOptions(args, help, {
    only: { type: 'string' },
    postgres: { type: 'string' },
    dir: { type: 'string' },
    rows: { type: 'string' },
    value: { type: 'string' },
    rounds: { type: 'string' },
    ms: { type: 'string' },
    quick: { type: 'boolean' },
  });
  if (values === undefined) return;
  const quick = values.quick ?? false;
  const settings = {
    rows: numberOption(values, 'rows', 1000),
    value: numberOption(values, 'value', 256),
    rounds: numberOption(values, 'rounds', quick ? 2 : 7),
    ms: numberOption(values, 'ms', quick ? 100 : 1000),
  };
  const names = namesOption(values, 'only', Object.keys(SUBJECTS));
  printMachine(describeMachine());
  console.log(
    `== batches of ${settings.rows} rows of 20 + ${settings.value} bytes over ${number(KEYS)} keys, one connection`,
  );
  console.log(
    '  rows per second, median [range]; backend : raw and 80/20 : sets, compared round by round; milliseconds of a',
  );
  console.log('  batch; CPU microseconds of the calling thread per row\n');
  const folder = mkdtempSync(join(values.dir ?? tmpdir(), 'cairn-bench-write-back-'));
  try {
    const rows = [];
    const verdicts = [];
    for (const name of names) {
      let samples;
      try {
        samples = await measure(name, settings, { folder: join(folder, name), url: values.postgres });
      } catch (error) {
        if (values.only !== undefined) throw error;
        console.log(`${name} is left out: ${error.message}`);
        continue;
      }
      const { raw, backend, mixed } = samples;
      const speed = ratio(each(backend, 'rowsPerSecond'), each(raw, 'rowsPerSecond'));
      const mix = ratio(each(mixed, 'rowsPerSecond'), each(backend, 'rowsPerSecond'));
      rows.push([
        name,
        withRange(summarize(each(raw, 'rowsPerSecond'))),
        withRange(summarize(each(backend, 'rowsPerSecond'))),
        withRange(speed, 'x'),
        withRange(mix, 'x'),
        number(summarize(each(backend, 'batchMs')).median),
        number(summarize(each(backend, 'cpuNs')).median / 1000),
      ]);
      if (name === 'postgres') verdicts.push(`target: ${LEAST}x of raw: ${speed.median >= LEAST ? 'met' : 'missed'}`);
    }
    printTable(['', 'raw', 'backend', 'backend : raw', '80/20 : sets', 'batch, ms', 'CPU us'], rows);
    if (!quick) for (const verdict of verdicts) console.log(verdict);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
