/** Additions, to rows that may not be there: another writer may make or remove them at the same time. */
import type { AddChange } from './backend.ts';

/** Turns in which a row may come and go. */
const TURNS_MAX = 10;

/** A row that is there when it is to be made, and not when it is added to: a trigger leaves it as it is. */
class SkippedRow extends Error {
  // Of the class "triggered action exception", which databases take for a refusal.
  readonly code = '09000';
  readonly sqlState = '09000';

  constructor() {
    super('A trigger or a policy of the database leaves the row as it is');
  }
}

/** Statements on a table. Rows have names here. */
export interface AddsTo {
  /** Adds to the rows that are there; returns their names. */
  add(adds: readonly AddChange[]): Promise<Iterable<string>>;
  /** Makes rows of results, where there are none; returns the names of those that it has made. */
  make(adds: readonly AddChange[]): Promise<Iterable<string>>;
  nameOf(change: AddChange): string;
}

/**
 * Adds to each row once, or makes it. Adding comes first, because nearly always the rows are there. Throws, as for a
 * refusal of the database, if a row takes neither.
 */
export async function addOrMake(adds: readonly AddChange[], { add, make, nameOf }: AddsTo): Promise<void> {
  let left = adds;
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    for (const attempt of [add, make]) {
      const done = new Set(await attempt(left));
      left = left.filter((change) => !done.has(nameOf(change)));
      if (left.length === 0) return;
    }
  }
  throw new SkippedRow();
}
