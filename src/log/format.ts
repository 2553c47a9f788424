/**
 * The bytes of the log's files: docs/log-format.md draws them. This file encodes and decodes headers and knows nothing
 * of files. Numbers are little-endian; checksums are CRC-32 as zlib has it.
 *
 * All files begin with a header of 128 bytes whose first 16 and last 4 mean the same in every version of the format:
 * magic, version, size of the header; checksum of all before it. So a file of a newer version is told from a damaged
 * one.
 */
import { crc32 } from 'node:zlib';
import type { FenceState } from './fence.ts';
import type { Position } from './request-log.ts';

/**
 * The version that is written. All from the oldest on are read; a file says which it has, and keeps it. Versions 1 and
 * 2 count epochs otherwise (epoch.ts); version 1 has no records of clears that are to come.
 */
export const FORMAT_VERSION = 3;
export const FORMAT_VERSION_OLDEST = 1;

export const FILE_HEADER_BYTES = 128;
export const BATCH_HEADER_BYTES = 64;

/** Records of one batch, in bytes: the largest value of a cache with a log is 64 MiB, and must fit with its key. */
export const BATCH_BYTES_MAX: number = 128 * 2 ** 20;

/** The magic of each kind of file. */
export const SEGMENT_MAGIC = 'CAIRNLOG';
export const SNAPSHOT_MAGIC = 'CAIRNSNP';
export const CURSORS_MAGIC = 'CAIRNCUR';

/** Why bytes are not what they should be: completes "the file's header ...". */
export class Fault {
  readonly why: string;
  /** The bytes are sound and of this version, which is newer than what this program knows. */
  readonly newerVersion: number | undefined;

  constructor(why: string, newerVersion?: number) {
    this.why = why;
    this.newerVersion = newerVersion;
  }
}

/** Begins a file header; sealFileHeader() ends it. */
export function startFileHeader(magic: string, formatVersion: number = FORMAT_VERSION): Buffer {
  const header = Buffer.alloc(FILE_HEADER_BYTES);
  header.write(magic, 0, 'latin1');
  header.writeUInt32LE(formatVersion, 8);
  header.writeUInt32LE(FILE_HEADER_BYTES, 12);
  return header;
}

export function sealFileHeader(header: Buffer): Buffer {
  header.writeUInt32LE(crc32(header.subarray(0, FILE_HEADER_BYTES - 4)), FILE_HEADER_BYTES - 4);
  return header;
}

/** What is wrong with a file header, whatever its version holds; undefined: nothing. */
export function checkFileHeader(bytes: Buffer, magic: string): Fault | undefined {
  if (bytes.length < FILE_HEADER_BYTES) return new Fault(`ends after ${bytes.length} of ${FILE_HEADER_BYTES} bytes`);
  if (bytes.toString('latin1', 0, 8) !== magic) return new Fault(`does not begin with "${magic}"`);
  if (crc32(bytes.subarray(0, FILE_HEADER_BYTES - 4)) !== bytes.readUInt32LE(FILE_HEADER_BYTES - 4)) {
    return new Fault('has the wrong checksum');
  }
  const version = formatVersionOf(bytes);
  if (version > FORMAT_VERSION) return new Fault(`has format version ${version}`, version);
  if (version < FORMAT_VERSION_OLDEST || bytes.readUInt32LE(12) !== FILE_HEADER_BYTES) {
    return new Fault(`has format version ${version} and says it is ${bytes.readUInt32LE(12)} bytes long`);
  }
  return undefined;
}

/** The version that a sound header is of. */
export function formatVersionOf(header: Buffer): number {
  return header.readUInt32LE(8);
}

/** What a segment's header says. */
export interface SegmentHeader {
  /** The format of all that is in it: records are copied from one segment to another as they are. */
  readonly formatVersion: number;
  /** The same in all files of a log: drawn when it was made. */
  readonly logId: bigint;
  readonly number: number;
  /** The position of the first batch. */
  readonly base: Position;
  /**
   * Where the segment before this one ends: what it has beyond that is void. Below `base` if positions were left out.
   */
  readonly predecessorEnd: Position;
  /** Batches before this position were synced before the file got its name. */
  readonly bornEnd: Position;
  /** Bytes of batches that it is planned for: no position from `base + capacity` on was ever given out by it. */
  readonly capacity: number;
  readonly createdMs: number;
  /** Who made it, in which epoch. */
  readonly writer: bigint;
  readonly epoch: number;
  /** Where a reader is that has read everything before `base`. */
  readonly before: FenceState;
  /** Records that were between the predecessor's end and `base` and are lost. Without loss no entry was ever there. */
  readonly recordsLost: bigint;
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = startFileHeader(SEGMENT_MAGIC, header.formatVersion);
  bytes.writeBigUInt64LE(header.logId, 16);
  bytes.writeBigUInt64LE(BigInt(header.number), 24);
  bytes.writeBigUInt64LE(header.base, 32);
  bytes.writeBigUInt64LE(header.predecessorEnd, 40);
  bytes.writeBigUInt64LE(header.bornEnd, 48);
  bytes.writeBigUInt64LE(BigInt(header.capacity), 56);
  bytes.writeBigUInt64LE(BigInt(header.createdMs), 64);
  bytes.writeBigUInt64LE(header.writer, 72);
  bytes.writeBigUInt64LE(header.before.writer, 80);
  bytes.writeBigUInt64LE(header.before.recordsBefore, 88);
  bytes.writeUInt32LE(header.epoch, 96);
  bytes.writeUInt32LE(header.before.epoch, 100);
  bytes.writeBigUInt64LE(header.recordsLost, 104);
  return sealFileHeader(bytes);
}

export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | Fault {
  const fault = checkFileHeader(bytes, SEGMENT_MAGIC);
  if (fault !== undefined) return fault;
  return {
    formatVersion: formatVersionOf(bytes),
    logId: bytes.readBigUInt64LE(16),
    number: Number(bytes.readBigUInt64LE(24)),
    base: bytes.readBigUInt64LE(32),
    predecessorEnd: bytes.readBigUInt64LE(40),
    bornEnd: bytes.readBigUInt64LE(48),
    capacity: Number(bytes.readBigUInt64LE(56)),
    createdMs: Number(bytes.readBigUInt64LE(64)),
    writer: bytes.readBigUInt64LE(72),
    epoch: bytes.readUInt32LE(96),
    before: {
      writer: bytes.readBigUInt64LE(80),
      recordsBefore: bytes.readBigUInt64LE(88),
      epoch: bytes.readUInt32LE(100),
    },
    recordsLost: bytes.readBigUInt64LE(104),
  };
}

/** Where in a segment's file a position lies, and back. */
export function offsetOf(header: SegmentHeader, position: Position): number {
  return FILE_HEADER_BYTES + Number(position - header.base);
}

export function positionAt(header: SegmentHeader, offset: number): Position {
  return header.base + BigInt(offset - FILE_HEADER_BYTES);
}

/**
 * Kinds of batches, by their number on disk. The first three are what readers get. The others are marks at the end of a
 * segment, behind its last batch, at a position that the next batch has too.
 */
export const BATCH_KINDS = {
  /** Encoded records. */
  records: 1,
  /** A writer opened the log. No payload. */
  takeover: 2,
  /** What a repair puts over bytes that are damaged: its payload, which means nothing. */
  lost: 3,
  /** There is a segment behind this one. */
  sealed: 4,
  /** The log was closed here, with everything synced. */
  closed: 5,
} as const;
export type BatchKind = keyof typeof BATCH_KINDS;

const KIND_BY_NUMBER = new Map<number, BatchKind>(
  Object.entries(BATCH_KINDS).map(([name, number]) => [number, name as BatchKind]),
);

export interface BatchHeader {
  readonly kind: BatchKind;
  readonly payloadBytes: number;
  readonly position: Position;
  /** What was known to be synced when the batch was written: everything before this position. */
  readonly durableEnd: Position;
  readonly recordsBefore: bigint;
  readonly writer: bigint;
  readonly timeMs: number;
  readonly recordCount: number;
  readonly epoch: number;
  readonly payloadCrc: number;
}

/** Whether it is one that readers get. */
export function isEntry(kind: BatchKind): kind is 'records' | 'takeover' | 'lost' {
  return kind !== 'sealed' && kind !== 'closed';
}

/** Where a batch ends, and the next begins. */
export function batchEnd(header: BatchHeader): Position {
  return header.position + BigInt(BATCH_HEADER_BYTES + header.payloadBytes);
}

export function encodeBatchHeader(header: BatchHeader, bytes: Buffer = Buffer.alloc(BATCH_HEADER_BYTES)): Buffer {
  bytes.write('CB', 0, 'latin1');
  bytes[2] = BATCH_KINDS[header.kind];
  bytes[3] = 0;
  bytes.writeUInt32LE(header.payloadBytes, 4);
  bytes.writeBigUInt64LE(header.position, 8);
  bytes.writeBigUInt64LE(header.durableEnd, 16);
  bytes.writeBigUInt64LE(header.recordsBefore, 24);
  bytes.writeBigUInt64LE(header.writer, 32);
  bytes.writeBigUInt64LE(BigInt(header.timeMs), 40);
  bytes.writeUInt32LE(header.recordCount, 48);
  bytes.writeUInt32LE(header.epoch, 52);
  bytes.writeUInt32LE(header.payloadCrc, 56);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, BATCH_HEADER_BYTES - 4)), BATCH_HEADER_BYTES - 4);
  return bytes;
}

/** Decodes the header at an offset. Says nothing about the payload: `payloadCrc` is what it has to have. */
export function decodeBatchHeader(bytes: Buffer, offset = 0): BatchHeader | Fault {
  const end = offset + BATCH_HEADER_BYTES;
  if (end > bytes.length) return new Fault(`ends after ${bytes.length - offset} of ${BATCH_HEADER_BYTES} bytes`);
  if (bytes[offset] !== 0x43 || bytes[offset + 1] !== 0x42) return new Fault('does not begin with "CB"');
  if (crc32(bytes.subarray(offset, end - 4)) !== bytes.readUInt32LE(end - 4)) {
    return new Fault('has the wrong checksum');
  }
  const kind = KIND_BY_NUMBER.get(bytes[offset + 2]!);
  const payloadBytes = bytes.readUInt32LE(offset + 4);
  if (kind === undefined || bytes[offset + 3] !== 0 || payloadBytes % 8 !== 0) {
    return new Fault(`says that it is of kind ${bytes[offset + 2]} and ${payloadBytes} bytes long`);
  }
  return {
    kind,
    payloadBytes,
    position: bytes.readBigUInt64LE(offset + 8),
    durableEnd: bytes.readBigUInt64LE(offset + 16),
    recordsBefore: bytes.readBigUInt64LE(offset + 24),
    writer: bytes.readBigUInt64LE(offset + 32),
    timeMs: Number(bytes.readBigUInt64LE(offset + 40)),
    recordCount: bytes.readUInt32LE(offset + 48),
    epoch: bytes.readUInt32LE(offset + 52),
    payloadCrc: bytes.readUInt32LE(offset + 56),
  };
}

const SEGMENT_NAME = /^(\d{12})\.log$/;
const SNAPSHOT_NAME = /^(\d{12})\.snapshot$/;

export function segmentName(number: number): string {
  return `${String(number).padStart(12, '0')}.log`;
}

export function snapshotName(number: number): string {
  return `${String(number).padStart(12, '0')}.snapshot`;
}

/** The numbers of the segments, or snapshots, among some names, ascending. */
export function segmentNumbers(names: readonly string[]): number[] {
  return numbersOf(names, SEGMENT_NAME);
}

export function snapshotNumbers(names: readonly string[]): number[] {
  return numbersOf(names, SNAPSHOT_NAME);
}

function numbersOf(names: readonly string[], pattern: RegExp): number[] {
  return names
    .flatMap((name) => {
      const [, digits] = pattern.exec(name) ?? [];
      return digits === undefined ? [] : [Number(digits)];
    })
    .sort((a, b) => a - b);
}
