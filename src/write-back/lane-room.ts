/** What the lanes of a writer share, and what they tell it. */
import type { Change, DeadLetter } from '../backend/index.ts';
import type { Position } from '../log/index.ts';
import type { RuleSet } from '../rules/index.ts';
import type { BatchLimits } from './batcher.ts';
import type { Calls } from './calls.ts';
import type { WriterClock } from './clock.ts';
import type { Connection } from './connection.ts';
import type { RowRate } from './row-rate.ts';
import type { WriterLog } from './writer-log.ts';

/** A batch that the database has. */
export interface Committed {
  /** The lanes whose cursors it has moved, of `laneCount`. */
  readonly lanes: readonly number[];
  readonly laneCount: number;
  readonly changes: readonly Change[];
  readonly recordCount: number;
  readonly bytes: number;
  readonly deadLetters: readonly DeadLetter[];
  /** Until the database answered, all tries included. */
  readonly elapsedMs: number;
  readonly position: Position;
}

export interface LaneRoom {
  readonly log: WriterLog;
  readonly connection: Connection;
  readonly limits: BatchLimits;
  readonly rules: RuleSet | undefined;
  readonly rate: RowRate;
  readonly dropsRefused: boolean;
  /** The cursor of a lane without changes follows the log, because other writers have some there. */
  readonly movesAlong: boolean;
  readonly clock: WriterClock;
  /** In [0, 1). */
  readonly random: () => number;
  isPaused(): boolean;
  /** Where a lane begins to read that goes on from a position; at or before it. */
  readFrom(position: Position, isHealing: boolean): Position;
  /** Milliseconds until the cursors of the database are to be looked at. */
  lookInMs(): number;
  /** Looks at them. False: one is elsewhere, or there is no answer any more. */
  look(calls: Calls): Promise<boolean>;
  /** The cursor of a lane is where it should be: it was seen, or has moved. */
  seen(): void;
  /** A lane has written, or passed, what it had. */
  progressed(): void;
  /** The state of a lane is another one. */
  state(): void;
  committed(batch: Committed): void;
  retry(cause: Error): void;
  /** The database has everything of a lane that it had before it went back. */
  healed(): void;
}
