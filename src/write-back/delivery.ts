/**
 * A batch on its way: written again until the cursors say that the database has it, or that they are elsewhere.
 *
 * After a failed write nothing is known: the connection may have broken before, during or after COMMIT. So the cursors
 * are read first. Where the batch would have put them, the batch was committed; where they were, the batch is written
 * again, the same one. Of a batch of several lanes either all cursors have moved or none.
 */
import type { Cursor, DeadLetter, WriteBatch } from '../backend/index.ts';
import { mayMove, movesOf, sameCursor } from '../backend/index.ts';
import type { Calls } from './calls.ts';

export type Delivered =
  /** `deadLetters`: undefined if the answer of the database was lost, and only its table has them. */
  | { readonly kind: 'written'; readonly deadLetters: readonly DeadLetter[] | undefined }
  /** A cursor is neither where the batch begins nor where it ends. */
  | { readonly kind: 'moved' }
  | { readonly kind: 'ended' };

export interface Course {
  readonly calls: Calls;
  /** Resolves when a call may be begun. */
  readonly resumed: () => Promise<void>;
  readonly ending: AbortSignal;
}

export async function deliver(write: WriteBatch, { calls, resumed, ending }: Course): Promise<Delivered> {
  for (;;) {
    await resumed();
    if (ending.aborted) return { kind: 'ended' };
    const outcome = await calls.once((backend) => backend.write(write));
    let found: readonly Cursor[] | undefined;
    if ('error' in outcome) {
      if (ending.aborted) return { kind: 'ended' };
      await calls.failed(outcome);
    } else {
      const { value } = outcome;
      if (value.kind === 'committed') return { kind: 'written', deadLetters: value.deadLetters };
      if (write.also === undefined) found = value.found === undefined ? [] : [value.found];
    }
    found ??= await calls.untilAnswered((backend) => backend.readCursors(lanesOf(write)));
    if (found === undefined) return { kind: 'ended' };
    // Nothing was written: this try counts as a failure, though the database has answered.
    if (mayMove(found, write).isFree) continue;
    return hasMoved(found, write) ? { kind: 'written', deadLetters: undefined } : { kind: 'moved' };
  }
}

function lanesOf(write: WriteBatch): number[] {
  return movesOf(write).map(({ from, to }) => (to ?? from)!.lane);
}

function hasMoved(found: readonly Cursor[], write: WriteBatch): boolean {
  return movesOf(write).every(({ from, to }) => {
    const { lane } = (to ?? from)!;
    return sameCursor(
      found.find((cursor) => cursor.lane === lane),
      to,
    );
  });
}
