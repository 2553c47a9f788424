/**
 * Snapshot files: all entries of a cache as records, taken by a walk while the cache goes on. A snapshot says at which
 * position of the log it begins, which is where the log stood before the walk, and where it ends, which is where the
 * log stood when everything that the walk may have seen was in it. Recovery applies the records and then the log from
 * the begin on; records that the snapshot has already are told by their versions.
 *
 * A file is written under another name, synced, read back and compared with its checksums, and only then gets its name:
 * a file with the name of a snapshot was whole once. Two are kept. No shard, shard count or hash is in it.
 *
 * Everything is done in steps, so that the writer can do other work in between.
 */
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { outOfRange } from '../errors.ts';
import { ioError } from './chain.ts';
import { type Files, isUnreadable, type OpenFile, openIfThere, systemCode } from './files.ts';
import {
  BATCH_BYTES_MAX,
  checkFileHeader,
  Fault,
  FILE_HEADER_BYTES,
  FORMAT_VERSION,
  formatVersionOf,
  SNAPSHOT_MAGIC,
  sealFileHeader,
  snapshotName,
  snapshotNumbers,
  startFileHeader,
} from './format.ts';
import {
  type FoundSnapshot,
  type SnapshotChunk,
  SnapshotDamaged,
  type SnapshotInfo,
  type SnapshotSink,
  type SnapshotStart,
  type SnapshotStore,
} from './log-port.ts';
import type { Position } from './request-log.ts';

/** Snapshots that are kept: one, and one for the case that it cannot be read. */
export const SNAPSHOTS_KEPT = 2;
/** Bytes between two syncs of a snapshot that is written: none of them takes much longer than that of a batch. */
const SYNC_STEP_BYTES: number = 2 ** 20;

const CHUNK_HEADER_BYTES = 32;
const FOOTER_BYTES = 48;
const KIND_RECORDS = 1;
const KIND_FOOTER = 2;

/** One file that has the name of a snapshot. */
export type SnapshotFile = FoundSnapshot<Fault>;

export interface SnapshotOptions {
  readonly files: Files;
  readonly directory: string;
  readonly logId: bigint;
  /** Wall time, in Unix milliseconds. */
  readonly wallMs: () => number;
  readonly random: () => bigint;
  /** Called before one is begun; throws if there can be none now. */
  readonly prepare?: () => void;
  /** How far the log is synced. */
  readonly durable?: () => Position;
  /** Leave all that are there, when there is a new one. */
  readonly isKeepingAll?: boolean;
}

/** The snapshots of a log's directory. */
export class Snapshots implements SnapshotStore {
  readonly #options: SnapshotOptions;
  #found: SnapshotFile[];
  #verified: SnapshotInfo[] = [];
  #writing: SnapshotWriter | undefined;

  constructor(options: SnapshotOptions) {
    this.#options = options;
    this.#found = listSnapshots(options.files, options.directory);
  }

  /** Newest first. */
  get found(): readonly SnapshotFile[] {
    return this.#found;
  }

  /** Those whose header and footer are sound, newest first. */
  get sound(): readonly SnapshotInfo[] {
    return this.#found.flatMap((found) => ('info' in found ? [found.info] : []));
  }

  /** The newest that was read from end to end since the log was opened: the log may be cut up to its position. */
  get newestVerified(): SnapshotInfo | undefined {
    return this.#verified[0];
  }

  /**
   * The records of a snapshot, chunk by chunk; each is checked before it is given out. Throws {@link SnapshotDamaged},
   * and the snapshot is none of the sound ones any more; and `ERR_LOG_IO`, if the system cannot open or read it for
   * another reason than damage. To have read it to the end makes it a verified one.
   */
  *read(info: SnapshotInfo): Generator<SnapshotChunk, undefined> {
    const { files, directory } = this.#options;
    try {
      yield* readSnapshotFile(files, directory, info);
    } catch (error) {
      if (error instanceof SnapshotDamaged) this.#disown(info, new Fault(error.why));
      throw systemCode(error) === undefined ? error : ioError(`read the snapshot ${join(directory, info.name)}`, error);
    }
    this.#verify(info);
  }

  /** Begins a snapshot; one at a time. Syncs the log. Throws `ERR_LOG_IO`. */
  begin(start: SnapshotStart): SnapshotWriter {
    if (this.#writing !== undefined) throw new Error('A snapshot is being written already');
    this.#options.prepare?.();
    const number = (this.#found[0]?.number ?? 0) + 1;
    this.#writing = new SnapshotWriter(this.#options, number, start, {
      published: (info) => this.#published(info),
      ended: () => {
        this.#writing = undefined;
      },
    });
    return this.#writing;
  }

  #published(info: SnapshotInfo): void {
    this.#found.unshift({ name: info.name, number: info.number, info });
    this.#verify(info);
    if (this.#options.isKeepingAll) return;
    const oldest = this.sound.slice(0, SNAPSHOTS_KEPT).at(-1)?.number ?? 0;
    this.#verified = this.#verified.filter((verified) => verified.number >= oldest);
    const { files, directory } = this.#options;
    for (const { name, number } of this.#found.filter((found) => found.number < oldest)) {
      try {
        files.remove(join(directory, name));
        files.syncDirectory(directory);
      } catch (error) {
        // It takes room and does no harm: the next snapshot tries again.
        if (systemCode(error) === undefined) throw error;
        return;
      }
      this.#found = this.#found.filter((found) => found.number !== number);
    }
  }

  // What is kept for the case that the newest cannot be read must not be one that cannot be read.
  #disown({ name, number }: SnapshotInfo, fault: Fault): void {
    this.#found = this.#found.map((found) => (found.number === number ? { name, number, fault } : found));
    this.#verified = this.#verified.filter((verified) => verified.number !== number);
  }

  #verify(info: SnapshotInfo): void {
    this.#verified = [info, ...this.#verified.filter(({ number }) => number !== info.number)];
    this.#verified.sort((a, b) => b.number - a.number);
  }
}

/** A snapshot on its way: add() as often as there is something, then finish() to its end, or abort(). */
export class SnapshotWriter implements SnapshotSink {
  readonly #options: SnapshotOptions;
  readonly #number: number;
  readonly #start: SnapshotStart;
  readonly #startedMs: number;
  readonly #on: { published(info: SnapshotInfo): void; ended(): void };
  readonly #temporary: string;
  readonly #id: bigint;
  readonly #header = Buffer.alloc(CHUNK_HEADER_BYTES);
  #file: OpenFile | undefined;
  #offset = FILE_HEADER_BYTES;
  #syncedOffset = 0;
  #chunkCount = 0;
  #recordCount = 0;
  #payloadBytes = 0;

  /** Made by Snapshots.begin(). */
  constructor(
    options: SnapshotOptions,
    number: number,
    start: SnapshotStart,
    on: { published(info: SnapshotInfo): void; ended(): void },
  ) {
    this.#options = options;
    this.#number = number;
    this.#start = start;
    this.#on = on;
    this.#id = options.random();
    this.#startedMs = options.wallMs();
    this.#temporary = join(options.directory, `${snapshotName(number)}.tmp`);
    this.#attempt(() => {
      this.#file = options.files.open(this.#temporary, 'create');
      const header = startFileHeader(SNAPSHOT_MAGIC, start.formatVersion);
      header.writeBigUInt64LE(options.logId, 16);
      header.writeBigUInt64LE(BigInt(number), 24);
      header.writeBigUInt64LE(start.position, 32);
      header.writeBigUInt64LE(start.recordsBefore, 40);
      header.writeBigUInt64LE(BigInt(this.#startedMs), 48);
      header.writeBigUInt64LE(this.#id, 56);
      header.writeUInt32LE(start.epoch, 64);
      header.writeUInt32LE(start.entriesLost ?? 0, 68);
      this.#file.write([sealFileHeader(header)], 0);
    });
  }

  /** Bytes of records so far. */
  get payloadBytes(): number {
    return this.#payloadBytes;
  }

  get recordCount(): number {
    return this.#recordCount;
  }

  /** Writes whole records. Throws `ERR_LOG_IO`, and the snapshot is discarded. */
  add(records: Uint8Array, recordCount: number): void {
    if (records.length > BATCH_BYTES_MAX || records.length % 8 !== 0) {
      throw outOfRange('records', `whole records of at most ${BATCH_BYTES_MAX} bytes`, records.length);
    }
    this.#write(KIND_RECORDS, records, recordCount);
    this.#chunkCount++;
    this.#recordCount += recordCount;
    this.#payloadBytes += records.length;
  }

  /**
   * Ends the snapshot and gives it its name, in steps: call next() until it is done. `end`: where the log is now synced
   * up to, with everything in it that the walk may have seen. `epochMax`: the highest epoch of the store up to now.
   * Throws `ERR_LOG_IO`, and the snapshot is discarded; those before it are still there.
   */
  *finish(end: Position, epochMax: number): Generator<void, SnapshotInfo> {
    const { files, directory, logId } = this.#options;
    const durable = this.#options.durable?.() ?? end;
    if (end < this.#start.position || end > durable) {
      // Recovery would take a log that a power cut has cut for a damaged one.
      throw outOfRange('end', `from ${this.#start.position} to ${durable}, what is synced`, end);
    }
    const finishedMs = this.#options.wallMs();
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.writeBigUInt64LE(BigInt(this.#chunkCount), 0);
    footer.writeBigUInt64LE(BigInt(this.#recordCount), 8);
    footer.writeBigUInt64LE(BigInt(this.#payloadBytes), 16);
    footer.writeBigUInt64LE(end, 24);
    footer.writeBigUInt64LE(BigInt(finishedMs), 32);
    footer.writeUInt32LE(epochMax, 40);
    this.#write(KIND_FOOTER, footer, 0);
    this.#attempt(() => this.#file?.sync());
    yield;

    const info: SnapshotInfo = {
      ...this.#start,
      formatVersion: this.#start.formatVersion ?? FORMAT_VERSION,
      entriesLost: this.#start.entriesLost ?? 0,
      number: this.#number,
      name: snapshotName(this.#number),
      logId,
      end,
      epochMax,
      startedMs: this.#startedMs,
      finishedMs,
      recordCount: this.#recordCount,
      chunkCount: this.#chunkCount,
      payloadBytes: this.#payloadBytes,
      fileBytes: this.#offset,
    };
    yield* this.#readBack(info);
    this.#attempt(() => {
      this.#file?.close();
      files.rename(this.#temporary, join(directory, info.name));
      files.syncDirectory(directory);
    });
    this.#file = undefined;
    this.#on.ended();
    this.#on.published(info);
    return info;
  }

  /** Gives the snapshot up. Again, or after finish(): nothing happens. */
  abort(): void {
    if (this.#file === undefined) return;
    this.#file.close();
    this.#file = undefined;
    this.#on.ended();
    try {
      this.#options.files.remove(this.#temporary);
    } catch (error) {
      // It will be removed when the log is opened next.
      if (systemCode(error) === undefined) throw error;
    }
  }

  *#readBack(info: SnapshotInfo): Generator<void, void> {
    const chunks = readChunks(this.#file!, info);
    for (;;) {
      // What is read is not what was written: the disk's fault, as much as a failed call.
      const { done } = this.#attempt(() => chunks.next());
      if (done) return;
      yield;
    }
  }

  #write(kind: number, payload: Uint8Array, recordCount: number): void {
    const header = this.#header;
    header.write('CK', 0, 'latin1');
    header[2] = kind;
    header.writeUInt32LE(payload.length, 4);
    header.writeUInt32LE(this.#chunkCount, 8);
    header.writeUInt32LE(recordCount, 12);
    header.writeBigUInt64LE(this.#id, 16);
    header.writeUInt32LE(crc32(payload), 24);
    header.writeUInt32LE(crc32(header.subarray(0, CHUNK_HEADER_BYTES - 4)), CHUNK_HEADER_BYTES - 4);
    this.#attempt(() => {
      const file = this.#file;
      if (file === undefined) throw new Error('The snapshot was discarded');
      file.write([header, payload], this.#offset);
      this.#offset += CHUNK_HEADER_BYTES + payload.length;
      if (this.#offset - this.#syncedOffset < SYNC_STEP_BYTES) return;
      file.sync();
      this.#syncedOffset = this.#offset;
    });
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      this.abort();
      this.#on.ended();
      if (systemCode(error) === undefined && !(error instanceof SnapshotDamaged)) throw error;
      throw ioError(`write the snapshot ${this.#temporary}`, error);
    }
  }
}

/** The files that have the name of a snapshot, newest first, by what their headers and footers say. */
export function listSnapshots(files: Files, directory: string): SnapshotFile[] {
  return snapshotNumbers(files.list(directory))
    .reverse()
    .flatMap((number) => {
      const name = snapshotName(number);
      const file = openIfThere(files, join(directory, name));
      // Replaced by a newer one since the directory was listed.
      if (file === undefined) return [];
      try {
        const info = readInfoOrFault(file, number);
        return [info instanceof Fault ? { name, number, fault: info } : { name, number, info }];
      } finally {
        file.close();
      }
    });
}

// One that cannot be read is as good as damaged: there may be another, and all of the log.
function readInfoOrFault(file: OpenFile, number: number): SnapshotInfo | Fault {
  try {
    return readInfo(file, number);
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    return new Fault(`it cannot be read: ${systemCode(error)}`);
  }
}

function readInfo(file: OpenFile, number: number): SnapshotInfo | Fault {
  const bytes = Buffer.alloc(FILE_HEADER_BYTES);
  const header = bytes.subarray(0, file.read(bytes, 0));
  const fault = checkFileHeader(header, SNAPSHOT_MAGIC);
  if (fault !== undefined) return new Fault(`the header ${fault.why}`, fault.newerVersion);
  if (Number(header.readBigUInt64LE(24)) !== number) {
    return new Fault(`this is the file of snapshot ${header.readBigUInt64LE(24)}`);
  }
  const fileBytes = file.size();
  const footerOffset = fileBytes - CHUNK_HEADER_BYTES - FOOTER_BYTES;
  const chunk =
    footerOffset < FILE_HEADER_BYTES ? undefined : readChunk(file, footerOffset, header.readBigUInt64LE(56));
  if (chunk === undefined || typeof chunk === 'string') return new Fault(`the footer ${chunk ?? 'is missing'}`);
  if (chunk.kind !== KIND_FOOTER || chunk.payload.length !== FOOTER_BYTES) return new Fault('the footer is missing');
  const footer = chunk.payload;
  return {
    number,
    name: snapshotName(number),
    logId: header.readBigUInt64LE(16),
    ...startOf(header),
    startedMs: Number(header.readBigUInt64LE(48)),
    chunkCount: Number(footer.readBigUInt64LE(0)),
    recordCount: Number(footer.readBigUInt64LE(8)),
    payloadBytes: Number(footer.readBigUInt64LE(16)),
    end: footer.readBigUInt64LE(24),
    finishedMs: Number(footer.readBigUInt64LE(32)),
    epochMax: footer.readUInt32LE(40),
    fileBytes,
  };
}

/** As `Snapshots.read()`. */
export function* readSnapshotFile(
  files: Files,
  directory: string,
  info: SnapshotInfo,
): Generator<SnapshotChunk, undefined> {
  let file: OpenFile | undefined;
  try {
    file = files.open(join(directory, info.name), 'read');
    yield* readChunks(file, info);
  } catch (error) {
    throw isUnreadable(error) ? new SnapshotDamaged(info.name, `it cannot be read: ${systemCode(error)}`) : error;
  } finally {
    file?.close();
  }
}

/** What can be read of a snapshot that is damaged. */
export interface Salvage {
  readonly logId: bigint;
  readonly start: SnapshotStart;
  /** Records that are in its sound chunks, and that it had; undefined: that cannot be told. */
  readonly recordCount: number;
  readonly recordCountWhole: number | undefined;
  /** The chunks that are sound, in order. */
  chunks(): Generator<SnapshotChunk, undefined>;
}

/** Undefined: the header is not sound, and the position is unknown from which the log continues the records. */
export function salvageSnapshot(files: Files, directory: string, name: string): Salvage | undefined {
  const header = Buffer.alloc(FILE_HEADER_BYTES);
  const file = files.open(join(directory, name), 'read');
  let fileBytes: number;
  try {
    fileBytes = file.size();
    file.read(header, 0);
  } finally {
    file.close();
  }
  if (checkFileHeader(header, SNAPSHOT_MAGIC) !== undefined) return undefined;
  const id = header.readBigUInt64LE(56);
  const withFile = function* (): Generator<{ chunk: Chunk; offset: number }, undefined> {
    const file = files.open(join(directory, name), 'read');
    try {
      for (let offset: number | undefined = FILE_HEADER_BYTES; offset !== undefined; ) {
        const chunk: Chunk | string = readChunk(file, offset, id);
        if (typeof chunk === 'string') {
          offset = nextChunk(file, offset + 8, id);
          continue;
        }
        yield { chunk, offset };
        offset += CHUNK_HEADER_BYTES + chunk.payload.length;
      }
    } finally {
      file.close();
    }
  };
  let recordCount = 0;
  let recordCountWhole: number | undefined;
  for (const { chunk } of withFile()) {
    if (chunk.kind === KIND_RECORDS) recordCount += chunk.recordCount;
    else if (chunk.payload.length === FOOTER_BYTES) recordCountWhole = Number(chunk.payload.readBigUInt64LE(8));
  }
  // Without its footer a snapshot is whole if all that lies before the footer's place is.
  if (recordCountWhole === undefined && isUpToFooter(withFile(), fileBytes)) recordCountWhole = recordCount;
  return {
    logId: header.readBigUInt64LE(16),
    start: startOf(header),
    recordCount,
    recordCountWhole,
    *chunks(): Generator<SnapshotChunk, undefined> {
      for (const { chunk } of withFile()) {
        if (chunk.kind === KIND_RECORDS) yield { records: chunk.payload, recordCount: chunk.recordCount };
      }
    },
  };
}

function isUpToFooter(chunks: Iterable<{ chunk: Chunk; offset: number }>, fileBytes: number): boolean {
  let end = FILE_HEADER_BYTES;
  for (const { chunk, offset } of chunks) {
    if (offset !== end) return false;
    end = offset + CHUNK_HEADER_BYTES + chunk.payload.length;
  }
  return end === fileBytes - CHUNK_HEADER_BYTES - FOOTER_BYTES;
}

/** How many records the footer of a snapshot says that it has, whatever the rest is; undefined: there is no footer. */
export function footerRecordCount(files: Files, directory: string, name: string): number | undefined {
  const file = files.open(join(directory, name), 'read');
  try {
    const chunk = readChunk(file, Math.max(0, file.size() - CHUNK_HEADER_BYTES - FOOTER_BYTES), undefined);
    if (typeof chunk === 'string' || chunk.kind !== KIND_FOOTER || chunk.payload.length !== FOOTER_BYTES)
      return undefined;
    return Number(chunk.payload.readBigUInt64LE(8));
  } finally {
    file.close();
  }
}

const CHUNK_MAGIC: Buffer = Buffer.from('CK', 'latin1');

/** Where the next sound chunk begins at an offset or behind it. */
function nextChunk(file: OpenFile, offset: number, id: bigint): number | undefined {
  const window = Buffer.allocUnsafeSlow(256 * 1024);
  let start = offset;
  for (;;) {
    const bytes = window.subarray(0, file.read(window, start));
    if (bytes.length < CHUNK_HEADER_BYTES) return undefined;
    for (let at = bytes.indexOf(CHUNK_MAGIC); at !== -1; at = bytes.indexOf(CHUNK_MAGIC, at + 1)) {
      if ((start + at) % 8 === 0 && typeof readChunk(file, start + at, id) !== 'string') return start + at;
    }
    // The last bytes may be the beginning of a chunk's header.
    start += bytes.length - CHUNK_HEADER_BYTES + 1;
  }
}

function startOf(header: Buffer): SnapshotStart & { readonly formatVersion: number } {
  return {
    position: header.readBigUInt64LE(32),
    recordsBefore: header.readBigUInt64LE(40),
    epoch: header.readUInt32LE(64),
    formatVersion: formatVersionOf(header),
    entriesLost: header.readUInt32LE(68),
  };
}

/** All chunks of records in a file, compared with what its header and footer say. */
function* readChunks(file: OpenFile, info: SnapshotInfo): Generator<SnapshotChunk, undefined> {
  const again = readInfo(file, info.number);
  if (again instanceof Fault) throw new SnapshotDamaged(info.name, again.why);
  const idBytes = Buffer.alloc(8);
  file.read(idBytes, 56);
  const id = idBytes.readBigUInt64LE(0);
  let offset = FILE_HEADER_BYTES;
  let recordCount = 0;
  for (let index = 0; index < again.chunkCount; index++) {
    const chunk = readChunk(file, offset, id);
    if (typeof chunk === 'string') throw new SnapshotDamaged(info.name, `the chunk at offset ${offset} ${chunk}`);
    if (chunk.kind !== KIND_RECORDS || chunk.index !== index) {
      throw new SnapshotDamaged(info.name, `the chunk at offset ${offset} is not number ${index} of the records`);
    }
    yield { records: chunk.payload, recordCount: chunk.recordCount };
    offset += CHUNK_HEADER_BYTES + chunk.payload.length;
    recordCount += chunk.recordCount;
  }
  if (offset !== again.fileBytes - CHUNK_HEADER_BYTES - FOOTER_BYTES || recordCount !== again.recordCount) {
    throw new SnapshotDamaged(info.name, 'the footer does not fit the chunks');
  }
}

interface Chunk {
  readonly kind: number;
  readonly index: number;
  readonly recordCount: number;
  readonly payload: Buffer;
}

/** The chunk at an offset, or what is wrong with it. `id`: of the snapshot, if it is known. */
function readChunk(file: OpenFile, offset: number, id: bigint | undefined): Chunk | string {
  const header = Buffer.alloc(CHUNK_HEADER_BYTES);
  if (file.read(header, offset) < CHUNK_HEADER_BYTES) return 'is cut off';
  const isSound = crc32(header.subarray(0, CHUNK_HEADER_BYTES - 4)) === header.readUInt32LE(CHUNK_HEADER_BYTES - 4);
  if (header.toString('latin1', 0, 2) !== 'CK' || !isSound) return 'has no sound header';
  if (id !== undefined && header.readBigUInt64LE(16) !== id) return 'belongs to another snapshot';
  const bytes = header.readUInt32LE(4);
  if (bytes > BATCH_BYTES_MAX) return `says that it is ${bytes} bytes long`;
  const payload = Buffer.allocUnsafeSlow(bytes);
  if (file.read(payload, offset + CHUNK_HEADER_BYTES) < bytes) return 'is cut off';
  if (crc32(payload) !== header.readUInt32LE(24)) return 'has the wrong checksum over its records';
  return { kind: header[2]!, index: header.readUInt32LE(8), recordCount: header.readUInt32LE(12), payload };
}
