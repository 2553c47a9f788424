// What the process does whose file calls are recorded: a cache with a log, life after life in one directory, whose
// scribe moves when it is turned. Before each operation, and as soon as operations are durable, it leaves a mark in the
// trace.

import { openSync } from 'node:fs';
import type { Files, SyncPolicy } from '../../../../src/log/index.ts';
import { nodeFiles } from '../../../../src/log/index.ts';
import { ProcessOnDisk } from '../../../support/process-on-disk.ts';
import { Random } from '../../../support/random.ts';

export interface WriterOptions {
  readonly directory: string;
  readonly seed: number;
  readonly lives: number;
  readonly operationsPerLife: number;
  readonly shards: number;
  /** A sync that the log asks for and the disk never sees: for showing that its absence is found. */
  readonly leavesOut?: LeftOut | undefined;
}

export type LeftOut = 'file-sync' | 'directory-sync';

/** What was asked of the cache. */
export type WriterOperation =
  | { readonly kind: 'set'; readonly key: string; readonly value: string }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'clear' };

export const KEYS: readonly string[] = Array.from({ length: 8 }, (_, i) => `key${i}`);
export const SEGMENT_BYTES = 4096;

/** The words of marks: an operation is about to be done; all operations up to this one are durable. */
export const Mark = { asked: 'asked', durable: 'durable' } as const;

function mark(word: string, operation: number): void {
  try {
    openSync(`/cairn-mark/${word} ${operation}`, 'r');
  } catch {
    // It is never there: only the recorder hears of it.
  }
}

function filesWithout(leftOut: LeftOut | undefined): Files {
  if (leftOut === undefined) return nodeFiles;
  if (leftOut === 'directory-sync') return { ...nodeFiles, syncDirectory() {} };
  return {
    ...nodeFiles,
    open(path, mode) {
      const file = nodeFiles.open(path, mode);
      return {
        size: () => file.size(),
        read: (target, offset) => file.read(target, offset),
        write: (pieces, offset) => file.write(pieces, offset),
        allocate: (offset, bytes) => file.allocate(offset, bytes),
        truncate: (bytes) => file.truncate(bytes),
        sync() {},
        close: () => file.close(),
      };
    },
  };
}

export class Writer {
  readonly #options: WriterOptions;
  readonly #random: Random;
  readonly #operations: WriterOperation[] = [];
  #clockMs = 1_800_000_000_000;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
  }

  run(): readonly WriterOperation[] {
    for (let life = 0; life < this.#options.lives; life++) this.#live();
    return this.#operations;
  }

  #live(): void {
    const { directory, shards, leavesOut, operationsPerLife } = this.#options;
    const random = this.#random;
    const sync = random.pick<SyncPolicy>(['always', 'always', '5ms', 'none']);
    const clock = { wallMs: () => this.#clockMs, steadyMs: () => this.#clockMs };
    const files = filesWithout(leavesOut);
    const process = new ProcessOnDisk(
      { files: () => files },
      { directory, sync, shards, segmentBytes: SEGMENT_BYTES, clock },
    );
    // What recovery shows is durable by then under `always`: a reader may have seen it.
    if (sync === 'always') mark(Mark.durable, this.#operations.length - 1);
    const life = new Life(process, this.#operations.length - 1, sync === 'always');
    for (let i = 0; i < operationsPerLife; i++) {
      const operation = this.#next();
      this.#operations.push(operation);
      mark(Mark.asked, this.#operations.length - 1);
      if (operation.kind === 'set') process.cache.set(operation.key, operation.value);
      else if (operation.kind === 'delete') process.cache.delete(operation.key);
      else process.cache.clear();
      life.done(this.#operations.length - 1);
      if (random.below(3) === 0) this.#turn(life);
      if (random.below(9) === 0) life.sync();
      if (random.below(15) === 0) life.snapshot();
    }
    // What memory has and the log has not ends with a process; here every life is remembered by the next.
    while (!life.isCommitted) this.#turn(life);
    if (random.below(2) === 0) {
      life.close();
      while (!life.isClosed) this.#turn(life);
    }
    process.end();
  }

  #turn(life: Life): void {
    this.#clockMs += this.#random.below(4);
    life.turn();
  }

  #next(): WriterOperation {
    const random = this.#random;
    const number = this.#operations.length;
    const kind = random.below(40);
    if (kind === 0) return { kind: 'clear' };
    const key = random.pick(KEYS);
    if (kind < 8) return { kind: 'delete', key };
    const filling = 'x'.repeat(random.below(8) === 0 ? 1500 : random.below(120));
    return { kind: 'set', key, value: `${number} ${filling}` };
  }
}

/** One life of the cache: which of its operations are committed, and which durable. */
class Life {
  readonly #process: ProcessOnDisk;
  readonly #isSynced: boolean;
  /** What the shards had given out after each operation that is not committed, and after each that is not durable. */
  #uncommitted: { operation: number; targets: BigUint64Array }[] = [];
  #durable: number;
  #last: number;
  #closing = 0;
  isClosed = false;
  readonly #syncs = new Map<number, number>();
  #id = 0;

  constructor(process: ProcessOnDisk, last: number, isSynced: boolean) {
    this.#process = process;
    this.#durable = last;
    this.#last = last;
    this.#isSynced = isSynced;
  }

  get isCommitted(): boolean {
    return this.#uncommitted.length === 0;
  }

  done(operation: number): void {
    this.#last = operation;
    this.#uncommitted.push({ operation, targets: this.#targets() });
  }

  turn(): void {
    const { reports } = this.#process;
    this.#process.turn();
    while (this.#uncommitted.length > 0 && this.#process.feed.covered(this.#uncommitted[0]!.targets)) {
      const { operation } = this.#uncommitted.shift()!;
      if (this.#isSynced) this.#isDurable(operation);
    }
    for (const report of reports.splice(0)) {
      if (report.kind !== 'done') continue;
      if (report.error !== undefined) throw new Error(`A command failed: ${report.error.message}`);
      const operation = this.#syncs.get(report.id);
      if (operation !== undefined) this.#isDurable(operation);
      if (report.id === this.#closing) this.isClosed = true;
    }
  }

  sync(): void {
    this.#command({ kind: 'sync', id: ++this.#id, targets: this.#targets() });
  }

  /** What is there when it is asked for is on the disk when it is done. */
  snapshot(): void {
    this.#command({ kind: 'snapshot', id: ++this.#id });
  }

  close(): void {
    this.#closing = ++this.#id;
    this.#command({ kind: 'close', id: this.#closing, timeoutMs: 0, takesSnapshot: this.#id % 2 === 0 });
  }

  #command(command: ProcessOnDisk['commands'][number]): void {
    this.#syncs.set(command.id, this.#last);
    this.#process.commands.push(command);
  }

  #isDurable(operation: number): void {
    if (operation <= this.#durable) return;
    this.#durable = operation;
    mark(Mark.durable, operation);
  }

  #targets(): BigUint64Array {
    const targets = new BigUint64Array(this.#process.feed.shardCount);
    this.#process.feed.readTargets(targets);
    return targets;
  }
}
