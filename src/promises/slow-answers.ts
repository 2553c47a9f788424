/**
 * Answers to changes that wait for a time, because the database does not take changes and the room for them gets short:
 * native/store/slowdown.h. A call that waits keeps its place in the queue, as one does that waits for the log.
 */

interface SlowAnswer {
  readonly timer: NodeJS.Timeout;
  readonly leave: () => void;
}

/** Those of one handle. */
export class SlowAnswers {
  readonly #waiting = new Set<SlowAnswer>();

  /** Calls `leave` after this time. It must not throw. */
  hold(ms: number, leave: () => void): void {
    const answer: SlowAnswer = { timer: setTimeout(() => this.#leave(answer), ms), leave };
    this.#waiting.add(answer);
  }

  /** All leave at once: the handle is closed. */
  end(): void {
    for (const answer of [...this.#waiting]) {
      clearTimeout(answer.timer);
      this.#leave(answer);
    }
  }

  #leave(answer: SlowAnswer): void {
    this.#waiting.delete(answer);
    answer.leave();
  }
}
