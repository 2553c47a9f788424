/** Finds the changes that a database refuses, behind savepoints. */
import type { Change, DeadLetter } from './backend.ts';

/** Some changes of one kind, in a transaction. */
export interface Step {
  readonly changes: readonly Change[];
  /** Applies some of them. */
  apply(part: readonly Change[]): Promise<unknown>;
}

export interface Savepoints {
  /** One at a time, in the same transaction. */
  set(): Promise<unknown>;
  release(): Promise<unknown>;
  rollBack(): Promise<unknown>;
  /** Whether an error says that the database refuses a value for good. */
  isRefusal(error: unknown): boolean;
}

/** Applies a step, and its halves if the database refuses it. Changes that are refused alone become dead letters. */
export async function halve(
  { changes, apply }: Step,
  savepoints: Savepoints,
  deadLetters: DeadLetter[],
): Promise<void> {
  await savepoints.set();
  try {
    await apply(changes);
    await savepoints.release();
    return;
  } catch (error) {
    if (!savepoints.isRefusal(error)) throw error;
    await savepoints.rollBack();
    if (changes.length === 1) {
      deadLetters.push({ change: changes[0]!, error: error as Error });
      return;
    }
  }
  const middle = changes.length >> 1;
  await halve({ changes: changes.slice(0, middle), apply }, savepoints, deadLetters);
  await halve({ changes: changes.slice(middle), apply }, savepoints, deadLetters);
}
