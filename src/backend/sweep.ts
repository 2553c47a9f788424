/**
 * The sweep: removes expired rows, a bounded piece of a table at a time. It walks each table by its key, so it needs no
 * index on the expiry, and a pass over all rows takes as long as the pieces allow.
 *
 * A row whose expiry has passed is not always one that is over: a touch that lengthens it may still be on its way. So
 * the caller says up to which time everything was written, and the transaction of a piece makes sure that the writer
 * which says so is still the writer of the database: it compares the cursors of all lanes. The cursor of a single lane
 * is locked for it; with several, one lane would have the others wait while it waits for a row.
 */
import type { Cursor } from './backend.ts';

/** Where a sweep goes on. It belongs to the backend that gave it. */
export interface SweepPlace {
  /** The table. */
  readonly table: number;
  /** The cells of the last key that was looked at; undefined: the table begins. */
  readonly after: readonly unknown[] | undefined;
}

export interface SweepPiece {
  /** The writer's cursors: those of the database have the same log, epoch, writer and holder, and are not before. */
  readonly at: readonly Cursor[];
  /** Rows whose expiry is at or before this are removed, in Unix milliseconds. */
  readonly expiredAtMs: number;
  /** Undefined: from the beginning. */
  readonly place: SweepPlace | undefined;
  /** The most rows that are looked at. */
  readonly rows: number;
}

export interface Swept {
  readonly removed: number;
  /** Where to go on; undefined: all tables have been walked. */
  readonly place: SweepPlace | undefined;
}

/** Whether the cursors of a database are those of the writer that sweeps, or have moved on since under that writer. */
export function mayStillSweep(cursors: readonly Cursor[], at: readonly Cursor[]): boolean {
  return at.every((of) => cursors.some((found) => isAtOrBehind(found, of)));
}

function isAtOrBehind(found: Cursor, at: Cursor): boolean {
  return (
    found.lane === at.lane &&
    found.laneCount === at.laneCount &&
    found.logId === at.logId &&
    found.epoch === at.epoch &&
    found.writer === at.writer &&
    found.holderEpoch === at.holderEpoch &&
    found.holderWriter === at.holderWriter &&
    found.position >= at.position
  );
}

/** A row that a sweep looks at. */
export interface SweptRow {
  readonly key: Buffer;
  readonly expiresWallMs: number;
}

export interface SweptPage {
  /** Those that have an expiry. Rows of no key are left out. */
  readonly rows: readonly SweptRow[];
  /** The cells of the last key of the page, or the first of them; undefined: the table ends here. */
  readonly last: readonly unknown[] | undefined;
}

/** A table as the sweep of an SQL server walks it. */
export interface SweptTable<C> {
  /** Rows in the order of their keys. */
  page(connection: C, after: readonly unknown[] | undefined, rows: number): Promise<SweptPage>;
  /** Removes those of the rows that still have such an expiry. Returns how many there were. */
  removeExpired(connection: C, keys: readonly Buffer[], expiredAtMs: number): Promise<number>;
}
