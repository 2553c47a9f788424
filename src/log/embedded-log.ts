/**
 * The request log of one process: segment files in a directory, one stream for all shards. docs/log-format.md draws the
 * files; request-log.ts and log-port.ts say what is promised. Its parts:
 *
 *     opening.ts      what the directory has
 *     head.ts         where the log stands: positions, fence, epoch, time
 *     succession.ts   which segment is written, and what follows it
 *     room.ts         the limit, the levels, and which segments can go
 *     cursors.ts, snapshot.ts, reader.ts
 *
 * Thread safety: one thread, the scribe's, has the log and makes all calls; all of them are synchronous. Others read
 * with a LogReader made from `progress`. Listeners for notices must not call the log.
 *
 * | the log is      | append                | sync, close                                 | read                |
 * |-----------------|-----------------------|---------------------------------------------|---------------------|
 * | open            | as it says            | as they say                                 | up to `committed`   |
 * | without room    | `full` until there is | make durable what is there                  | up to `committed`   |
 * | broken          | begins a segment first| begin one first, if anything is not durable | up to `committed`   |
 * | looked at       | is a mistake          | sync is a mistake, close: nothing           | up to `committed`   |
 * | closed          | throws `ERR_CLOSED`   | sync throws, close: nothing                 | ends at `committed` |
 *
 * It is broken after a failed write or sync, or when it was taken over on a full disk. It is looked at between look()
 * and takeOver(): no byte of it is changed, so that a log that cannot be recovered stays as it was.
 */
import { randomBytes } from 'node:crypto';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { CairnError, outOfRange, wrongType } from '../errors.ts';
import { RECORD_HEADER_BYTES } from '../request/record.ts';
import { ioError, recordsLost } from './chain.ts';
import { Cursors } from './cursors.ts';
import { LOG_EPOCH_MAX } from './epoch.ts';
import type { Takeover } from './fence.ts';
import { type Files, isNoSpace, nodeFiles, systemCode } from './files.ts';
import { BATCH_BYTES_MAX, BATCH_HEADER_BYTES } from './format.ts';
import { Head } from './head.ts';
import {
  checkSizes,
  type DirectoryLock,
  type EmbeddedLogOptions,
  type LogClock,
  type LogNotice,
  systemClock,
} from './log-options.ts';
import type { LogPort, PortCursor, Settled } from './log-port.ts';
import { isLeftover, openedAt, readOpening, refuseClaims } from './opening.ts';
import { checkPlace, placedFiles, placeOf } from './place.ts';
import { LogReader } from './reader.ts';
import type {
  AppendResult,
  LogBatch,
  LogEntry,
  LogUsage,
  Position,
  ReadLevel,
  ReadOptions,
  RequestLog,
} from './request-log.ts';
import { NoRoom, Room } from './room.ts';
import { type Active, SegmentFiles } from './segment-files.ts';
import { Snapshots } from './snapshot.ts';
import { endAfterResume, Succession } from './succession.ts';
import { syncDelayMs } from './sync-policy.ts';

export class EmbeddedLog implements RequestLog, LogPort {
  readonly directory: string;
  readonly snapshots: Snapshots;
  /** The entry that takeOver() writes, and syncs under every policy. */
  readonly takeover: Takeover;
  readonly #files: Files;
  readonly #checkPlace: () => void;
  readonly #clock: LogClock;
  readonly #notify: (notice: LogNotice) => void;
  readonly #syncDelayMs: number;
  readonly #head: Head;
  readonly #segments: SegmentFiles;
  readonly #cursors: Cursors;
  readonly #room: Room;
  readonly #succession: Succession;
  readonly #reader: LogReader;
  #lock: DirectoryLock | undefined;
  #isTakenOver = false;
  readonly #settled: Settled[] = [];
  /** Since when something is committed and not durable. */
  #unsyncedSinceMs = 0;

  /**
   * Takes the log in a directory over, or makes one. Throws `ERR_LOG_LOCKED` (another process has it),
   * `ERR_LOG_CORRUPT` and `ERR_LOG_VERSION` (nothing was changed), `ERR_LOG_IO`. On a full disk it opens: the log can
   * be read, and appends are answered with `full`.
   */
  static open(options: EmbeddedLogOptions): EmbeddedLog {
    const log = EmbeddedLog.look(options);
    log.takeOver();
    return log;
  }

  /** The same without changing anything: the log can be read, and is written only after takeOver(). */
  static look(options: EmbeddedLogOptions): EmbeddedLog {
    const { directory: path, files = nodeFiles, place, lockDirectory } = options;
    if (typeof path !== 'string' || path === '') throw wrongType('directory', 'a path', path);
    checkSizes(options);
    syncDelayMs(options.sync ?? 'always');
    // The process may change its working directory while the log is open.
    const directory = isAbsolute(path) ? path : resolve(path);
    let lock: DirectoryLock | undefined;
    try {
      if (place === undefined) files.makeDirectory(directory);
      lock = lockDirectory(directory);
      const locked = place ?? placeOf(files, directory, lock.isLost);
      return new EmbeddedLog(options, directory, lock, () => checkPlace(files, directory, locked));
    } catch (error) {
      lock?.release();
      throw systemCode(error) === undefined ? error : ioError(`open the log in ${directory}`, error);
    }
  }

  private constructor(options: EmbeddedLogOptions, directory: string, lock: DirectoryLock, checkPlace: () => void) {
    const { clock = systemClock, onNotice: notify = () => {} } = options;
    const { segmentBytes, limitBytes } = checkSizes(options);
    const random = options.random ?? (() => randomBytes(8).readBigUInt64LE(0));
    const files = placedFiles(options.files ?? nodeFiles, checkPlace);
    this.directory = directory;
    this.#lock = lock;
    this.#files = files;
    this.#checkPlace = checkPlace;
    this.#clock = clock;
    this.#notify = notify;
    this.#syncDelayMs = syncDelayMs(options.sync ?? 'always');

    const opening = readOpening(files, directory);
    const { links, tail } = opening;
    const logId = links.at(-1)?.header.logId ?? random();
    this.snapshots = new Snapshots({
      files,
      directory,
      logId,
      wallMs: () => this.#head.nowMs(),
      random,
      prepare: () => this.sync(),
      durable: () => this.#head.durable,
    });
    refuseClaims(directory, opening, this.snapshots.found);
    for (const notice of opening.notices) notify(notice);

    const broken = { ...tail, why: 'takeover', file: undefined } as const;
    this.#head = new Head({
      ...openedAt(directory, opening, this.snapshots.sound),
      end: endAfterResume(broken),
      clock,
      logId,
      writer: random(),
      progress: options.progress,
    });
    const { epoch, writer, end } = this.#head;
    this.takeover = { epoch, writer, end };
    this.#segments = new SegmentFiles(files, directory, links, notify);
    this.#cursors = new Cursors(
      {
        files,
        directory,
        logId,
        committed: () => {
          this.#mustBeTakenOver();
          return this.#head.committed;
        },
        oldest: () => this.oldestReadable,
        makeDurable: (position) => {
          if (position > this.#head.durable || !this.#isDurable()) this.sync();
        },
        moved: () => this.#room.reclaim(),
      },
      opening.cursors.cursors,
    );
    this.#room = new Room({
      limitBytes,
      head: this.#head,
      segments: this.#segments,
      snapshots: this.snapshots,
      cursors: (kind) => this.#cursors.positions(kind),
      giveWay: (position) => this.#cursors.giveWay(position),
      notify,
    });
    const syncsEveryBatch = this.#syncDelayMs === 0;
    this.#succession = new Succession(
      {
        head: this.#head,
        segments: this.#segments,
        room: this.#room,
        segmentBytes,
        syncsEveryBatch,
        notify,
        checkPlace,
      },
      broken,
    );
    this.#reader = new LogReader({ directory, progress: this.#head.progress, files });
  }

  /** Makes a log that was looked at one that is written. Throws `ERR_LOG_IO`, and is closed then. */
  takeOver(): void {
    try {
      this.#takeOver();
    } catch (error) {
      this.#release();
      throw systemCode(error) === undefined ? error : ioError(`open the log in ${this.directory}`, error);
    }
  }

  #takeOver(): void {
    const files = this.#files;
    const { directory } = this;
    this.#isTakenOver = true;
    if (this.#segments.last === undefined) files.syncDirectory(dirname(directory));
    for (const name of files.list(directory)) if (isLeftover(name)) files.remove(join(directory, name));
    // Files that the last process has named and removed must be so on the disk before this one names any.
    files.syncDirectory(directory);
    this.#begin();
  }

  // Writes this opening's entry. A full disk has no room for it: the log can be read, and begins when there is room.
  #begin(): void {
    try {
      this.#succession.resume(0);
      this.#room.setRefusing(false);
    } catch (error) {
      if (!(error instanceof NoRoom)) throw error;
      this.#room.setRefusing(true);
    }
  }

  // ---- where it stands ----

  /** Its directory, which is its name for users. */
  get name(): string {
    return this.directory;
  }

  /** Answers come at once. */
  readonly windowMax = 1;

  get epoch(): number {
    return this.#head.epoch;
  }

  get end(): Position {
    return this.#head.end;
  }

  get committed(): Position {
    return this.#head.committed;
  }

  get durable(): Position {
    return this.#head.durable;
  }

  get recordsBefore(): bigint {
    return this.#head.fence.recordsBefore;
  }

  /** Records that were not durable when a sync failed, and could not be read back; since the log was opened. */
  get lost(): { readonly recordCount: number; readonly end: Position } {
    return this.#head.lost;
  }

  get lastTimeMs(): number {
    return this.#head.lastTimeMs;
  }

  /** For a LogReader in another thread. */
  get progress(): SharedArrayBuffer {
    return this.#head.progress;
  }

  /** Drawn when the log was made. */
  get logId(): bigint {
    return this.#head.logId;
  }

  get segmentCount(): number {
    return this.#segments.count;
  }

  usage(): LogUsage {
    return this.#room.usage();
  }

  // ---- reading ----

  get oldestReadable(): Position {
    return this.#segments.oldestReadable;
  }

  bytesFrom(position: Position): number {
    return this.#segments.batchBytes(position, this.#head.committed);
  }

  read(from: Position, options?: ReadOptions): AsyncIterable<LogEntry> {
    return this.#reader.read(from, options);
  }

  entries(from: Position, level?: ReadLevel): Generator<LogEntry, undefined> {
    return this.#reader.entries(from, level);
  }

  entryAt(position: Position, level?: ReadLevel): LogEntry | undefined {
    return this.#reader.entryAt(position, level);
  }

  cursor(name: string): PortCursor {
    return this.#cursors.cursor(name);
  }

  cursors(): ReadonlyMap<string, Position> {
    return this.#cursors.table;
  }

  // ---- appending ----

  endAfter(position: Position, { records }: LogBatch): Position {
    return position + BigInt(records.reduce((bytes, piece) => bytes + piece.length, BATCH_HEADER_BYTES));
  }

  submit(ticket: number, batch: LogBatch): void {
    this.#settled.push({ ticket, result: this.append(batch) });
  }

  poll(): readonly Settled[] {
    return this.#settled.splice(0);
  }

  append(batch: LogBatch): AppendResult {
    this.#mustBeTakenOver();
    const bytes = BATCH_HEADER_BYTES + this.#checkBatch(batch);
    if (batch.expectPosition !== this.end) return this.#settle(batch);
    let cause: unknown;
    let hasReclaimed = false;
    // Twice: if the segment fails, the batch goes to the next one.
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        const active = this.#succession.segmentFor(bytes);
        const position = this.end;
        this.#write(active, batch, bytes);
        this.#room.setRefusing(false);
        this.syncIfDue();
        if (this.lost.end <= position) return { kind: 'committed', position, end: position + BigInt(bytes) };
        // That sync has failed, and the batch is lost with all that was not synced before it. It is written behind the
        // gap.
        cause = new Error('The batch could not be read back after a sync had failed');
      } catch (error) {
        if (error instanceof NoRoom) {
          if (!hasReclaimed && this.#room.reclaimAll()) {
            hasReclaimed = true;
            attempt--;
            continue;
          }
          this.#room.setRefusing(true);
          if (!this.#succession.isDoubtful) return { kind: 'full', reason: error.reason };
          cause = error;
          break;
        }
        if (systemCode(error) === undefined) throw error;
        cause = error;
        if (this.#succession.active !== undefined) break;
      }
    }
    if (this.lost.end > batch.expectPosition) return { kind: 'conflict', end: this.end };
    return { kind: 'unknown', cause: ioError(`write the log in ${this.directory}`, cause) };
  }

  // A batch that is not expected to begin at the end: it was committed before, or its caller is mistaken. Records have
  // versions, which are never given out twice, so equal bytes are the same batch.
  #settle(batch: LogBatch): AppendResult {
    const entry = this.#committedAt(batch.expectPosition);
    if (entry instanceof Error) return { kind: 'unknown', cause: entry };
    const isSame =
      entry?.kind === 'records' &&
      entry.recordCount === batch.recordCount &&
      Buffer.concat(batch.records).equals(entry.records);
    return isSame
      ? { kind: 'committed', position: entry.position, end: entry.end }
      : { kind: 'conflict', end: this.end };
  }

  #committedAt(position: Position): LogEntry | Error | undefined {
    try {
      return this.#reader.entryAt(position);
    } catch (error) {
      // What is damaged there is no batch that was committed.
      if (!(error instanceof CairnError)) throw error;
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
    if (!Number.isInteger(epoch) || epoch < this.epoch || epoch > LOG_EPOCH_MAX) {
      throw outOfRange('epoch', `a whole number from ${this.epoch}, that of the log, to ${LOG_EPOCH_MAX}`, epoch);
    }
    if (typeof expectPosition !== 'bigint') throw wrongType('expectPosition', 'a bigint', expectPosition);
    return bytes;
  }

  #write(active: Active, batch: LogBatch, bytes: number): void {
    const isSynced = this.#syncDelayMs === 0;
    const header = this.#head.headerOf('records', this.end, { batch });
    try {
      active.file.write([header, ...batch.records], active.offset);
    } catch (error) {
      if (isNoSpace(error) && takeBack(active)) throw new NoRoom('disk', error);
      this.#succession.fail(active, error);
      throw error;
    }
    if (isSynced) this.#succession.syncFile(active);
    else this.#succession.mustBeInPlace(active);
    if (this.#head.durable === this.end) this.#unsyncedSinceMs = this.#clock.steadyMs();
    active.offset += bytes;
    if (active.offset > active.segment.fileBytes) {
      this.#segments.resize(active.segment, active.offset);
      this.#room.updateLevel();
    }
    this.#head.appended(batch, bytes, isSynced);
  }

  // ---- durability ----

  /**
   * As `RequestLog.sync`. If records that should become durable turn out to be lost, it throws too, once for each loss:
   * afterwards there is nothing left to make durable.
   */
  sync(): void {
    const lostBefore = this.lost.recordCount;
    this.#makeDurable();
    const lost = this.lost.recordCount - lostBefore;
    if (lost > 0) throw recordsLost(this.directory, lost);
  }

  /** All that is committed, at once. */
  syncStep(_upTo: Position): boolean {
    this.sync();
    return true;
  }

  #makeDurable(): void {
    this.#mustBeTakenOver();
    let cause: unknown;
    try {
      if (this.durable < this.takeover.end && this.#succession.active === undefined) this.#begin();
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      cause = error;
    }
    for (let attempt = 0; attempt < 2 && !this.#isDurable(); attempt++) {
      try {
        this.#succession.makeDurable();
      } catch (error) {
        if (!(error instanceof NoRoom) && systemCode(error) === undefined) throw error;
        cause = error;
        if (this.#succession.active !== undefined) break;
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
    return this.durable === this.committed && this.#segments.last !== undefined;
  }

  /** With an interval as policy: syncs if it is time. To be called at `syncDueInMs()`; append() looks as well. */
  syncIfDue(): void {
    if (this.syncDueInMs() > 0) return;
    try {
      // A loss has its own notice.
      this.#makeDurable();
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      this.#unsyncedSinceMs = this.#clock.steadyMs();
      this.#notify({ kind: 'sync-failed', cause: error });
    }
  }

  /** Milliseconds until syncIfDue() has something to do; Infinity: not before the next append. */
  syncDueInMs(): number {
    if (this.durable === this.committed) return Number.POSITIVE_INFINITY;
    return Math.max(0, this.#unsyncedSinceMs + this.#syncDelayMs - this.#clock.steadyMs());
  }

  // ---- room ----

  truncate(before: Position): Position {
    this.#mustBeTakenOver();
    if (before > this.committed) throw outOfRange('before', `at most ${this.committed}, what is committed`, before);
    this.#room.cut(before);
    return this.#segments.first?.header.base ?? 0n;
  }

  /**
   * Removes segments that neither a cursor nor recovery needs (room.ts), at most `segmentCountMax`; true: there are
   * more. The log does this itself when a segment is full, when a cursor has moved, and when there is no room. Call it
   * after a snapshot.
   */
  reclaim(segmentCountMax?: number): boolean {
    this.#mustBeTakenOver();
    return this.#room.reclaim(segmentCountMax);
  }

  makesRoom(position: Position): boolean {
    return this.#room.makesRoom(position);
  }

  exceedLimit(yes: boolean): void {
    this.#room.exceedLimit(yes);
  }

  // ---- the end ----

  close(): void {
    if (this.#lock === undefined) return;
    try {
      if (this.#isTakenOver && this.durable < this.committed) this.sync();
      this.#succession.markClosed();
    } finally {
      this.#release();
    }
  }

  #release(): void {
    this.#head.close();
    this.#succession.release();
    const lock = this.#lock;
    this.#lock = undefined;
    lock?.release();
  }

  #mustBeTakenOver(): void {
    if (this.#lock === undefined) throw new CairnError('ERR_CLOSED', `The log in ${this.directory} is closed`);
    if (!this.#isTakenOver) throw new Error('The log was looked at only, and is to be changed');
  }
}

// After a write for which the disk had no room. False: a reader may still find the batch.
function takeBack({ file, segment, offset }: Active): boolean {
  try {
    if (offset === segment.fileBytes) file.truncate(offset);
    // In room that was taken: some file systems write elsewhere what is written over.
    else file.write([Buffer.alloc(BATCH_HEADER_BYTES)], offset);
    // Bytes that are missing of the batch may all be zeros, and the next batch may bring those.
    file.sync();
    return true;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return false;
  }
}
