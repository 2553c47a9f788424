/**
 * What the scribe's thread asks of its keeper while it opens the log: it runs no event loop, and waits for the answer.
 * What it is told meanwhile is kept for later.
 */
import { errorFrom, type Heard, type OpeningAnswer, type OpeningQuestion, type Report, type Told } from './message.ts';

/** How long it sleeps between two looks. */
const LOOK_MS = 1;

export class Asking {
  readonly #hear: () => Told | undefined;
  readonly #say: (report: Report) => void;
  readonly #sleep: (ms: number) => void;
  readonly #kept: Heard[] = [];

  constructor(hear: () => Told | undefined, say: (report: Report) => void, sleep: (ms: number) => void) {
    this.#hear = hear;
    this.#say = say;
    this.#sleep = sleep;
  }

  /** The next of what the thread is told. */
  readonly hear = (): Heard | undefined => {
    const told = this.#kept.shift() ?? this.#hear();
    return told?.kind === 'answer' ? this.hear() : told;
  };

  /** Throws what the keeper answers instead. */
  ask(question: OpeningQuestion): OpeningAnswer {
    this.#say({ kind: 'question', question });
    for (;;) {
      const told = this.#hear();
      if (told === undefined) this.#sleep(LOOK_MS);
      else if (told.kind !== 'answer') this.#kept.push(told);
      else if (told.error !== undefined) throw errorFrom(told.error);
      else return told.result!;
    }
  }
}
