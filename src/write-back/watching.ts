/**
 * What a writer knows of its database while nothing is written, and what the log keeps for it: looks at the cursors now
 * and then, so that a database that has gone back is found while the log still has what it lacks.
 */
import { sameCursor } from '../backend/index.ts';
import { earlier, type Position } from '../log/index.ts';
import type { Calls } from './calls.ts';
import type { WriterClock } from './clock.ts';
import type { FollowingCursor } from './following-cursor.ts';
import { KeptHistory } from './kept-history.ts';
import type { Lane } from './lane.ts';
import type { WriterLog } from './writer-log.ts';

/** While nothing is to be written, the cursors of the database are looked at this often. */
export const LOOK_MS = 10_000;

export interface WatchingOptions {
  readonly log: WriterLog;
  readonly logCursor: FollowingCursor;
  readonly clock: WriterClock;
  /** For how long the log keeps what the database has; 0: it does not. */
  readonly retainMs: number;
  /** The log has no room for all of that, and keeps this time of it. */
  readonly onShort: (keptMs: number) => void;
  /** Everything before this is in the database. */
  readonly confirmed: () => Position;
  /** The lanes that are carried now. */
  readonly carried: () => readonly Lane[];
}

export class Watching {
  readonly #options: WatchingOptions;
  readonly #history: KeptHistory;
  /** When the database was last known to be where it should; undefined: it is to be looked at. */
  #seenMs: number | undefined;

  constructor(options: WatchingOptions) {
    this.#options = options;
    const { log, clock, retainMs, onShort } = options;
    this.#history = new KeptHistory({ log, clock, retainMs, onShort });
  }

  /** What the log keeps for a database that goes back: the time that it may go back by, and the bytes. */
  get history(): { readonly ms: number; readonly bytes: number } {
    const { log, confirmed } = this.#options;
    const { position, keptMs } = this.#history;
    if (position === undefined) return { ms: 0, bytes: 0 };
    return { ms: keptMs, bytes: Math.max(0, log.bytesFrom(position) - log.bytesFrom(confirmed())) };
  }

  /** Where a lane begins to read that goes on from a position. */
  readFrom(position: Position, isHealing: boolean): Position {
    const { log, logCursor } = this.#options;
    const from = earlier(logCursor.position, isHealing ? this.#history.readFrom(position) : position);
    return from < log.oldest() ? position : from;
  }

  /** The cursors are to be looked at as soon as a lane has nothing to write. */
  doubt(): void {
    this.#seenMs = undefined;
  }

  /** Milliseconds until that is to be done. */
  lookInMs(): number {
    return this.#seenMs === undefined ? 0 : this.#seenMs + LOOK_MS - this.#options.clock.steadyMs();
  }

  /**
   * Looks at the cursors of lanes that write nothing meanwhile: others find out by themselves. A load waits for no
   * transaction, which would be one of them. False: one is elsewhere, or there is no answer any more.
   */
  async look(calls: Calls): Promise<boolean> {
    const carried = this.#options.carried();
    const quiet = carried.filter(({ isWriting }) => !isWriting).map((lane) => ({ lane, cursor: lane.cursor }));
    const count = carried.length;
    const loaded = await calls.untilAnswered((backend) => backend.load([]));
    if (loaded === undefined) return false;
    const { cursors } = loaded;
    const isElsewhere = quiet.some(({ lane, cursor }) => {
      const isQuiet = !lane.isWriting && sameCursor(lane.cursor, cursor);
      const { lane: number } = lane.share;
      const found = cursors.find((each) => each.lane === number);
      return isQuiet && !sameCursor(found, cursor);
    });
    if (isElsewhere || cursors.length > count) return false;
    this.see();
    return true;
  }

  /** The cursor of a lane is where it should be. */
  see(): void {
    this.#seenMs = this.#options.clock.steadyMs();
    this.#history.seen(this.#options.confirmed());
  }

  /** Resolves when the log's cursor of the history is not being moved. */
  settled(): Promise<void> {
    return this.#history.settled();
  }
}
