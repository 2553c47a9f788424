/** What dead letters mean for reads: a load answers as if the changes in them had been applied. */
import type { AddChange, AddedAgain, Change, KeptDeadLetter, RowValue } from './backend.ts';
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

/** Dead letters of one question: of a counter that is refused there may be any number. */
export const LETTERS_PIECE = 256;

/** A dead letter that is not superseded, by the name of its key. */
export interface LiveLetter {
  readonly id: bigint;
  readonly name: string;
  readonly change: Change;
}

/** The dead letters of some keys, in the order of their numbers, in which they came: a touch is of the value before. */
export interface LettersOfKeys {
  /** The first of all of them: {@link LETTERS_PIECE}, or all. */
  readonly first: readonly LiveLetter[];
  /** The next of one key, behind a number. */
  next(name: string, after: bigint): Promise<readonly LiveLetter[]>;
}

/** What a load answers for some keys, by their names: the rows that were found, with their dead letters. */
export async function answersOf(
  names: readonly string[],
  found: Map<string, RowValue | undefined>,
  { first, next }: LettersOfKeys,
  nowMs: number,
): Promise<(RowValue | undefined)[]> {
  const last = new Map<string, bigint>();
  const apply = (letters: readonly LiveLetter[]): void => {
    for (const { id, name, change } of letters) {
      found.set(name, applied(found.get(name), change));
      last.set(name, id);
    }
  };
  apply(first);
  if (first.length === LETTERS_PIECE) {
    for (const name of new Set(names)) {
      for (let isMore = true; isMore; ) {
        const letters = await next(name, last.get(name) ?? 0n);
        apply(letters);
        isMore = letters.length === LETTERS_PIECE;
      }
    }
  }
  return names.map((name) => alive(found.get(name), nowMs));
}

/** Nothing is to be added: there is no such addition, or it does not count any more. */
export const GONE: AddedAgain = { outcome: 'gone', reason: undefined };

/** The addition that was put aside with this number, if the letter counts. */
export function additionOf(letter: KeptDeadLetter | undefined, id: bigint): AddChange | undefined {
  if (letter === undefined || letter.id !== id || letter.isSuperseded) return undefined;
  return letter.change.kind === 'add' ? letter.change : undefined;
}
