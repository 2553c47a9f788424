/**
 * How a key stands in an index. B-trees of databases bound what they index (PostgreSQL 2,704 bytes, LMDB 1,978, InnoDB
 * 3,072), and keys may be longer. So a longer key stands as its beginning and its digest, and the whole key in another
 * column.
 *
 *     up to 1,024 bytes:  the key
 *     longer:             its first 1,024 bytes | SHA-256 of the key, 32 bytes
 *
 * The lengths tell the two apart: no key is the row key of another.
 */
import { createHash } from 'node:crypto';

/** The longest key that is its own row key, in bytes. */
export const ROW_KEY_BYTES_MAX = 1024;

/** The key as it stands in an index: the key itself, not a copy, unless it is long. */
export function rowKeyOf(key: Buffer): Buffer {
  if (key.length <= ROW_KEY_BYTES_MAX) return key;
  return Buffer.concat([key.subarray(0, ROW_KEY_BYTES_MAX), createHash('sha256').update(key).digest()]);
}

/** Whether the row of this key keeps the whole key in another column. */
export function isLongKey(key: Buffer): boolean {
  return key.length > ROW_KEY_BYTES_MAX;
}
