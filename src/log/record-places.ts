/**
 * Places of single records: a reader that keeps a record's place in memory, instead of the record, reads it again from
 * there. For any log and any reader of it that has `entryAt`.
 *
 * A batch has one checksum, so that the whole batch is read for one record: at most BUFFER_BYTES of the scribe, unless
 * the record is larger.
 */
import { CairnRangeError } from '../errors.ts';
import { RecordReader } from '../request/record.ts';
import type { LogEntry, LogRange, Position, ReadLevel } from './request-log.ts';

/** Where one record is. */
export interface RecordPlace {
  /** Of its entry. */
  readonly position: Position;
  /** Which of the entry's records it is, from 0. */
  readonly index: number;
}

/** The records of an entry, in order: each with its place, and how many records of the log are before it. */
export function* recordsOf(entry: LogEntry): Generator<{ place: RecordPlace; recordsBefore: bigint; record: Buffer }> {
  const reader = new RecordReader(entry.records);
  for (let index = 0; reader.next(); index++) {
    const place = { position: entry.position, index };
    yield { place, recordsBefore: entry.recordsBefore + BigInt(index), record: reader.record };
  }
}

/**
 * The record at a place. Undefined: the log was truncated beyond it, be it during the call, it cannot be read yet at
 * this level, or there never was one. Never another record. Throws as `entryAt`.
 */
export function recordAt(
  log: { entryAt(position: Position, level?: ReadLevel): LogEntry | undefined },
  { position, index }: RecordPlace,
  level?: ReadLevel,
): Buffer | undefined {
  const entry = log.entryAt(position, level);
  if (entry?.kind !== 'records') return undefined;
  for (const { place, record } of recordsOf(entry)) if (place.index === index) return record;
  return undefined;
}

/** The answer of {@link recordOf}. */
export type FoundRecord =
  | { readonly kind: 'found'; readonly record: Buffer }
  /** It was truncated, or was never there: what the caller knows of the key is old. */
  | { readonly kind: 'gone' };

/** What can be read of a log: a LogReader of any thread, or the log itself. */
export interface RecordSource {
  readonly oldestReadable: Position;
  entries(from: Position, level?: ReadLevel): Iterable<LogEntry>;
}

/**
 * The record of a key with this version, which is in one of these ranges if the log still has it. The newest range is
 * looked at first. Throws `ERR_LOG_IO` and `ERR_LOG_CORRUPT`, as reading does.
 */
export function recordOf(
  log: RecordSource,
  ranges: readonly LogRange[],
  key: Uint8Array,
  version: bigint,
): FoundRecord {
  for (const range of ranges.toReversed()) {
    const record = recordIn(log, range, key, version);
    if (record !== undefined) return { kind: 'found', record };
  }
  return { kind: 'gone' };
}

// The beginning of a range may be truncated, also while it is read, and the rest be there.
function recordIn(log: RecordSource, range: LogRange, key: Uint8Array, version: bigint): Buffer | undefined {
  for (let from = range.position; from < range.end; ) {
    try {
      for (const entry of log.entries(from)) {
        if (entry.position >= range.end) return undefined;
        const record = recordInEntry(entry, key, version);
        if (record !== undefined) return record;
        from = entry.end;
      }
      return undefined;
    } catch (error) {
      if (!(error instanceof CairnRangeError)) throw error;
      const oldest = log.oldestReadable;
      // It is there, and was not readable: the log has come to an end before this position.
      if (oldest <= from) return undefined;
      from = oldest;
    }
  }
  return undefined;
}

function recordInEntry(entry: LogEntry, key: Uint8Array, version: bigint): Buffer | undefined {
  if (entry.kind !== 'records') return undefined;
  const reader = new RecordReader(entry.records);
  while (reader.next()) if (reader.version === version && reader.key.equals(key)) return reader.record;
  return undefined;
}
