/**
 * Commands to another thread whose answers have not come: each by its id, with the promise of the answer. A next thread
 * is asked what the one before has not answered.
 */
import { errorFrom, type PlainError } from './message.ts';

/** An answer: a result, or an error. */
export interface Answer {
  readonly id: number;
  readonly result: unknown;
  readonly error: PlainError | undefined;
}

interface Asked<C> {
  readonly command: C;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

export class Unanswered<C extends { readonly id: number }> {
  readonly #asked = new Map<number, Asked<C>>();

  get count(): number {
    return this.#asked.size;
  }

  /** The commands, for another thread, which has to be asked again. */
  commands(): C[] {
    return Array.from(this.#asked.values(), ({ command }) => command);
  }

  /**
   * Gives the promise of the answer. The caller sends the command. When the signal comes before the answer, the promise
   * rejects with its reason, and `onCancelled` is called. REQUIRES: the signal has not come yet.
   */
  add(command: C, signal?: AbortSignal, onCancelled?: () => void): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const cancel = (): void => {
        this.#take(command.id)?.reject(signal?.reason);
        onCancelled?.();
      };
      signal?.addEventListener('abort', cancel, { once: true });
      const forget = (): void => signal?.removeEventListener('abort', cancel);
      this.#asked.set(command.id, {
        command,
        resolve: (result) => {
          forget();
          resolve(result);
        },
        reject: (error) => {
          forget();
          reject(error);
        },
      });
    });
  }

  /** An answer; one that was not asked for, came twice or is not awaited any more is ignored. */
  settle({ id, result, error }: Answer): void {
    const asked = this.#take(id);
    if (error === undefined) asked?.resolve(result);
    else asked?.reject(errorFrom(error));
  }

  rejectAll(error: Error): void {
    const all = [...this.#asked.values()];
    this.#asked.clear();
    for (const { reject } of all) reject(error);
  }

  #take(id: number): Asked<C> | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    return asked;
  }
}
