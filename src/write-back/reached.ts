/** Whether rows are of a state in which the database had all that it has ever had. */
import type { Cursor } from '../backend/index.ts';
import { later, type Position } from '../log/index.ts';
import { laneOf } from './share.ts';

/**
 * Whether the cursors that were read with the rows of some keys are before what was reached, by lane. The lanes of the
 * database may be of another number: of each key, the lane that it is in there and that in which it was reached count.
 */
export function areBehind(
  cursors: readonly Cursor[],
  keys: readonly Uint8Array[],
  reached: readonly Position[],
): boolean {
  const highest = reached.reduce(later, 0n);
  if (highest === 0n) return false;
  if (cursors.length > 0 && cursors.every(({ position }) => position >= highest)) return false;
  return keys.some((key) => {
    const floor = reached[laneOf(key, reached.length)]!;
    return floor > 0n && !cursors.some((cursor) => isOf(cursor, key) && cursor.position >= floor);
  });
}

function isOf({ lane, laneCount }: Cursor, key: Uint8Array): boolean {
  return laneOf(key, laneCount) === lane;
}
