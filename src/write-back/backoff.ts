/** How long to wait before a call of the database is tried again. */

/** The first wait, and the longest, after an error that may pass. */
export const RETRY_MS_FIRST = 50;
export const RETRY_MS_MAX = 10_000;
/** After an error that only a change of the database or of the configuration mends. */
export const HALTED_RETRY_MS = 30_000;

/**
 * Milliseconds to wait after `failures` failures in a row. Doubles up to the longest; a random share of up to half
 * is taken off, so that many processes do not come back at the same moment. `random` gives numbers in [0, 1).
 */
export function retryDelayMs(failures: number, isHalted: boolean, random: () => number): number {
  const whole = isHalted ? HALTED_RETRY_MS : Math.min(RETRY_MS_MAX, RETRY_MS_FIRST * 2 ** (failures - 1));
  return Math.round(whole * (1 - random() / 2));
}
