/**
 * The log's epochs: a number of 32 bits that never goes back. The lower 20 are the epoch of the store's versions, which
 * every opening and every clear raises; the upper 12 are the generation. When the store's epochs are half used up, the
 * next opening begins a new generation, in which they count from 1 again: what the log and the snapshots have from
 * before is older than all that comes, whatever the versions say. Whoever reads across that place gives what it has by
 * then epoch 0, which no record that is written has (Store::Renumber).
 */
import { EPOCH_MAX } from '../request/record.ts';

/** The highest epoch of a log. */
export const LOG_EPOCH_MAX: number = 2 ** 32 - 1;
/**
 * An opening begins a new generation from this epoch of the store on. As many clears are left to each life at least.
 */
const RENUMBER_FROM: number = 2 ** 19;
const GENERATION_SIZE: number = EPOCH_MAX + 1;

export function generationOf(logEpoch: number): number {
  return Math.floor(logEpoch / GENERATION_SIZE);
}

/** The store's part of it. */
export function storeEpochOf(logEpoch: number): number {
  return logEpoch % GENERATION_SIZE;
}

/** What the log calls an epoch of the store, in the generation of another epoch of the log. */
export function logEpochOf(storeEpoch: number, sameGeneration: number): number {
  return generationOf(sameGeneration) * GENERATION_SIZE + storeEpoch;
}

/**
 * The same, and never less than that epoch of the log: opening it anew has raised that, and what is in the store is
 * older.
 */
export function raisedEpoch(storeEpoch: number, logEpoch: number): number {
  return Math.max(logEpochOf(storeEpoch, logEpoch), logEpoch);
}

/** How an epoch is shown: that of the store, and behind it the generation, unless it is the first. */
export function epochText(logEpoch: number): string {
  const generation = generationOf(logEpoch);
  return generation === 0 ? String(logEpoch) : `${storeEpochOf(logEpoch)} (generation ${generation})`;
}

/**
 * The epoch of the next opening; undefined: there is none. `renumbers`: it may begin a new generation, because what the
 * store will hold is read from the log.
 */
export function epochAfter(logEpoch: number, renumbers: boolean): number | undefined {
  const storeEpoch = storeEpochOf(logEpoch);
  if (storeEpoch < RENUMBER_FROM || !renumbers) return storeEpoch === EPOCH_MAX ? undefined : logEpoch + 1;
  const next = (generationOf(logEpoch) + 1) * GENERATION_SIZE + 1;
  // The last generation is used to its end.
  if (next <= LOG_EPOCH_MAX) return next;
  return logEpoch === LOG_EPOCH_MAX ? undefined : logEpoch + 1;
}
