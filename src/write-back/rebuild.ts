/**
 * Rebuilds the rows of a database that has gone back further than the log is kept: what lies between can no longer be
 * written change by change, so every value that snapshot and log have is written, and every delete that the log has.
 *
 *     all is read once -> the log is taken over -> snapshot, then log, in batches -> the cursor goes to the log's end
 *
 * Each batch sets the cursor of the database anew, at its old position and under a writer that no other process has:
 * a writer of the log is still refused, and so is another rebuild that works at the same time. Only the last step
 * moves it to the end of the log. A command that breaks off is started again, from the beginning: sets and deletes
 * have the same effect once more. Additions of counters and rows of history would not, so counters get the value that
 * the cache saw, and history gets no row.
 */
import { randomBytes } from 'node:crypto';
import { type Backend, type Cursor, sameCursors, type WriteBatch } from '../backend/index.ts';
import { asError, CairnError } from '../errors.ts';
import { type EmbeddedLog, earlier, LogReader, recover, SnapshotDamaged } from '../log/index.ts';
import { DEFAULT_STORE, type Rule, RuleSet } from '../rules/index.ts';
import { Calls } from './calls.ts';
import { systemClock, type WriterClock } from './clock.ts';
import { Changes } from './coalesce.ts';
import { CALL_TIMEOUT_MS, Connection } from './connection.ts';
import { heldAs, holderOf } from './holder.ts';
import { ONE_LANE } from './identity.ts';
import { cursorOf, historyOf } from './message.ts';
import { PassedVersions } from './passed.ts';
import { refuseOtherRows, refuseOthers } from './rebuildable.ts';
import { notTakenOver } from './writer-log.ts';

/** Rows of one transaction, about. */
const BATCH_ROWS = 1000;
const BATCH_BYTES: number = 4 * 2 ** 20;
/** Calls of the database that fail in a row before the command ends with their error. */
const TRIES_MAX = 10;

export interface RebuildOptions {
  /** Looked at, and not taken over; stays the caller's. */
  readonly log: EmbeddedLog;
  readonly connect: () => Promise<Backend>;
  /** Which of the databases of the cache it is. Default: that of the option `store`. */
  readonly name?: string;
  /** Under which the log was written, as rulesOfStore() has them. */
  readonly rules: readonly Rule[];
  /** What rebuildable.ts asks for. `storeOf`: of one of several stores. */
  readonly isKnown?: boolean;
  readonly storeOf?: (key: Buffer) => string | undefined;
  readonly onProgress?: (progress: RebuildProgress) => void;
  readonly clock?: WriterClock;
}

export interface RebuildProgress {
  /** Of snapshot and log. */
  readonly bytes: number;
  readonly bytesTotal: number;
  /** Rows that were set, touched or deleted. */
  readonly rows: number;
}

/** What a rebuild has come to. */
export interface Rebuilt {
  readonly database: string;
  readonly rows: number;
  readonly deadLetters: number;
  /** Where the database was, and from where on the log has every change. */
  readonly from: bigint;
  readonly oldest: bigint;
  /** When the snapshot was taken, in Unix milliseconds; undefined: there is none. */
  readonly snapshotMs: number | undefined;
  /** Whether rules keep history or count: of these the database has not all. */
  readonly hasCounters: boolean;
  readonly hasHistory: boolean;
}

/** Throws `ERR_STORE_REFUSED` if there is nothing to rebuild, and what the log is refused for. */
export async function rebuild(options: RebuildOptions): Promise<Rebuilt> {
  const { clock = systemClock } = options;
  const ending = new AbortController();
  const connection = new Connection({ connect: options.connect, callTimeoutMs: CALL_TIMEOUT_MS, clock });
  const calls = new Calls({
    ...{ connection, clock, random: Math.random },
    ...{ ending: ending.signal, onFailed: () => {} },
  });
  try {
    return await new Rebuild(options, connection, calls).run();
  } finally {
    ending.abort();
    await connection.disconnect();
  }
}

class Rebuild {
  readonly #options: RebuildOptions;
  readonly #connection: Connection;
  readonly #calls: Calls;
  /** The name of the database. */
  readonly #store: string;
  /** The log's own cursor for it. */
  readonly #cursor: string;
  #cursors: readonly Cursor[] = [];
  /** The writer of the last batch. It begins anywhere: the batch of another rebuild is not taken for an own one. */
  #writer: bigint = randomBytes(8).readBigUInt64LE();
  #rows = 0;
  #deadLetters = 0;

  constructor(options: RebuildOptions, connection: Connection, calls: Calls) {
    this.#options = options;
    this.#connection = connection;
    this.#calls = calls;
    this.#store = options.name ?? DEFAULT_STORE;
    this.#cursor = cursorOf(this.#store);
  }

  async run(): Promise<Rebuilt> {
    const { log, rules } = this.#options;
    const { oldestReadable: oldest } = log;
    this.#cursors = await this.#call((backend) => backend.readCursors());
    const store = this.#store;
    const { isKnown = false, storeOf } = this.#options;
    refuseOthers(this.#cursors, this.#connection.name, { log, store, isKnown });
    if (storeOf !== undefined) await this.#call((backend) => refuseOtherRows(backend, { store, storeOf }));
    const from = this.#cursors.map(({ position }) => position).reduce(earlier, oldest);
    // Damage is found before anything is changed.
    const { snapshot } = recover({ log, apply() {}, owedFrom: oldest });
    log.takeOver();
    log.sync();
    if (log.durable < log.takeover.end) throw notTakenOver(log.directory);
    await this.#writeAll(snapshot?.number);
    const { committed: end } = log;
    const { epoch, writer } = new LogReader(log).stateAt(end)!;
    await this.#write([], (lane) => ({ ...lane, position: end, epoch, writer }));
    for (const name of [this.#cursor, historyOf(this.#cursor)]) log.cursor(name).place(end);
    return {
      ...{ database: this.#connection.name, rows: this.#rows, deadLetters: this.#deadLetters, from, oldest },
      snapshotMs: snapshot?.startedMs,
      hasCounters: rules.some(({ counter }) => counter),
      hasHistory: rules.some(({ history }) => history),
    };
  }

  async #writeAll(snapshotNumber: number | undefined): Promise<void> {
    const { log, rules, onProgress = () => {} } = this.#options;
    // Without what has another effect when it is done again.
    const plain = rules.map(({ history: _history, counter: _counter, ...rule }) => rule);
    const set = RuleSet.from(plain);
    const found = log.snapshots.sound.find(({ number }) => number === snapshotNumber);
    const bytesTotal = (found?.payloadBytes ?? 0) + log.bytesFrom(log.oldestReadable);
    let bytes = 0;
    let changes = new Changes(set);
    const flush = async (): Promise<void> => {
      if (changes.rowCount > 0) await this.#write(changes.list());
      changes = new Changes(set);
      onProgress({ bytes, bytesTotal, rows: this.#rows });
    };
    const add = async (records: Buffer, passed?: PassedVersions): Promise<void> => {
      changes.add(records, passed);
      bytes += records.length;
      if (changes.rowCount >= BATCH_ROWS || changes.bytes >= BATCH_BYTES) await flush();
    };
    if (found !== undefined) {
      try {
        for (const { records } of log.snapshots.read(found)) await add(records);
      } catch (error) {
        // It was read a moment ago, and it may be so again.
        throw error instanceof SnapshotDamaged ? new CairnError('ERR_LOG_CORRUPT', error.message) : error;
      }
    }
    // Behind the snapshot, though it may be older: of each key the last record counts, as the log has it.
    const passed = new PassedVersions();
    for (const entry of log.entries(log.oldestReadable)) {
      if (entry.kind !== 'records') continue;
      passed.enter(entry);
      await add(entry.records, passed);
    }
    await flush();
  }

  // Moves the cursors: where they are, under another writer; or where `goal` says.
  async #write(
    changes: WriteBatch['changes'],
    goal: (lane: Cursor) => Cursor = (lane) => ({ ...lane, writer: this.#writer }),
  ): Promise<void> {
    this.#writer = BigInt.asUintN(63, this.#writer + 1n);
    const { logId, takeover } = this.#options.log;
    const holder = holderOf(heldAs(this.#store, takeover));
    const none: Cursor = { ...ONE_LANE, logId, position: 0n, epoch: 0, writer: 0n, ...holder };
    const moves = this.#cursors.length === 0 ? [{ from: undefined, to: goal(none) }] : undefined;
    const [first, ...also] =
      moves ?? this.#cursors.map((cursor) => ({ from: cursor, to: { ...goal(cursor), ...holder } }));
    const batch: WriteBatch = { changes, ...first!, ...(also.length === 0 ? {} : { also }) };
    const goals = [first!, ...also].map(({ to }) => to);
    for (let tries = 1; ; tries++) {
      const outcome = await this.#calls.once((backend) => backend.write(batch));
      if ('value' in outcome && outcome.value.kind === 'committed') {
        this.#deadLetters += outcome.value.deadLetters.length;
        this.#calls.succeeded();
        break;
      }
      const cursors = await this.#call((backend) => backend.readCursors());
      if (sameCursors(cursors, goals)) break;
      if (!sameCursors(cursors, this.#cursors))
        throw new CairnError(
          'ERR_STORE_REFUSED',
          `${this.#connection.name} is written by another process. Run it again`,
        );
      await this.#giveUpOrWait(outcome, tries);
    }
    this.#cursors = goals;
    this.#rows += changes.length;
  }

  async #call<T>(run: (backend: Backend) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const outcome = await this.#calls.once(run);
      if ('value' in outcome) {
        this.#calls.succeeded();
        return outcome.value;
      }
      await this.#giveUpOrWait(outcome, tries);
    }
  }

  async #giveUpOrWait(
    outcome: { value: unknown } | { error: Error; isHalting: boolean },
    tries: number,
  ): Promise<void> {
    const failure = 'error' in outcome ? outcome : { error: new Error('the batch was not written'), isHalting: false };
    if (tries === TRIES_MAX || failure.isHalting) throw asError(failure.error);
    await this.#calls.failed(failure);
  }
}
