/**
 * The log's history for its database: what the database has confirmed lately, kept for the day on which it goes back to
 * an earlier state, by a failover that forgets or a backup. The history begins where the cursor of the database stood
 * `retainMs` ago, by the time at which the database was last seen: one that is away does not age it.
 *
 *     points:   0 s, position 10     30 s, position 90     60 s, position 240     (now 95 s, retainMs 60 s)
 *               dropped              kept from here: the cursor stood here 60 s ago
 *
 * The points are in memory; the position from which the log keeps is a cursor of the log, and survives. A writer that
 * begins counts all that its log has kept as seen just now, so that a restart never shortens the history.
 *
 * The log gives way when history would fill more than half of its limit. That is found when the cursor is moved, which
 * is tried every step, and told once.
 */
import { earlier, type Position } from '../log/index.ts';
import type { WriterClock } from './clock.ts';
import type { WriterLog } from './writer-log.ts';

/** Points within the time that is kept. */
const STEPS = 8;
/** The shortest time between two points: moving the log's cursor costs a sync. */
const STEP_MS_MIN = 1000;

interface Point {
  /** Since when the cursor of the database stands there, or further. */
  readonly sinceMs: number;
  readonly position: Position;
}

export interface KeptHistoryOptions {
  readonly log: WriterLog;
  readonly clock: WriterClock;
  /** 0: nothing is kept. */
  readonly retainMs: number;
  /** The log has no room for all of it, and keeps that of this time. Told again only after it has kept all of it. */
  readonly onShort: (keptMs: number) => void;
}

export class KeptHistory {
  readonly #options: KeptHistoryOptions;
  readonly #stepMs: number;
  /** Ascending by time. Positions fall where the database has gone back. */
  #points: Point[] = [];
  /** Where the log's cursor is; undefined: it has not been asked. */
  #kept: Position | undefined;
  #movedMs = Number.NEGATIVE_INFINITY;
  #moving: Promise<void> | undefined;
  #isShort = false;

  constructor(options: KeptHistoryOptions) {
    this.#options = options;
    this.#stepMs = Math.max(STEP_MS_MIN, options.retainMs / STEPS);
  }

  /** How long ago the oldest state is that the database may go back to, as far as this writer knows. */
  get keptMs(): number {
    const [first] = this.#points;
    return first === undefined ? 0 : Math.max(0, this.#options.clock.steadyMs() - first.sinceMs);
  }

  /** Where the history begins; undefined: nothing is kept. */
  get position(): Position | undefined {
    return this.#kept;
  }

  /** The cursor of the database was seen at a position now. */
  seen(position: Position): void {
    const { clock, retainMs } = this.#options;
    const nowMs = clock.steadyMs();
    const last = this.#points.at(-1);
    const isNews = last === undefined || position < last.position;
    const isDue = !isNews && position > last.position && nowMs >= last.sinceMs + this.#stepMs;
    if (isNews || isDue) this.#points.push({ sinceMs: nowMs, position });
    while (this.#points.length > 1 && this.#points[1]!.sinceMs <= nowMs - retainMs) this.#points.shift();
    if (!isNews && nowMs < this.#movedMs + this.#stepMs) return;
    this.#movedMs = nowMs;
    this.#moving ??= this.#move().finally(() => {
      this.#moving = undefined;
    });
  }

  /**
   * From where on the log is read for a database that has gone back to a position: somewhat before it, so that second
   * copies of records are known as such (passed.ts).
   */
  readFrom(position: Position): Position {
    let from: Position | undefined;
    for (const point of this.#points) {
      if (point.position < position && (from === undefined || point.position > from)) from = point.position;
    }
    return from ?? position;
  }

  /** Resolves when the log's cursor is not being moved. */
  async settled(): Promise<void> {
    await this.#moving;
  }

  async #move(): Promise<void> {
    const { log, retainMs } = this.#options;
    try {
      const at = await log.historyFrom();
      if (retainMs === 0) {
        if (at !== undefined) await log.keepHistory(undefined);
        return;
      }
      if (at !== undefined) this.#found(at);
      const goal = this.#points.map(({ position }) => position).reduce(earlier);
      if (goal !== at) await log.keepHistory(goal);
      this.#kept = goal;
    } catch {
      // The log says itself that it cannot be written. Until the next time it keeps more than it needs.
    }
  }

  // Where the log's cursor is.
  #found(at: Position): void {
    const { clock, onShort, retainMs } = this.#options;
    const [first] = this.#points;
    if (this.#kept === undefined) {
      // What was kept before a restart stays until its time is over.
      if (at < first!.position) this.#points.unshift({ sinceMs: first!.sinceMs, position: at });
    } else if (at > this.#kept) {
      const left = this.#points.filter(({ position }) => position >= at);
      this.#points = [{ sinceMs: left[0]?.sinceMs ?? clock.steadyMs(), position: at }, ...left];
      if (!this.#isShort) onShort(this.keptMs);
      this.#isShort = true;
    } else if (this.keptMs >= retainMs) this.#isShort = false;
  }
}
