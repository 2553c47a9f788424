/**
 * Places of single records: a reader that keeps a record's place in memory, instead of the record, reads it again from
 * there. For any log and any reader of it that has `entryAt`.
 *
 * A batch has one checksum, so that the whole batch is read for one record: at most BUFFER_BYTES of the scribe, unless
 * the record is larger.
 */
import { RecordReader } from '../request/record.ts';
import type { LogEntry, Position, ReadLevel } from './request-log.ts';

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
