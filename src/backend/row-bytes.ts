/**
 * A row as the bytes of one value, for stores that have no columns. Numbers are little-endian.
 *
 *     0        1       2      4              8            16        24               28     32          ..
 *     | layout | codec | zero | client flags | expiry, ms | version | long key bytes | zero | long key  | value
 *
 * The long key is there only if the row's key is not the key itself (row-key.ts).
 */
import type { Row, RowValue } from './backend.ts';
import { isLongKey } from './row-key.ts';

const LAYOUT = 1;
const HEADER_BYTES = 32;

export function encodeRow({ key, value, codec, clientFlags, expiresWallMs, version }: Row): Buffer {
  const longBytes = isLongKey(key) ? key.length : 0;
  const bytes = Buffer.alloc(HEADER_BYTES + longBytes + value.length);
  bytes[0] = LAYOUT;
  bytes[1] = codec;
  bytes.writeUInt32LE(clientFlags, 4);
  bytes.writeBigInt64LE(BigInt(expiresWallMs), 8);
  bytes.writeBigUInt64LE(version, 16);
  bytes.writeUInt32LE(longBytes, 24);
  if (longBytes > 0) key.copy(bytes, HEADER_BYTES);
  value.copy(bytes, HEADER_BYTES + longBytes);
  return bytes;
}

/** Views of the bytes, not copies. Throws if a newer version wrote them. */
export function decodeRow(bytes: Buffer): RowValue {
  if (bytes[0] !== LAYOUT) throw new Error(`A row has layout ${bytes[0]}; this version knows ${LAYOUT}`);
  return {
    value: bytes.subarray(HEADER_BYTES + bytes.readUInt32LE(24)),
    codec: bytes[1]!,
    clientFlags: bytes.readUInt32LE(4),
    expiresWallMs: expiryOf(bytes),
    version: versionOf(bytes),
  };
}

/** The key of a row that stands under a row key. */
export function keyOf(rowKey: Buffer, bytes: Buffer): Buffer {
  const longBytes = bytes.readUInt32LE(24);
  return longBytes === 0 ? rowKey : bytes.subarray(HEADER_BYTES, HEADER_BYTES + longBytes);
}

export function expiryOf(bytes: Buffer): number {
  return Number(bytes.readBigInt64LE(8));
}

export function versionOf(bytes: Buffer): bigint {
  return bytes.readBigUInt64LE(16);
}

/** The same row with another expiry and version: changes the bytes. */
export function retime(bytes: Buffer, expiresWallMs: number, version: bigint): void {
  bytes.writeBigInt64LE(BigInt(expiresWallMs), 8);
  bytes.writeBigUInt64LE(version, 16);
}
