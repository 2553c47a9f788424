/**
 * Makes batches of the entries of a log. One batch gathers while another is written: entries are added until it has
 * enough rows or bytes, and it is taken when it has, when its oldest record has waited for the delay, or when a caller
 * asks for everything. A batch is whole entries, so that its end is a place where a cursor can be.
 *
 * Entries that change no row make no batch by themselves, until they take so much of the log that it should have that
 * room back: then they are a batch without changes. So they are, where the log has other writers, when the log is
 * quiet: otherwise it would seem to owe what the other lanes, or the writers to other databases, have written.
 *
 * An entry that has to be written together with other lanes (crossing.ts) ends the batch before it, and is a batch.
 */
import type { LogEntry, Position } from '../log/index.ts';
import type { RuleSet } from '../rules/index.ts';
import { Changes } from './coalesce.ts';
import { type Crossing, crossingAt } from './crossing.ts';
import { PassedVersions } from './passed.ts';
import type { Share } from './share.ts';
import type { Versions, WriterMarks } from './stored-marks.ts';

/** Bytes of log without changes that are a batch. */
export const BARREN_BYTES_MAX: number = 2 ** 20;
/** Of several writers, one without changes has its cursor moved when the log has had no entry for this time. */
export const QUIET_MS = 1000;

/** When a batch is full, or due. */
export interface BatchLimits {
  /** Distinct keys, and rows of history. The entry that reaches it is still taken whole. */
  readonly rows: number;
  /** Bytes of keys and values, likewise. */
  readonly bytes: number;
  /** The longest time that a record waits for others, in milliseconds. */
  readonly delayMs: number;
}

/** The place behind an entry, for a cursor. */
export interface EntryEnd {
  readonly position: Position;
  readonly epoch: number;
  readonly writer: bigint;
}

/** Changes and the place in the log that they reach. */
export interface Batch {
  readonly changes: Changes;
  readonly end: EntryEnd;
  /** When the log took its oldest record, in wall time; undefined: it has no changes. */
  readonly oldestMs: number | undefined;
  /** The highest versions of its records, by shard; undefined: no mark is behind them. */
  readonly versions: Versions | undefined;
}

export class Batcher {
  readonly #limits: BatchLimits;
  readonly #rules: RuleSet | undefined;
  readonly #marks: Pick<WriterMarks, 'collect'>;
  #versions: Versions | undefined;
  readonly #laneCount: number;
  readonly #movesAlong: boolean;
  readonly #lane: number;
  readonly #passed: PassedVersions;
  #changes: Changes;
  #end: EntryEnd | undefined;
  /** Bytes of log that it stands for. */
  #logBytes = 0;
  /** Where the oldest record in it is, and since when. */
  #begin: Position = 0n;
  #openedMs = 0;
  /** When the last entry was added. */
  #addedMs = 0;
  #oldestMs = 0;
  /** Everything before this has been added. */
  #position: Position = 0n;
  #flushTo: Position = 0n;
  #crossing: Crossing | undefined;

  /**
   * `rules`: which keys are written; undefined: all. `share`: those of one lane; undefined: all. `movesAlong`: the log
   * has other writers, of lanes or of databases.
   */
  constructor(
    limits: BatchLimits,
    marks: Pick<WriterMarks, 'collect'>,
    rules?: RuleSet,
    share?: Share,
    movesAlong: boolean = (share?.laneCount ?? 1) > 1,
  ) {
    this.#limits = limits;
    this.#marks = marks;
    this.#rules = rules;
    this.#lane = share?.lane ?? 0;
    this.#laneCount = share?.laneCount ?? 1;
    this.#movesAlong = movesAlong;
    this.#passed = new PassedVersions(share);
    this.#changes = new Changes(rules);
  }

  /** Forgets what it has gathered: the next entry begins there. */
  begin(position: Position): void {
    this.#changes = new Changes(this.#rules);
    this.#versions = undefined;
    this.#end = undefined;
    this.#logBytes = 0;
    this.#position = position;
    this.#crossing = undefined;
    this.#passed.clear();
  }

  /** Everything before this has been added, or passed. */
  get position(): Position {
    return this.#position;
  }

  get isEmpty(): boolean {
    return this.#changes.rowCount === 0;
  }

  get isFull(): boolean {
    const { rowCount, history, bytes } = this.#changes;
    return rowCount + history.length >= this.#limits.rows || bytes >= this.#limits.bytes;
  }

  /** What has been gathered and not taken. */
  get waiting(): { readonly records: number; readonly bytes: number; readonly oldestMs: number | undefined } {
    const { recordCount: records, bytes } = this.#changes;
    return { records, bytes, oldestMs: this.isEmpty ? undefined : this.#oldestMs };
  }

  /**
   * Adds the next entry. False: it is a crossing of this lane, which addCrossing() adds; no entry may be added before.
   * REQUIRES: it is not full.
   */
  add(entry: LogEntry, nowMs: number): boolean {
    const crossing = crossingAt(entry, this.#laneCount);
    if (crossing?.lanes.includes(this.#lane)) {
      this.#crossing = crossing;
      return false;
    }
    this.#add(entry, this.#changes, nowMs);
    return true;
  }

  /** The crossing that the next entry is. */
  get crossing(): Crossing | undefined {
    return this.#crossing;
  }

  /** Adds the changes of the crossing to those of all its lanes. REQUIRES: it is empty. */
  addCrossing(entry: LogEntry, changes: Changes): void {
    this.#crossing = undefined;
    this.#add(entry, changes, 0);
  }

  #add(entry: LogEntry, changes: Changes, nowMs: number): void {
    const wasEmpty = this.isEmpty;
    this.#passed.enter(entry);
    changes.add(entry.records, this.#passed, entry.timeMs);
    this.#versions = this.#marks.collect(entry, this.#versions);
    this.#position = entry.end;
    this.#logBytes += Number(entry.end - entry.position);
    this.#end = { position: entry.end, epoch: entry.epoch, writer: entry.writer };
    this.#addedMs = nowMs;
    if (!wasEmpty || this.isEmpty) return;
    this.#begin = entry.position;
    this.#openedMs = nowMs;
    this.#oldestMs = entry.timeMs;
  }

  /** Passes an entry that the database has, before where it begins: a second copy of its records may follow. */
  pass(entry: LogEntry): void {
    this.#passed.passAll(entry);
  }

  /** Batches up to a position do not wait for the delay. */
  flushTo(position: Position): void {
    if (position > this.#flushTo) this.#flushTo = position;
  }

  /** The versions of what was gathered, once, if none of it changes a row: the database has all that it needs of it. */
  takeBarren(): Versions | undefined {
    if (!this.isEmpty) return undefined;
    const versions = this.#versions;
    this.#versions = undefined;
    return versions;
  }

  /**
   * Milliseconds until there is a batch to take, 0: there is one; undefined: no change has been gathered. `isWanted`: a
   * caller waits, so no record waits for others. `goal`: a position that the cursor is to reach, with changes or
   * without. At a crossing there is one: no record before it waits for others.
   */
  dueInMs(nowMs: number, isWanted = false, goal?: Position): number | undefined {
    if (this.#crossing !== undefined) return 0;
    if (this.isEmpty) {
      const reaches = goal !== undefined && this.#end !== undefined && this.#end.position >= goal;
      if (reaches || this.#logBytes >= BARREN_BYTES_MAX) return 0;
      const movesAlong = this.#movesAlong && this.#end !== undefined;
      return movesAlong ? Math.max(0, this.#addedMs + QUIET_MS - nowMs) : undefined;
    }
    // Of a flush, the entries that are still to be read belong to the batch too.
    if (isWanted || this.isFull || (this.#begin < this.#flushTo && this.#position >= this.#flushTo)) return 0;
    return Math.max(0, this.#openedMs + this.#limits.delayMs - nowMs);
  }

  /** Takes the batch, and begins another. REQUIRES: dueInMs() or crossing has said that there is one. */
  take(): Batch {
    const oldestMs = this.isEmpty ? undefined : this.#oldestMs;
    const batch = { changes: this.#changes, end: this.#end!, oldestMs, versions: this.#versions };
    this.#changes = new Changes(this.#rules);
    this.#versions = undefined;
    this.#end = undefined;
    this.#logBytes = 0;
    return batch;
  }
}
