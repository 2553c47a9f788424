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
    a.writer === b.writer
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

const CURSOR_BYTES = 40;

/** Lane, lane count, epoch and zero of 4 bytes each; log, position and writer of 8. Little-endian. */
export function encodeCursor({ lane, laneCount, logId, position, epoch, writer }: Cursor): Buffer {
  const bytes = Buffer.alloc(CURSOR_BYTES);
  bytes.writeUInt32LE(lane, 0);
  bytes.writeUInt32LE(laneCount, 4);
  bytes.writeUInt32LE(epoch, 8);
  bytes.writeBigUInt64LE(logId, 16);
  bytes.writeBigUInt64LE(position, 24);
  bytes.writeBigUInt64LE(writer, 32);
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
  };
}
