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
import type { Cursor } from '../backend/index.ts';
import type { Position } from '../log/index.ts';
import { Batcher } from './batcher.ts';
import { Calls } from './calls.ts';
import { Changed } from './changed.ts';
import type { Failure } from './connection.ts';
import type { Crossing } from './crossing.ts';
import { Gatherer } from './gatherer.ts';
import { LaneMarks } from './lane-marks.ts';
import type { LaneRoom } from './lane-room.ts';
import type { LaneOutcome, Meetings } from './meetings.ts';
import { type Party, Sender } from './sending.ts';
import type { Share } from './share.ts';
import { Standing } from './standing.ts';
import type { WriterMarks } from './stored-marks.ts';

/** `resting`: not carried now. */
export type LaneState = 'resting' | 'writing' | 'healing' | 'retrying' | 'halted' | 'paused';

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
  readonly #changed = new Changed();
  readonly #batcher: Batcher;
  readonly #standing: Standing;
  readonly #party: Party;
  readonly #gatherer: Gatherer;
  #state: LaneState = 'resting';
  #cause: Error | undefined;
  #calls: Calls | undefined;
  #sender: Sender | undefined;
  #ending: AbortSignal | undefined;
  /** The cursor of the database has been found elsewhere. */
  #isMoved = false;
  /** The lanes that it waits for, with itself. */
  #meets: readonly number[] = [];
  /** It is to be moved up to there also without changes. */
  #goal: Position | undefined;

  constructor({ room, share, marks, reached, until }: LaneOptions) {
    const { log, clock, random, limits, rules } = room;
    this.share = share;
    this.#room = room;
    this.#marks = marks;
    this.#until = until;
    this.#batcher = new Batcher(limits, marks, rules, share, room.movesAlong);
    if (until !== undefined) this.#batcher.flushTo(until);
    const standing = new Standing({
      ...{ room, share, batcher: this.#batcher, reached },
      onConfirmed: (hasHealed) => this.#onConfirmed(hasHealed),
    });
    this.#standing = standing;
    // One that moves to where others begin tells no memory of refused changes: those find them in the table.
    const dropsRefused = room.dropsRefused && until === undefined;
    this.#party = {
      standing,
      marks: new LaneMarks({ marks, standing, logId: log.logId, dropsRefused }),
      taken: () => this.#changed.notify(),
    };
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

  /** The cursor of the database, as far as the lane knows; undefined: it was not carried yet. */
  get cursor(): Cursor | undefined {
    return this.#standing.cursor;
  }

  /** A batch is on its way: the cursor may be where it ends. */
  get isWriting(): boolean {
    return this.#standing.writing !== undefined;
  }

  /** Everything of the lane before this is in the database. */
  get confirmed(): Position {
    return this.#standing.confirmed;
  }

  /** Everything of it before this was in the database at some time. */
  get reached(): Position {
    return this.#standing.reached;
  }

  /** The database has gone back, and does not have all yet that it had. */
  get isHealing(): boolean {
    return this.#standing.isHealing;
  }

  /** The marks say that everything that was recovered when the cache was opened is in the database. */
  get hasRecovered(): boolean {
    return this.#party.marks.haveRecovered;
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
    return this.#standing.has(position);
  }

  /**
   * What has been read and is not in the database yet; the log may have more behind it. `oldestMs`: when the log took
   * the oldest record that the database does not have, read or not.
   */
  get owed(): Standing['owed'] {
    return this.#standing.owed;
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
    this.#standing.doubt();
  }

  /** The database has gone back to before what is confirmed. REQUIRES: it is not carried. */
  goBack(position: Position): void {
    this.#standing.goBack(position);
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
  async carry(found: Cursor, { ending, meetings }: Session): Promise<CarryEnd> {
    const { connection, clock, random } = this.#room;
    this.#ending = ending;
    this.#calls = new Calls({
      ...{ connection, clock, random, ending },
      onFailed: (failure) => this.#onFailed(failure),
    });
    this.#sender = new Sender({
      ...{ room: this.#room, calls: this.#calls, ending },
      resumed: () => this.#resumed(),
      onSucceeded: () => this.#succeeded(),
    });
    this.#standing.cursor = found;
    this.#isMoved = false;
    const wake = (): void => this.#changed.notify();
    ending.addEventListener('abort', wake, { once: true });
    try {
      const { position } = found;
      const isBehind = position > this.confirmed;
      if (isBehind && !(await this.#party.marks.catchUp(this.#calls, position))) return 'ended';
      // Until then what was gathered is on its way, which has() sees.
      this.#standing.begin(position);
      return await this.#carryOn(meetings);
    } finally {
      ending.removeEventListener('abort', wake);
      this.#sender = undefined;
      this.#state = 'resting';
      this.#changed.notify();
    }
  }

  get #isEnding(): boolean {
    return this.#ending!.aborted;
  }

  async #carryOn(meetings: Meetings<Lane>): Promise<CarryEnd> {
    this.#work();
    const stopGathering = new AbortController();
    const from = this.#room.readFrom(this.#batcher.position, this.isHealing);
    const gathering = this.#gatherer.run(from, stopGathering.signal);
    let end: CarryEnd | LaneOutcome = 'written';
    while (end === 'written') {
      const next = await this.#next();
      if (next === 'batch') end = await this.#sender!.send(this.#party);
      else if (typeof next === 'string') end = next;
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
      // The first of the lanes writes it for all of them.
      return await meetings.attend(this, crossing, (lanes) => {
        const parties = lanes.map((lane) => lane.#party);
        return lanes[0].#sender!.sendCrossing(parties, crossing.entry);
      });
    } finally {
      this.#meets = [];
    }
  }

  // One that is reached is none: every entry behind it would be a batch.
  get #goalAhead(): Position | undefined {
    return this.#goal !== undefined && this.#goal > this.confirmed ? this.#goal : undefined;
  }

  // Milliseconds until a batch is to be taken; undefined: when something changes.
  #dueInMs(): number | undefined {
    if (this.#room.isPaused()) return undefined;
    const nowMs = this.#room.clock.steadyMs();
    const goal = this.isHealing ? this.reached : (this.#until ?? this.#goalAhead);
    const dueInMs = this.#batcher.dueInMs(nowMs, this.#marks.isWanted(), goal);
    return dueInMs === undefined ? undefined : Math.max(dueInMs, this.#room.rate.waitMs(nowMs));
  }

  // Whether the next batch is due, or the next crossing, when all before it is written.
  async #next(): Promise<'batch' | Crossing | CarryEnd> {
    for (;;) {
      if (this.#isMoved) return 'moved';
      if (this.#isEnding) return 'ended';
      if (this.#until !== undefined && this.confirmed >= this.#until) return 'reached';
      this.#party.marks.passed();
      this.#room.progressed();
      const dueInMs = this.#dueInMs();
      if (dueInMs === 0) {
        const { crossing } = this.#batcher;
        return this.#batcher.isEmpty && crossing !== undefined ? crossing : 'batch';
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

  #onConfirmed(hasHealed: boolean): void {
    if (hasHealed) {
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
    if (this.cursor !== undefined && this.cursor.position < this.#room.log.oldest()) this.#isMoved = true;
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
    this.#room.state();
    this.#changed.notify();
  }
}
