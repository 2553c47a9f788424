/**
 * The database behind a cache, as write-back and read-through see it. A backend keeps rows by key, and in the same
 * database the cursors: how far in the log everything is in the rows. test/conformance/backend.ts tests every backend.
 *
 * **Cursor first.** `write` puts a batch of changes and the new cursor of their lane into one transaction. Its first
 * statement moves the cursor, on the condition that the cursor is where the batch says that it is. So a batch that is
 * written again has no second effect, and a writer that lives on after another has taken over changes nothing.
 *
 * **Errors.** A call that fails throws what the driver threw. `classify` says what the writer does about it. After a
 * failed `write` the outcome is unknown (the connection may have broken during COMMIT): the writer calls `readCursors`,
 * which uses a connection that was not in use at the time, and finds out by the cursor.
 *
 * Thread safety: as of the backend, one thread. Calls may overlap: at most one `write` per lane, and any number of
 * `load`s, which wait for one of a few connections.
 */

import type { SweepPiece, Swept } from './sweep.ts';

export type { SweepPiece, SweepPlace, Swept } from './sweep.ts';

/** A place in one lane of a log. */
export interface CursorPlace {
  /**
   * The share of the keys: those whose routing hash has this number in its top bits. `laneCount`, a power of two, says
   * how many bits these are.
   */
  readonly lane: number;
  readonly laneCount: number;
  /** The identity of the log, drawn at random when the log was made. */
  readonly logId: bigint;
  /** Every record of the lane in the log before this position is in the rows. */
  readonly position: bigint;
  /** Epoch and writer of the log entry that ends at `position`; 0 and 0n at the beginning of a log. */
  readonly epoch: number;
  readonly writer: bigint;
}

/** How far one lane of a log is written, and the process that writes it. Two are the same if all their parts are. */
export interface Cursor extends CursorPlace {
  /**
   * The process that holds the database: epoch and writer of the entry with which it took the log over. It puts them
   * into the cursors of all lanes at once before it changes anything. From then on the batches of the process before,
   * which begin at cursors with another holder, have no effect in any lane.
   */
  readonly holderEpoch: number;
  readonly holderWriter: bigint;
}

/** What a row holds beside its key. */
export interface RowValue {
  /** The bytes that the memcached port would serve. */
  readonly value: Buffer;
  /** How the value is encoded; request/codec.ts has the names. */
  readonly codec: number;
  readonly clientFlags: number;
  /** Unix milliseconds; 0: it never expires. An expired row is a miss. */
  readonly expiresWallMs: number;
  /** The version that the change had in the log. */
  readonly version: bigint;
}

export interface Row extends RowValue {
  readonly key: Buffer;
}

/** What every change may have. */
export interface ChangeParts {
  /**
   * A number that the changes of an atomic batch share, within one `write`: all of them are applied, or all of them
   * become dead letters, which keep it. Each of their keys occurs once in that `write`. A backend of level `idempotent`
   * ignores it.
   */
  readonly atomic?: number;
}

/** Makes a row, or replaces it. */
export interface SetChange extends Row, ChangeParts {
  readonly kind: 'set';
}

/** Removes a row, if there is one. */
export interface DeleteChange extends ChangeParts {
  readonly kind: 'delete';
  readonly key: Buffer;
  readonly version: bigint;
}

/** Changes the expiry and the version of a row, if there is one; the value stays. */
export interface TouchChange extends ChangeParts {
  readonly kind: 'touch';
  readonly key: Buffer;
  readonly expiresWallMs: number;
  readonly version: bigint;
}

/**
 * Adds to the number that a row holds (counter.ts says how), and gives it the expiry and the version. Where there is no
 * row, it makes that of a set with the result. A row that holds no number is not changed: the change is put aside.
 */
export interface AddChange extends Row, ChangeParts {
  readonly kind: 'add';
  /** What was added, with its sign. */
  readonly delta: bigint;
  // `value` is the result as the cache saw it. `codec` and `clientFlags` are for a row that is made: another keeps its
  // own.
}

/**
 * One change of a row. A batch has its changes in the order of the log; a key may occur more than once, and then the
 * row is as if they were applied in this order.
 */
export type Change = SetChange | DeleteChange | TouchChange | AddChange;

/** A write as it was, for the table of history; an addition as a set of its result. */
export type HistoryRow = Exclude<Change, AddChange> & {
  /** When the log took it, in Unix milliseconds. */
  readonly loggedWallMs: number;
};

/** Where the cursor of a lane goes. */
export interface CursorMove {
  /** Where it is; undefined: there is no row for the lane yet, and this move makes it. */
  readonly from: Cursor | undefined;
  /** Undefined: its row is removed. */
  readonly to: Cursor | undefined;
}

export interface WriteBatch extends CursorMove {
  /** None: only the cursor moves. */
  readonly changes: readonly Change[];
  /** Writes of keys whose rule keeps every one of them. Left out: there are none. */
  readonly history?: readonly HistoryRow[];
  readonly from: Cursor | undefined;
  readonly to: Cursor;
  /**
   * Cursors of other lanes that move with it, in the order of the lanes and behind its own: in the same transaction, on
   * the same condition, all of them or none. Left out: none does. So a batch of changes of several lanes is whole, and
   * so the number of lanes changes, with moves to another `laneCount`. A backend of level `idempotent` gets none.
   */
  readonly also?: readonly CursorMove[];
}

/**
 * A change that the database refuses for good, or of an atomic batch that has one, put aside in the transaction of its
 * batch.
 */
export interface DeadLetter {
  readonly change: Change;
  readonly error: Error;
}

/** A dead letter as the table keeps it: enough to bring the change back through the log. */
export interface KeptDeadLetter {
  /** Ascending in the order in which they came. */
  readonly id: bigint;
  readonly change: Change;
  /** What the database said, and its code (`23514`), where it has one. */
  readonly error: string;
  readonly errorCode: string | undefined;
  /** Where in the log its batch ends. */
  readonly cursor: CursorPlace;
  readonly addedWallMs: number;
  /** A later change of the key has been written: a load no longer answers with this one. */
  readonly isSuperseded: boolean;
}

/** A key of which a change is put aside, and what the database said. */
export interface RefusedKey {
  readonly key: Buffer;
  readonly error: string;
}

/**
 * The table of dead letters. Until a later change of the key is written, or its dead letter is dropped, `load` and
 * `scan` answer as if the change had been applied: the cache acknowledged it. An addition supersedes no dead letter of
 * a set or an addition; to a row that holds no number it is as if the row had its result. While a set or a delete of
 * the key is put aside, `write` takes an addition for a set of its result, because the row is not that of the cache.
 */
export interface DeadLetters {
  /** The oldest `limit` of those whose id is above `after`. */
  list(limit: number, after?: bigint): Promise<readonly KeptDeadLetter[]>;
  /**
   * Of the dead letters of some keys that are not superseded the oldest, by an index of keys; undefined: there is none.
   * A backend without this has its whole table listed instead.
   */
  oldestOf?(keys: readonly Buffer[]): Promise<RefusedKey | undefined>;
  /** Removes them; returns how many there were. */
  drop(ids: readonly bigint[]): Promise<number>;
  /**
   * Adds to the row what the dead letter of an addition was to add, and removes the letter, in one transaction: so it
   * adds once, however often it is called. The row gets the expiry and the version of the letter. No batch of the key's
   * lane comes between. A backend without this cannot have additions made again.
   */
  addAgain?(id: bigint): Promise<AddedAgain>;
}

/**
 * `added`: the row has it, and the letter is gone. The others have changed nothing: `refused`, for `reason`; `gone`:
 * there is no such letter of an addition, or it is superseded.
 */
export interface AddedAgain {
  readonly outcome: 'added' | 'refused' | 'gone';
  readonly reason: string | undefined;
}

export type WriteOutcome =
  /** Changes and cursor are committed. `deadLetters`: changes that went into the table of dead letters instead. */
  | { readonly kind: 'committed'; readonly deadLetters: readonly DeadLetter[] }
  /**
   * The cursor is not where the batch says: nothing was changed. `found`: the cursor in the way, which is the lane's
   * or, of a lane that has none, one of another log or lane count; undefined: there is none. If `found` is the batch's
   * own `to`, an earlier try of the same batch was committed after all. Of a batch that moves several cursors, it is
   * the first that is elsewhere.
   */
  | { readonly kind: 'moved'; readonly found: Cursor | undefined };

/** The rows of some keys, and the cursors as of the same moment: read in one statement or one snapshot. */
export interface Loaded {
  /** By index of the key, which may repeat; undefined: there is no row, or it has expired. */
  readonly rows: readonly (RowValue | undefined)[];
  readonly cursors: readonly Cursor[];
}

/** What an error of a backend says about the next try. */
export type ErrorClass =
  /** The same call may succeed later: connection lost, deadlock, out of connections, anything unknown. */
  | 'transient'
  /** The database refuses a value, and always will: constraint, type, size. `write` puts such changes aside itself. */
  | 'permanent'
  /** Only a change of the database or of the configuration helps: missing table, no permission, wrong password. */
  | 'halt';

/**
 * `transactional`: `write` is all or nothing, with the cursor. `idempotent`: changes are applied before the cursor
 * moves, and may be applied again after a failure; each is applied only over a row of a lower version. A cache gives it
 * no additions.
 */
export type BackendLevel = 'transactional' | 'idempotent';

export interface Backend {
  /** Its name in messages and events: without credentials. */
  readonly name: string;
  readonly level: BackendLevel;
  /** Connects, and makes the tables if there are none. Safe to call again after it has failed. */
  open(): Promise<void>;
  /**
   * All cursors, on a connection that no failed call has used. Waits for a transaction that is moving the cursor of one
   * of these lanes, and so tells the outcome of a `write` whose connection broke. `lanes`: undefined: of any lane.
   */
  readCursors(lanes?: readonly number[]): Promise<readonly Cursor[]>;
  load(keys: readonly Buffer[]): Promise<Loaded>;
  /** All rows that have not expired, in pieces, with the cursors, as of one moment. */
  scan(signal?: AbortSignal): AsyncIterable<{ readonly rows: readonly Row[]; readonly cursors: readonly Cursor[] }>;
  write(batch: WriteBatch): Promise<WriteOutcome>;
  /**
   * Removes expired rows among the next rows of the database, in one transaction with a look at the cursor. Rows with
   * dead letters stay. Undefined: the cursor is another one, and nothing was done. A backend without it keeps expired
   * rows.
   */
  sweep?(piece: SweepPiece): Promise<Swept | undefined>;
  /** A backend that puts no change aside has none: it reports what it is refused as `halt`. */
  readonly deadLetters?: DeadLetters;
  /** Says nothing about connections: a call after any error uses a sound one. */
  classify(error: unknown): ErrorClass;
  /** Ends calls in progress, which reject with `ERR_CLOSED`, and all connections. A second call does nothing. */
  close(): Promise<void>;
}
