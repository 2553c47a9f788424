/**
 * The room of a log: the limit of its segments, how full it is, and which segments can go.
 *
 * A segment is needed by a cursor that has not passed it, and by recovery, which begins with the newest snapshot that
 * was verified. While the log is below the level `high` and the disk has room, a second way to all entries is kept for
 * the day on which that snapshot cannot be read: the log from the snapshot before it on, or, without one, a log that is
 * whole from its first position on.
 *
 * History, which readers have passed and may want again, is kept while the log is at most half full. Then it gives way,
 * oldest first, so that it never costs a write its room, nor a snapshot or the second way.
 */
import type { CursorKind } from './cursors.ts';
import type { Head } from './head.ts';
import type { LogNotice } from './log-options.ts';
import type { SnapshotInfo } from './log-port.ts';
import { earlier, type LogLevel, type LogUsage, type Position } from './request-log.ts';
import type { SegmentFiles } from './segment-files.ts';
import type { Snapshots } from './snapshot.ts';

/** Shares of the limit from which on a log is `high` and `critical`; a level ends LEVEL_SLACK below its share. */
const LEVEL_HIGH = 0.7;
const LEVEL_CRITICAL = 0.85;
const LEVEL_SLACK = 0.05;
/** The share of the limit up to which history is kept: below every level, so that none begins for its sake. */
const HISTORY_SHARE = 0.5;

/** Nothing was written: the log is at its limit, or the disk is full. */
export class NoRoom extends Error {
  readonly reason: 'limit' | 'disk';

  constructor(reason: 'limit' | 'disk', cause?: unknown) {
    super(reason === 'limit' ? 'The log has reached its limit' : 'The disk is full', { cause });
    this.reason = reason;
  }
}

export interface RoomOptions {
  readonly limitBytes: number;
  readonly head: Head;
  readonly segments: SegmentFiles;
  readonly snapshots: Snapshots;
  /** The positions of cursors: of those that the log keeps everything for, or of those of history. */
  readonly cursors: (kind: CursorKind) => Iterable<Position>;
  /** Moves the cursors of history that are before a position, where the log begins now, to it. */
  readonly giveWay: (position: Position) => void;
  readonly notify: (notice: LogNotice) => void;
}

interface Reclaim {
  readonly keepsSecondWay: boolean;
  /** History may fill the log up to this share of its limit. */
  readonly historyShare: number;
  readonly segmentCountMax: number;
}

export class Room {
  readonly #options: RoomOptions;
  readonly #segments: SegmentFiles;
  readonly #limitBytes: number;
  #level: LogLevel = 'ok';
  #isRefusing = false;
  #mayExceedLimit = false;

  constructor(options: RoomOptions) {
    this.#options = options;
    this.#segments = options.segments;
    this.#limitBytes = options.limitBytes;
  }

  usage(): LogUsage {
    return {
      bytes: this.#segments.bytes,
      limitBytes: this.#limitBytes,
      level: this.#level,
      oldest: this.#segments.first?.header.base ?? 0n,
      end: this.#options.head.end,
    };
  }

  /** Whether the files may grow by `more` bytes. Removes segments if that makes it possible. */
  has(more: number): boolean {
    if (more === 0 || this.#mayExceedLimit || this.#segments.bytes + more <= this.#limitBytes) return true;
    this.reclaim();
    return this.#segments.bytes + more <= this.#limitBytes;
  }

  /** See LogPort.exceedLimit. */
  exceedLimit(yes: boolean): void {
    this.#mayExceedLimit = yes;
  }

  /** Whether appends are refused now, which is the level `full`. */
  setRefusing(yes: boolean): void {
    if (this.#isRefusing === yes) return;
    this.#isRefusing = yes;
    this.updateLevel();
  }

  /** After the files have grown or shrunk: tells of a new level. */
  updateLevel(): void {
    const share = this.#share();
    const isAbove = (least: number, isNow: boolean): boolean => share >= (isNow ? least - LEVEL_SLACK : least);
    const isHigh = isAbove(LEVEL_HIGH, this.#level !== 'ok');
    const isCritical = isAbove(LEVEL_CRITICAL, this.#level === 'critical' || this.#level === 'full');
    const level = this.#isRefusing ? 'full' : isCritical ? 'critical' : isHigh ? 'high' : 'ok';
    if (level === this.#level) return;
    this.#level = level;
    this.#options.notify({ kind: 'level', level, usage: this.usage() });
  }

  /** Removes at most `segmentCountMax` segments that neither a cursor nor recovery needs. True: there are more. */
  reclaim(segmentCountMax: number = Number.POSITIVE_INFINITY): boolean {
    const keepsSecondWay = this.#share() < LEVEL_HIGH;
    return this.#reclaim({ keepsSecondWay, historyShare: HISTORY_SHARE, segmentCountMax });
  }

  /** The same without keeping a second way to all entries, or history. Whether there was anything to remove. */
  reclaimAll(): boolean {
    const { first } = this.#segments;
    this.#reclaim({ keepsSecondWay: false, historyShare: 0, segmentCountMax: Number.POSITIVE_INFINITY });
    return first !== this.#segments.first;
  }

  /** Removes segments that end before a position and that no cursor needs, at most a number. True: there are more. */
  cut(before: Position, segmentCountMax: number = Number.POSITIVE_INFINITY): boolean {
    return this.#cutWhile(this.#floorOf(before, ['firm', 'history']), segmentCountMax, () => true);
  }

  /** See LogPort.makesRoom. */
  makesRoom(position: Position): boolean {
    const floor = this.#floorOf(position, ['firm']);
    return this.#isFirstBefore(floor) && this.#segments.bytesBehind(floor) <= this.#limitBytes;
  }

  #reclaim({ keepsSecondWay, historyShare, segmentCountMax }: Reclaim): boolean {
    const { newestVerified } = this.#options.snapshots;
    if (newestVerified === undefined) return false;
    const before = keepsSecondWay ? this.#secondWay(newestVerified) : newestVerified.position;
    if (this.cut(before, segmentCountMax)) return true;
    const { first } = this.#segments;
    const floor = this.#floorOf(before, ['firm']);
    const isMore = this.#cutWhile(floor, segmentCountMax, () => this.#share() > historyShare);
    if (first !== this.#segments.first) this.#options.giveWay(this.#segments.oldestReadable);
    return isMore;
  }

  // Removes segments that end before a position, at most a number, while the condition is true. True: there are more.
  #cutWhile(floor: Position, segmentCountMax: number, isWanted: () => boolean): boolean {
    const { first } = this.#segments;
    const isNext = (): boolean => this.#isFirstBefore(floor) && isWanted();
    let isFailing = false;
    for (let count = 0; count < segmentCountMax && isNext() && !isFailing; count++) {
      isFailing = !this.#segments.removeFirst();
    }
    if (first !== this.#segments.first) this.updateLevel();
    return isNext() && !isFailing;
  }

  // Where the log has to begin so that all entries can be had without the newest snapshot, if they can.
  #secondWay(newest: SnapshotInfo): Position {
    const oldest = this.#segments.oldestReadable;
    const [, before] = this.#options.snapshots.sound.filter(({ number, position }) => {
      return number <= newest.number && position >= oldest;
    });
    if (before === undefined && oldest === 0n) return 0n;
    return earlier(newest.position, before?.position ?? newest.position);
  }

  // Up to where cursors let the log be cut, at most a position.
  #floorOf(before: Position, kinds: readonly CursorKind[]): Position {
    let floor = before;
    for (const kind of kinds) for (const each of this.#options.cursors(kind)) floor = earlier(floor, each);
    return floor;
  }

  #isFirstBefore(floor: Position): boolean {
    const { firstEnd } = this.#segments;
    return firstEnd !== undefined && firstEnd <= floor;
  }

  #share(): number {
    return this.#segments.bytes / this.#limitBytes;
  }
}
