// What a writer stands between, in memory: a log that tests append records to, and a database whose calls fail as the
// test says. The database keeps rows, cursor and a history of every change that had an effect, in one transaction; so
// that a test can count effects.

import { mayMove, movesOf } from '../../src/backend/cursors.ts';
import type {
  Backend,
  BackendLevel,
  Change,
  Cursor,
  DeadLetter,
  DeadLetters,
  ErrorClass,
  KeptDeadLetter,
  Loaded,
  Row,
  WriteBatch,
  WriteOutcome,
} from '../../src/backend/index.ts';
import type { LogEntry, Position, Takeover } from '../../src/log/index.ts';
import { Changed } from '../../src/write-back/changed.ts';
import { NO_MARKS, type WriterMarks } from '../../src/write-back/stored-marks.ts';
import type { WriterLog } from '../../src/write-back/writer-log.ts';
import { makeRecord, type RecordParts } from './records.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** Of a cache whose memory has no stubs. */
export const noMarks: WriterMarks = NO_MARKS;

/** A log whose entries are durable as soon as they are appended. */
export class WorldLog {
  readonly directory = '/data';
  readonly logId: bigint;
  writer = 100n;
  epoch = 1;
  formatVersion = 3;
  /** When it takes entries. */
  timeMs = 0;
  confirmed: Position = 0n;
  readonly entries: LogEntry[] = [];
  readonly #changed = new Changed();
  #counter = 0;

  constructor(logId = 7n) {
    this.logId = logId;
  }

  /** Of the history. */
  history: Position | undefined;
  /** Entries before this were removed. */
  begin: Position = 0n;

  oldest(): Position {
    return this.begin;
  }

  /** The entry of the process that opens it now. */
  get takeover(): Takeover {
    return { epoch: this.epoch, writer: this.writer, end: this.end() };
  }

  async takenOver(_signal: AbortSignal): Promise<void> {}

  /** Nothing tells of the first opening. */
  mayHaveHad({ epoch, writer }: Pick<Takeover, 'epoch' | 'writer'>): boolean {
    return epoch === 1 || this.entries.some((entry) => entry.kind === 'takeover' && entry.writer === writer);
  }

  end(): Position {
    return this.entries.at(-1)?.end ?? 0n;
  }

  async settled(): Promise<Position> {
    return this.end();
  }

  bytesFrom(position: Position): number {
    return Number(this.end() - position);
  }

  timeFrom(position: Position): number | undefined {
    return this.entries.find((entry) => entry.kind === 'records' && entry.position >= position)?.timeMs;
  }

  /** One group of records; each gets the next version. */
  append(...parts: RecordParts[]): LogEntry {
    const records = Buffer.concat(
      parts.map((each) => makeRecord({ ...each, epoch: this.epoch, counter: ++this.#counter })),
    );
    return this.#push('records', records, parts.length);
  }

  /** A scribe that was started again appends what the one before had not committed. */
  appendAgain({ records, recordCount }: LogEntry): void {
    this.#push('records', records, recordCount);
  }

  /** Another process opens the log, or this one again. */
  takeOver(): void {
    this.writer++;
    this.epoch++;
    this.#push('takeover', Buffer.alloc(0), 0);
  }

  lose(recordCount: number): void {
    this.#push('lost', Buffer.alloc(0), recordCount);
  }

  #push(kind: LogEntry['kind'], records: Buffer, recordCount: number): LogEntry {
    const position = this.end();
    const entry: LogEntry = {
      kind,
      position,
      end: position + BigInt(80 + records.length),
      epoch: this.epoch,
      formatVersion: this.formatVersion,
      writer: this.writer,
      recordsBefore: BigInt(this.entries.length),
      recordCount,
      timeMs: this.timeMs,
      records,
    };
    this.entries.push(entry);
    this.#changed.notify();
    return entry;
  }

  stateAt(position: Position): { epoch: number; writer: bigint } | undefined {
    return this.entries.find(({ end }) => end === position);
  }

  async *read(from: Position, signal: AbortSignal): AsyncGenerator<LogEntry> {
    let position = from;
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    while (!signal.aborted) {
      if (position < this.begin) throw new Error(`The log begins at ${this.begin}`);
      const entry = this.entries.find((each) => each.position >= position);
      if (entry === undefined) {
        await Promise.race([this.#changed.wait(), stopped]);
        continue;
      }
      yield { ...entry, records: Buffer.from(entry.records) };
      position = entry.end;
    }
  }

  /** As the process has it that opens it now: what was confirmed later is not known to it. */
  asOfNow(): WriterLog {
    return {
      directory: this.directory,
      logId: this.logId,
      takeover: this.takeover,
      takenOver: (signal) => this.takenOver(signal),
      mayHaveHad: (other) => this.mayHaveHad(other),
      confirmed: this.confirmed,
      oldest: () => this.oldest(),
      end: () => this.end(),
      settled: () => this.settled(),
      bytesFrom: (position) => this.bytesFrom(position),
      timeFrom: (position) => this.timeFrom(position),
      stateAt: (position) => this.stateAt(position),
      read: (from, signal) => this.read(from, signal),
      advance: (position) => this.advance(position),
      goBack: (position) => this.goBack(position),
      historyFrom: () => this.historyFrom(),
      keepHistory: (position) => this.keepHistory(position),
    };
  }

  async advance(position: Position): Promise<void> {
    if (position < this.confirmed || position > this.end()) throw new Error(`Cannot move to ${position}`);
    this.confirmed = position;
  }

  async goBack(position: Position): Promise<void> {
    if (position < this.begin) throw new Error(`There is nothing at ${position}`);
    this.confirmed = position;
  }

  async historyFrom(): Promise<Position | undefined> {
    return this.history;
  }

  async keepHistory(position: Position | undefined): Promise<void> {
    if (position !== undefined && position < this.begin) throw new Error(`There is nothing at ${position}`);
    this.history = position;
  }
}

/** Rows and a cursor, changed together. */
export class WorldDatabase {
  rows = new Map<string, { value: string; expiresWallMs: number; version: bigint }>();
  cursors: Cursor[] = [];
  /** Every change that had an effect, in order: `key@version`. */
  history: string[] = [];
  /** How many changes each committed batch had, of those that moved their lane. */
  batchSizes: number[] = [];
  /** Keys whose changes it refuses for good. */
  readonly refused = new Set<string>();
  letters: KeptDeadLetter[] = [];
  /** What another writer has added to the rows. */
  foreign = new Map<string, bigint>();
  /** Told of each batch when its rows have changed. */
  onCommit: (batch: WriteBatch) => void = () => {};
  #letterCount = 0n;

  commit(batch: WriteBatch): WriteOutcome {
    const outcome = mayMove(this.cursors, batch);
    if (!outcome.isFree) return { kind: 'moved', found: outcome.found };
    for (const { from, to } of movesOf(batch)) {
      const others = this.cursors.filter(({ lane }) => lane !== (to ?? from)!.lane);
      this.cursors = to === undefined ? others : [...others, to].sort((a, b) => a.lane - b.lane);
    }
    if (batch.to.position !== (batch.from?.position ?? 0n)) this.batchSizes.push(batch.changes.length);
    const deadLetters: DeadLetter[] = [];
    for (const change of batch.changes) {
      if (this.refused.has(change.key.toString())) deadLetters.push({ change, error: new Error('refused') });
      else this.#apply(change);
    }
    for (const { change, error } of deadLetters) {
      const id = ++this.#letterCount;
      const text = { error: error.message, errorCode: undefined };
      this.letters.push({ id, change, ...text, cursor: batch.to, addedWallMs: 0, isSuperseded: false });
    }
    this.onCommit(batch);
    return { kind: 'committed', deadLetters };
  }

  #apply(change: Change): void {
    const key = change.key.toString('latin1');
    this.history.push(`${key}@${change.version}`);
    const row = this.rows.get(key);
    if (change.kind === 'delete') this.rows.delete(key);
    else if (change.kind === 'set' || (change.kind === 'add' && row === undefined)) {
      const { value, expiresWallMs, version } = change;
      this.rows.set(key, { value: value.toString('latin1'), expiresWallMs, version });
    } else if (row !== undefined) {
      const { expiresWallMs, version } = change;
      const value = change.kind === 'add' ? String(BigInt(row.value) + change.delta) : row.value;
      this.rows.set(key, { value, expiresWallMs, version });
    }
  }

  /** Another writer adds to a row, if it is there. */
  addTo(key: string, number: bigint): void {
    const row = this.rows.get(key);
    if (row === undefined) return;
    this.rows.set(key, { ...row, value: String(BigInt(row.value) + number) });
    this.foreign.set(key, (this.foreign.get(key) ?? 0n) + number);
  }

  /** What a backup of now is; the answer puts it back. */
  backUp(): () => void {
    const rows = new Map(this.rows);
    const history = [...this.history];
    const foreign = new Map(this.foreign);
    const { cursors } = this;
    return () => {
      this.rows = new Map(rows);
      this.history = [...history];
      this.foreign = new Map(foreign);
      this.cursors = cursors;
    };
  }
}

/** What a call comes to, beside what it should. */
export type Fault =
  /** It fails before it has any effect. */
  | 'before'
  /** It has its effect, and fails all the same: the answer to COMMIT is lost. */
  | 'after'
  /** It never returns. */
  | 'hangs'
  /** It never returns, and has its effect a second later. */
  | 'late'
  | 'halt';

export class WorldBackend implements Backend {
  readonly name = 'memory:world';
  level: BackendLevel = 'transactional';
  readonly deadLetters: DeadLetters = {
    list: async (limit, after = 0n) => this.#database.letters.filter(({ id }) => id > after).slice(0, limit),
    drop: async (ids) => {
      const before = this.#database.letters;
      this.#database.letters = before.filter(({ id }) => !ids.includes(id));
      return before.length - this.#database.letters.length;
    },
  };
  readonly #database: WorldDatabase;
  readonly #clock: VirtualClock;
  /** Asked before each call. */
  fault: (call: 'open' | 'readCursors' | 'write', batch?: WriteBatch) => Fault | undefined = () => undefined;
  /** How long a call takes. */
  callMs = 1;
  isClosed = false;

  constructor(database: WorldDatabase, clock: VirtualClock) {
    this.#database = database;
    this.#clock = clock;
  }

  open(): Promise<void> {
    return this.#call('open', () => {});
  }

  readCursors(): Promise<readonly Cursor[]> {
    return this.#call('readCursors', () => this.#database.cursors);
  }

  write(batch: WriteBatch): Promise<WriteOutcome> {
    return this.#call('write', () => this.#database.commit(batch), batch);
  }

  async #call<T>(call: 'open' | 'readCursors' | 'write', run: () => T, batch?: WriteBatch): Promise<T> {
    const fault = this.fault(call, batch);
    await this.#clock.sleep(this.callMs);
    switch (fault) {
      case 'before':
        throw Object.assign(new Error('connection lost'), { transient: true });
      case 'halt':
        throw new Error('no such table');
      case 'hangs':
        return new Promise(() => {});
      case 'late':
        this.#clock.after(1000, run);
        return new Promise(() => {});
      case 'after':
        run();
        throw Object.assign(new Error('connection lost in COMMIT'), { transient: true });
      default:
        return run();
    }
  }

  load(keys: readonly Buffer[]): Promise<Loaded> {
    return this.#call('readCursors', () => ({ rows: keys.map(() => undefined), cursors: this.#database.cursors }));
  }

  // biome-ignore lint/correctness/useYield: it is not used here
  async *scan(): AsyncGenerator<{ rows: Row[]; cursors: Cursor[] }> {
    throw new Error('not here');
  }

  classify(error: unknown): ErrorClass {
    return (error as { transient?: boolean }).transient ? 'transient' : 'halt';
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }
}
