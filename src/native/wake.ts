/**
 * Wakes this thread for news from other threads: the addon calls one function here, which calls every registered {@link
 * Looker}. It keeps the thread alive only while {@link holdAwake} asks for it.
 *
 * Shared state is on the addon's exports, of which a thread has one, and not in this module, of which a thread may have
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

/** Counts the parts for which the thread must stay alive, up or down. */
export function holdAwake(yes: boolean): void {
  wakes.holdAwake(yes);
}

/** Every looker is called again in a later turn of the event loop. */
export function lookAgain(): void {
  wakes.wakeSelf();
}
