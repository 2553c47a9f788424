/**
 * The entries of a log at which lanes come together: those that have an atomic batch with keys of several lanes. Every
 * lane finds the same lanes, because only the bytes of the entry count: neither the rules nor what was passed before.
 */
import type { LogEntry } from '../log/index.ts';
import { haveBatches, RecordReader } from '../request/record.ts';
import { laneOf } from './share.ts';

export interface Crossing {
  readonly entry: LogEntry;
  /** Ascending; at least two. */
  readonly lanes: readonly number[];
}

/** The lanes that have to write an entry together; undefined: each writes its part by itself. */
export function crossingAt(entry: LogEntry, laneCount: number): Crossing | undefined {
  if (laneCount === 1 || !haveBatches(entry.records)) return undefined;
  const reader = new RecordReader(entry.records);
  // By batch: a bit for each of its lanes.
  let batches: Map<bigint, number> | undefined;
  while (reader.next()) {
    const id = reader.batch?.id;
    if (id === undefined) continue;
    batches ??= new Map();
    batches.set(id, (batches.get(id) ?? 0) | (1 << laneOf(reader.key, laneCount)));
  }
  if (batches === undefined) return undefined;
  let all = 0;
  for (const some of batches.values()) if ((some & (some - 1)) !== 0) all |= some;
  if (all === 0) return undefined;
  return { entry, lanes: Array.from({ length: laneCount }, (_, lane) => lane).filter((lane) => (all >> lane) & 1) };
}
