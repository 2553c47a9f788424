/**
 * Which segment of a log is written, and what follows it.
 *
 *     written ── full ──────────────────────────────> its successor is written
 *        │                                                  ^
 *        └── a write or sync failed ──> broken ── resume ───┘
 *     opened ─────────────────────────> broken
 *
 * - **A segment is written by one process, front to back, once.** Opening a log begins a new segment. No byte of a file
 *   is ever written twice with different content, so the bytes that a crash left behind a segment's end are never taken
 *   for a batch.
 * - **A failed sync ends the segment.** Linux forgets which pages it could not write, so a second sync of the same file
 *   proves nothing. The batches that were not known to be durable are written again, to a new segment, whose header
 *   says where the old one ends. Opening does the same with the batches that the last process may not have synced.
 * - **A new segment gets its name after its sync.** A file with the name of a segment has a sound header.
 * - **Room is taken before it is needed** where every batch is synced: in steps of zeros ahead of the batches. So a
 *   full disk is met between batches, and the sync of a batch has no new file size to write.
 */
import type { Point } from './fence.ts';
import { isNoSpace, named, type OpenFile, systemCode } from './files.ts';
import { BATCH_HEADER_BYTES, FILE_HEADER_BYTES, FORMAT_VERSION, type SegmentHeader, segmentName } from './format.ts';
import type { Head } from './head.ts';
import type { LogNotice } from './log-options.ts';
import type { Position } from './request-log.ts';
import { NoRoom, type Room } from './room.ts';
import { type Active, type Segment, type SegmentFiles, SegmentNotMade, unreadable } from './segment-files.ts';

/**
 * One step of room. It pays where every batch is synced and batches are small, because writing the zeros costs as much
 * as writing the batches: `npm run bench -- log`. The step is small because one sync takes all of it along.
 */
const AHEAD_BYTES: number = 4 * 2 ** 20;
const AHEAD_BATCH_BYTES_MAX: number = 256 * 1024;
/** How many times the batches of a failed segment are read before those that cannot be read count as lost. */
const READ_BACK_TRIES = 3;

/** The last segment is not written any more, and nothing can be appended before a new one is there. */
export interface Break {
  /** The last segment has everything before `durable` on the disk; [durable, end) is to be written again. */
  readonly durable: Point;
  readonly end: Point;
  /** Where the new segment goes on: behind all positions that readers may have seen. */
  readonly resume: Position;
  readonly why: 'takeover' | 'after-failure';
  /** The last segment's, if it was being written. It reads the batches even if the name leads elsewhere by now. */
  readonly file: OpenFile | undefined;
}

export interface SuccessionOptions {
  readonly head: Head;
  readonly segments: SegmentFiles;
  readonly room: Room;
  readonly segmentBytes: number;
  readonly syncsEveryBatch: boolean;
  readonly notify: (notice: LogNotice) => void;
  /** Throws PlaceLost if the directory is not where it was. */
  readonly checkPlace: () => void;
}

/** Where the next batch begins once a log that broke goes on. A take-over has its mark first. */
export function endAfterResume({ resume, why }: Pick<Break, 'resume' | 'why'>): Position {
  return why === 'takeover' ? resume + BigInt(BATCH_HEADER_BYTES) : resume;
}

export class Succession {
  readonly #options: SuccessionOptions;
  readonly #head: Head;
  readonly #segments: SegmentFiles;
  readonly #room: Room;
  #active: Active | undefined;
  #break: Break | undefined;

  /** Of a log that is opened: `opening` says where its last segment ends. */
  constructor(options: SuccessionOptions, opening: Break) {
    this.#options = options;
    this.#head = options.head;
    this.#segments = options.segments;
    this.#room = options.room;
    this.#break = opening;
  }

  /** The segment that is written; undefined: the last one is broken, and resume() makes another. */
  get active(): Active | undefined {
    return this.#active;
  }

  /** The last segment has failed: a batch that was not acknowledged may be in it, and there is no successor yet. */
  get isDoubtful(): boolean {
    return this.#break?.why === 'after-failure';
  }

  /** A segment with room for a batch of `bytes` at its end. Throws NoRoom, or the system's error. */
  segmentFor(bytes: number): Active {
    let active = this.#active ?? this.resume(bytes);
    if (active.offset + bytes > batchesEnd(active)) active = this.#rotate(active, bytes);
    // With room for the mark at the segment's end.
    const wanted = active.offset + bytes + BATCH_HEADER_BYTES;
    if (wanted <= active.segment.fileBytes) return active;
    if (this.#takesRoomAhead(bytes)) this.#allocate(active, wanted);
    else if (!this.#room.has(wanted - active.segment.fileBytes)) throw new NoRoom('limit');
    return active;
  }

  /**
   * Syncs the segment that is written, and looks whether it is still in its place: a batch is acknowledged only where
   * the next opening finds it. If either fails, the segment has failed, and the error is thrown.
   */
  syncFile(active: Active): void {
    try {
      active.file.sync();
    } catch (error) {
      this.fail(active, error);
      throw error;
    }
    this.mustBeInPlace(active);
  }

  /** A file that has moved away takes writes, too. Throws as syncFile(). */
  mustBeInPlace(active: Active): void {
    try {
      this.#options.checkPlace();
    } catch (error) {
      this.fail(active, error);
      throw error;
    }
  }

  /** Makes all that is committed durable, in a new segment if the last one is broken. Throws as segmentFor(). */
  makeDurable(): void {
    if (this.#active === undefined) this.resume(0);
    else this.#syncActive(this.#active);
  }

  /** The segment that is written cannot be trusted any more beyond the batches that are durable. */
  fail(active: Active, cause: unknown): void {
    const { durablePoint, committedPoint, end } = this.#head;
    this.#active = undefined;
    this.#break = {
      durable: durablePoint,
      end: committedPoint,
      resume: end,
      why: 'after-failure',
      file: active.file,
    };
    this.#options.notify({ kind: 'segment-failed', file: segmentName(active.segment.number), cause: named(cause) });
  }

  /**
   * Begins a segment behind the broken one, with the batches that may not be durable there, and with room for `bytes`
   * more. Batches of a failed segment that cannot be read back are lost, after a notice. Throws as segmentFor().
   */
  resume(bytes: number): Active {
    const { durable, end, why } = this.#break!;
    const reached = this.#readBack(this.#break!);
    const isWhole = reached.position === end.position;
    if (why === 'after-failure' && isWhole && durable.position < end.position) return this.#goOnInCopy(bytes);
    if (durable.position < reached.position) this.#moveToCopy(reached);
    return this.#goOnBehind(reached, bytes);
  }

  /**
   * Says in the file that everything before its end is durable: a bad batch before this mark is damage, not a torn end.
   */
  markClosed(): void {
    const active = this.#active;
    if (active === undefined) return;
    this.#active = undefined;
    const { end } = this.#head;
    this.#segments.finish(active.segment, end, this.#head.headerOf('closed', end), active.file);
  }

  /** Closes the files that are open. */
  release(): void {
    const files = [this.#break?.file, this.#active?.file];
    this.#break = undefined;
    this.#active = undefined;
    try {
      for (const file of files) file?.close();
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
    }
  }

  // ---- one after the other ----

  // Under every policy a segment that is full is synced.
  #rotate(active: Active, bytes: number): Active {
    this.#syncActive(active);
    const { end, fence } = this.#head;
    const next = this.#create({
      base: end,
      predecessorEnd: end,
      bornEnd: end,
      before: fence,
      recordsLost: 0n,
      capacity: this.#capacityFor(bytes),
    });
    this.#active = next;
    this.#seal(active.segment, end, active.file);
    this.#room.reclaim();
    return next;
  }

  #syncActive(active: Active): void {
    if (this.#head.durable === this.#head.end) return;
    this.syncFile(active);
    this.#head.synced();
  }

  // ---- after a break ----

  // How far the batches that may not be durable can be read. Three reads have to fail before any of them is lost.
  #readBack({ durable, end, why, file }: Break): Point {
    if (durable.position === end.position) return durable;
    const last = this.#segments.last!;
    for (let attempt = 1; ; attempt++) {
      const { reached, cause } = this.#segments.tail(last, durable, end.position, file);
      if (reached.position === end.position) return reached;
      if (attempt < READ_BACK_TRIES) continue;
      // Opening has read all of them a moment ago, and throws rather than lose any.
      if (why === 'takeover') throw cause ?? unreadable(last);
      return reached;
    }
  }

  // The whole of a failed segment could be read: the copy of its end is the segment that is written from now on.
  #goOnInCopy(bytes: number): Active {
    const { durable, end } = this.#break!;
    const failed = this.#segments.last;
    const capacity = this.#capacityFor(Number(end.position - durable.position) + bytes);
    const active = this.#copy(end.position, capacity);
    this.#resumed(active, failed, durable.position);
    return active;
  }

  // A segment that has the copy and ends with it. Its capacity says up to where positions may have been given out.
  #moveToCopy(reached: Point): void {
    const { durable, resume, file } = this.#break!;
    const broken = this.#segments.last!;
    this.#copy(reached.position, Number(resume - durable.position)).file.close();
    this.#break = { ...this.#break!, durable: reached, file: undefined };
    this.#seal(broken, durable.position, file);
  }

  // A segment without a copy, at the position where the log goes on. The records between are lost, if there were any.
  #goOnBehind(reached: Point, bytes: number): Active {
    const { end, resume, why } = this.#break!;
    const predecessor = this.#segments.last;
    const recordsLost = end.fence.recordsBefore - reached.fence.recordsBefore;
    const active = this.#create(
      {
        base: resume,
        predecessorEnd: reached.position,
        bornEnd: endAfterResume(this.#break!),
        before: end.fence,
        recordsLost,
        capacity: this.#capacityFor(bytes + BATCH_HEADER_BYTES),
      },
      why === 'takeover' ? (file) => this.#writeTakeover(file, resume) : undefined,
    );
    if (recordsLost > 0n) {
      const recordCount = Number(recordsLost);
      this.#head.lostUpTo(resume, recordCount);
      this.#options.notify({ kind: 'lost', position: reached.position, end: resume, recordCount });
    }
    this.#resumed(active, predecessor, reached.position);
    return active;
  }

  // A new segment is there in place of a broken one, and everything in it is synced.
  #resumed(active: Active, predecessor: Segment | undefined, predecessorEnd: Position): void {
    const { why, file } = this.#break!;
    this.#break = undefined;
    this.#active = active;
    this.#head.resumed(why);
    if (predecessor !== undefined) this.#seal(predecessor, predecessorEnd, file);
  }

  // ---- making and ending one ----

  /** Makes the next segment, of this writer. It is durable when this returns, and not yet the one that is written. */
  #create(
    place: Pick<SegmentHeader, 'base' | 'predecessorEnd' | 'bornEnd' | 'before' | 'recordsLost' | 'capacity'> &
      Partial<Pick<SegmentHeader, 'formatVersion'>>,
    fill?: (file: OpenFile) => number,
  ): Active {
    const header: SegmentHeader = {
      formatVersion: FORMAT_VERSION,
      ...place,
      logId: this.#head.logId,
      number: this.#segments.nextNumber,
      createdMs: this.#head.nowMs(),
      writer: this.#head.writer,
      epoch: this.#head.epoch,
    };
    // The first segment after a break does without, so that a full log can be opened.
    const whole = FILE_HEADER_BYTES + place.capacity + BATCH_HEADER_BYTES;
    const takesAhead = this.#break === undefined && this.#takesRoomAhead(0);
    const ahead = takesAhead ? Math.min(whole, AHEAD_BYTES) : 0;
    if (!this.#room.has(ahead)) throw new NoRoom('limit');
    try {
      const made = this.#segments.create(header, ahead, fill);
      this.#head.segmentMade(header.number);
      this.#room.updateLevel();
      return made;
    } catch (error) {
      if (!(error instanceof SegmentNotMade)) throw error;
      if (error.mayBeThere && this.#active !== undefined) this.fail(this.#active, error.cause);
      throw isNoSpace(error.cause) ? new NoRoom('disk', error.cause) : error.cause;
    }
  }

  // A segment with the batches of the broken one from `durable` on, in the format that they have there.
  #copy(end: Position, capacity: number): Active {
    const { durable, file } = this.#break!;
    const broken = this.#segments.last!;
    return this.#create(
      {
        formatVersion: broken.header.formatVersion,
        base: durable.position,
        predecessorEnd: durable.position,
        bornEnd: end,
        before: durable.fence,
        recordsLost: 0n,
        capacity,
      },
      (target) => this.#segments.copy(broken, durable.position, end, target, file),
    );
  }

  #writeTakeover(file: OpenFile, position: Position): number {
    file.write([this.#head.headerOf('takeover', position)], FILE_HEADER_BYTES);
    return BATCH_HEADER_BYTES;
  }

  // Ends the file of a segment that has a successor.
  #seal(segment: Segment, end: Position, file: OpenFile | undefined): void {
    const mark = this.#head.headerOf('sealed', end, { writer: segment.header.writer });
    this.#segments.finish(segment, end, mark, file);
    this.#room.updateLevel();
  }

  // ---- room in one ----

  #capacityFor(bytes: number): number {
    return Math.max(this.#options.segmentBytes - FILE_HEADER_BYTES - BATCH_HEADER_BYTES, bytes);
  }

  #takesRoomAhead(bytes: number): boolean {
    return this.#options.syncsEveryBatch && bytes <= AHEAD_BATCH_BYTES_MAX;
  }

  #allocate(active: Active, wanted: number): void {
    const { fileBytes } = active.segment;
    const ahead = Math.max(wanted, Math.min(batchesEnd(active) + BATCH_HEADER_BYTES, fileBytes + AHEAD_BYTES));
    let reason: NoRoom['reason'] = 'limit';
    for (const upTo of ahead === wanted ? [wanted] : [ahead, wanted]) {
      if (!this.#room.has(upTo - fileBytes)) continue;
      try {
        this.#segments.allocate(active, upTo);
        this.#room.updateLevel();
        return;
      } catch (error) {
        if (!isNoSpace(error)) {
          this.fail(active, error);
          throw error;
        }
        reason = 'disk';
      }
    }
    throw new NoRoom(reason);
  }
}

/** Where the batches of a segment end at most, as an offset of its file. */
function batchesEnd({ segment }: Active): number {
  return FILE_HEADER_BYTES + segment.header.capacity;
}
