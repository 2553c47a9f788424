/** The log's own cursor: follows that of the database at some distance, so that the log can give room back. */
import type { Position } from '../log/index.ts';
import type { WriterClock } from './clock.ts';
import type { WriterLog } from './writer-log.ts';

/** It is moved at most this often: each move costs a sync. */
export const LOG_CURSOR_MS = 1000;

export class FollowingCursor {
  readonly #log: WriterLog;
  readonly #clock: WriterClock;
  #position: Position;
  /** When it was moved to there. */
  #movedMs = Number.NEGATIVE_INFINITY;
  /** Where it goes next. */
  #goal: Position;
  #timer: { stop(): void } | undefined;

  constructor(log: WriterLog, clock: WriterClock) {
    this.#log = log;
    this.#clock = clock;
    this.#position = log.confirmed;
    this.#goal = log.confirmed;
  }

  /** Where it is. The log has everything behind it. */
  get position(): Position {
    return this.#position;
  }

  /** Moves it to a position when it is time, or further if it is told so by then. */
  follow(position: Position): void {
    this.#goal = position;
    if (this.#timer !== undefined) return;
    const waitMs = this.#movedMs + LOG_CURSOR_MS - this.#clock.steadyMs();
    this.#timer = this.#clock.after(Math.max(0, waitMs), () => {
      this.#timer = undefined;
      void this.#move();
    });
  }

  /** Moves it back to a position at once: the log keeps everything behind that, as long as it still has it. */
  async goBack(position: Position): Promise<void> {
    this.stop();
    this.#goal = position;
    // What is written from here on moves it ahead again, from there.
    this.#position = position;
    try {
      await this.#log.goBack(position);
    } catch {
      // The log says itself that it cannot be written, and reading it that it does not go back so far.
    }
  }

  /** No further move begins by itself. */
  stop(): void {
    this.#timer?.stop();
    this.#timer = undefined;
  }

  /** Moves it now, for the last time. Never rejects. */
  async end(position: Position): Promise<void> {
    this.stop();
    this.#goal = position;
    await this.#move();
  }

  async #move(): Promise<void> {
    const position = this.#goal;
    if (position <= this.#position) return;
    this.#movedMs = this.#clock.steadyMs();
    try {
      await this.#log.advance(position);
      this.#position = position;
    } catch {
      // The log says itself that it cannot be written. Until the next time it keeps more than it needs.
    }
  }
}
