/**
 * From the lanes that a database has to another number of them: when the cursors of all its lanes are at one position,
 * one transaction makes them those of the new lanes. Until then, the old lanes write their shares, so a writer that
 * dies at any moment leaves cursors with which the next one goes on.
 */
import type { Cursor, WriteBatch } from '../backend/index.ts';

type Moves = Pick<WriteBatch, 'from' | 'to' | 'also'>;

/** The first cursors of several lanes, in a database that has none. */
export function firstMoves(logId: bigint, laneCount: number): Moves {
  const moves = Array.from({ length: laneCount }, (_, lane) => {
    return { from: undefined, to: { lane, laneCount, logId, position: 0n, epoch: 0, writer: 0n } };
  });
  const [own, ...also] = moves;
  return { ...own!, also };
}

/** The cursor that is furthest in the log. */
export function furthest(cursors: readonly Cursor[]): Cursor {
  return cursors.reduce((far, cursor) => (cursor.position > far.position ? cursor : far));
}

/** From all lanes of a database, whose cursors are at `at`, to that many. */
export function relaningMoves(cursors: readonly Cursor[], at: Cursor, laneCount: number): Moves {
  const placeOf = (lane: number): Cursor => ({ ...at, lane, laneCount });
  const moves = Array.from({ length: Math.max(cursors.length, laneCount) }, (_, lane) => {
    return { from: cursors[lane], to: lane < laneCount ? placeOf(lane) : undefined };
  });
  const [own, ...also] = moves;
  return { from: own!.from, to: placeOf(0), also };
}
