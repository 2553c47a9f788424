/**
 * An SQL server as a backend, transactional: the course of each call, which is the same for every server. The
 * statements are those of a dialect: postgres-sql.ts, mariadb-sql.ts.
 *
 * **The transaction of a batch**: the cursor, conditionally; deletes, sets, touches, additions, each sorted by key, in
 * pieces; COMMIT. If the database refuses a change for good, the transaction is rolled back and done again with a
 * savepoint around each piece. A piece that fails is halved until the changes at fault stand alone; they go into the
 * table of dead letters. If one of them is of an atomic batch, the transaction is done once more without that batch,
 * all of which becomes dead letters.
 *
 * **A connection that is cut** leaves at most one statement on its way, because each waits for the answer to the one
 * before. The database ends the transaction when it notices, or after `idleTimeoutMs`. `readCursors` locks the rows
 * that it reads, so it waits for that end.
 *
 * Connections: one for each lane that writes, and a few for loads and scans. A connection whose call failed is closed.
 */
import { CairnError, outOfRange, reasonOf } from '../errors.ts';
import { laneOf } from '../request/hash.ts';
import { type Rule, RuleSet } from '../rules/index.ts';
import { AtomicLetters } from './atomic-letters.ts';
import type {
  AddChange,
  AddedAgain,
  Backend,
  Change,
  Cursor,
  CursorPlace,
  DeadLetter,
  DeadLetters,
  ErrorClass,
  HistoryRow,
  KeptDeadLetter,
  Loaded,
  RefusedKey,
  Row,
  RowValue,
  WriteBatch,
  WriteOutcome,
} from './backend.ts';
import { mayMove } from './cursors.ts';
import { additionOf, GONE } from './dead-letters.ts';
import { halve, type Savepoints, type Step } from './halve.ts';
import { type NewestChanges, newestChanges, onlyAddition, type PieceBounds, piecesOf, withResults } from './newest.ts';
import { refusal, unfit } from './own-errors.ts';
import { Pool } from './pool.ts';
import type { OwnTable, Routes, RowTable, TablePart } from './routes.ts';
import type { SqlConnection, SqlSettings } from './sql-connection.ts';
import { LOAD_KEYS_MAX } from './sql-rows.ts';
import type { SweepPiece, Swept, SweptTable } from './sweep.ts';

export interface SqlOptions extends Partial<SqlSettings> {
  /** For messages, without credentials. */
  readonly name: string;
  /** What the names of the tables begin with. Default: `cairn_`. Two caches need two prefixes. */
  readonly prefix?: string | undefined;
  /** Connections for loads and scans. Default 4. */
  readonly loadConnections?: number | undefined;
  /** How many lanes write at the same time: each needs a connection. Default 1. */
  readonly lanes?: number | undefined;
  /** Unix milliseconds: which rows have expired. */
  readonly clock?: (() => number) | undefined;
  /** Which keys have their rows in tables of the user's own. Default: none. */
  readonly rules?: readonly Rule[] | undefined;
  /** Nothing is written: tables that are missing are as empty ones, and reading is the only right that is needed. */
  readonly readsOnly?: boolean | undefined;
}

const DEFAULTS: SqlSettings = {
  connectTimeoutMs: 10_000,
  lockTimeoutMs: 10_000,
  statementTimeoutMs: 60_000,
  idleTimeoutMs: 15_000,
  answerGraceMs: 5_000,
};

export interface ScanPiece {
  readonly rows: readonly Row[];
  readonly cursors: readonly Cursor[];
}

/** The tables of one database that are open: what calls do with them, in the words of the database. */
export interface SqlTables<C extends SqlConnection> {
  /** The largest piece of changes that one statement takes. */
  boundsOn(connection: C): PieceBounds;
  /** Which table has which rows. */
  readonly routes: Routes<OwnTable<C>, RowTable<C>>;
  /** Begins the transaction of a batch and moves its cursors; undefined: one of them is not where it has to be. */
  begin(connection: C, batch: WriteBatch, nowMs: number): Promise<{ readonly hasDeadLetters: boolean } | undefined>;
  /** Whether a set or a delete of a key has been put aside, of some keys. */
  covered(connection: C, keys: readonly Buffer[]): Promise<(key: Buffer) => boolean>;
  /** Tells earlier dead letters of the keys that these changes are newer. */
  settle(connection: C, changes: NewestChanges): Promise<void>;
  /** Adds rows of history; those that are there stay as they are. */
  addHistory?(connection: C, rows: readonly HistoryRow[]): Promise<unknown>;
  addDeadLetter(connection: C, letter: DeadLetter, cursor: CursorPlace): Promise<unknown>;
  /** Has constraints checked at each statement which the database would check at COMMIT, if it has such. */
  checkAtOnce?(connection: C): Promise<unknown>;
  commit(connection: C): Promise<unknown>;
  /** All of them. `waitsFor`: when no transaction holds one of these lanes any more. */
  cursors(connection: C, waitsFor: readonly number[] | 'all' | 'none'): Promise<readonly Cursor[]>;
  load(connection: C, keys: readonly Buffer[], nowMs: number): Promise<Loaded>;
  scan(connection: C, clock: () => number): AsyncGenerator<ScanPiece>;
  /** Begins a transaction in which no batch of the lane comes between, once none is under way. */
  beginAlone(connection: C, lane: number): Promise<unknown>;
  /** Begins the transaction of a sweep, as sweep.ts says; undefined: one of the cursors is another one. */
  beginSweep(connection: C, at: readonly Cursor[]): Promise<{ readonly hasDeadLetters: boolean } | undefined>;
  /** The tables whose expired rows are removed. */
  readonly swept: readonly SweptTable<C>[];
  /** Those of the keys that have no dead letter. */
  withoutDeadLetters(connection: C, keys: readonly Buffer[]): Promise<readonly Buffer[]>;
  listDeadLetters(connection: C, limit: number, after: bigint): Promise<readonly KeptDeadLetter[]>;
  /** As DeadLetters.oldestOf(). */
  oldestDeadLetter(connection: C, keys: readonly Buffer[]): Promise<RefusedKey | undefined>;
  dropDeadLetters(connection: C, ids: readonly bigint[]): Promise<number>;
}

/** A batch and where it is written. */
interface Job<C extends SqlConnection> {
  readonly connection: C;
  readonly tables: SqlTables<C>;
  readonly batch: WriteBatch;
  readonly changes: NewestChanges;
  readonly parts: readonly TablePart<RowTable<C>>[];
  /** Changes of no atomic batch that cannot become rows: they are put aside from the start. */
  readonly misfits: readonly DeadLetter[];
  /** The atomic batches that are put aside. */
  readonly atomic: AtomicLetters;
  /** Whether the last try came to its COMMIT. */
  isCommitting: boolean;
}

export abstract class SqlBackend<C extends SqlConnection> implements Backend {
  readonly name: string;
  readonly level = 'transactional';
  readonly deadLetters: DeadLetters = {
    list: (limit, after = 0n) => this.#read((tables, connection) => tables.listDeadLetters(connection, limit, after)),
    oldestOf: (keys) => this.#read((tables, connection) => tables.oldestDeadLetter(connection, keys)),
    drop: (ids) => this.#read((tables, connection) => tables.dropDeadLetters(connection, ids)),
    addAgain: (id) => this.#addAgain(id),
  };
  protected readonly settings: SqlSettings;
  protected readonly rules: RuleSet;
  protected readonly readsOnly: boolean;
  protected readonly lanes: number;
  readonly #clock: () => number;
  readonly #writers: Pool<C>;
  readonly #loaders: Pool<C>;
  /** Undefined until the tables have been found or made. */
  #tables: SqlTables<C> | undefined;

  constructor(options: SqlOptions) {
    this.name = options.name;
    const given = Object.keys(DEFAULTS).map((name) => [name, options[name as keyof SqlSettings]]);
    this.settings = { ...DEFAULTS, ...Object.fromEntries(given.filter(([, value]) => value !== undefined)) };
    this.rules = new RuleSet(options.rules ?? []);
    this.readsOnly = options.readsOnly ?? false;
    this.lanes = options.lanes ?? 1;
    this.#clock = options.clock ?? Date.now;
    this.#writers = new Pool(this.name, this.lanes, () => this.connect('write'));
    this.#loaders = new Pool(this.name, options.loadConnections ?? 4, () => this.connect('load'));
  }

  protected abstract connect(purpose: 'write' | 'load'): Promise<C>;

  /** Makes the tables that are missing, and says why others would not do. */
  protected abstract openTables(connection: C): Promise<SqlTables<C>>;

  abstract classify(error: unknown): ErrorClass;

  async open(): Promise<void> {
    this.#tables = await this.#writers.use((connection) => this.openTables(connection));
  }

  async close(): Promise<void> {
    await Promise.all([this.#writers.close(), this.#loaders.close()]);
  }

  async readCursors(lanes?: readonly number[]): Promise<readonly Cursor[]> {
    const tables = this.#opened();
    return this.#writers.use((connection) => tables.cursors(connection, this.readsOnly ? 'none' : (lanes ?? 'all')));
  }

  async load(keys: readonly Buffer[]): Promise<Loaded> {
    if (keys.length > LOAD_KEYS_MAX) throw outOfRange('keys', `at most ${LOAD_KEYS_MAX} at once`, keys.length);
    return this.#read((tables, connection) => tables.load(connection, keys, this.#clock()));
  }

  async *scan(signal?: AbortSignal): AsyncGenerator<ScanPiece> {
    const tables = this.#opened();
    signal?.throwIfAborted();
    const connection = await this.#loaders.borrow();
    const abort = (): void => connection.destroy(asError(signal!.reason));
    signal?.addEventListener('abort', abort, { once: true });
    let isSound = false;
    try {
      yield* tables.scan(connection, this.#clock);
      isSound = true;
    } catch (error) {
      throw this.#loaders.breakOff(connection, error);
    } finally {
      signal?.removeEventListener('abort', abort);
      // The reader may leave before the end, and the transaction is open then.
      if (!isSound) connection.destroy(new Error('The scan was ended'));
      this.#loaders.giveBack(connection);
    }
  }

  async write(batch: WriteBatch): Promise<WriteOutcome> {
    const tables = this.#opened();
    const changes = newestChanges(batch.changes);
    const { parts, misfits: all } = tables.routes.split(changes);
    const atomic = new AtomicLetters();
    atomic.learn(all);
    const misfits = all.filter(({ change }) => !atomic.isOut(change));
    return this.#writers.use(async (connection) => {
      const job = { connection, tables, batch, changes, parts, misfits, atomic, isCommitting: false };
      try {
        const outcome = await this.#transact(job, ({ changes: some, apply }) => apply(some), misfits);
        if (outcome !== 'again') return outcome;
      } catch (error) {
        if (this.classify(error) !== 'permanent') throw error;
        await connection.command('ROLLBACK');
      }
      return this.#orRefusal(this.#writeApart(job));
    });
  }

  /** The whole batch, with the changes that the database refuses put aside. */
  async #writeApart(job: Job<C>): Promise<WriteOutcome> {
    const { connection } = job;
    const savepoints: Savepoints = {
      set: () => connection.command('SAVEPOINT cairn'),
      release: () => connection.command('RELEASE SAVEPOINT cairn'),
      rollBack: async () => {
        await connection.command('ROLLBACK TO SAVEPOINT cairn');
        // PostgreSQL would keep it below the next one of the same name.
        await connection.command('RELEASE SAVEPOINT cairn');
      },
      isRefusal: (error) => this.classify(error) === 'permanent',
    };
    for (;;) {
      const deadLetters = [...job.misfits];
      const outcome = await this.#transact(job, (step) => halve(step, savepoints, deadLetters), deadLetters);
      if (outcome !== 'again') return outcome;
    }
  }

  /** `deadLetters`: what `perform` puts aside. `again`: with more atomic batches aside; nothing has been done yet. */
  async #transact(
    job: Job<C>,
    perform: (step: Step) => Promise<unknown>,
    deadLetters: readonly DeadLetter[],
  ): Promise<WriteOutcome | 'again'> {
    const { connection, tables, batch, atomic, isCommitting: wasRefusedAtCommit } = job;
    const begun = await this.#orRefusal(tables.begin(connection, batch, this.#clock()));
    if (begun === undefined) {
      // Those that did move are back where they were.
      await connection.command('ROLLBACK');
      const outcome = mayMove(await tables.cursors(connection, 'none'), batch);
      // Free by now: the transaction that was in the way has been rolled back, and the batch may be written again.
      return { kind: 'moved', found: outcome.isFree ? batch.from : outcome.found };
    }
    // A constraint that is checked at COMMIT names no change.
    if (wasRefusedAtCommit) await tables.checkAtOnce?.(connection);
    const { changes, parts } = begun.hasDeadLetters ? await this.#overLetters(job) : job;
    const applied = parts.map((part) => ({ ...part, changes: atomic.without(part.changes) }));
    for (const step of stepsOf(connection, tables.boundsOn(connection), applied)) await perform(step);
    if (atomic.learn(deadLetters)) {
      await connection.command('ROLLBACK');
      return 'again';
    }
    if (begun.hasDeadLetters) await tables.settle(connection, changes);
    const aside = [...deadLetters, ...atomic.of(changes)];
    for (const letter of aside) await tables.addDeadLetter(connection, letter, batch.to);
    await this.#addHistory(job);
    job.isCommitting = true;
    await tables.commit(connection);
    return { kind: 'committed', deadLetters: aside };
  }

  /** The row that an addition was made to is not there while a set of its key is put aside: it is one of its result. */
  async #overLetters({ connection, tables, changes, parts }: Job<C>): Promise<Pick<Job<C>, 'changes' | 'parts'>> {
    const keys = changes.adds.map(({ key }) => key);
    if (keys.length === 0) return { changes, parts };
    const isCovered = await tables.covered(connection, keys);
    return {
      changes: withResults(changes, isCovered),
      parts: parts.map((part) => ({ ...part, changes: withResults(part.changes, isCovered) })),
    };
  }

  async #addAgain(id: bigint): Promise<AddedAgain> {
    const tables = this.#opened();
    return this.#writers.use(async (connection) => {
      const look = async () => additionOf((await tables.listDeadLetters(connection, 1, id - 1n))[0], id);
      const found = await look();
      const [cursor] = await tables.cursors(connection, 'none');
      if (found === undefined || cursor === undefined) return GONE;
      await tables.beginAlone(connection, laneOf(found.key, cursor.laneCount));
      try {
        // A batch before it may have changed the letter.
        const change = await look();
        const outcome = change === undefined ? GONE : await this.#addAlone(connection, tables, change);
        if (outcome.outcome !== 'added') {
          await connection.command('ROLLBACK');
          return outcome;
        }
        await tables.dropDeadLetters(connection, [id]);
        await tables.commit(connection);
        return outcome;
      } catch (error) {
        if (this.classify(error) !== 'permanent') throw error;
        await connection.command('ROLLBACK');
        return { outcome: 'refused', reason: reasonOf(error) };
      }
    });
  }

  async #addAlone(connection: C, tables: SqlTables<C>, change: AddChange): Promise<AddedAgain> {
    const { parts, misfits } = tables.routes.split(onlyAddition(change));
    const [misfit] = misfits;
    if (misfit !== undefined) return { outcome: 'refused', reason: misfit.error.message };
    for (const step of stepsOf(connection, tables.boundsOn(connection), parts)) await step.apply(step.changes);
    return { outcome: 'added', reason: undefined };
  }

  async sweep(piece: SweepPiece): Promise<Swept | undefined> {
    const tables = this.#opened();
    return this.#writers.use(async (connection) => {
      try {
        return await this.#sweepPiece(connection, tables, piece, true);
      } catch (error) {
        if (this.classify(error) !== 'permanent') throw error;
        await connection.command('ROLLBACK');
      }
      // A row that another refers to, or that a trigger keeps: this piece stays.
      return this.#sweepPiece(connection, tables, piece, false);
    });
  }

  async #sweepPiece(
    connection: C,
    tables: SqlTables<C>,
    { at, expiredAtMs, place, rows }: SweepPiece,
    removes: boolean,
  ): Promise<Swept | undefined> {
    const begun = await tables.beginSweep(connection, at);
    const { table: index, after } = place ?? { table: 0, after: undefined };
    const table = tables.swept[index];
    if (begun === undefined || table === undefined) {
      await connection.command('ROLLBACK');
      return begun === undefined ? undefined : { removed: 0, place: undefined };
    }
    const page = await table.page(connection, after, rows);
    let keys: readonly Buffer[] = page.rows
      .filter(({ expiresWallMs }) => expiresWallMs !== 0 && expiresWallMs <= expiredAtMs)
      .map(({ key }) => key);
    if (begun.hasDeadLetters && keys.length > 0) keys = await tables.withoutDeadLetters(connection, keys);
    const removed = removes && keys.length > 0 ? await table.removeExpired(connection, keys, expiredAtMs) : 0;
    await connection.command('COMMIT');
    if (page.last !== undefined) return { removed, place: { table: index, after: page.last } };
    return { removed, place: index + 1 < tables.swept.length ? { table: index + 1, after: undefined } : undefined };
  }

  /** Of a change that is put aside too: the cache has acknowledged it. */
  async #addHistory({ connection, tables, batch: { history = [] } }: Job<C>): Promise<void> {
    for (const part of piecesOf(history, tables.boundsOn(connection))) {
      if (tables.addHistory === undefined) throw unfit([`${this.name} keeps no history`]);
      await this.#orRefusal(tables.addHistory(connection, part));
    }
  }

  /** An error that is permanent and that no change can be blamed for: the tables are not as they have to be. */
  async #orRefusal<T>(attempt: Promise<T>): Promise<T> {
    try {
      return await attempt;
    } catch (error) {
      throw this.classify(error) === 'permanent' ? refusal('a batch as a whole', error) : error;
    }
  }

  async #read<T>(job: (tables: SqlTables<C>, connection: C) => Promise<T>): Promise<T> {
    const tables = this.#opened();
    return this.#loaders.use((connection) => job(tables, connection));
  }

  #opened(): SqlTables<C> {
    if (this.#tables === undefined) throw new CairnError('ERR_NOT_READY', `${this.name} has not been opened`);
    return this.#tables;
  }
}

/**
 * The statements of a batch. A table whose rows refer to those of another stands behind it: rows are removed from the
 * last table on, and set from the first on.
 */
function* stepsOf<C extends SqlConnection>(
  connection: C,
  bounds: PieceBounds,
  parts: readonly TablePart<RowTable<C>>[],
): Generator<Step> {
  // A step is given parts of these changes only.
  const step = <K extends Change>(changes: readonly K[], apply: (part: readonly K[]) => Promise<unknown>): Step => ({
    changes,
    apply: (part) => apply(part as readonly K[]),
  });
  const boundsOf = ({ table: { rowsMax } }: TablePart<RowTable<C>>): PieceBounds =>
    rowsMax === undefined ? bounds : { ...bounds, rows: Math.min(rowsMax, bounds.rows) };
  for (const part of parts.toReversed()) {
    const { table, changes } = part;
    for (const some of piecesOf(changes.deletes, boundsOf(part))) {
      yield step(some, (each) => table.remove(connection, each));
    }
  }
  for (const part of parts) {
    const { table, changes } = part;
    for (const some of piecesOf(changes.sets, boundsOf(part))) yield step(some, (each) => table.set(connection, each));
    for (const some of piecesOf(changes.touches, boundsOf(part))) {
      yield step(some, (each) => table.touch(connection, each));
    }
    for (const some of piecesOf(changes.adds, boundsOf(part))) yield step(some, (each) => table.add(connection, each));
  }
}

/** Those of the rows of some keys that are there. */
export function namedRows(keys: readonly Buffer[], rows: readonly (RowValue | undefined)[]): Row[] {
  return keys.flatMap((key, i) => (rows[i] === undefined ? [] : [{ key, ...rows[i] }]));
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
