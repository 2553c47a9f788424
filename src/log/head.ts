/**
 * Where a log stands while it is open: its positions, the reader's rule as of the last entry (fence.ts), the epoch, the
 * time of the last entry, and the records that it has lost. Every change is published to readers in other threads.
 *
 * Always: durable <= committed <= end. While a segment is written, `end` is `committed`. From look() to takeOver() it
 * is behind the take-over's mark that is still to be written.
 */
import { crc32 } from 'node:zlib';
import { Fence, type FenceState, type Point } from './fence.ts';
import { BATCH_HEADER_BYTES, type BatchKind, encodeBatchHeader } from './format.ts';
import type { LogClock } from './log-options.ts';
import type { LogBatch, Position } from './request-log.ts';
import { Watermark } from './watermark.ts';

export interface HeadOptions {
  readonly clock: LogClock;
  readonly logId: bigint;
  /** Drawn at random by this opening. */
  readonly writer: bigint;
  readonly epoch: number;
  readonly lastTimeMs: number;
  /** The number of the last segment; 0: there is none. */
  readonly segment: number;
  readonly committed: Point;
  readonly durable: Point;
  readonly end: Position;
  /** Where it is published; undefined: in newly allocated memory. */
  readonly progress: SharedArrayBuffer | undefined;
}

export class Head {
  readonly logId: bigint;
  readonly writer: bigint;
  readonly #clock: LogClock;
  readonly #watermark: Watermark;
  readonly #fence: Fence;
  readonly #header = Buffer.alloc(BATCH_HEADER_BYTES);
  #durableFence: FenceState;
  #epoch: number;
  #lastTimeMs: number;
  #segment: number;
  #end: Position;
  #committed: Position;
  #durable: Position;
  #lostEnd: Position = 0n;
  #lostRecords = 0;

  constructor(options: HeadOptions) {
    this.logId = options.logId;
    this.writer = options.writer;
    this.#clock = options.clock;
    this.#watermark = new Watermark(options.progress);
    this.#fence = new Fence(options.committed.fence);
    this.#durableFence = options.durable.fence;
    this.#epoch = options.epoch;
    this.#lastTimeMs = options.lastTimeMs;
    this.#segment = options.segment;
    this.#end = options.end;
    this.#committed = options.committed.position;
    this.#durable = options.durable.position;
    this.#publish();
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Where the next batch begins. */
  get end(): Position {
    return this.#end;
  }

  get committed(): Position {
    return this.#committed;
  }

  get durable(): Position {
    return this.#durable;
  }

  get fence(): FenceState {
    return this.#fence.state;
  }

  get durablePoint(): Point {
    return { position: this.#durable, fence: this.#durableFence };
  }

  get committedPoint(): Point {
    return { position: this.#committed, fence: this.#fence.state };
  }

  /** Records that were committed and then lost, and the position behind the last of them. */
  get lost(): { readonly recordCount: number; readonly end: Position } {
    return { recordCount: this.#lostRecords, end: this.#lostEnd };
  }

  get lastTimeMs(): number {
    return this.#lastTimeMs;
  }

  /** Wall time, never before that of an earlier entry. */
  nowMs(): number {
    return Math.max(this.#lastTimeMs, this.#clock.wallMs());
  }

  /** For a LogReader in any thread. */
  get progress(): SharedArrayBuffer {
    return this.#watermark.shared;
  }

  /**
   * The header of a batch or mark that is written now: `writer` is the one whose segment it goes to. Valid until the
   * next call.
   */
  headerOf(
    kind: BatchKind,
    position: Position,
    { batch, writer = this.writer }: { batch?: LogBatch; writer?: bigint } = {},
  ): Buffer {
    let payloadBytes = 0;
    let payloadCrc = 0;
    for (const piece of batch?.records ?? []) {
      payloadBytes += piece.length;
      payloadCrc = crc32(piece, payloadCrc);
    }
    this.#lastTimeMs = this.nowMs();
    return encodeBatchHeader(
      {
        kind,
        payloadBytes,
        position,
        durableEnd: kind === 'records' ? this.#durable : position,
        recordsBefore: this.fence.recordsBefore,
        writer,
        timeMs: this.#lastTimeMs,
        recordCount: batch?.recordCount ?? 0,
        epoch: batch?.epoch ?? this.#epoch,
        payloadCrc,
      },
      this.#header,
    );
  }

  /** A segment has its name: readers may have to look into it from now on. */
  segmentMade(number: number): void {
    this.#segment = number;
    this.#publish();
  }

  /** A batch is in the file, and on the disk if it `isSynced`. */
  appended({ epoch, recordCount }: LogBatch, bytes: number, isSynced: boolean): void {
    this.#epoch = epoch;
    this.#fence.admit({ kind: 'records', epoch, writer: this.writer, ...this.#count(recordCount) });
    this.#end += BigInt(bytes);
    this.#committed = this.#end;
    if (isSynced) this.#markDurable();
    this.#publish();
  }

  /**
   * A new segment goes on at `end`, and everything before that is synced: a `takeover` begins this writer's part of the
   * log with a mark, `after-failure` it goes on.
   */
  resumed(why: 'takeover' | 'after-failure'): void {
    if (why === 'takeover') {
      this.#fence.admit({ kind: 'takeover', epoch: this.#epoch, writer: this.writer, ...this.#count(0) });
    }
    this.#committed = this.#end;
    this.#markDurable();
    this.#publish();
  }

  /** All that is committed is durable. */
  synced(): void {
    this.#markDurable();
    this.#publish();
  }

  /** `recordCount` committed records before a position could not be read back. */
  lostUpTo(end: Position, recordCount: number): void {
    this.#lostEnd = end;
    this.#lostRecords += recordCount;
  }

  /** Readers end. */
  close(): void {
    this.#watermark.close();
  }

  #count(recordCount: number): { recordsBefore: bigint; recordCount: number } {
    return { recordsBefore: this.fence.recordsBefore, recordCount };
  }

  #markDurable(): void {
    this.#durable = this.#committed;
    this.#durableFence = this.fence;
  }

  #publish(): void {
    const { end, committed, durable } = this;
    this.#watermark.publish({ committed, durable, end, segment: this.#segment });
  }
}
