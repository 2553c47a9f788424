/**
 * The dead letters of some batches, as the database has them with the cursor of each batch. For a batch whose outcome
 * did not come back: the connection broke in COMMIT, or the thread that wrote it died. And for the mode
 * `write-through`, which keeps none.
 */
import type { Backend, DeadLetter } from '../backend/index.ts';
import type { Position } from '../log/index.ts';

/** Letters of one question. */
const PAGE = 100;

/** Some batches. */
export interface BatchRange {
  readonly logId: bigint;
  /** Those of a key end behind this position; undefined: the key is of another lane. */
  readonly afterOf: (key: Buffer) => Position | undefined;
  /** They end here, or before. */
  readonly end: Position;
}

/** Dead letters, and the numbers that they have in the database. */
export interface Letters {
  readonly letters: readonly DeadLetter[];
  readonly ids: readonly bigint[];
}

/** The letters of the batches in a range, in their order. */
export async function lettersBehind(
  { deadLetters }: Pick<Backend, 'deadLetters'>,
  { logId, afterOf, end }: BatchRange,
): Promise<Letters> {
  const letters: DeadLetter[] = [];
  const ids: bigint[] = [];
  if (deadLetters === undefined) return { letters, ids };
  for (let last = 0n; ; ) {
    const page = await deadLetters.list(PAGE, last);
    for (const { id, change, error, cursor } of page) {
      if (cursor.logId !== logId || cursor.position > end) continue;
      const after = afterOf(change.key);
      if (after === undefined || cursor.position <= after) continue;
      letters.push({ change, error: new Error(error) });
      ids.push(id);
    }
    if (page.length < PAGE) break;
    last = page.at(-1)!.id;
  }
  return { letters, ids };
}
