// Crash states at the level of system calls. A process writes to a cache with a log, life after life, and a preloaded
// library records its file calls (recorder.c). For each moment of that trace the disks that a power cut may leave are
// made (states.ts): all subsets of up to SUBSET_STEPS_MAX unsynced steps, seeded samples beyond, torn writes among
// them. A cache is opened on each, by the product's own recovery, and has to
//   - open: no such disk is damaged;
//   - have every operation that was durable, and nothing but what was asked for by then: with one shard the whole state
//     after some operation between the two, with several the state of each key.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FaultyDisk } from '../../../support/faulty-files.ts';
import { ProcessOnDisk } from '../../../support/process-on-disk.ts';
import { Random } from '../../../support/random.ts';
import { projectRoot } from '../target.ts';
import { type Moment, moments } from './states.ts';
import { readTrace, type Step } from './trace.ts';
import { KEYS, type LeftOut, Mark, SEGMENT_BYTES, type WriterOperation, type WriterOptions } from './writer.ts';

/** Up to this many unsynced steps all subsets are tried, if `statesPerMoment` allows; beyond, samples. */
export const SUBSET_STEPS_MAX = 12;

export interface CrashOptions {
  readonly seed: number;
  /** How long it goes on: no new trace is begun, and no further state tried, after that. */
  readonly budgetMs: number;
  /** States tried at one moment of a trace. */
  readonly statesPerMoment: number;
  /** An empty folder, for the library, the traces and the directories. */
  readonly folder: string;
  readonly leavesOut?: LeftOut | undefined;
  readonly onTrace?: (line: string) => void;
}

export interface CrashResult {
  readonly traces: number;
  readonly moments: number;
  /** Disks that were tried, and how many of them differed. */
  readonly states: number;
  readonly distinct: number;
  /** Moments at which every subset was tried. */
  readonly exhausted: number;
  readonly wrong: readonly string[];
}

/** What a cache had after recovery: the values, or why it did not open. */
type Recovered = ReadonlyMap<string, string> | Error;

export class CrashCampaign {
  readonly #options: CrashOptions;
  readonly #random: Random;
  readonly #library: string;
  readonly #wrong: string[] = [];
  readonly #endMs: number;
  #counts = { traces: 0, moments: 0, states: 0, distinct: 0, exhausted: 0 };

  /** Compiles the recorder. Throws where there is no C compiler. */
  constructor(options: CrashOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#endMs = performance.now() + options.budgetMs;
    this.#library = join(options.folder, 'recorder.so');
    const source = join(projectRoot, 'test/fire/harness/crash/recorder.c');
    execFileSync('cc', [
      '-shared',
      '-fPIC',
      '-O1',
      '-Wall',
      '-Werror',
      '-o',
      this.#library,
      source,
      '-ldl',
      '-pthread',
    ]);
  }

  run(): CrashResult {
    while (!this.#isOver && this.#wrong.length === 0) this.#trace();
    return { ...this.#counts, wrong: this.#wrong };
  }

  get #isOver(): boolean {
    return performance.now() >= this.#endMs;
  }

  #trace(): void {
    const number = this.#counts.traces++;
    const { folder, leavesOut } = this.#options;
    const random = this.#random;
    const options: WriterOptions = {
      directory: join(folder, `data-${number}`),
      seed: random.bits(),
      lives: 1 + random.below(3),
      operationsPerLife: 5 + random.below(random.pick([40, 150])),
      shards: random.pick([1, 1, 4]),
      leavesOut,
    };
    const trace = join(folder, `trace-${number}`);
    const writer = fileURLToPath(new URL('./writer-main.js', import.meta.url));
    const output = execFileSync(process.execPath, [writer, JSON.stringify(options)], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
      env: {
        ...process.env,
        LD_PRELOAD: this.#library,
        CAIRN_TRACE_DIRECTORY: options.directory,
        CAIRN_TRACE_FILE: trace,
      },
    });
    const operations = JSON.parse(output) as WriterOperation[];
    const steps = readTrace(readFileSync(trace), options.directory);
    const before = { ...this.#counts };
    new Judge(options, operations, steps).judge({
      isOver: () => this.#isOver,
      statesPerMoment: this.#options.statesPerMoment,
      random,
      counts: this.#counts,
      onWrong: (what) => this.#wrong.push(`trace ${number} (${JSON.stringify(options)}): ${what}`),
    });
    const { moments: all, states, distinct } = this.#counts;
    this.#options.onTrace?.(
      `trace ${number}: ${operations.length} operations, ${steps.length} steps, ${all - before.moments} moments, ` +
        `${states - before.states} states, ${distinct - before.distinct} of them different`,
    );
  }
}

interface Judgement {
  readonly isOver: () => boolean;
  readonly statesPerMoment: number;
  readonly random: Random;
  readonly counts: { moments: number; states: number; distinct: number; exhausted: number };
  readonly onWrong: (what: string) => void;
}

/** Tries the disks of one trace. */
class Judge {
  readonly #options: WriterOptions;
  readonly #operations: readonly WriterOperation[];
  readonly #steps: readonly Step[];
  /** What each state, by its hash, was recovered to. */
  readonly #recovered = new Map<string, Recovered>();

  constructor(options: WriterOptions, operations: readonly WriterOperation[], steps: readonly Step[]) {
    this.#options = options;
    this.#operations = operations;
    this.#steps = steps;
  }

  judge({ isOver, statesPerMoment, random, counts, onWrong }: Judgement): void {
    for (const { at, moment } of moments(this.#steps)) {
      if (isOver()) return;
      counts.moments++;
      const bounds = this.#boundsAt(at);
      const all = 2 ** moment.pending.length;
      if (moment.pending.length <= SUBSET_STEPS_MAX && all <= statesPerMoment) counts.exhausted++;
      for (const { name, files } of choices(moment, statesPerMoment, random)) {
        if (isOver()) return;
        counts.states++;
        const hash = hashOf(files);
        let recovered = this.#recovered.get(hash);
        if (recovered === undefined) {
          counts.distinct++;
          recovered = this.#recover(files);
          this.#recovered.set(hash, recovered);
        }
        const fault = this.#faultOf(recovered, bounds);
        if (fault === undefined) continue;
        onWrong(`after step ${at}, ${name} of ${moment.pending.length} unsynced steps: ${fault}\n${describe(moment)}`);
        return;
      }
    }
  }

  /** The last operation that was durable after the first `at` steps, and the last that had been asked for; -1: none. */
  #boundsAt(at: number): { durable: number; asked: number } {
    const bounds = { durable: -1, asked: -1 };
    // Marks behind the step belong to its moment: the process has said it, and the disk has not changed since.
    for (const [i, step] of this.#steps.entries()) {
      if (step.kind !== 'mark') {
        if (i >= at) break;
        continue;
      }
      const [word, number] = step.text.split(' ');
      if (word === Mark.durable) bounds.durable = Math.max(bounds.durable, Number(number));
      else bounds.asked = Number(number);
    }
    return bounds;
  }

  #recover(files: ReadonlyMap<string, Buffer>): Recovered {
    const { directory, shards } = this.#options;
    const disk = FaultyDisk.of(files, new Random(0));
    disk.files().makeDirectory(directory);
    try {
      const process = new ProcessOnDisk(disk, { directory, shards, segmentBytes: SEGMENT_BYTES });
      const values = new Map(
        KEYS.flatMap((key) => {
          const value = process.cache.get(key);
          return value === undefined ? [] : [[key, value]];
        }),
      );
      process.end();
      return values;
    } catch (error) {
      return error as Error;
    }
  }

  #faultOf(recovered: Recovered, { durable, asked }: { durable: number; asked: number }): string | undefined {
    if (recovered instanceof Error) return `it does not open: ${recovered.message}`;
    const contents = this.#contentsAt(durable);
    const isExact = this.#options.shards === 1;
    const open = new Set(KEYS);
    for (let i = durable; ; ) {
      const equal = KEYS.filter((key) => contents.get(key) === recovered.get(key));
      if (isExact && equal.length === KEYS.length) return undefined;
      for (const key of equal) open.delete(key);
      if (!isExact && open.size === 0) return undefined;
      if (++i > asked) break;
      apply(contents, this.#operations[i]!);
    }
    const keys = isExact ? KEYS : [...open];
    const seen = keys.map((key) => `${key}=${recovered.get(key)?.slice(0, 12) ?? '-'}`).join(', ');
    return `it has what was there at no moment between operations ${durable} and ${asked}: ${seen}`;
  }

  #contentsAt(operation: number): Map<string, string> {
    const contents = new Map<string, string>();
    for (let i = 0; i <= operation; i++) apply(contents, this.#operations[i]!);
    return contents;
  }
}

function apply(contents: Map<string, string>, operation: WriterOperation): void {
  if (operation.kind === 'set') contents.set(operation.key, operation.value);
  else if (operation.kind === 'delete') contents.delete(operation.key);
  else contents.clear();
}

/** Disks of a moment: everything and nothing first, then all subsets, or samples of them and of torn writes. */
function* choices(
  moment: Moment,
  count: number,
  random: Random,
): Generator<{ readonly name: string; readonly files: Map<string, Buffer> }> {
  const steps = moment.pending.length;
  yield { name: 'none', files: moment.state(() => false) };
  if (steps === 0) return;
  yield { name: 'all', files: moment.state(() => true) };
  if (steps <= SUBSET_STEPS_MAX && 2 ** steps <= count) {
    for (let subset = 1; subset < 2 ** steps - 1; subset++) {
      yield { name: `subset ${subset.toString(2)}`, files: moment.state((i) => (subset & (1 << i)) !== 0) };
    }
  } else {
    for (let i = 0; i < count - 2; i++) {
      const kept = Array.from({ length: steps }, () => random.below(2) === 0);
      const name = `subset ${kept.map(Number).reverse().join('')}`;
      yield { name, files: moment.state((step) => kept[step]!) };
    }
  }
  for (let i = 0; i < Math.min(4, count); i++) {
    const kept = Array.from({ length: steps }, () => random.below(4) !== 0);
    yield { name: 'torn writes', files: moment.state((step) => kept[step]!, random) };
  }
}

function hashOf(files: ReadonlyMap<string, Buffer>): string {
  const hash = createHash('sha1');
  for (const [path, bytes] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${path}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest('base64');
}

function describe({ pending }: Moment): string {
  return pending
    .map((step, i) => {
      const { kind, inode } = step;
      if (step.kind === 'write') return `  ${i} write inode ${inode} at ${step.offset}, ${step.bytes.length} bytes`;
      if (step.kind === 'truncate') return `  ${i} truncate inode ${inode} to ${step.size}`;
      return `  ${i} ${kind} ${step.path} inode ${inode}`;
    })
    .join('\n');
}
