/**
 * Dead letters of atomic batches: if the database refuses one change of an atomic batch, all changes of it are put
 * aside. A backend finds that out when other changes of the batch have been applied, so it takes the changes of the
 * whole `write` back, and applies them again without those that this says are out.
 */
import type { Change, DeadLetter } from './backend.ts';
import type { NewestChanges } from './newest.ts';

export class AtomicLetters {
  readonly #errors = new Map<number, Error>();

  /** Learns from the dead letters of one try; true: another one has to be made, with more changes out. */
  learn(deadLetters: readonly DeadLetter[]): boolean {
    const before = this.#errors.size;
    for (const { change, error } of deadLetters) {
      if (change.atomic !== undefined && !this.isOut(change)) this.#errors.set(change.atomic, error);
    }
    return this.#errors.size > before;
  }

  isOut({ atomic }: Change): boolean {
    return atomic !== undefined && this.#errors.has(atomic);
  }

  /** The changes that are to be applied. */
  without(changes: NewestChanges): NewestChanges {
    if (this.#errors.size === 0) return changes;
    const isIn = (change: Change): boolean => !this.isOut(change);
    return {
      deletes: changes.deletes.filter(isIn),
      sets: changes.sets.filter(isIn),
      touches: changes.touches.filter(isIn),
      adds: changes.adds.filter(isIn),
    };
  }

  /** The dead letters of the changes that are out: each has the error of the change that was refused first. */
  of({ deletes, sets, touches, adds }: NewestChanges): DeadLetter[] {
    if (this.#errors.size === 0) return [];
    return [...deletes, ...sets, ...touches, ...adds]
      .filter((change) => this.isOut(change))
      .map((change) => ({ change, error: this.#errors.get(change.atomic!)! }));
  }
}
