/**
 * From the lanes that a database has to another number of them: when the cursors of all its lanes are at one position,
 * one transaction makes them those of the new lanes. Until then, the old lanes write their shares, so a writer that
 * dies at any moment leaves cursors with which the next one goes on.
 */
import type { Cursor } from '../backend/index.ts';
import { type Moves, movesTo } from './holder.ts';

/** The cursor that is furthest in the log. */
export function furthest(cursors: readonly Cursor[]): Cursor {
  return cursors.reduce((far, cursor) => (cursor.position > far.position ? cursor : far));
}

/** From all lanes of a database, whose cursors are at `at`, to that many. */
export function relaningMoves(cursors: readonly Cursor[], at: Cursor, laneCount: number): Moves {
  const places = Array.from({ length: laneCount }, (_, lane) => ({ ...at, lane, laneCount }));
  return movesTo(cursors, places);
}
