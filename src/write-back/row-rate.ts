/** How many rows a second the database gets: after a batch, the next one waits until its rows have had their time. */
export class RowRate {
  readonly #rowsPerSecond: number;
  #nextMs = Number.NEGATIVE_INFINITY;

  /** `rowsPerSecond`: 0: without a limit. */
  constructor(rowsPerSecond: number) {
    this.#rowsPerSecond = rowsPerSecond;
  }

  /** A batch of this number of rows begins to be written. */
  count(rows: number, nowMs: number): void {
    if (this.#rowsPerSecond > 0) this.#nextMs = Math.max(this.#nextMs, nowMs) + (1000 * rows) / this.#rowsPerSecond;
  }

  /** Milliseconds until the next batch may begin. */
  waitMs(nowMs: number): number {
    return Math.max(0, Math.ceil(this.#nextMs - nowMs));
  }
}
