/**
 * The record as TypeScript reads it: native/store/record.h draws it, C++ alone writes it to logs, snapshots and dumps,
 * and this file decodes it for their readers. Both decoders refuse the same bytes, field for field. Rows of a database
 * become records here, for a cache that begins with them.
 *
 * Nothing is copied: a key or a value is a view into the bytes that it was decoded from, and lives as long as they do.
 */
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from '../limits.ts';

/** What a record says of its key. The numbers are on disk. */
export const RecordKind = {
  /** The key now has this value, client flags, expiry and version. */
  set: 1,
  /** The key is gone since this version. */
  delete: 2,
  /** The key has this expiry since this version; its value is the one that it had. */
  touch: 3,
  /** Every entry of a lower version is gone. No key. */
  clear: 4,
  /**
   * A clear is to come at the time that stands for the expiry; 0n: none is. No key. What holds is the last of these and
   * of `clear`, which says that none is to come any more.
   */
  clearAt: 5,
} as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

/** Bits that say which optional fields a record has. They are on disk. */
export const RecordField = {
  /** When the entry becomes stale. Of `set` and `touch`; without it, it is fresh until it expires. */
  freshness: 1,
  /** What was added to the number that was there, modulo 2^64; 0 also of any value that is stored again. Of `set`. */
  delta: 2,
  /** Of which batch this is a part. Of `set`, `delete` and `touch`. */
  batch: 4,
} as const;

/** Bytes before the optional fields and the key. */
export const RECORD_HEADER_BYTES = 40;
const FIELD_BYTES: ReadonlyMap<number, number> = new Map([
  [RecordField.freshness, 8],
  [RecordField.delta, 8],
  [RecordField.batch, 16],
]);
const FIELDS_KNOWN = RecordField.freshness | RecordField.delta | RecordField.batch;

/** The parts of a batch are applied together or not at all: they lie in one group of the log. */
export interface BatchPart {
  /** The same in all parts; no other batch in the log has it. */
  readonly id: bigint;
  readonly count: number;
  /** Which of them this is, from 0. */
  readonly index: number;
}

/** Bits of a version below its epoch. */
const COUNTER_BITS = 32n;

const CODEC_MASK = 0x0f;
const HAS_CLIENT_FLAGS = 0x10;

/** Bytes of the record of a key and a value of these sizes, with these optional fields. */
export function recordBytes(keyBytes: number, valueBytes: number, fields = 0): number {
  return Math.ceil((RECORD_HEADER_BYTES + fieldBytes(fields) + keyBytes + valueBytes) / 8) * 8;
}

function fieldBytes(fields: number): number {
  let bytes = 0;
  for (const [bit, size] of FIELD_BYTES) if ((fields & bit) !== 0) bytes += size;
  return bytes;
}

/** An entry that comes from elsewhere. `expiresWallMs`: 0: never. */
export interface SetParts {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly codec: number;
  readonly clientFlags: number;
  readonly expiresWallMs: number;
}

/** Writes the record of a set at a place; returns where the next one goes. REQUIRES: recordBytes() have room there. */
export function writeSet(target: Buffer, at: number, parts: SetParts, version: bigint): number {
  const { key, value, codec, clientFlags, expiresWallMs } = parts;
  const bytes = recordBytes(key.length, value.length);
  target.fill(0, at, at + RECORD_HEADER_BYTES);
  target.writeUInt32LE(bytes, at);
  target[at + 4] = RecordKind.set;
  target[at + 5] = codec | (clientFlags === 0 ? 0 : HAS_CLIENT_FLAGS);
  target.writeBigUInt64LE(version, at + 8);
  target.writeBigInt64LE(BigInt(expiresWallMs), at + 16);
  target.writeUInt32LE(clientFlags, at + 24);
  target.writeUInt32LE(key.length, at + 28);
  target.writeUInt32LE(value.length, at + 32);
  key.copy(target, at + RECORD_HEADER_BYTES);
  value.copy(target, at + RECORD_HEADER_BYTES + key.length);
  target.fill(0, at + RECORD_HEADER_BYTES + key.length + value.length, at + bytes);
  return at + bytes;
}

/** A version of an epoch. */
export function versionOf(epoch: number, counter: number): bigint {
  return (BigInt(epoch) << COUNTER_BITS) + BigInt(counter);
}

/** The epoch that a version was given in. */
export function epochOf(version: bigint): number {
  return Number(version >> COUNTER_BITS);
}

/** `unknown-field`: a later version wrote an optional field that is not known here, nor its size. */
export type DecodeStatus = 'ok' | 'needs-more' | 'malformed' | 'unknown-field';

/**
 * Goes through records that lie one behind the other:
 *
 *     const reader = new RecordReader(bytes);
 *     while (reader.next()) use(reader.key, reader.value);
 *     if (reader.status !== 'ok') ...   // they do not end where a record ends
 *
 * One object for any number of records: what it says is of the record that `next()` found last, and is decoded when it
 * is asked for.
 */
export class RecordReader {
  readonly #bytes: Buffer;
  #start = 0;
  #end = 0;
  #status: DecodeStatus = 'ok';

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /**
   * Goes to the next record. False: there is none, because the bytes end here, or for the reason that `status` says.
   */
  next(): boolean {
    if (this.#status !== 'ok') return false;
    if (this.#end === this.#bytes.length) return false;
    this.#status = check(this.#bytes, this.#end);
    if (this.#status !== 'ok') return false;
    this.#start = this.#end;
    this.#end += this.#bytes.readUInt32LE(this.#start);
    return true;
  }

  /** `ok`: what `next()` has looked at so far are well-formed records. */
  get status(): DecodeStatus {
    return this.#status;
  }

  /** Why there is no record at `end`, in words; undefined: what was looked at are well-formed records. */
  get fault(): string | undefined {
    switch (this.#status) {
      case 'ok':
        return undefined;
      case 'unknown-field': {
        const unknown = this.#bytes.readUInt16LE(this.#end + 6) & ~FIELDS_KNOWN;
        return `has the optional field ${Math.log2(unknown & -unknown)}, which this version of cairn-cache does not know`;
      }
      default:
        return 'is not well-formed';
    }
  }

  /** Where the record that `next()` found last begins. */
  get offset(): number {
    return this.#start;
  }

  /** Where it ends, and the next one begins, or what is no record. */
  get end(): number {
    return this.#end;
  }

  get kind(): RecordKind {
    return this.#bytes[this.#start + 4] as RecordKind;
  }

  /** How the value is encoded; request/codec.ts has the names. */
  get codec(): number {
    return this.#bytes[this.#start + 5]! & CODEC_MASK;
  }

  get version(): bigint {
    return this.#bytes.readBigUInt64LE(this.#start + 8);
  }

  /** Unix milliseconds; 0n: it never expires. Of `clearAt`: when. */
  get expiresWallMs(): bigint {
    return this.#bytes.readBigInt64LE(this.#start + 16);
  }

  get clientFlags(): number {
    return this.#bytes.readUInt32LE(this.#start + 24);
  }

  /** Unix milliseconds from which on the entry is stale; undefined: it is fresh until it expires. */
  get freshUntilWallMs(): bigint | undefined {
    const at = this.#fieldAt(RecordField.freshness);
    return at === undefined ? undefined : this.#bytes.readBigInt64LE(at);
  }

  /**
   * What was added to the number that was there, modulo 2^64; 0n also of any value that is stored again as it was;
   * undefined: it is another one.
   */
  get delta(): bigint | undefined {
    const at = this.#fieldAt(RecordField.delta);
    return at === undefined ? undefined : this.#bytes.readBigInt64LE(at);
  }

  /** Of which batch this is a part; undefined: of none. */
  get batch(): BatchPart | undefined {
    const at = this.#fieldAt(RecordField.batch);
    if (at === undefined) return undefined;
    return {
      id: this.#bytes.readBigUInt64LE(at),
      count: this.#bytes.readUInt32LE(at + 8),
      index: this.#bytes.readUInt32LE(at + 12),
    };
  }

  get #fields(): number {
    return this.#bytes.readUInt16LE(this.#start + 6);
  }

  #fieldAt(bit: number): number | undefined {
    const fields = this.#fields;
    if ((fields & bit) === 0) return undefined;
    return this.#start + RECORD_HEADER_BYTES + fieldBytes(fields & (bit - 1));
  }

  get #keyAt(): number {
    return this.#start + RECORD_HEADER_BYTES + fieldBytes(this.#fields);
  }

  /** A view of the key; empty for `clear` and `clearAt`. */
  get key(): Buffer {
    const at = this.#keyAt;
    return this.#bytes.subarray(at, at + this.#bytes.readUInt32LE(this.#start + 28));
  }

  /** A view of the value; empty unless the record is a `set`. */
  get value(): Buffer {
    const at = this.#keyAt + this.#bytes.readUInt32LE(this.#start + 28);
    return this.#bytes.subarray(at, at + this.#bytes.readUInt32LE(this.#start + 32));
  }

  /** All of the record, padding included. */
  get record(): Buffer {
    return this.#bytes.subarray(this.#start, this.#end);
  }
}

/** Whether some of these records are parts of atomic batches. Quick: it looks at sizes and fields alone. */
export function haveBatches(records: Buffer): boolean {
  for (let start = 0; start + RECORD_HEADER_BYTES <= records.length; ) {
    if ((records[start + 6]! & RecordField.batch) !== 0) return true;
    // Of bytes that are no records, nothing is known.
    start += Math.max(RECORD_HEADER_BYTES, records.readUInt32LE(start));
  }
  return false;
}

/**
 * The id of an atomic batch that these records have some parts of and not all, each once; undefined: there is none.
 */
export function brokenBatch(records: Uint8Array): bigint | undefined {
  const batches = new Map<bigint, { count: number; seen: Set<number> }>();
  const reader = new RecordReader(records);
  while (reader.next()) {
    const part = reader.batch;
    if (part === undefined) continue;
    const { count, seen } = batches.get(part.id) ?? { count: part.count, seen: new Set<number>() };
    if (count !== part.count || seen.has(part.index)) return part.id;
    batches.set(part.id, { count, seen: seen.add(part.index) });
  }
  for (const [id, { count, seen }] of batches) if (seen.size !== count) return id;
  return undefined;
}

/** Why these are not whole records, of the first that is none: `is not well-formed`; undefined: they are. */
export function recordsFault(records: Uint8Array): string | undefined {
  const reader = new RecordReader(records);
  while (reader.next());
  return reader.fault;
}

/**
 * Says whether a whole record begins at `start`. It says nothing about a bit that flipped inside key or value:
 * checksums are the business of what carries records.
 */
function check(bytes: Buffer, start: number): DecodeStatus {
  const rest = bytes.length - start;
  if (rest < 4) return 'needs-more';
  const size = bytes.readUInt32LE(start);
  // Refuse a size that no record has, so that a reader does not wait for that many bytes.
  if (rest < RECORD_HEADER_BYTES) return isPossibleSize(size) ? 'needs-more' : 'malformed';
  const kind = bytes[start + 4]!;
  const codec = bytes[start + 5]!;
  const keyBytes = bytes.readUInt32LE(start + 28);
  const valueBytes = bytes.readUInt32LE(start + 32);
  if (!partsFitKind(kind, keyBytes, valueBytes)) return 'malformed';
  if ((codec & ~(CODEC_MASK | HAS_CLIENT_FLAGS)) !== 0) return 'malformed';
  if ((codec & HAS_CLIENT_FLAGS) !== 0 && bytes.readUInt32LE(start + 24) === 0) return 'malformed';
  if (bytes.readUInt32LE(start + 36) !== 0) return 'malformed';
  const fields = bytes.readUInt16LE(start + 6);
  if ((fields & ~FIELDS_KNOWN) !== 0) return isPossibleSize(size) ? 'unknown-field' : 'malformed';
  if ((fields & ~fieldsOfKind(kind)) !== 0) return 'malformed';
  if (size !== recordBytes(keyBytes, valueBytes, fields)) return 'malformed';
  if (rest < size) return 'needs-more';
  const fieldsAt = start + RECORD_HEADER_BYTES;
  const keyAt = fieldsAt + fieldBytes(fields);
  for (let i = keyAt + keyBytes + valueBytes; i < start + size; i++) {
    if (bytes[i] !== 0) return 'malformed';
  }
  if ((fields & RecordField.freshness) !== 0 && bytes.readBigInt64LE(fieldsAt) <= 0n) return 'malformed';
  if ((fields & RecordField.batch) !== 0 && bytes.readUInt32LE(keyAt - 4) >= bytes.readUInt32LE(keyAt - 8)) {
    return 'malformed';
  }
  return 'ok';
}

/** Of a record with fields that are not known here, too. */
function isPossibleSize(size: number): boolean {
  return (
    size >= RECORD_HEADER_BYTES && size % 8 === 0 && size <= recordBytes(KEY_BYTES_MAX, VALUE_BYTES_MAX, FIELDS_KNOWN)
  );
}

function fieldsOfKind(kind: number): number {
  switch (kind) {
    case RecordKind.set:
      return RecordField.freshness | RecordField.delta | RecordField.batch;
    case RecordKind.touch:
      return RecordField.freshness | RecordField.batch;
    case RecordKind.delete:
      return RecordField.batch;
    default:
      return 0;
  }
}

function partsFitKind(kind: number, keyBytes: number, valueBytes: number): boolean {
  switch (kind) {
    case RecordKind.set:
      return keyBytes >= 1 && keyBytes <= KEY_BYTES_MAX && valueBytes <= VALUE_BYTES_MAX;
    case RecordKind.delete:
    case RecordKind.touch:
      return keyBytes >= 1 && keyBytes <= KEY_BYTES_MAX && valueBytes === 0;
    case RecordKind.clear:
    case RecordKind.clearAt:
      return keyBytes === 0 && valueBytes === 0;
    default:
      return false;
  }
}
