/**
 * The request log of one process: segment files in a directory, one stream for all shards. docs/log-format.md draws the
 * files; request-log.ts says what is promised.
 *
 * Thread safety: one thread, the scribe's, has the log and makes all calls; all of them are synchronous. Others read
 * with a LogReader made from `progress`.
 *
 * How it keeps its promises:
 * - **A segment is written by one process, front to back, once.** Opening a log begins a new segment, so that no byte
 *   of a file is ever written twice with something else, and what a crash left behind the end can never be taken for a
 *   batch.
 * - **A failed sync ends the segment.** Linux forgets which pages it could not write, so that a second sync of the same
 *   file says nothing. What was not known to be durable is written again, to a new segment, whose header says where the
 *   old one ends. The same is done when a log is opened: what the last process may not have synced is written again.
 * - **A new segment gets its name when it is synced.** So whatever has the name of a segment has a sound header.
 * - **Room is taken before it is needed** where every batch is synced, in steps of zeros ahead of the writing, so that
 *   a full disk is met between batches, and a sync has no new size to write.
 *
 * States:
 *
 * | the log is      | append                | sync, close                                 | read                |
 * |-----------------|-----------------------|---------------------------------------------|---------------------|
 * | open            | as it says            | as they say                                 | up to `committed`   |
 * | without room    | `full` until there is | make durable what is there                  | up to `committed`   |
 * | without segment | begins one first      | begin one first, if anything is not durable | up to `committed`   |
 * | looked at       | is a mistake          | sync is a mistake, close: nothing           | up to `committed`   |
 * | closed          | throws `ERR_CLOSED`   | sync throws, close: nothing                 | ends at `committed` |
 *
 * It is without a segment after an error, or when it was taken over on a full disk. It is looked at between look() and
 * takeOver(): until then no byte of it is changed, so that whoever finds that it cannot be recovered leaves it as it
 * was.
 */
import { randomBytes } from 'node:crypto';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { crc32 } from 'node:zlib';
import { CairnError, outOfRange, wrongType } from '../errors.ts';
import { RECORD_HEADER_BYTES } from '../request/record.ts';
import { ioError, type Link, type Problem, readChain, recordsLost, refused } from './chain.ts';
import { claimProblems, cursorProblems } from './checks.ts';
import { Cursors, type CursorsOptions, readCursors } from './cursors.ts';
import { epochAfter, LOG_EPOCH_MAX } from './epoch.ts';
import { FENCE_START, Fence, type FenceState } from './fence.ts';
import { type Files, isNoSpace, nodeFiles, type OpenFile, systemCode } from './files.ts';
import {
  BATCH_BYTES_MAX,
  BATCH_HEADER_BYTES,
  type BatchKind,
  encodeBatchHeader,
  FILE_HEADER_BYTES,
  FORMAT_VERSION,
  type SegmentHeader,
  segmentName,
} from './format.ts';
import {
  checkSizes,
  type DirectoryLock,
  type EmbeddedLogOptions,
  type LockDirectory,
  type LogClock,
  type LogNotice,
  systemClock,
} from './log-options.ts';
import type { LogPort, Settled, SnapshotInfo } from './log-port.ts';
import { checkPlace, type Place, placedFiles, placeOf } from './place.ts';
import { LogReader } from './reader.ts';
import {
  type AppendResult,
  earlier,
  type LogBatch,
  type LogCursor,
  type LogEntry,
  type LogLevel,
  type LogUsage,
  later,
  type Position,
  type ReadLevel,
  type ReadOptions,
  type RequestLog,
} from './request-log.ts';
import { fenceAt, type SegmentScan, scanSegment } from './segment.ts';
import { type Active, type Segment, SegmentFiles, SegmentNotMade, unreadable } from './segment-files.ts';
import { Snapshots } from './snapshot.ts';
import { syncDelayMs } from './sync-policy.ts';
import { Watermark } from './watermark.ts';

/**
 * Room is taken ahead where every batch is synced, because a sync is then rid of the file's size, and by batches that
 * are small, because the room costs as much as they do: `npm run bench -- log`. So much at once, to keep the one sync
 * short that takes it along.
 */
const AHEAD_BYTES: number = 4 * 2 ** 20;
const AHEAD_BATCH_BYTES_MAX: number = 256 * 1024;
/** From which share of the limit on a log is `high`, and `critical`. */
const LEVEL_HIGH = 0.7;
const LEVEL_CRITICAL = 0.85;
const LEVEL_SLACK = 0.05;
/** How often what a failed sync has left is read before it is given up for lost. */
const READ_BACK_TRIES = 3;

/** What has to be done before anything can be appended: the last segment is no longer written. */
interface Break {
  /** In the last segment everything before `durable` is; [durable, end) is to be written again. */
  readonly durable: Position;
  readonly durableFence: FenceState;
  readonly end: Position;
  readonly endFence: FenceState;
  /** Where to go on: beyond all positions that readers may have seen. */
  readonly resume: Position;
  readonly isTakeover: boolean;
  /** The last segment's, if it was being written: what it has is read back through it, whatever becomes of its name. */
  readonly file: OpenFile | undefined;
}

class NoRoom extends Error {
  readonly reason: 'limit' | 'disk';

  constructor(reason: 'limit' | 'disk', cause?: unknown) {
    super(reason === 'limit' ? 'The log has reached its limit' : 'The disk is full', { cause });
    this.reason = reason;
  }
}

export class EmbeddedLog implements RequestLog, LogPort {
  readonly directory: string;
  readonly #files: Files;
  readonly #clock: LogClock;
  readonly #random: () => bigint;
  readonly #notify: (notice: LogNotice) => void;
  readonly #syncDelayMs: number;
  readonly #segmentBytes: number;
  readonly #limitBytes: number;
  readonly #watermark = new Watermark();
  readonly #reader: LogReader;
  readonly #batchHeader = Buffer.alloc(BATCH_HEADER_BYTES);
  #lock: DirectoryLock | undefined;
  #place: Place | undefined;
  #snapshots: Snapshots | undefined;
  #logId = 0n;
  #writer = 0n;
  #epoch = 0;
  #segments: SegmentFiles;
  #active: Active | undefined;
  #break: Break | undefined;
  #end: Position = 0n;
  #committed: Position = 0n;
  #durable: Position = 0n;
  #fence = new Fence();
  #durableFence: FenceState = FENCE_START;
  /** Behind what was committed and could not be read back after a sync had failed. */
  #lostEnd: Position = 0n;
  #lostRecords = 0;
  #isTakenOver = false;
  readonly #settled: Settled[] = [];
  #unsyncedSinceMs = 0;
  #lastTimeMs = 0;
  #level: LogLevel = 'ok';
  #mayExceedLimit = false;
  #isRefusing = false;
  #isReclaiming = false;
  #cursors: Cursors;

  /**
   * Takes the log in a directory over, or makes one. Throws `ERR_LOG_LOCKED` (another process has it),
   * `ERR_LOG_CORRUPT` and `ERR_LOG_VERSION` (nothing was changed), `ERR_LOG_IO`. A full disk is no reason to throw:
   * what is there can be read, and appends are answered with `full`.
   */
  static open(options: EmbeddedLogOptions): EmbeddedLog {
    const log = EmbeddedLog.look(options);
    log.takeOver();
    return log;
  }

  /** The same without changing anything: what is there can be read, and nothing written before takeOver(). */
  static look(options: EmbeddedLogOptions): EmbeddedLog {
    const log = new EmbeddedLog(options);
    try {
      log.#look(options.lockDirectory);
      return log;
    } catch (error) {
      log.#giveUp();
      if (systemCode(error) !== undefined) throw ioError(`open the log in ${log.directory}`, error);
      throw error;
    }
  }

  /** Makes a log that was looked at one that is written. Throws `ERR_LOG_IO`, and is closed then. */
  takeOver(): void {
    try {
      this.#takeOver();
    } catch (error) {
      this.#giveUp();
      throw systemCode(error) === undefined ? error : ioError(`open the log in ${this.directory}`, error);
    }
  }

  private constructor(options: EmbeddedLogOptions) {
    const { directory, files = nodeFiles } = options;
    if (typeof directory !== 'string' || directory === '') throw wrongType('directory', 'a path', directory);
    const { segmentBytes, limitBytes } = checkSizes(options);
    // The process may go to another directory while the log is open.
    this.directory = isAbsolute(directory) ? directory : resolve(directory);
    this.#files = placedFiles(files, () => this.#checkPlace());
    this.#place = options.place;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? (() => randomBytes(8).readBigUInt64LE(0));
    this.#notify = options.onNotice ?? (() => {});
    this.#syncDelayMs = syncDelayMs(options.sync ?? 'always');
    this.#segmentBytes = segmentBytes;
    this.#limitBytes = limitBytes;
    this.#segments = new SegmentFiles(this.#files, this.directory, []);
    this.#cursors = new Cursors(this.#cursorsOptions(), new Map());
    this.#reader = new LogReader({ directory: this.directory, progress: this.#watermark.shared, files: this.#files });
  }

  // ---- what is where ----

  /** Its directory, which is its name for users. */
  get name(): string {
    return this.directory;
  }

  /** Answers come at once. */
  readonly windowMax = 1;

  get epoch(): number {
    return this.#epoch;
  }

  get end(): Position {
    return this.#break === undefined ? this.#end : this.#resumeEnd(this.#break);
  }

  get committed(): Position {
    return this.#committed;
  }

  get durable(): Position {
    return this.#durable;
  }

  /** Records in the log before `committed`, since it was made. */
  get recordsBefore(): bigint {
    return this.#fence.state.recordsBefore;
  }

  /**
   * Records that were committed and not durable, and could not be read back after a sync had failed, since the log was
   * opened; and the position behind the last of them.
   */
  get lost(): { readonly recordCount: number; readonly end: Position } {
    return { recordCount: this.#lostRecords, end: this.#lostEnd };
  }

  /** Reading may begin here and later: what was before is given up. */
  get oldestReadable(): Position {
    return this.#segments.first?.header.predecessorEnd ?? 0n;
  }

  /** How much there is to read from a position on. */
  bytesFrom(position: Position): number {
    return this.#segments.batchBytes(position, this.#committed);
  }

  /** The wall time of the last entry: time, for whoever recovers, is not before it. */
  get lastTimeMs(): number {
    return this.#lastTimeMs;
  }

  /** For a LogReader in another thread. */
  get progress(): SharedArrayBuffer {
    return this.#watermark.shared;
  }

  get snapshots(): Snapshots {
    return this.#snapshots!;
  }

  get segmentCount(): number {
    return this.#segments.count;
  }

  usage(): LogUsage {
    return {
      bytes: this.#segments.bytes,
      limitBytes: this.#limitBytes,
      level: this.#level,
      oldest: this.#segments.first?.header.base ?? 0n,
      end: this.end,
    };
  }

  // ---- reading ----

  read(from: Position, options?: ReadOptions): AsyncIterable<LogEntry> {
    return this.#reader.read(from, options);
  }

  /** The entries from a position on that are there now. */
  entries(from: Position, level?: ReadLevel): Generator<LogEntry, undefined> {
    return this.#reader.entries(from, level);
  }

  entryAt(position: Position, level?: ReadLevel): LogEntry | undefined {
    return this.#reader.entryAt(position, level);
  }

  // ---- appending ----

  append(batch: LogBatch): AppendResult {
    this.#mustBeTakenOver();
    const bytes = BATCH_HEADER_BYTES + this.#checkBatch(batch);
    if (batch.expectPosition !== this.end) return this.#settle(batch);
    let cause: unknown;
    let hasReclaimed = false;
    // Twice: the segment that was written may fail, and the batch then goes to the next one.
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        const active = this.#makeRoom(bytes);
        const position = this.#end;
        this.#write(active, batch);
        this.#setRefusing(false);
        this.syncIfDue();
        if (this.#lostEnd <= position) return { kind: 'committed', position, end: position + BigInt(bytes) };
        // That sync has failed, and the batch is lost with all that was not synced before it. It is written behind the
        // gap.
        cause = new Error('The batch could not be read back after a sync had failed');
      } catch (error) {
        if (error instanceof NoRoom) {
          if (!hasReclaimed && this.#giveUpAllNotNeeded()) {
            hasReclaimed = true;
            attempt--;
            continue;
          }
          this.#setRefusing(true);
          // A segment that failed may have the batch, and has the last word as long as there is no new one.
          const isDoubtful = this.#break !== undefined && !this.#break.isTakeover;
          if (!isDoubtful) return { kind: 'full', reason: error.reason };
          cause = error;
          break;
        }
        if (systemCode(error) === undefined) throw error;
        cause = error;
        if (this.#active !== undefined) break;
      }
    }
    if (this.#lostEnd > batch.expectPosition) return { kind: 'conflict', end: this.end };
    return { kind: 'unknown', cause: ioError(`write the log in ${this.directory}`, cause) };
  }

  endAfter(position: Position, { records }: LogBatch): Position {
    return position + BigInt(records.reduce((bytes, piece) => bytes + piece.length, BATCH_HEADER_BYTES));
  }

  submit(ticket: number, batch: LogBatch): void {
    this.#settled.push({ ticket, result: this.append(batch) });
  }

  poll(): readonly Settled[] {
    return this.#settled.splice(0);
  }

  // A batch that is not expected to begin at the end: one that was committed before, or one of a caller that is
  // mistaken. Records have versions, which are never given out twice, so that equal bytes are the same batch.
  #settle(batch: LogBatch): AppendResult {
    const entry = this.#committedAt(batch.expectPosition);
    if (entry instanceof Error) return { kind: 'unknown', cause: entry };
    const isSame =
      entry?.kind === 'records' &&
      entry.recordCount === batch.recordCount &&
      entry.epoch === batch.epoch &&
      Buffer.concat(batch.records).equals(entry.records);
    return isSame
      ? { kind: 'committed', position: entry.position, end: entry.end }
      : { kind: 'conflict', end: this.end };
  }

  #committedAt(position: Position): LogEntry | Error | undefined {
    if (position >= this.#committed) return undefined;
    try {
      return this.#reader.entryAt(position);
    } catch (error) {
      // A position that is given up, or never was one, has no entry.
      if (!(error instanceof Error) || !('code' in error)) throw error;
      return error.code === 'ERR_LOG_IO' ? error : undefined;
    }
  }

  /** The payload's bytes. */
  #checkBatch({ records, recordCount, epoch, expectPosition }: LogBatch): number {
    let bytes = 0;
    for (const piece of records) bytes += piece.length;
    if (bytes === 0 || bytes % 8 !== 0 || bytes > BATCH_BYTES_MAX) {
      throw outOfRange('records', `whole records of at most ${BATCH_BYTES_MAX} bytes together`, `${bytes} bytes`);
    }
    if (!Number.isInteger(recordCount) || recordCount < 1 || recordCount * RECORD_HEADER_BYTES > bytes) {
      throw outOfRange('recordCount', `how many records the ${bytes} bytes are`, recordCount);
    }
    if (!Number.isInteger(epoch) || epoch < this.#epoch || epoch > LOG_EPOCH_MAX) {
      throw outOfRange('epoch', `a whole number from ${this.#epoch}, that of the log, to ${LOG_EPOCH_MAX}`, epoch);
    }
    if (typeof expectPosition !== 'bigint') throw wrongType('expectPosition', 'a bigint', expectPosition);
    return bytes;
  }

  /** A segment with room for so many bytes at its end. Throws NoRoom, or what the system says. */
  #makeRoom(bytes: number): Active {
    let active = this.#active ?? this.#resume(bytes);
    if (active.offset + bytes > batchesEnd(active)) active = this.#rotate(active, bytes);
    // With room for the mark at the segment's end.
    const wanted = active.offset + bytes + BATCH_HEADER_BYTES;
    if (wanted <= active.segment.fileBytes) return active;
    if (this.#takesRoomAhead(bytes)) this.#allocate(active, wanted);
    else if (!this.#isWithinLimit(wanted - active.segment.fileBytes)) throw new NoRoom('limit');
    return active;
  }

  #takesRoomAhead(bytes: number): boolean {
    return this.#syncDelayMs === 0 && bytes <= AHEAD_BATCH_BYTES_MAX;
  }

  #allocate(active: Active, wanted: number): void {
    const { fileBytes } = active.segment;
    const ahead = Math.max(wanted, Math.min(batchesEnd(active) + BATCH_HEADER_BYTES, fileBytes + AHEAD_BYTES));
    let reason: NoRoom['reason'] = 'limit';
    for (const upTo of ahead === wanted ? [wanted] : [ahead, wanted]) {
      if (!this.#isWithinLimit(upTo - fileBytes)) continue;
      try {
        this.#segments.allocate(active, upTo);
        this.#updateLevel();
        return;
      } catch (error) {
        if (!isNoSpace(error)) {
          this.#fail(active, error);
          throw error;
        }
        reason = 'disk';
      }
    }
    throw new NoRoom(reason);
  }

  #write(active: Active, batch: LogBatch): void {
    const isSynced = this.#syncDelayMs === 0;
    const header = this.#batchHeaderOf('records', this.#end, batch);
    try {
      active.file.write([header, ...batch.records], active.offset);
    } catch (error) {
      if (isNoSpace(error) && takeBack(active)) throw new NoRoom('disk', error);
      this.#fail(active, error);
      throw error;
    }
    // A file that has moved away takes what is written, too.
    if (isSynced) this.#syncFile(active);
    else this.#mustBeInPlace(active);
    const bytes = header.readUInt32LE(4) + BATCH_HEADER_BYTES;
    if (this.#durable === this.#end) this.#unsyncedSinceMs = this.#clock.steadyMs();
    active.offset += bytes;
    if (active.offset > active.segment.fileBytes) {
      this.#segments.resize(active.segment, active.offset);
      this.#updateLevel();
    }
    this.#epoch = batch.epoch;
    this.#fence.admit({
      kind: 'records',
      epoch: batch.epoch,
      writer: this.#writer,
      recordsBefore: this.#fence.state.recordsBefore,
      recordCount: batch.recordCount,
    });
    this.#end += BigInt(bytes);
    this.#committed = this.#end;
    if (isSynced) this.#setDurable();
    this.#publish();
  }

  /** The header of a batch or mark that this writer writes now. */
  #batchHeaderOf(kind: BatchKind, position: Position, batch?: LogBatch, writer: bigint = this.#writer): Buffer {
    let payloadBytes = 0;
    let payloadCrc = 0;
    for (const piece of batch?.records ?? []) {
      payloadBytes += piece.length;
      payloadCrc = crc32(piece, payloadCrc);
    }
    this.#lastTimeMs = Math.max(this.#lastTimeMs, this.#clock.wallMs());
    return encodeBatchHeader(
      {
        kind,
        payloadBytes,
        position,
        durableEnd: kind === 'records' ? this.#durable : position,
        recordsBefore: this.#fence.state.recordsBefore,
        writer,
        timeMs: this.#lastTimeMs,
        recordCount: batch?.recordCount ?? 0,
        epoch: batch?.epoch ?? this.#epoch,
        payloadCrc,
      },
      this.#batchHeader,
    );
  }

  // ---- segments ----

  // Ends the segment that is written and begins the next. Under every policy what is left behind is synced.
  #rotate(active: Active, bytes: number): Active {
    this.#syncActive(active);
    const next = this.#create({
      base: this.#end,
      predecessorEnd: this.#end,
      bornEnd: this.#end,
      before: this.#fence.state,
      recordsLost: 0n,
      capacity: this.#capacityFor(bytes),
    });
    this.#active = next;
    this.#publish();
    this.#finish(active.segment, this.#end, active.file);
    this.reclaim();
    return next;
  }

  // Begins a segment where the last one was given up, with what may not be durable in that one.
  #resume(bytes: number): Active {
    const { durable, durableFence, end, endFence, resume, isTakeover, file } = this.#break!;
    let source = file;
    let reached = durable;
    let fence = durableFence;
    const { last } = this.#segments;
    if (durable < end) {
      const tail = this.#readBack(last!, this.#break!);
      ({ reached, fence } = tail);
      const isWhole = reached === end;
      // At opening all of it was read a moment ago, so that it is not given up for lost.
      if (isTakeover && !isWhole) throw tail.cause ?? unreadable(last!);
      const copied = {
        // As it is in the old segment, which a program before this one may have written.
        formatVersion: last!.header.formatVersion,
        base: durable,
        predecessorEnd: durable,
        bornEnd: reached,
        before: durableFence,
        recordsLost: 0n,
      };
      const fill = (target: OpenFile): number => this.#segments.copy(last!, durable, reached, target, source);
      if (isWhole && !isTakeover) {
        const capacity = this.#capacityFor(Number(end - durable) + bytes);
        const active = this.#create({ ...copied, capacity }, fill);
        this.#resumed(active, last!, durable, source);
        return active;
      }
      if (reached > durable) {
        // Nothing is appended to it. Its capacity says up to where positions may have been given out before.
        this.#create({ ...copied, capacity: Number(resume - durable) }, fill).file.close();
        this.#break = { ...this.#break!, durable: reached, durableFence: fence, file: undefined };
        this.#finish(last!, durable, source);
        source = undefined;
      }
    }
    const predecessor = this.#segments.last;
    const recordsLost = endFence.recordsBefore - fence.recordsBefore;
    const active = this.#create(
      {
        base: resume,
        predecessorEnd: reached,
        bornEnd: this.#resumeEnd(this.#break!),
        before: endFence,
        recordsLost,
        capacity: this.#capacityFor(bytes + BATCH_HEADER_BYTES),
      },
      isTakeover ? (file) => this.#writeTakeover(file, resume) : undefined,
    );
    if (recordsLost > 0n) {
      this.#lostEnd = resume;
      this.#lostRecords += Number(recordsLost);
      this.#notify({ kind: 'lost', position: reached, end: resume, recordCount: Number(recordsLost) });
    }
    this.#resumed(active, predecessor, reached, source);
    return active;
  }

  // What the last segment has that may not be durable. It is only taken for lost if the disk says so again and again.
  #readBack(last: Segment, { durable, durableFence, end, file }: Break): ReturnType<SegmentFiles['tail']> {
    for (let attempt = 1; ; attempt++) {
      const tail = this.#segments.tail(last, durable, durableFence, end, file);
      if (tail.reached === end || attempt === READ_BACK_TRIES) return tail;
    }
  }

  #resumeEnd({ resume, isTakeover }: Break): Position {
    return isTakeover ? resume + BigInt(BATCH_HEADER_BYTES) : resume;
  }

  // A new segment is there in the place of one that was given up, and everything in it is synced.
  #resumed(active: Active, predecessor: Segment | undefined, predecessorEnd: Position, file?: OpenFile): void {
    const { isTakeover } = this.#break!;
    this.#end = this.#resumeEnd(this.#break!);
    this.#committed = this.#end;
    if (isTakeover) {
      const { recordsBefore } = this.#fence.state;
      this.#fence.admit({ kind: 'takeover', epoch: this.#epoch, writer: this.#writer, recordsBefore, recordCount: 0 });
    }
    this.#setDurable();
    this.#break = undefined;
    this.#active = active;
    this.#publish();
    if (predecessor !== undefined) this.#finish(predecessor, predecessorEnd, file);
  }

  #writeTakeover(file: OpenFile, position: Position): number {
    file.write([this.#batchHeaderOf('takeover', position)], FILE_HEADER_BYTES);
    return BATCH_HEADER_BYTES;
  }

  #capacityFor(bytes: number): number {
    return Math.max(this.#segmentBytes - FILE_HEADER_BYTES - BATCH_HEADER_BYTES, bytes);
  }

  /** Makes the next segment, of this writer. It is durable when this returns, but not yet the one that is written. */
  #create(
    place: Pick<SegmentHeader, 'base' | 'predecessorEnd' | 'bornEnd' | 'before' | 'recordsLost' | 'capacity'> &
      Partial<Pick<SegmentHeader, 'formatVersion'>>,
    fill?: (file: OpenFile) => number,
  ): Active {
    const header: SegmentHeader = {
      formatVersion: FORMAT_VERSION,
      ...place,
      logId: this.#logId,
      number: this.#segments.nextNumber,
      createdMs: Math.max(this.#lastTimeMs, this.#clock.wallMs()),
      writer: this.#writer,
      epoch: this.#epoch,
    };
    // The first segment of an opening does without, so that a full log can be opened.
    const whole = FILE_HEADER_BYTES + place.capacity + BATCH_HEADER_BYTES;
    const takesAhead = this.#break === undefined && this.#takesRoomAhead(0);
    const ahead = takesAhead ? Math.min(whole, AHEAD_BYTES) : 0;
    if (!this.#isWithinLimit(ahead)) throw new NoRoom('limit');
    try {
      const made = this.#segments.create(header, ahead, fill);
      this.#publish();
      this.#updateLevel();
      return made;
    } catch (error) {
      if (!(error instanceof SegmentNotMade)) throw error;
      if (error.mayBeThere && this.#active !== undefined) this.#fail(this.#active, error.cause);
      throw isNoSpace(error.cause) ? new NoRoom('disk', error.cause) : error.cause;
    }
  }

  // Ends the file of a segment that has a successor.
  #finish(segment: Segment, end: Position, file?: OpenFile): void {
    const mark = this.#batchHeaderOf('sealed', end, undefined, segment.header.writer);
    this.#cleanUp(segmentName(segment.number), () => this.#segments.finish(segment, end, mark, file));
    this.#updateLevel();
  }

  // Does something that may as well fail. Whether it did not.
  #cleanUp(file: string, action: () => void): boolean {
    try {
      action();
      return true;
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      this.#notify({ kind: 'cleanup-failed', file, cause: error });
      return false;
    }
  }

  // The segment that is written cannot be trusted any more beyond what is durable in it.
  #fail(active: Active, cause: unknown): void {
    this.#active = undefined;
    this.#break = {
      durable: this.#durable,
      durableFence: this.#durableFence,
      end: this.#end,
      endFence: this.#fence.state,
      resume: this.#end,
      isTakeover: false,
      file: active.file,
    };
    this.#notify({ kind: 'segment-failed', file: segmentName(active.segment.number), cause });
  }

  // ---- durability ----

  /**
   * As `RequestLog.sync`. Throws, too, if what should be made durable turns out to be lost: once for each loss, for
   * there is nothing left to be made durable then.
   */
  sync(): void {
    const lostBefore = this.#lostRecords;
    this.#makeDurable();
    const lost = this.#lostRecords - lostBefore;
    if (lost > 0) throw recordsLost(this.directory, lost);
  }

  syncStep(): boolean {
    this.sync();
    return true;
  }

  #makeDurable(): void {
    this.#mustBeTakenOver();
    let cause: unknown;
    for (let attempt = 0; attempt < 2 && !this.#isDurable(); attempt++) {
      try {
        if (this.#active === undefined) this.#resume(0);
        else this.#syncActive(this.#active);
      } catch (error) {
        if (!(error instanceof NoRoom) && systemCode(error) === undefined) throw error;
        cause = error;
        if (this.#active !== undefined) break;
      }
    }
    if (!this.#isDurable()) throw ioError(`sync the log in ${this.directory}`, cause);
    try {
      this.#checkPlace();
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      throw ioError(`sync the log in ${this.directory}`, error);
    }
  }

  // A new log without any segment, on a full disk, is nothing that cursors and snapshots may speak of.
  #isDurable(): boolean {
    return this.#durable === this.#committed && this.#segments.last !== undefined;
  }

  /** With an interval as policy: syncs if it is time. To be called at `syncDueInMs()`; append() looks as well. */
  syncIfDue(): void {
    if (this.syncDueInMs() > 0) return;
    try {
      // Of what is lost there is a notice.
      this.#makeDurable();
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      this.#unsyncedSinceMs = this.#clock.steadyMs();
      this.#notify({ kind: 'sync-failed', cause: error });
    }
  }

  /** Milliseconds until syncIfDue() has something to do; Infinity: not before there is another append. */
  syncDueInMs(): number {
    if (this.#durable === this.#committed) return Number.POSITIVE_INFINITY;
    return Math.max(0, this.#unsyncedSinceMs + this.#syncDelayMs - this.#clock.steadyMs());
  }

  #syncActive(active: Active): void {
    if (this.#durable === this.#end) return;
    this.#syncFile(active);
    this.#setDurable();
    this.#publish();
  }

  #syncFile(active: Active): void {
    try {
      active.file.sync();
    } catch (error) {
      this.#fail(active, error);
      throw error;
    }
    this.#mustBeInPlace(active);
  }

  // What is acknowledged has to be where it is looked for.
  #mustBeInPlace(active: Active): void {
    try {
      this.#checkPlace();
    } catch (error) {
      this.#fail(active, error);
      throw error;
    }
  }

  #checkPlace(): void {
    if (this.#place !== undefined) checkPlace(this.#files, this.directory, this.#place);
  }

  #setDurable(): void {
    this.#durable = this.#end;
    this.#durableFence = this.#fence.state;
  }

  #publish(): void {
    this.#watermark.publish({
      committed: this.#committed,
      durable: this.#durable,
      end: this.end,
      segment: this.#segments.last?.number ?? 0,
    });
  }

  // ---- keeping and giving up ----

  cursor(name: string): LogCursor {
    return this.#cursors.cursor(name);
  }

  cursors(): ReadonlyMap<string, Position> {
    return this.#cursors.table;
  }

  /**
   * Gives up the segments that neither a cursor nor recovery needs. Recovery needs what begins with the newest snapshot
   * that was verified. As long as there is room (up to the level `high`, and until the disk is full), a second way to
   * all entries is kept in case that one cannot be read one day: what begins with the snapshot before it, or, where
   * there is none, a log that is whole from its first position on. Done by itself at rotation, after a
   * cursor has moved, and when there is no room; call it after a snapshot. At most so many segments at a time; true:
   * there are more.
   */
  reclaim(segmentCountMax: number = Number.POSITIVE_INFINITY): boolean {
    return this.#reclaim(this.#share() < LEVEL_HIGH, segmentCountMax);
  }

  #reclaim(isRoomy: boolean, segmentCountMax: number): boolean {
    const newest = this.snapshots.newestVerified;
    if (newest === undefined) return false;
    return this.#cut(isRoomy ? this.#secondWay(newest) : newest.position, segmentCountMax);
  }

  // From where the log is needed so that all entries can be had without the newest snapshot, if they can.
  #secondWay(newest: SnapshotInfo): Position {
    const oldest = this.oldestReadable;
    const [, before] = this.snapshots.sound.filter(({ number, position }) => {
      return number <= newest.number && position >= oldest;
    });
    if (before === undefined && oldest === 0n) return 0n;
    return earlier(newest.position, before?.position ?? newest.position);
  }

  /** Whether a snapshot that is begun now would, once it is complete, let go of a segment that nothing else holds. */
  get holdsForSnapshot(): boolean {
    return this.#isFirstBefore(this.#floorOf(this.#committed));
  }

  /** Whether there was anything. */
  #giveUpAllNotNeeded(): boolean {
    if (this.#snapshots === undefined) return false;
    const { first } = this.#segments;
    this.#reclaim(false, Number.POSITIVE_INFINITY);
    return first !== this.#segments.first;
  }

  truncate(before: Position): Position {
    this.#mustBeOpen();
    if (before > this.#committed) throw outOfRange('before', `at most ${this.#committed}, what is committed`, before);
    this.#cut(before, Number.POSITIVE_INFINITY);
    return this.#segments.first?.header.base ?? 0n;
  }

  // What the cursors let go of, up to a position.
  #floorOf(before: Position): Position {
    let floor = before;
    for (const position of this.#cursors.table.values()) floor = earlier(floor, position);
    return floor;
  }

  #isFirstBefore(floor: Position): boolean {
    const { firstEnd } = this.#segments;
    return firstEnd !== undefined && firstEnd <= floor;
  }

  // True: there is more to be removed.
  #cut(before: Position, segmentCountMax: number): boolean {
    this.#mustBeTakenOver();
    const floor = this.#floorOf(before);
    const { first } = this.#segments;
    const hasMore = (): boolean => this.#isFirstBefore(floor);
    let isFailing = false;
    for (let count = 0; count < segmentCountMax && hasMore() && !isFailing; count++) {
      const name = segmentName(this.#segments.first!.number);
      isFailing = !this.#cleanUp(name, () => this.#segments.removeFirst());
    }
    if (first !== this.#segments.first) this.#updateLevel();
    return hasMore() && !isFailing;
  }

  /**
   * Lets the log outgrow its limit, or no longer. For records that a snapshot waits for, which then gives more room
   * than they take.
   */
  exceedLimit(yes: boolean): void {
    this.#mayExceedLimit = yes;
  }

  #share(): number {
    return this.#segments.bytes / this.#limitBytes;
  }

  #isWithinLimit(more: number): boolean {
    if (more === 0 || this.#mayExceedLimit || this.#segments.bytes + more <= this.#limitBytes) return true;
    if (this.#snapshots?.newestVerified === undefined || this.#isReclaiming) return false;
    this.#isReclaiming = true;
    try {
      this.reclaim();
    } finally {
      this.#isReclaiming = false;
    }
    return this.#segments.bytes + more <= this.#limitBytes;
  }

  #setRefusing(yes: boolean): void {
    if (this.#isRefusing === yes) return;
    this.#isRefusing = yes;
    this.#updateLevel();
  }

  #updateLevel(): void {
    const share = this.#share();
    // Once announced, a level is kept until the log is clearly below it.
    const isAbove = (least: number, isNow: boolean): boolean => share >= (isNow ? least - LEVEL_SLACK : least);
    const isHigh = isAbove(LEVEL_HIGH, this.#level !== 'ok');
    const isCritical = isAbove(LEVEL_CRITICAL, this.#level === 'critical' || this.#level === 'full');
    const level = this.#isRefusing ? 'full' : isCritical ? 'critical' : isHigh ? 'high' : 'ok';
    if (level === this.#level) return;
    this.#level = level;
    this.#notify({ kind: 'level', level, usage: this.usage() });
  }

  #cursorsOptions(): CursorsOptions {
    return {
      files: this.#files,
      directory: this.directory,
      logId: this.#logId,
      committed: () => {
        this.#mustBeTakenOver();
        return this.#committed;
      },
      oldest: () => this.oldestReadable,
      makeDurable: (position) => {
        if (position > this.#durable || !this.#isDurable()) this.sync();
      },
      moved: () => this.reclaim(),
    };
  }

  // ---- opening and closing ----

  #look(lockDirectory: LockDirectory): void {
    const { directory } = this;
    const files = this.#files;
    if (this.#place === undefined) files.makeDirectory(directory);
    this.#lock = lockDirectory(directory);
    this.#place ??= placeOf(files, directory, this.#lock.isLost);
    const { links, problems } = readChain(files, directory);
    const found = readCursors(files, directory);
    this.#refuse([...problems, ...cursorProblems(found)]);
    const last = links.at(-1);
    this.#logId = last?.header.logId ?? this.#random();
    this.#snapshots = new Snapshots({
      files,
      directory,
      logId: this.#logId,
      wallMs: () => Math.max(this.#lastTimeMs, this.#clock.wallMs()),
      random: this.#random,
      prepare: () => this.sync(),
      durable: () => this.#durable,
    });
    this.#segments = new SegmentFiles(files, directory, links);
    this.#cursors = new Cursors(this.#cursorsOptions(), found.cursors);

    const tail = last === undefined ? undefined : this.#scanLast(last);
    const end = tail?.end ?? 0n;
    const stream = last && { logId: this.#logId, end };
    this.#refuse(claimProblems(stream, found, this.snapshots.found));
    if (found.isOld && found.fault !== undefined) this.#notify({ kind: 'cursors-old', why: found.fault.why });
    if (last !== undefined && tail !== undefined) {
      const file = segmentName(last.number);
      if (tail.torn !== undefined) this.#notify({ kind: 'torn', file, position: end, ...tail.torn });
      if (tail.mark === undefined) this.#notify({ kind: 'unclosed', file, position: end, writtenMs: tail.timeMs });
    }

    const endFence = tail?.fence ?? FENCE_START;
    const snapshots = this.snapshots.sound;
    const present = Math.max(endFence.epoch, ...snapshots.map(({ epochMax }) => epochMax));
    const epoch = epochAfter(present);
    if (epoch === undefined) throw epochsUsedUp(directory);
    this.#epoch = epoch;
    this.#lastTimeMs = Math.max(tail?.timeMs ?? 0, ...snapshots.map(({ finishedMs }) => finishedMs));
    this.#writer = this.#random();
    this.#end = end;
    this.#committed = end;
    this.#durable = tail?.durable.position ?? 0n;
    this.#fence = new Fence(endFence);
    this.#durableFence = tail?.durable.fence ?? FENCE_START;
    this.#break = {
      durable: this.#durable,
      durableFence: this.#durableFence,
      end,
      endFence,
      // Without a mark, readers may have seen what a power cut has taken: their positions are not used again.
      resume: last === undefined || tail?.mark !== undefined ? end : planned(last.header, end),
      isTakeover: true,
      file: undefined,
    };
    this.#publish();
  }

  #takeOver(): void {
    const files = this.#files;
    const { directory } = this;
    this.#isTakenOver = true;
    if (this.#segments.last === undefined) files.syncDirectory(dirname(directory));
    for (const name of files.list(directory)) if (isLeftover(name)) files.remove(join(directory, name));
    // What the last process has named and removed may not be durable yet: what comes now must not be so before it.
    files.syncDirectory(directory);
    try {
      this.#resume(0);
    } catch (error) {
      if (!(error instanceof NoRoom)) throw error;
      this.#publish();
      this.#setRefusing(true);
    }
  }

  #scanLast({ number, header }: Link): SegmentScan & { durable: { position: Position; fence: FenceState } } {
    const name = segmentName(number);
    const file = this.#files.open(join(this.directory, name), 'read');
    try {
      const scan = scanSegment(file, header, undefined);
      if (scan.damage === undefined) return { ...scan, durable: fenceAt(file, header, scan.durableEnd) };
      const { why: text, position, offset } = scan.damage;
      throw refused(this.directory, { kind: 'damage', file: name, position, offset, text });
    } finally {
      file.close();
    }
  }

  #refuse(problems: readonly Problem[]): void {
    // What a newer version wrote may look damaged to this one.
    const problem = problems.find(({ kind }) => kind === 'newer') ?? problems.find(({ kind }) => kind === 'damage');
    if (problem !== undefined) throw refused(this.directory, problem);
  }

  close(): void {
    if (this.#lock === undefined) return;
    try {
      if (this.#isTakenOver && this.#durable < this.#committed) this.sync();
      this.#markClosed();
    } finally {
      this.#giveUp();
    }
  }

  // Says that everything before is durable, so that a bad batch before the mark is known to be damage, not a torn end.
  #markClosed(): void {
    const active = this.#active;
    if (active === undefined) return;
    const mark = this.#batchHeaderOf('closed', this.#end);
    // Everything is durable without the mark.
    this.#cleanUp(segmentName(active.segment.number), () => {
      this.#segments.finish(active.segment, this.#end, mark, active.file);
    });
  }

  #giveUp(): void {
    this.#watermark.close();
    try {
      this.#break?.file?.close();
      this.#active?.file.close();
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
    }
    this.#active = undefined;
    const lock = this.#lock;
    this.#lock = undefined;
    lock?.release();
  }

  #mustBeTakenOver(): void {
    this.#mustBeOpen();
    if (!this.#isTakenOver) throw new Error('The log was looked at only, and is to be changed');
  }

  #mustBeOpen(): void {
    if (this.#lock === undefined) throw new CairnError('ERR_CLOSED', `The log in ${this.directory} is closed`);
  }
}

/** Where the batches of a segment end at most, as an offset of its file. */
function batchesEnd({ segment }: Active): number {
  return FILE_HEADER_BYTES + segment.header.capacity;
}

// After a write for which there was no room. False: it cannot be told that nothing of the batch will ever be read.
function takeBack({ file, segment, offset }: Active): boolean {
  try {
    if (offset === segment.fileBytes) file.truncate(offset);
    // In room that was taken: some file systems write elsewhere what is written over.
    else file.write([Buffer.alloc(BATCH_HEADER_BYTES)], offset);
    // What is missing of the batch may be nothing but zeros, and those may come with the next one.
    file.sync();
    return true;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return false;
  }
}

/** Whether a file is one of ours that was not finished. */
function isLeftover(name: string): boolean {
  return /^(\d{12}\.(log|snapshot)|cursors)\.tmp$/.test(name);
}

/** Beyond every position that was ever given out in a segment. */
function planned(header: SegmentHeader, end: Position): Position {
  return later(header.base + BigInt(header.capacity), end);
}

function epochsUsedUp(directory: string): CairnError {
  return new CairnError(
    'ERR_LOG_FULL',
    `The log in ${directory} was opened as often as versions can count. Dump the cache and load it with a new directory`,
  );
}
