/**
 * The files of a log's segments: made, ended, removed, and copied from. When, and with which batches, is decided in
 * succession.ts and room.ts.
 *
 * A segment is made under another name, filled, synced, and then named: a file with the name of a segment is whole.
 */
import { join } from 'node:path';
import type { Link } from './chain.ts';
import { Fence, type Point } from './fence.ts';
import { type Files, isUnreadable, named, type OpenFile, systemCode } from './files.ts';
import {
  BATCH_HEADER_BYTES,
  batchEnd,
  encodeBatchHeader,
  encodeSegmentHeader,
  FILE_HEADER_BYTES,
  isEntry,
  offsetOf,
  type SegmentHeader,
  segmentName,
} from './format.ts';
import type { LogNotice } from './log-options.ts';
import type { Position } from './request-log.ts';
import { type Batch, SegmentReader } from './segment.ts';

export interface Segment {
  readonly number: number;
  readonly header: SegmentHeader;
  /** What its file takes, room ahead included. */
  fileBytes: number;
}

/** The segment that is written. */
export interface Active {
  readonly file: OpenFile;
  readonly segment: Segment;
  /** Where in the file the next batch goes. */
  offset: number;
}

/** A segment could not be made. */
export class SegmentNotMade extends Error {
  /**
   * It may have its name nevertheless, and then says where the one before it ends: that must not be written any more.
   */
  readonly mayBeThere: boolean;

  constructor(mayBeThere: boolean, cause: unknown) {
    super('A segment could not be made', { cause });
    this.mayBeThere = mayBeThere;
  }
}

/** What was read of a segment a moment ago cannot be read any more. Counts as an error of the system. */
export function unreadable(segment: Segment): Error {
  return Object.assign(new Error(`${segmentName(segment.number)} is not what it was`), { code: 'EIO' });
}

export class SegmentFiles {
  readonly #files: Files;
  readonly #directory: string;
  readonly #notify: (notice: LogNotice) => void;
  readonly #segments: Segment[] = [];
  #bytes = 0;

  constructor(files: Files, directory: string, links: readonly Link[], notify: (notice: LogNotice) => void) {
    this.#files = files;
    this.#directory = directory;
    this.#notify = notify;
    for (const { number, header, fileBytes } of links) this.#push({ number, header, fileBytes });
  }

  get first(): Segment | undefined {
    return this.#segments[0];
  }

  get last(): Segment | undefined {
    return this.#segments.at(-1);
  }

  /** Where the oldest segment ends; undefined: it is the only one. */
  get firstEnd(): Position | undefined {
    return this.#segments[1]?.header.predecessorEnd;
  }

  /** Where reading may begin. */
  get oldestReadable(): Position {
    return this.first?.header.predecessorEnd ?? 0n;
  }

  get count(): number {
    return this.#segments.length;
  }

  /** What all of them take. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What the segments take that a log needs that is read from a position on. */
  bytesBehind(position: Position): number {
    let bytes = this.#bytes;
    for (const [i, { fileBytes }] of this.#segments.entries()) {
      const next = this.#segments[i + 1];
      if (next === undefined || next.header.predecessorEnd > position) break;
      bytes -= fileBytes;
    }
    return bytes;
  }

  /** Of batches in [from, end). Less than lies between these positions where a crash has left some out. */
  batchBytes(from: Position, end: Position): number {
    let bytes = 0n;
    for (const [i, { header }] of this.#segments.entries()) {
      const begin = header.base > from ? header.base : from;
      const until = this.#segments[i + 1]?.header.predecessorEnd ?? end;
      if (until > begin) bytes += until - begin;
    }
    return Number(bytes);
  }

  get nextNumber(): number {
    return (this.last?.number ?? 0) + 1;
  }

  /**
   * Makes the next segment, with what `fill` writes behind the header and room up to `ahead` bytes of file. It is named
   * and durable when this returns. Throws SegmentNotMade; to try again is safe.
   */
  create(header: SegmentHeader, ahead: number, fill: (file: OpenFile) => number = () => 0): Active {
    const path = this.#path(header.number);
    const temporary = `${path}.tmp`;
    let file: OpenFile | undefined;
    let isNamed = false;
    try {
      file = this.#files.open(temporary, 'create');
      const offset = FILE_HEADER_BYTES + fill(file);
      if (ahead > offset) file.allocate(offset, ahead - offset);
      file.write([encodeSegmentHeader(header)], 0);
      file.sync();
      isNamed = true;
      this.#files.rename(temporary, path);
      this.#files.syncDirectory(this.#directory);
      const segment = { number: header.number, header, fileBytes: Math.max(offset, ahead) };
      this.#push(segment);
      return { file, segment, offset };
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      this.#discard(file, temporary);
      throw new SegmentNotMade(isNamed, error);
    }
  }

  /** Takes room for a segment up to an offset of its file. Throws what the system says. */
  allocate({ file, segment }: Active, upTo: number): void {
    file.allocate(segment.fileBytes, upTo - segment.fileBytes);
    this.resize(segment, upTo);
  }

  /** The file of a segment takes so much now. */
  resize(segment: Segment, fileBytes: number): void {
    this.#bytes += fileBytes - segment.fileBytes;
    segment.fileBytes = fileBytes;
  }

  /**
   * Ends the file of a segment that is not written any more: with a mark where its batches end, and without the room
   * behind it. A segment is as good without either: there is a notice if that fails.
   */
  finish(segment: Segment, end: Position, mark: Buffer, file?: OpenFile): void {
    let open = file;
    this.#attempt(segment, () => {
      try {
        open ??= this.#files.open(this.#path(segment.number), 'update');
        const offset = offsetOf(segment.header, end);
        open.write([mark], offset);
        open.truncate(offset + BATCH_HEADER_BYTES);
        open.sync();
        this.resize(segment, offset + BATCH_HEADER_BYTES);
      } finally {
        open?.close();
      }
    });
  }

  /**
   * Removes the oldest segment, durably, so that a crash between two removals leaves no gap. False, after a notice: it
   * could not. REQUIRES: there is one.
   */
  removeFirst(): boolean {
    const first = this.#segments[0]!;
    return this.#attempt(first, () => {
      try {
        this.#files.remove(this.#path(first.number));
      } catch (error) {
        if (systemCode(error) !== 'ENOENT') throw error;
      }
      this.#files.syncDirectory(this.#directory);
      this.#segments.shift();
      this.#bytes -= first.fileBytes;
    });
  }

  /**
   * How far the batches of a segment can be read from a point on, at most to `end`. `file`: the segment's, if it is
   * still open. Bytes that the disk cannot read end it, with `cause`. Any other error, such as too many open files,
   * says nothing about the bytes, and is thrown.
   */
  tail(segment: Segment, from: Point, end: Position, file?: OpenFile): { reached: Point; cause: unknown } {
    const fence = new Fence(from.fence);
    let { position } = from;
    let cause: unknown;
    try {
      for (const { header } of this.#batches(segment, position, end, file)) {
        if (!isEntry(header.kind) || !fence.admit({ ...header, kind: header.kind })) break;
        position = batchEnd(header);
      }
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      cause = error;
    }
    return { reached: { position, fence: fence.state }, cause };
  }

  /**
   * Writes the batches of [from, end) in a segment to a new file, behind its header. Returns their bytes. Throws if one
   * is not there any more: the bytes that tail() has read may have come from pages that the system has dropped since.
   */
  copy(segment: Segment, from: Position, end: Position, target: OpenFile, source?: OpenFile): number {
    let bytes = 0;
    for (const { header, payload } of this.#batches(segment, from, end, source)) {
      target.write([encodeBatchHeader(header), payload], FILE_HEADER_BYTES + bytes);
      bytes += BATCH_HEADER_BYTES + payload.length;
    }
    if (bytes !== Number(end - from)) throw unreadable(segment);
    return bytes;
  }

  *#batches({ number, header }: Segment, from: Position, end: Position, open?: OpenFile): Generator<Batch, undefined> {
    const file = open ?? this.#files.open(this.#path(number), 'read');
    try {
      const reader = new SegmentReader(file, header);
      reader.seek(from);
      while (reader.position < end) {
        const next = reader.next(end);
        if (next.kind !== 'batch') return;
        yield next;
      }
    } finally {
      if (file !== open) file.close();
    }
  }

  // A failure leaves a file that is not needed, or room behind a segment's end. Neither does harm.
  #attempt({ number }: Segment, action: () => void): boolean {
    try {
      action();
      return true;
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      this.#notify({ kind: 'cleanup-failed', file: segmentName(number), cause: named(error) });
      return false;
    }
  }

  #push(segment: Segment): void {
    this.#segments.push(segment);
    this.#bytes += segment.fileBytes;
  }

  #path(number: number): string {
    return join(this.#directory, segmentName(number));
  }

  #discard(file: OpenFile | undefined, path: string): void {
    if (file === undefined) return;
    try {
      file.close();
      this.#files.remove(path);
    } catch (error) {
      // Removed when the log is opened next, if it is there at all.
      if (systemCode(error) === undefined) throw error;
    }
  }
}
