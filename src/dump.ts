/**
 * The dump format: what `dump()` gives and `load()` takes. A header, then blocks of whole records; each block carries
 * its size and a checksum, so that a damaged dump is refused before anything of the damaged block is loaded.
 *
 *     header   0  8  "CAIRNDMP"
 *              8  4  version, 1
 *             12  4  0
 *     block    0  4  bytes of records
 *              4  4  CRC-32 of them (that of zlib)
 *              8     records: native/store/record.h
 *
 * Numbers are little-endian. Expiry is wall-clock time: entries that have expired meanwhile are not loaded.
 */
import { types } from 'node:util';
import { crc32 } from 'node:zlib';
import { CairnError } from './errors.ts';
import { DUMP_BLOCK_BYTES, KEY_BYTES_MAX, VALUE_BYTES_MAX } from './limits.ts';

const MAGIC = Buffer.from('CAIRNDMP', 'latin1');
const VERSION = 1;
const HEADER_BYTES = 16;
export const BLOCK_HEADER_BYTES = 8;
// One entry of the largest size, or a block of small ones. A block that claims to be larger is damaged; without this
// limit up to 4 GiB of it would be collected before its checksum is tested.
const BLOCK_BYTES_MAX = DUMP_BLOCK_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX;

/** The header of a dump. */
export function dumpHeader(): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(VERSION, 8);
  return header;
}

/** Fills in the header of a block, whose records are behind it. */
export function sealBlock(block: Buffer): void {
  const records = block.subarray(BLOCK_HEADER_BYTES);
  block.writeUInt32LE(records.length, 0);
  block.writeUInt32LE(crc32(records), 4);
}

/** Reads a dump from pieces of any size. */
export class DumpReader {
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #headerSeen = false;

  /** Takes the next piece and yields the records of each block that it completes. */
  *push(piece: Uint8Array): Generator<Buffer> {
    // Another thread may write to shared memory: bytes with the right checksum must not change before they are loaded.
    this.#pieces.push(types.isSharedArrayBuffer(piece.buffer) ? Buffer.from(piece) : piece);
    this.#bytes += piece.length;
    if (!this.#headerSeen) {
      if (this.#bytes < HEADER_BYTES) return;
      const header = this.#take(HEADER_BYTES);
      if (!header.subarray(0, 8).equals(MAGIC)) throw malformed('it does not begin with "CAIRNDMP"');
      const version = header.readUInt32LE(8);
      if (version !== VERSION) throw malformed(`its version is ${version}, expected ${VERSION}`);
      this.#headerSeen = true;
    }
    while (this.#bytes >= BLOCK_HEADER_BYTES) {
      const bytes = this.#peek(BLOCK_HEADER_BYTES).readUInt32LE(0);
      if (bytes > BLOCK_BYTES_MAX) throw malformed(`a block says that it has ${bytes} bytes`);
      if (this.#bytes < BLOCK_HEADER_BYTES + bytes) return;
      const block = this.#take(BLOCK_HEADER_BYTES + bytes);
      const records = block.subarray(BLOCK_HEADER_BYTES);
      if (crc32(records) !== block.readUInt32LE(4)) throw malformed('a block has the wrong checksum');
      yield records;
    }
  }

  /** Throws unless the pieces ended where a block ends. */
  end(): void {
    if (!this.#headerSeen) throw malformed('it is shorter than its header');
    if (this.#bytes !== 0) throw malformed('it ends within a block');
  }

  #peek(bytes: number): Buffer {
    const first = this.#pieces[0];
    if (first !== undefined && first.length >= bytes) return asBuffer(first).subarray(0, bytes);
    const whole = Buffer.concat(this.#pieces, this.#bytes);
    this.#pieces = [whole];
    return whole.subarray(0, bytes);
  }

  #take(bytes: number): Buffer {
    const taken = this.#peek(bytes);
    const first = this.#pieces[0]!;
    if (first.length === bytes) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(bytes);
    this.#bytes -= bytes;
    return taken;
  }
}

/** The error for bytes that are not a dump. */
export function malformed(why: string): CairnError {
  return new CairnError('ERR_DUMP_MALFORMED', `The dump cannot be loaded: ${why}`);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
