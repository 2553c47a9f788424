/**
 * Reading one segment: its batches in order, up to the first bytes that are none; and whether those bytes are merely
 * torn, which is what a crash leaves at the end of a log, or damaged, which it cannot leave.
 */
import { crc32 } from 'node:zlib';
import { RecordKind, RecordReader } from '../request/record.ts';
import { clearedVersion } from './epoch.ts';
import { Fence, type FenceState, type Point } from './fence.ts';
import type { OpenFile } from './files.ts';
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  batchEnd,
  decodeBatchHeader,
  decodeSegmentHeader,
  Fault,
  FILE_HEADER_BYTES,
  FORMAT_VERSION,
  isEntry,
  offsetOf,
  positionAt,
  type SegmentHeader,
} from './format.ts';
import { earlier, type LogEntry, later, type Position } from './request-log.ts';

/** What is read at once when batches are small. */
const WINDOW_BYTES = 256 * 1024;

const NOTHING: Buffer = Buffer.alloc(0);

/** Reads and checks the header at the beginning of a file. */
export function readSegmentHeader(file: OpenFile): SegmentHeader | Fault {
  const bytes = Buffer.alloc(FILE_HEADER_BYTES);
  return decodeSegmentHeader(bytes.subarray(0, file.read(bytes, 0)));
}

/** Where batches end, and why. */
export interface Stop {
  readonly kind: 'stop';
  readonly position: Position;
  readonly offset: number;
  /** What is wrong with the bytes there; undefined: the file ends, or has a header's worth of zeros. */
  readonly fault: Fault | undefined;
}

export interface Batch {
  readonly kind: 'batch';
  readonly header: BatchHeader;
  readonly offset: number;
  /** Empty if the reader was told to leave payloads out. Never overwritten. */
  readonly payload: Buffer;
}

export interface Mark {
  readonly kind: 'mark';
  readonly header: BatchHeader;
  readonly offset: number;
}

/** A place in a segment's file that moves from batch to batch. Does not own the file. */
export class SegmentReader {
  readonly header: SegmentHeader;
  readonly #file: OpenFile;
  readonly #withPayload: boolean;
  #offset = FILE_HEADER_BYTES;
  #window: Buffer = NOTHING;
  #windowOffset = 0;

  constructor(file: OpenFile, header: SegmentHeader, options: { withPayload: boolean } = { withPayload: true }) {
    this.#file = file;
    this.header = header;
    this.#withPayload = options.withPayload;
  }

  get position(): Position {
    return positionAt(this.header, this.#offset);
  }

  /** Goes to a position, which has to be where a batch begins. */
  seek(position: Position): void {
    this.#offset = offsetOf(this.header, position);
  }

  /** Forgets what was read ahead: the file may have changed there. */
  forget(): void {
    this.#window = NOTHING;
  }

  /**
   * The next batch, and goes behind it; or a mark or a stop, and stays. Reads no byte at or behind `limit`, where
   * another thread may be writing.
   */
  next(limit?: Position): Batch | Mark | Stop {
    const limitOffset = limit === undefined ? Number.POSITIVE_INFINITY : offsetOf(this.header, limit);
    const offset = this.#offset;
    const position = positionAt(this.header, offset);
    const stop = (fault: Fault | undefined): Stop => ({ kind: 'stop', position, offset, fault });

    const bytes = this.#read(offset, BATCH_HEADER_BYTES, limitOffset);
    if (bytes.length === 0) return stop(undefined);
    const header = decodeBatchHeader(bytes);
    if (header instanceof Fault) {
      return stop(bytes.length === BATCH_HEADER_BYTES && isZero(bytes) ? undefined : header);
    }
    if (header.position !== position) return stop(new Fault(`says that it is at position ${header.position}`));
    if (!isEntry(header.kind)) {
      const isMark = header.payloadBytes === 0 && header.recordCount === 0;
      return isMark ? { kind: 'mark', header, offset } : stop(new Fault('is a mark with a payload'));
    }
    let payload = NOTHING;
    if (this.#withPayload && header.payloadBytes > 0) {
      payload = this.#read(offset + BATCH_HEADER_BYTES, header.payloadBytes, limitOffset);
      if (payload.length < header.payloadBytes) {
        return stop(new Fault(`ends after ${payload.length} of ${header.payloadBytes} bytes of records`));
      }
      if (crc32(payload) !== header.payloadCrc) return stop(new Fault('has the wrong checksum over its records'));
    }
    this.#offset += BATCH_HEADER_BYTES + header.payloadBytes;
    return { kind: 'batch', header, offset, payload };
  }

  // Bytes of the file, fewer at its end or at the limit. A window that was handed out is never written again.
  #read(offset: number, bytes: number, limitOffset: number): Buffer {
    const at = offset - this.#windowOffset;
    if (at >= 0 && at + bytes <= this.#window.length) return this.#window.subarray(at, at + bytes);
    const wanted = Math.min(Math.max(bytes, WINDOW_BYTES), Math.max(0, limitOffset - offset));
    // A large payload alone: what comes behind it is read when it is asked for.
    const window = Buffer.allocUnsafeSlow(bytes > WINDOW_BYTES ? Math.min(bytes, wanted) : wanted);
    this.#window = window.subarray(0, this.#file.read(window, offset));
    this.#windowOffset = offset;
    return this.#window.subarray(0, bytes);
  }
}

/** A batch as readers get it. */
export function entryOf({ header, payload }: Batch, { formatVersion }: SegmentHeader): LogEntry {
  if (!isEntry(header.kind)) throw new Error(`A mark of kind ${header.kind} is no entry`);
  return {
    kind: header.kind,
    position: header.position,
    end: batchEnd(header),
    epoch: header.epoch,
    formatVersion,
    writer: header.writer,
    recordsBefore: header.recordsBefore,
    recordCount: header.recordCount,
    timeMs: header.timeMs,
    records: header.kind === 'records' ? inPresentTerms(payload, formatVersion) : NOTHING,
  };
}

/** Records of a format as they would be in the present one. Leaves bytes that are not records as they are. */
function inPresentTerms(records: Buffer, formatVersion: number): Buffer {
  if (formatVersion === FORMAT_VERSION) return records;
  const reader = new RecordReader(records);
  let present = records;
  while (reader.next()) {
    if (reader.kind !== RecordKind.clear) continue;
    // What was read ahead of the file is not ours to change.
    if (present === records) present = Buffer.from(records);
    present.writeBigUInt64LE(clearedVersion(formatVersion, reader.version), reader.offset + 8);
  }
  return present;
}

/** What a walk through a whole segment found. */
export interface SegmentScan {
  /** Behind the last sound batch. */
  readonly end: Position;
  /** Where a reader is there. */
  readonly fence: FenceState;
  /** The highest position that is known to be synced, by the file's own word. Not above `end`. */
  readonly durableEnd: Position;
  /** The time of the last batch, or of the segment. */
  readonly timeMs: number;
  readonly batchCount: number;
  readonly recordCount: number;
  readonly mark: BatchHeader | undefined;
  /**
   * What follows and is cut off: a batch that is not whole, or batches behind one that is missing. Undefined: nothing
   * that could be told from a file which ends here.
   */
  readonly torn: Torn | undefined;
  /** What makes it damage instead: why, and where it begins. */
  readonly damage: { readonly why: string; readonly position: Position; readonly offset: number } | undefined;
}

/** Bytes behind the end of a log. */
export interface Torn {
  /** Up to the last that is not zero. */
  readonly bytes: number;
  /** Records of the batches whose headers are there. */
  readonly recordCount: number;
}

export interface ScanOptions {
  /** False: only headers are read and checked. */
  readonly withPayload?: boolean;
  readonly visit?: ((batch: Batch) => void) | undefined;
  /** Whether there is a segment behind the last one by now: a process that is writing may have begun it. */
  readonly isFollowed?: () => boolean;
}

/**
 * Walks through a segment. `end`: where its successor says that it ends; what lies behind is void. Undefined for the
 * last segment of a log, whose end is where sound batches end, unless there is proof that there was more.
 */
export function scanSegment(
  file: OpenFile,
  header: SegmentHeader,
  end: Position | undefined,
  { withPayload = true, visit, isFollowed = () => false }: ScanOptions = {},
): SegmentScan {
  const reader = new SegmentReader(file, header, { withPayload });
  const fence = new Fence(header.before);
  let durableEnd = header.bornEnd;
  let timeMs = header.createdMs;
  let batchCount = 0;
  let recordCount = 0;
  let mark: BatchHeader | undefined;
  let torn: Torn | undefined;
  let damage: SegmentScan['damage'];
  let readAgain: Position | undefined;
  const damaged = (why: string, offset: number): void => {
    damage = { why, position: positionAt(header, offset), offset };
  };
  while (end === undefined || reader.position < end) {
    const next = reader.next();
    if (next.kind === 'batch') {
      const { header: batch, offset } = next;
      if (!isEntry(batch.kind) || !fence.admit({ ...batch, kind: batch.kind })) {
        damaged('the batch does not continue the one before it', offset);
        break;
      }
      if (batch.durableEnd > batch.position || (end !== undefined && batchEnd(batch) > end)) {
        damaged('the batch says what cannot be of where it lies', offset);
        break;
      }
      durableEnd = later(durableEnd, batch.durableEnd);
      timeMs = Math.max(timeMs, batch.timeMs);
      batchCount++;
      recordCount += batch.recordCount;
      visit?.(next);
      continue;
    }
    if (end !== undefined) {
      const why = next.kind === 'mark' ? 'is a mark' : (next.fault?.why ?? 'is missing');
      damaged(`the batch ${why}, and the next segment says that this one ends at ${end}`, next.offset);
    } else if (next.kind === 'mark') {
      mark = next.header;
      if (mark.kind === 'sealed' && !isFollowed()) damaged('the segment behind this one is missing', next.offset);
      else durableEnd = next.header.position;
    } else {
      const why = next.fault?.why ?? 'is missing';
      const { proof, isAnything, recordCount: behind } = lookBehind(file, header, next);
      if (isAnything && readAgain !== next.position) {
        // A process that is writing may have put it there since, and what proves that it is missing behind it.
        readAgain = next.position;
        reader.forget();
        continue;
      }
      if (next.position < header.bornEnd) damaged(`the batch ${why}, and was synced with its segment`, next.offset);
      else if (proof !== undefined) {
        damaged(`the batch ${why}, and one at position ${proof} proves that it was on the disk`, next.offset);
      } else if (next.fault !== undefined || isAnything) {
        torn = { bytes: bytesBehind(file, next.offset), recordCount: behind };
      }
    }
    break;
  }
  const reached = damage?.position ?? reader.position;
  return {
    end: reached,
    fence: fence.state,
    durableEnd: earlier(durableEnd, reached),
    timeMs,
    batchCount,
    recordCount,
    mark,
    torn,
    damage,
  };
}

/** Where a reader is at the last batch's end that is not behind a position. */
export function fenceAt(file: OpenFile, header: SegmentHeader, position: Position): Point {
  const reader = new SegmentReader(file, header, { withPayload: false });
  const fence = new Fence(header.before);
  let reached = header.base;
  while (reached < position) {
    const next = reader.next();
    if (next.kind !== 'batch' || !isEntry(next.header.kind) || reader.position > position) break;
    if (!fence.admit({ ...next.header, kind: next.header.kind })) break;
    reached = reader.position;
  }
  return { position: reached, fence: fence.state };
}

/**
 * Looks behind bytes that are no batch for batches and marks of this segment; `proof` is the position of one that was
 * written when what is missing was known to be synced already. A header is proof enough. Values that users store cannot
 * pass for one: they would have to contain the random number of the writer.
 */
function lookBehind(
  file: OpenFile,
  header: SegmentHeader,
  { offset, position }: Stop,
): { proof: Position | undefined; isAnything: boolean; recordCount: number } {
  let isAnything = false;
  let recordCount = 0;
  for (const found of findHeaders(file, header, offset)) {
    if (found.durableEnd > position) return { proof: found.position, isAnything: true, recordCount };
    isAnything = true;
    if (found.kind === 'records') recordCount += found.recordCount;
  }
  return { proof: undefined, isAnything, recordCount };
}

/** How many bytes are behind an offset, up to the last that is not zero. */
function bytesBehind(file: OpenFile, offset: number): number {
  const window = Buffer.allocUnsafeSlow(WINDOW_BYTES);
  for (let end = file.size(); end > offset; ) {
    const start = Math.max(offset, end - WINDOW_BYTES);
    const bytes = window.subarray(0, file.read(window.subarray(0, end - start), start));
    for (let at = bytes.length - 1; at >= 0; at--) if (bytes[at] !== 0) return start + at + 1 - offset;
    end = start;
  }
  return 0;
}

const BATCH_MAGIC: Buffer = Buffer.from('CB', 'latin1');

/** Headers of this segment's batches and marks at or behind an offset, wherever they begin. */
export function* findHeaders(file: OpenFile, header: SegmentHeader, offset: number): Generator<BatchHeader> {
  for (const { header: found, offset: at } of findAnyHeaders(file, offset)) {
    const isOurs = found.writer === header.writer || found.writer === header.before.writer;
    if (isOurs && found.position === positionAt(header, at)) yield found;
  }
}

/** Whatever looks like the header of a batch or mark, at or behind an offset. */
export function* findAnyHeaders(
  file: OpenFile,
  offset: number,
): Generator<{ readonly header: BatchHeader; readonly offset: number }> {
  const window = Buffer.allocUnsafeSlow(WINDOW_BYTES);
  let start = offset;
  for (;;) {
    const bytes = window.subarray(0, file.read(window, start));
    if (bytes.length < BATCH_HEADER_BYTES) return;
    let at = 0;
    for (;;) {
      at = bytes.indexOf(BATCH_MAGIC, at);
      if (at === -1 || at + BATCH_HEADER_BYTES > bytes.length) break;
      // Batches begin at multiples of eight, as the file's header and every record end there.
      const found = (start + at) % 8 === 0 ? decodeBatchHeader(bytes, at) : undefined;
      if (found !== undefined && !(found instanceof Fault)) yield { header: found, offset: start + at };
      at++;
    }
    // The last bytes may be the beginning of a header.
    start += bytes.length - BATCH_HEADER_BYTES + 1;
  }
}

function isZero(bytes: Buffer): boolean {
  for (const byte of bytes) if (byte !== 0) return false;
  return true;
}
