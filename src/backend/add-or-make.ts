/** Additions, to rows that may not be there: another writer may make or remove them at the same time. */
import type { AddChange } from './backend.ts';

/** Turns in which a row may come and go. A row that is there in all of them is one that a trigger leaves as it is. */
const TURNS_MAX = 10;

/** Statements on a table. Rows have names here. */
export interface AddsTo {
  /** Adds to the rows that are there; returns their names. */
  add(adds: readonly AddChange[]): Promise<Iterable<string>>;
  /** Makes rows of results, where there are none; returns the names of those that it has made. */
  make(adds: readonly AddChange[]): Promise<Iterable<string>>;
  nameOf(change: AddChange): string;
}

/**
 * Adds to each row once, or makes it. Adding comes first, because nearly always the rows are there. What a trigger of
 * the user's skips is skipped, as with a set.
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
}
