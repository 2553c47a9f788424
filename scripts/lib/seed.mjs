// The seed of random tests.

import { randomInt } from 'node:crypto';
import { fingerprint } from './inputs.mjs';

/**
 * Gives the processes started from here CAIRN_SEED (32 bits), which random tests begin from. Without one it is made of
 * the sources: the same sources are tried with the same numbers wherever they are tested, so that a failure is there
 * the next time too, and every change of them with others. CAIRN_SEED=random draws one.
 */
export function seedTests() {
  const given = process.env.CAIRN_SEED;
  if (given !== undefined && given !== 'random') return Number(given);
  const seed =
    given === 'random'
      ? randomInt(2 ** 32)
      : Number.parseInt(fingerprint(['native', 'src', 'test', 'package-lock.json']).slice(0, 8), 16);
  process.env.CAIRN_SEED = String(seed);
  return seed;
}
