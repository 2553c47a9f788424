// The keys, values and requests that every measurement of this folder uses.

import { seededRandom, zipfRanks } from '../lib/random.mjs';

export const KEY_BYTES = 20;
export const VALUE_BYTES = 100;

/** Writes the key of entry `number`: `user:` and 15 digits. */
export function writeKey(target, offset, number) {
  target.write('user:', offset, 'latin1');
  let rest = number;
  for (let at = offset + KEY_BYTES - 1; at >= offset + 5; at--) {
    const next = Math.floor(rest / 10);
    target[at] = 48 + (rest - next * 10);
    rest = next;
  }
}

const keyRoom = Buffer.alloc(KEY_BYTES);
const valueRoom = Buffer.alloc(VALUE_BYTES, 'v');

/** The key of entry `number` as a new, flat string. */
export function keyOf(number) {
  writeKey(keyRoom, 0, number);
  return keyRoom.latin1Slice(0, KEY_BYTES);
}

/** A value that no other entry has, as a new, flat string. */
export function valueOf(number) {
  writeKey(valueRoom, 0, number);
  return valueRoom.latin1Slice(0, VALUE_BYTES);
}

/**
 * Keys of requests, one behind the other as a server finds them in what it received. `bytes.latin1Slice` makes the key
 * of a request from it: a new string, whose hash is not computed yet.
 */
export function requestStream(numbers) {
  const bytes = Buffer.alloc(numbers.length * KEY_BYTES);
  numbers.forEach((number, i) => {
    writeKey(bytes, i * KEY_BYTES, number);
  });
  return bytes;
}

/** `count` entry numbers below `entries`, every one as likely as the other. */
export function uniformNumbers(count, entries, seed = 1) {
  const random = seededRandom(seed);
  return Uint32Array.from({ length: count }, () => Math.floor(random() * entries));
}

/** `count` entry numbers below `entries` by Zipf's law with exponent 0.99; the frequent ones lie anywhere. */
export function zipfNumbers(count, entries, seed = 2) {
  const next = zipfRanks(entries, 0.99, seededRandom(seed));
  return Uint32Array.from({ length: count }, () => (next() * 2654435761) % entries);
}
