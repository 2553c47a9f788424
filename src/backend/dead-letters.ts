/** What dead letters mean for reads: a load answers as if the changes in them had been applied. */
import type { Change, RowValue } from './backend.ts';
import { numberOf, sumOf } from './counter.ts';

/** The row that a change leaves. */
export function applied(row: RowValue | undefined, change: Change): RowValue | undefined {
  if (change.kind === 'delete') return undefined;
  const { expiresWallMs, version } = change;
  if (change.kind === 'touch') return row === undefined ? undefined : { ...row, expiresWallMs, version };
  const { value, codec, clientFlags } = change;
  const number = change.kind === 'add' && row !== undefined ? numberOf(row.value) : undefined;
  if (change.kind === 'add' && row !== undefined && number !== undefined) {
    return { ...row, value: Buffer.from(`${sumOf(number, change.delta)}`), expiresWallMs, version };
  }
  return { value, codec, clientFlags, expiresWallMs, version };
}

/** The row, unless it has expired: from the millisecond of its expiry on it is a miss. */
export function alive(row: RowValue | undefined, nowMs: number): RowValue | undefined {
  if (row === undefined) return undefined;
  return row.expiresWallMs === 0 || row.expiresWallMs > nowMs ? row : undefined;
}

/** A dead letter that is not superseded, by the name of its key. */
export interface LiveLetter {
  readonly name: string;
  readonly change: Change;
}

/**
 * What a load answers for some keys, by their names: the rows that were found, with dead letters in the order in which
 * they came, because a touch is of the value before.
 */
export function answersOf(
  names: readonly string[],
  found: Map<string, RowValue | undefined>,
  letters: readonly LiveLetter[],
  nowMs: number,
): (RowValue | undefined)[] {
  for (const { name, change } of letters) found.set(name, applied(found.get(name), change));
  return names.map((name) => alive(found.get(name), nowMs));
}
