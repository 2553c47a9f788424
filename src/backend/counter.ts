/**
 * Numbers that a cache counts (`incr`, `decr`), as rows have them: decimal text of a whole number below 2^64, in at
 * most 128 bytes. Blanks and a plus may precede the digits, a blank ends them; the cache reads its values in the same
 * way.
 *
 * **What was added** is a whole number with a sign: the result minus the number before. Where that is at or below
 * -2^63, the number has wrapped, and 2^64 is added: 2^64 - 1, incremented by 2, is 1, and what was added is 2. A row
 * then has its own number plus what was added: modulo 2^64, and not below 0. So a row that only this cache has changed
 * has the result of the cache, and one that another writer has changed too keeps that change.
 */

export const COUNTER_MODULUS: bigint = 2n ** 64n;
const HALF = 2n ** 63n;
/** The longest value that is a number. */
export const COUNTER_BYTES_MAX = 128;
/** The number is the group. Databases have the same expression, so it has classes of POSIX. */
export const COUNTER_PATTERN = '^[[:space:]]*[+]?([0-9]+)([[:space:]]|$)';
const PATTERN = new RegExp(COUNTER_PATTERN.replaceAll('[:space:]', String.raw` \t-\r`));

/** The number of a row; undefined: it holds none. */
export function numberOf(value: Buffer): bigint | undefined {
  if (value.length > COUNTER_BYTES_MAX) return undefined;
  const [, digits] = PATTERN.exec(value.toString('latin1')) ?? [];
  if (digits === undefined) return undefined;
  const number = BigInt(digits);
  return number < COUNTER_MODULUS ? number : undefined;
}

/** What was added, of a result and the difference modulo 2^64 that a record of the log has. */
export function deltaOf(result: bigint, difference: bigint): bigint {
  const before = BigInt.asUintN(64, result - difference);
  const added = result - before;
  return added <= -HALF ? added + COUNTER_MODULUS : added;
}

/** The number of a row when this has been added. */
export function sumOf(number: bigint, delta: bigint): bigint {
  const sum = number + delta;
  return sum < 0n ? 0n : sum % COUNTER_MODULUS;
}

/** What two additions of a key add together. */
export function together(first: bigint, second: bigint): bigint {
  const sum = first + second;
  return sum >= COUNTER_MODULUS ? sum % COUNTER_MODULUS : sum;
}

/** What a row that holds no number is refused with. */
export class NoNumber extends Error {
  readonly code = 'NO_NUMBER';

  constructor() {
    super('The row holds no number to add to');
  }
}
