// Logs for tests: on a disk in memory, with a clock and random numbers that are the same in every run.

import {
  EmbeddedLog,
  type EmbeddedLogOptions,
  type LogBatch,
  type LogEntry,
  type LogNotice,
  type Position,
  type RequestLog,
} from '../../src/log/index.ts';
import { RecordReader } from '../../src/request/record.ts';
import { FaultyDisk } from './faulty-files.ts';
import { Random } from './random.ts';
import { makeRecord } from './records.ts';

export const DIRECTORY = '/data/log';

/** 2026-01-01T00:00:00Z: when the clock of a test log begins. */
export const START_MS = 1_767_225_600_000;

/** A disk with what is needed to open logs on it, again and again. */
export class LogDisk {
  readonly disk: FaultyDisk;
  readonly notices: LogNotice[] = [];
  nowMs = START_MS;
  #drawn = 0n;

  constructor(disk: FaultyDisk = new FaultyDisk(new Random(1))) {
    this.disk = disk;
  }

  options(options: Partial<EmbeddedLogOptions> = {}): EmbeddedLogOptions {
    return {
      directory: DIRECTORY,
      files: this.disk.files(),
      lockDirectory: () => ({ release() {} }),
      clock: { wallMs: () => this.nowMs, steadyMs: () => this.nowMs },
      random: () => this.random(),
      onNotice: (notice) => void this.notices.push(notice),
      segmentBytes: 8192,
      ...options,
    };
  }

  /** 0x1111..., 0x2222..., and so on: to be recognised in a dump. */
  random(): bigint {
    this.#drawn += 0x1111_1111_1111_1111n;
    return BigInt.asUintN(64, this.#drawn);
  }

  open(options?: Partial<EmbeddedLogOptions>): EmbeddedLog {
    return EmbeddedLog.open(this.options(options));
  }

  path(name: string): string {
    return `${DIRECTORY}/${name}`;
  }

  names(): string[] {
    return this.disk.names(DIRECTORY);
  }
}

/** A batch of `count` records with keys `<name>.1`, `<name>.2`, ... that belongs at the end of a log. */
export function batchFor(log: RequestLog, name: string, size?: { count?: number; valueBytes?: number }): LogBatch {
  return batchAt(log, log.end, name, size);
}

/** The same at any position. */
export function batchAt(
  log: { readonly epoch: number },
  expectPosition: Position,
  name: string,
  { count = 1, valueBytes = 20 } = {},
): LogBatch {
  const records = Array.from({ length: count }, (_, i) =>
    makeRecord({
      kind: 'set',
      key: `${name}.${i + 1}`,
      value: 'v'.repeat(valueBytes),
      epoch: log.epoch,
      counter: i + 1,
    }),
  );
  return { records, recordCount: count, epoch: log.epoch, expectPosition };
}

/** Appends a batch, which has to be committed. Returns where it is. */
export async function append(
  log: RequestLog,
  name: string,
  size?: { count?: number; valueBytes?: number },
): Promise<{ position: Position; end: Position }> {
  return committed(await log.append(batchFor(log, name, size)));
}

/** The same for the embedded log, at once. */
export function appendNow(
  log: EmbeddedLog,
  name: string,
  size?: { count?: number; valueBytes?: number },
): { position: Position; end: Position } {
  return committed(log.append(batchFor(log, name, size)));
}

function committed(result: Awaited<ReturnType<RequestLog['append']>>): { position: Position; end: Position } {
  if (result.kind !== 'committed') throw new Error(`Expected the batch to be committed, got ${result.kind}`);
  return { position: result.position, end: result.end };
}

/** The keys of an entry's records. */
export function keysOf(entry: LogEntry): string[] {
  const keys: string[] = [];
  const reader = new RecordReader(entry.records);
  while (reader.next()) keys.push(reader.key.toString());
  if (reader.status !== 'ok' || keys.length !== (entry.kind === 'records' ? entry.recordCount : 0)) {
    throw new Error(`An entry of ${entry.recordCount} records has ${keys.length} and ends ${reader.status}`);
  }
  return keys;
}

/** All keys of a log from a position on, in order. */
export function keysIn(log: EmbeddedLog, from: Position = log.oldestReadable): string[] {
  return [...log.entries(from)].flatMap(keysOf);
}

/** The next entries of a log, until `count` of them have records; take-overs are left out. */
export async function take(entries: AsyncIterable<LogEntry>, count: number): Promise<LogEntry[]> {
  const taken: LogEntry[] = [];
  if (count === 0) return taken;
  for await (const entry of entries) {
    if (entry.kind === 'records') taken.push(entry);
    if (taken.length === count) break;
  }
  return taken;
}
