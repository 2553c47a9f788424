/**
 * Wakes this thread for news from other threads: the addon calls one function here, which calls every registered {@link
 * Looker}. It keeps the thread alive only while {@link holdAwake} asks for it.
 *
 * What is shared hangs on the addon's exports, of which a thread has one, and not on this module, of which it may have
 * two copies.
 */
import { native } from '../native.ts';

/** A part of a handle for which news may wait in the addon. Throws nothing. */
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

/** The lookers that the next wake-up calls. The set keeps them in memory. */
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
