/**
 * The routing hash: selects the lane of a key, and in C++ its shard. XXH32 with seed 0 over the bytes of the key (Yann
 * Collet, "xxHash fast digest algorithm", doc/xxhash_spec.md, revision 0.2.0). The same function is
 * native/base/hash.cc's RoutingHash; test/vectors/routing-hash.json tests both.
 */
const PRIME_1 = 0x9e3779b1;
const PRIME_2 = 0x85ebca77;
const PRIME_3 = 0xc2b2ae3d;
const PRIME_4 = 0x27d4eb2f;
const PRIME_5 = 0x165667b1;

// The bytes of the scratch, into which short keys are encoded.
const SCRATCH_BYTES = 1024;
const scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

function round(lane: number, word: number): number {
  return Math.imul(rotate((lane + Math.imul(word, PRIME_2)) | 0, 13), PRIME_1);
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

/** The routing hash of the first `end` bytes, as an unsigned 32-bit number. */
export function routingHashOfBytes(bytes: Uint8Array, end: number = bytes.length): number {
  let at = 0;
  let hash: number;
  if (end >= 16) {
    let lane1 = (PRIME_1 + PRIME_2) | 0;
    let lane2 = PRIME_2 | 0;
    let lane3 = 0;
    let lane4 = -PRIME_1 | 0;
    for (; at + 16 <= end; at += 16) {
      lane1 = round(lane1, word(bytes, at));
      lane2 = round(lane2, word(bytes, at + 4));
      lane3 = round(lane3, word(bytes, at + 8));
      lane4 = round(lane4, word(bytes, at + 12));
    }
    hash = (rotate(lane1, 1) + rotate(lane2, 7) + rotate(lane3, 12) + rotate(lane4, 18)) | 0;
  } else {
    hash = PRIME_5;
  }
  hash = (hash + end) | 0;
  for (; at + 4 <= end; at += 4) {
    hash = Math.imul(rotate((hash + Math.imul(word(bytes, at), PRIME_3)) | 0, 17), PRIME_4);
  }
  for (; at < end; at++) {
    hash = Math.imul(rotate((hash + Math.imul(bytes[at]!, PRIME_5)) | 0, 11), PRIME_1);
  }
  hash = Math.imul(hash ^ (hash >>> 15), PRIME_2);
  hash = Math.imul(hash ^ (hash >>> 13), PRIME_3);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The lane of write-back that has a key. `laneCount`: a power of two. */
export function laneOf(key: Uint8Array, laneCount: number): number {
  return laneCount === 1 ? 0 : routingHashOfBytes(key) >>> (32 - Math.log2(laneCount));
}

/** The routing hash of a key: of its UTF-8 bytes if it is a string. */
export function routingHash(key: string | Uint8Array): number {
  if (typeof key !== 'string') return routingHashOfBytes(key);
  // Keys are usually ASCII, and then writing them byte by byte is faster than a call to the encoder.
  const { length } = key;
  if (length <= SCRATCH_BYTES) {
    let seen = 0;
    for (let i = 0; i < length; i++) {
      const unit = key.charCodeAt(i);
      seen |= unit;
      scratch[i] = unit;
    }
    if (seen < 0x80) return routingHashOfBytes(scratch, length);
    if (length * 3 <= SCRATCH_BYTES) return routingHashOfBytes(scratch, scratch.write(key, 'utf8'));
  }
  return routingHashOfBytes(Buffer.from(key, 'utf8'));
}
