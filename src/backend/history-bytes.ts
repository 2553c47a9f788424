/**
 * A row of history as the key and the value of a store that has no columns. The rows of a key follow one another in the
 * order of its writes; a row of another key that stands between them has a longer key.
 *
 *     key:    row key (row-key.ts) | 0 | version, 8 bytes, big-endian
 *
 *     value:  0        1      2       4       8            16         24               28     32         ..
 *             | layout | kind | codec | flags | expiry, ms | time, ms | long key bytes | zero | long key | value
 *
 * Numbers of the value are little-endian. The time is when the log took the write. A delete has neither codec, flags,
 * expiry nor value, and a touch has the expiry only. The long key is there only if the row key is not the key itself.
 */
import type { HistoryRow } from './backend.ts';
import { isLongKey, rowKeyOf } from './row-key.ts';

const LAYOUT = 1;
const HEADER_BYTES = 32;
const KINDS: Readonly<Record<HistoryRow['kind'], number>> = { set: 1, delete: 2, touch: 3 };

export function historyKeyOf({ key, version }: HistoryRow): Buffer {
  const rowKey = rowKeyOf(key);
  const bytes = Buffer.alloc(rowKey.length + 9);
  rowKey.copy(bytes);
  bytes.writeBigUInt64BE(version, rowKey.length + 1);
  return bytes;
}

export function encodeHistory(row: HistoryRow): Buffer {
  const { kind, key, loggedWallMs } = row;
  const longKey = isLongKey(key) ? key : Buffer.alloc(0);
  const value = kind === 'set' ? row.value : Buffer.alloc(0);
  const header = Buffer.alloc(HEADER_BYTES);
  header[0] = LAYOUT;
  header[1] = KINDS[kind];
  if (kind === 'set') {
    header[2] = row.codec;
    header.writeUInt32LE(row.clientFlags, 4);
  }
  if (kind !== 'delete') header.writeBigInt64LE(BigInt(row.expiresWallMs), 8);
  header.writeBigInt64LE(BigInt(loggedWallMs), 16);
  header.writeUInt32LE(longKey.length, 24);
  return Buffer.concat([header, longKey, value]);
}
