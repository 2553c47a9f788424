/**
 * How this thread hears of other threads: the addon calls one function of ours, and whoever registered here looks for
 * news of its own. It does not keep the thread alive but for those who {@link holdAwake}.
 *
 * What is shared hangs on the addon's exports, of which a thread has one, and not on this module, of which it may have
 * two copies.
 */
import { native } from '../native.ts';

/** Somebody who may have news waiting in the addon. Throws nothing. */
export interface Looker {
  look(): void;
}

interface WakeExports {
  lookers?: Set<Looker>;
  onWake(look: () => void): void;
  holdAwake(yes: boolean): void;
  wakeSelf(): void;
}

const wakes = native as unknown as WakeExports;

/** Who looks at the next wake-up. Whoever is in it stays in memory. */
export const lookers: Set<Looker> = wakes.lookers ?? new Set();

if (wakes.lookers === undefined) {
  wakes.lookers = lookers;
  wakes.onWake(() => {
    for (const looker of lookers) looker.look();
  });
}

/** One more, or one less, for whom the thread has to stay alive. */
export function holdAwake(yes: boolean): void {
  wakes.holdAwake(yes);
}

/** Everybody looks again in a later turn of the event loop. */
export function lookAgain(): void {
  wakes.wakeSelf();
}
