/**
 * A lane of the writer: reads the log for its share of the keys and carries that to the database, with its own cursor,
 * batches and tries. What holds one lane up, a locked row or a table that is missing, holds up no other.
 *
 *     read entries -> gather a batch -> write (cursor first) -> confirmed -> ...
 *          \__________ the next batch gathers meanwhile __________/
 *
 * An entry of the log with an atomic batch of several lanes is written by them together: crossing.ts, meetings.ts.
 *
 * A lane is carried from a cursor on, until the signal, or until a cursor of the database is elsewhere. Then the writer
 * reads all cursors again, and carries its lanes from there. Nothing is added to a batch that was sent; one that was on
 * its way then is read from the log again, or found to be in the database.
 */
import type { Change, Cursor, DeadLetter } from '../backend/index.ts';
import { type LogEntry, later, type Position } from '../log/index.ts';
import type { RuleSet } from '../rules/index.ts';
import { type Batch, Batcher, type BatchLimits, type EntryEnd } from './batcher.ts';
import { Calls } from './calls.ts';
import { Changed } from './changed.ts';
import type { WriterClock } from './clock.ts';
import { Changes } from './coalesce.ts';
import type { Connection, Failure } from './connection.ts';
import type { Crossing } from './crossing.ts';
import { deliver } from './delivery.ts';
import { Gatherer } from './gatherer.ts';
import { type Letters, lettersBehind } from './letters-behind.ts';
import type { LaneOutcome, Meetings } from './meetings.ts';
import type { RowRate } from './row-rate.ts';
import type { Share } from './share.ts';
import type { WriterMarks } from './stored-marks.ts';
import type { WriterLog } from './writer-log.ts';

/** `resting`: not carried now. */
export type LaneState = 'resting' | 'writing' | 'healing' | 'retrying' | 'halted' | 'paused';

/** A batch that the database has. */
export interface Committed {
  readonly changes: readonly Change[];
  readonly recordCount: number;
  readonly bytes: number;
  readonly deadLetters: readonly DeadLetter[];
  /** Until the database answered, all tries included. */
  readonly elapsedMs: number;
  readonly position: Position;
}

/** What all lanes of a writer share. */
export interface LaneRoom {
  readonly log: WriterLog;
  readonly connection: Connection;
  readonly limits: BatchLimits;
  readonly rules: RuleSet | undefined;
  readonly rate: RowRate;
  readonly dropsRefused: boolean;
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
  state(lane: Lane): void;
  committed(batch: Committed): void;
  retry(cause: Error): void;
  /** The database has everything of a lane that it had before it went back. */
  healed(): void;
}

export interface LaneOptions {
  readonly room: LaneRoom;
  readonly share: Share;
  /** Of the shards of its share. */
  readonly marks: WriterMarks;
  /** How far the database was: one number, which outlives the lane. */
  readonly reached: BigUint64Array;
  /** The lane ends with its cursor there. Undefined: it goes on. */
  readonly until?: Position;
}

/** While lanes are carried. */
export interface Session {
  readonly ending: AbortSignal;
  readonly meetings: Meetings<Lane>;
}

/** Why a lane is carried no further. */
export type CarryEnd = 'ended' | 'moved' | 'reached';

export class Lane {
  readonly share: Share;
  readonly #room: LaneRoom;
  readonly #marks: WriterMarks;
  readonly #until: Position | undefined;
  readonly #dropsRefused: boolean;
  readonly #changed = new Changed();
  readonly #batcher: Batcher;
  readonly #gatherer: Gatherer;
  #state: LaneState = 'resting';
  #cause: Error | undefined;
  #calls: Calls | undefined;
  #ending: AbortSignal | undefined;
  /** The cursor of the database; undefined: it has none. */
  #cursor: Cursor | undefined;
  /** Everything of the lane before this is in the database. */
  #confirmed: Position;
  /** The furthest that it was, by whichever writer of the cache: beyond `confirmed` while the database is healed. */
  readonly #reached: BigUint64Array;
  #writing: Batch | undefined;
  #sendingSinceMs: number | undefined;
  /** The cursor of the database has been found elsewhere. */
  #isMoved = false;
  /** The database may lack what it had: its cursors are being read again. */
  #isInDoubt = false;
  #hasRecovered = false;
  /** The lanes that it waits for, with itself. */
  #meets: readonly number[] = [];
  /** It is to be moved up to there also without changes. */
  #goal: Position | undefined;
  /** What the log says of its oldest record behind what has been read, which costs a look into its files. */
  #unread: { readonly from: Position; readonly oldestMs: number } | undefined;

  constructor({ room, share, marks, reached, until }: LaneOptions) {
    const { log, clock, random, limits, rules } = room;
    this.share = share;
    this.#room = room;
    this.#marks = marks;
    this.#until = until;
    // One that moves to where others begin tells no memory of refused changes: those find them in the table.
    this.#dropsRefused = room.dropsRefused && until === undefined;
    this.#reached = reached;
    this.#confirmed = this.reached;
    this.#batcher = new Batcher(limits, marks, rules, share);
    if (until !== undefined) this.#batcher.flushTo(until);
    this.#gatherer = new Gatherer({
      ...{ log, clock, random, batcher: this.#batcher, changed: this.#changed, until },
      onFailed: (error) => this.#onUnreadable(error),
      onRecovered: () => this.#workIfWell(),
    });
  }

  get state(): LaneState {
    return this.#state;
  }

  /** Of `retrying` and `halted`. */
  get cause(): Error | undefined {
    return this.#cause;
  }

  /** The cursor of the database, as far as the lane knows; undefined: it has none. */
  get cursor(): Cursor | undefined {
    return this.#cursor;
  }

  /** A batch is on its way: the cursor may be where it ends. */
  get isWriting(): boolean {
    return this.#writing !== undefined;
  }

  /**
   * Since when a batch is on its way, tries included; undefined: none is, or the first lane of a crossing writes it.
   */
  get sendingSinceMs(): number | undefined {
    return this.#sendingSinceMs;
  }

  /** Everything of the lane before this is in the database. */
  get confirmed(): Position {
    return this.#confirmed;
  }

  /** Everything of it before this was in the database at some time. */
  get reached(): Position {
    return this.#reached[0]!;
  }

  /** The database has gone back, and does not have all yet that it had. */
  get isHealing(): boolean {
    return this.#confirmed < this.reached;
  }

  /** Everything of it that the log has is in the database. */
  get isIdle(): boolean {
    return this.has(this.#room.log.end());
  }

  /** The marks say that everything that was recovered when the cache was opened is in the database. */
  get hasRecovered(): boolean {
    return this.#hasRecovered;
  }

  /** The lanes that write an entry together with it, while it waits for them or for their transaction. */
  get meets(): readonly number[] {
    return this.#meets;
  }

  /**
   * Whether the database has everything of it before a position. Of entries without changes there is nothing to
   * confirm, so a position behind which nothing is on its way counts too.
   */
  has(position: Position): boolean {
    if (this.#isInDoubt) return false;
    return (
      this.#confirmed >= position ||
      (this.#batcher.position >= position && this.#batcher.isEmpty && this.#writing?.oldestMs === undefined)
    );
  }

  /**
   * What has been read and is not in the database yet; the log may have more behind it. `oldestMs`: when the log took
   * the oldest record that the database does not have, read or not.
   */
  get owed(): { readonly records: number; readonly bytes: number; readonly oldestMs: number | undefined } {
    const { records, bytes, oldestMs } = this.#batcher.waiting;
    const batch = this.#writing;
    if (batch === undefined) return { records, bytes, oldestMs: oldestMs ?? this.#oldestUnreadMs() };
    const { recordCount, bytes: batchBytes } = batch.changes;
    return { records: records + recordCount, bytes: bytes + batchBytes, oldestMs: batch.oldestMs ?? oldestMs };
  }

  #oldestUnreadMs(): number | undefined {
    if (this.isIdle) return undefined;
    const from = later(this.#batcher.position, this.#confirmed);
    if (this.#unread?.from === from) return this.#unread.oldestMs;
    try {
      const oldestMs = this.#room.log.timeFrom(from);
      if (oldestMs !== undefined) this.#unread = { from, oldestMs };
      return oldestMs;
    } catch {
      // The gatherer will say what is wrong with the log.
      return undefined;
    }
  }

  /** Batches up to a position do not wait for the delay. */
  flushTo(position: Position): void {
    this.#batcher.flushTo(position);
    this.#changed.notify();
  }

  /** Moves its cursor to a position also if nothing of the lane is before it. */
  moveTo(position: Position): void {
    this.#goal = position;
    this.flushTo(position);
  }

  /** Resolves when something has changed. */
  changed(): Promise<void> {
    return this.#changed.wait();
  }

  /** Something has changed, by which it may have to go on. */
  notify(): void {
    this.#changed.notify();
  }

  /** The database may have gone back: nothing is known to be there until the lane is carried again. */
  doubt(): void {
    this.#isInDoubt = true;
  }

  /** The database has gone back to before what is confirmed. REQUIRES: it is not carried. */
  goBack(position: Position): void {
    this.#confirmed = position;
    this.#batcher.begin(position);
    this.#writing = undefined;
  }

  pause(): void {
    if (this.#state === 'writing' || this.#state === 'healing') this.#enter('paused');
    this.#changed.notify();
  }

  resume(): void {
    if (this.#state === 'paused') this.#work();
    this.#changed.notify();
  }

  // ---- its course ----

  /** Carries it from a cursor of the database on, until something else is to be done. */
  async carry(found: Cursor | undefined, { ending, meetings }: Session): Promise<CarryEnd> {
    const { connection, clock, random } = this.#room;
    this.#ending = ending;
    this.#calls = new Calls({
      ...{ connection, clock, random, ending },
      onFailed: (failure) => this.#onFailed(failure),
    });
    this.#cursor = found;
    this.#isMoved = false;
    const wake = (): void => this.#changed.notify();
    ending.addEventListener('abort', wake, { once: true });
    try {
      if (!(await this.#begin(found?.position ?? 0n))) return 'ended';
      return await this.#carryOn(meetings);
    } finally {
      ending.removeEventListener('abort', wake);
      this.#sendingSinceMs = undefined;
      this.#state = 'resting';
      this.#changed.notify();
    }
  }

  get #isEnding(): boolean {
    return this.#ending!.aborted;
  }

  // False: the end has come.
  async #begin(position: Position): Promise<boolean> {
    if (position > this.#confirmed && !(await this.#catchUp(position))) return false;
    // What was gathered is read again. Until then it is on its way, which has() sees.
    this.#batcher.begin(position);
    this.#writing = undefined;
    this.#confirm(position);
    return true;
  }

  // A writer of this process may have died behind a batch that the database has. False: the end has come.
  async #catchUp(position: Position): Promise<boolean> {
    const behind = await this.#lettersBehind([this], this.#confirmed, position);
    if (behind === undefined) return false;
    for (const letter of behind.letters) this.#marks.refuse(letter, true);
    this.#marks.raiseBetween(this.#confirmed, position);
    await this.#dropLetters(behind);
    return true;
  }

  async #carryOn(meetings: Meetings<Lane>): Promise<CarryEnd> {
    this.#work();
    const stopGathering = new AbortController();
    const from = this.#room.readFrom(this.#batcher.position, this.isHealing);
    const gathering = this.#gatherer.run(from, stopGathering.signal);
    let end: CarryEnd | LaneOutcome = 'written';
    while (end === 'written') {
      const next = await this.#next();
      if (typeof next === 'string') end = next;
      else if ('changes' in next) end = await this.#send([this], [next]);
      else end = await this.#attend(next, meetings);
    }
    const result = this.#isMoved ? 'moved' : end;
    // Before anything is awaited: a caller may ask what the database has.
    if (result === 'moved') this.doubt();
    stopGathering.abort();
    this.#changed.notify();
    await gathering;
    return result;
  }

  async #attend(crossing: Crossing, meetings: Meetings<Lane>): Promise<LaneOutcome> {
    this.#meets = crossing.lanes;
    this.#changed.notify();
    try {
      const write = ([first, ...others]: readonly [Lane, ...Lane[]]) => first.#sendCrossing(crossing.entry, others);
      return await meetings.attend(this, crossing, write);
    } finally {
      this.#meets = [];
    }
  }

  // Milliseconds until a batch is to be taken; undefined: when something changes.
  #dueInMs(): number | undefined {
    if (this.#room.isPaused()) return undefined;
    const nowMs = this.#room.clock.steadyMs();
    const goal = this.isHealing ? this.reached : (this.#until ?? this.#goal);
    const dueInMs = this.#batcher.dueInMs(nowMs, this.#marks.isWanted(), goal);
    return dueInMs === undefined ? undefined : Math.max(dueInMs, this.#room.rate.waitMs(nowMs));
  }

  // The next batch when it is due, or the next crossing when all before it is written.
  async #next(): Promise<Batch | Crossing | CarryEnd> {
    const { clock, rate } = this.#room;
    for (;;) {
      if (this.#isMoved) return 'moved';
      if (this.#isEnding) return 'ended';
      if (this.#until !== undefined && this.#confirmed >= this.#until) return 'reached';
      this.#raiseMarks();
      const dueInMs = this.#dueInMs();
      if (dueInMs === 0) {
        const { crossing } = this.#batcher;
        if (this.#batcher.isEmpty && crossing !== undefined) return crossing;
        this.#writing = this.#batcher.take();
        rate.count(this.#writing.changes.rowCount, clock.steadyMs());
        // The reader may go on.
        this.#changed.notify();
        return this.#writing;
      }
      if (dueInMs !== undefined) await this.#changedWithin(dueInMs);
      else {
        const lookInMs = this.#room.lookInMs();
        if (lookInMs > 0) await this.#changedWithin(lookInMs);
        else if (await this.#room.look(this.#calls!)) this.#succeeded();
        else if (!this.#isEnding) return 'moved';
      }
    }
  }

  // The first of the lanes that an entry brings together writes it for all of them.
  #sendCrossing(entry: LogEntry, others: readonly Lane[]): Promise<LaneOutcome> {
    const { rate, clock, rules } = this.#room;
    const lanes = [this, ...others];
    const changes = new Changes(rules);
    for (const lane of lanes) lane.#batcher.addCrossing(entry, changes);
    const oldestMs = changes.rowCount === 0 ? undefined : entry.timeMs;
    const batches = lanes.map((lane, i) => {
      const batch = { ...lane.#batcher.take(), oldestMs };
      // Counted once.
      lane.#writing = i === 0 ? { ...batch, changes } : batch;
      return lane.#writing;
    });
    rate.count(changes.rowCount, clock.steadyMs());
    for (const lane of lanes) lane.#changed.notify();
    return this.#send(lanes, batches);
  }

  // Writes the changes of the first of some batches, and moves the cursors of all their lanes, of which this is the
  // first.
  async #send(lanes: readonly Lane[], batches: readonly Batch[]): Promise<LaneOutcome> {
    const { clock } = this.#room;
    const begunMs = clock.steadyMs();
    this.#sendingSinceMs = begunMs;
    const { changes: gathered } = batches[0]!;
    const changes = gathered.list();
    const { history } = gathered;
    const rows = history.length === 0 ? { changes } : { changes, history };
    const [own, ...also] = lanes.map((lane, i) => ({ from: lane.#cursor, to: lane.#cursorAt(batches[i]!.end) }));
    const write = { ...rows, ...own!, ...(also.length === 0 ? {} : { also }) };
    const calls = this.#calls!;
    const delivered = await deliver(write, { calls, resumed: () => this.#resumed(), ending: this.#ending! });
    if (delivered.kind !== 'written') return delivered.kind;
    this.#succeeded();
    let { deadLetters } = delivered;
    let behind: Letters | undefined;
    if (deadLetters === undefined || (this.#dropsRefused && deadLetters.length > 0)) {
      behind = await this.#lettersBehind(lanes, undefined, own!.to.position);
      if (behind === undefined) return 'ended';
      deadLetters ??= behind.letters;
    }
    this.#sendingSinceMs = undefined;
    for (const [i, lane] of lanes.entries()) lane.#written(batches[i]!, deadLetters);
    this.#room.committed({
      changes,
      recordCount: gathered.recordCount,
      bytes: gathered.bytes,
      deadLetters,
      elapsedMs: clock.steadyMs() - begunMs,
      position: own!.to.position,
    });
    for (const [i, lane] of lanes.entries()) {
      lane.#writing = undefined;
      lane.#confirm(batches[i]!.end.position);
    }
    if (behind !== undefined) await this.#dropLetters(behind);
    return 'written';
  }

  // The database has a batch, without those of its changes that it has put aside.
  #written({ end, versions }: Batch, deadLetters: readonly DeadLetter[]): void {
    this.#cursor = this.#cursorAt(end);
    for (const letter of deadLetters) if (this.share.has(letter.change.key)) this.#marks.refuse(letter);
    if (versions !== undefined) this.#marks.raise(versions);
  }

  // Those of a mode that keeps none. Callers have been told, and memory, so that a writer that dies before finds them.
  async #dropLetters({ ids }: Letters): Promise<void> {
    if (!this.#dropsRefused || ids.length === 0) return;
    await this.#calls!.untilAnswered(async ({ deadLetters }) => deadLetters?.drop(ids));
  }

  // The dead letters of some lanes behind their cursors, or behind a position.
  #lettersBehind(lanes: readonly Lane[], after: Position | undefined, end: Position): Promise<Letters | undefined> {
    const { logId } = this.#room.log;
    const afterOf = (key: Buffer): Position | undefined => {
      const lane = lanes.find(({ share }) => share.has(key));
      return lane === undefined ? undefined : (after ?? lane.#cursor?.position ?? 0n);
    };
    return this.#calls!.untilAnswered((backend) => lettersBehind(backend, { logId, afterOf, end }));
  }

  // Of what changes no row, and so belongs to no batch. The log forgets records behind the marks only: memory looks
  // there for a value that has left it, until its mark says that the database has it.
  #raiseMarks(): void {
    if (this.has(this.#marks.openedAt)) {
      this.#marks.raiseRecovered();
      this.#hasRecovered = true;
    }
    const barren = this.#batcher.takeBarren();
    if (barren !== undefined) this.#marks.raise(barren);
    this.#room.progressed();
  }

  #cursorAt({ position, epoch, writer }: EntryEnd): Cursor {
    const { lane, laneCount } = this.share;
    return { lane, laneCount, logId: this.#room.log.logId, position, epoch, writer };
  }

  #confirm(position: Position): void {
    const wasHealing = this.isHealing;
    this.#isInDoubt = false;
    this.#confirmed = later(this.#confirmed, position);
    this.#reached[0] = later(this.reached, position);
    this.#room.seen();
    if (wasHealing && !this.isHealing) {
      this.#room.healed();
      if (this.#state === 'healing') this.#work();
    }
    this.#changed.notify();
  }

  // Waits while the writer is paused.
  async #resumed(): Promise<void> {
    while (this.#room.isPaused() && !this.#isEnding) {
      this.#enter('paused');
      await this.#changed.wait();
    }
  }

  #onUnreadable(error: Error): void {
    // The log has removed what the database lacks since it went back.
    if (this.#cursor !== undefined && this.#cursor.position < this.#room.log.oldest()) this.#isMoved = true;
    this.#enter('halted', error);
    this.#changed.notify();
  }

  #onFailed({ error, isHalting }: Failure): void {
    this.#room.retry(error);
    this.#enter(isHalting ? 'halted' : 'retrying', error);
  }

  #succeeded(): void {
    if (!this.#calls!.areFailing) return;
    this.#calls!.succeeded();
    this.#workIfWell();
  }

  #workIfWell(): void {
    if (!this.#calls!.areFailing && !this.#gatherer.isFailing) this.#work();
  }

  #work(): void {
    this.#enter(this.#room.isPaused() ? 'paused' : this.isHealing ? 'healing' : 'writing');
  }

  // Until something changes, or the time is over.
  async #changedWithin(ms: number): Promise<void> {
    const timer = this.#room.clock.after(ms, () => this.#changed.notify());
    await this.#changed.wait();
    timer.stop();
  }

  #enter(state: LaneState, cause?: Error): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#cause = cause;
    this.#room.state(this);
    this.#changed.notify();
  }
}
