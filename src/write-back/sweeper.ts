/**
 * The sweep of expired rows: looks at a bounded number of rows each second, and begins a pass over all rows at most
 * once a minute. The database removes the rows (backend/sweep.ts).
 *
 *     a pass begins -> everything done so far, by the log -> written? -> pieces, one a second -> ... -> the next pass
 *
 * Only what expired before the pass began is removed, and only when the database has every change that was made before.
 * So no touch that lengthens such a row can still be on its way: after its expiry, an entry takes none. A writer that
 * does not write, or a database that is being healed, stops the pass.
 */
import type { Backend, Cursor, SweepPlace } from '../backend/index.ts';
import { asError } from '../errors.ts';
import type { Position } from '../log/index.ts';
import type { WriterClock } from './clock.ts';
import type { WriterState } from './writer.ts';

const STEP_MS = 1000;
/** From the beginning of a pass to that of the next one, at least. */
const PASS_MS = 60_000;
/** Rows stay for this time after their expiry: the clocks of two hosts may differ. */
export const SWEEP_GRACE_MS = 60_000;

/** The writer whose database is swept. */
export interface SweepSource {
  readonly state: WriterState;
  /** The cursors of the database, one of each lane; none: it has none yet. */
  readonly cursors: readonly Cursor[];
  /** Whether the database has everything before a position. */
  has(position: Position): boolean;
  /** One call of the database. Rejects with its error. */
  use<T>(run: (backend: Backend) => Promise<T>): Promise<T>;
}

export interface SweeperOptions {
  readonly source: SweepSource;
  /** A position behind everything that was done so far, when the log has it. */
  readonly settled: () => Promise<Position>;
  readonly clock: WriterClock;
  /** Rows that are looked at in one step. */
  readonly rows: number;
  readonly on: { swept(rows: number): void; failed(error: Error): void };
}

interface Pass {
  readonly begunMs: number;
  /** Rows that expired until then are removed, in wall time. */
  readonly expiredAtMs: number;
  /** Everything before this has to be written. */
  readonly settled: Position;
  place: SweepPlace | undefined;
}

export class Sweeper {
  readonly #options: SweeperOptions;
  #pass: Pass | undefined;
  #nextPassMs: number;
  #timer: { stop(): void } | undefined;
  #isClosed = false;

  constructor(options: SweeperOptions) {
    this.#options = options;
    this.#nextPassMs = options.clock.steadyMs();
    this.#wait();
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.stop();
  }

  #wait(): void {
    if (this.#isClosed) return;
    this.#timer = this.#options.clock.after(STEP_MS, () => void this.#step());
  }

  async #step(): Promise<void> {
    try {
      await this.#sweep();
    } catch (error) {
      if (!this.#isClosed) this.#options.on.failed(asError(error));
    }
    this.#wait();
  }

  async #sweep(): Promise<void> {
    const { source, clock, rows, on } = this.#options;
    this.#pass ??= await this.#begin();
    const pass = this.#pass;
    const at = source.cursors;
    if (pass === undefined || at.length === 0 || this.#isClosed) return;
    if (source.state !== 'writing' || !source.has(pass.settled)) return;
    const { expiredAtMs, place } = pass;
    const swept = await source.use(async (backend) => backend.sweep?.({ at, expiredAtMs, place, rows }));
    // A cursor is another one: the writer will find that out.
    if (swept === undefined) return;
    on.swept(swept.removed);
    pass.place = swept.place;
    if (swept.place !== undefined) return;
    this.#pass = undefined;
    this.#nextPassMs = Math.max(clock.steadyMs(), pass.begunMs + PASS_MS);
  }

  async #begin(): Promise<Pass | undefined> {
    const { settled, clock } = this.#options;
    const begunMs = clock.steadyMs();
    if (begunMs < this.#nextPassMs) return undefined;
    const expiredAtMs = clock.wallMs() - SWEEP_GRACE_MS;
    return { begunMs, expiredAtMs, settled: await settled(), place: undefined };
  }
}
