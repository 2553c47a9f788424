/** Cursors as every backend compares them, and as bytes for stores that have no columns. */
import type { Cursor, CursorMove, WriteBatch } from './backend.ts';

/** Whether two are the same; undefined: there is none. */
export function sameCursor(a: Cursor | undefined, b: Cursor | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.lane === b.lane &&
    a.laneCount === b.laneCount &&
    a.logId === b.logId &&
    a.position === b.position &&
    a.epoch === b.epoch &&
    a.writer === b.writer &&
    a.holderEpoch === b.holderEpoch &&
    a.holderWriter === b.holderWriter
  );
}

/** The same of all lanes, in the same order. */
export function sameCursors(some: readonly Cursor[], others: readonly Cursor[]): boolean {
  return some.length === others.length && some.every((cursor, i) => sameCursor(cursor, others[i]));
}

/** Of all cursors: that of the lane or, if it has none, one of another log or lane count: it cannot begin beside it. */
export function inTheWay(cursors: readonly Cursor[], { lane, laneCount, logId }: Cursor): Cursor | undefined {
  const isStranger = (cursor: Cursor): boolean => cursor.laneCount !== laneCount || cursor.logId !== logId;
  return cursors.find((cursor) => cursor.lane === lane) ?? cursors.find(isStranger);
}

/** All moves of a batch, in the order in which they are made. */
export function movesOf({ from, to, also = [] }: WriteBatch): readonly CursorMove[] {
  return [{ from, to }, ...also];
}

/**
 * Whether a batch may be written, of all cursors that there are: those of its lanes have to be where it begins.
 * `found`: the cursor in the way.
 */
export function mayMove(
  cursors: readonly Cursor[],
  batch: WriteBatch,
): { readonly isFree: true } | { readonly isFree: false; readonly found: Cursor | undefined } {
  let then = cursors;
  for (const { from, to } of movesOf(batch)) {
    const place = (to ?? from)!;
    const found = inTheWay(then, place);
    if (!sameCursor(found, from)) return { isFree: false, found };
    const others = then.filter(({ lane }) => lane !== place.lane);
    then = to === undefined ? others : [...others, to];
  }
  return { isFree: true };
}

const CURSOR_BYTES = 48;

/**
 * Lane, lane count, epoch and the epoch of the holder, of 4 bytes each; log, position, writer and the writer number of
 * the holder, of 8. Little-endian.
 */
export function encodeCursor(cursor: Cursor): Buffer {
  const bytes = Buffer.alloc(CURSOR_BYTES);
  bytes.writeUInt32LE(cursor.lane, 0);
  bytes.writeUInt32LE(cursor.laneCount, 4);
  bytes.writeUInt32LE(cursor.epoch, 8);
  bytes.writeUInt32LE(cursor.holderEpoch, 12);
  bytes.writeBigUInt64LE(cursor.logId, 16);
  bytes.writeBigUInt64LE(cursor.position, 24);
  bytes.writeBigUInt64LE(cursor.writer, 32);
  bytes.writeBigUInt64LE(cursor.holderWriter, 40);
  return bytes;
}

export function decodeCursor(bytes: Buffer): Cursor {
  return {
    lane: bytes.readUInt32LE(0),
    laneCount: bytes.readUInt32LE(4),
    epoch: bytes.readUInt32LE(8),
    logId: bytes.readBigUInt64LE(16),
    position: bytes.readBigUInt64LE(24),
    writer: bytes.readBigUInt64LE(32),
    holderEpoch: bytes.readUInt32LE(12),
    holderWriter: bytes.readBigUInt64LE(40),
  };
}
