/**
 * The option `clock`: the time of a cache follows a function instead of the machine's clock, so that a test moves it.
 * Fake timers move `Date.now`: `new Cache({ clock: () => Date.now() })`.
 *
 * The clock is read at the beginning of each call on a handle of the thread that gave it, and whenever a server of that
 * thread executes requests. In between the time of the cache stands still, for other threads too. It never goes back.
 */
import { outOfRange } from './errors.ts';
import type { NativeHandle } from './native.ts';

/** The functions that move the time of a cache, by its id. */
const clocks = new Map<number, WeakRef<() => void>>();
const gone = new FinalizationRegistry<number>((cacheId) => clocks.delete(cacheId));

/** From now on the time of that cache is that of the clock. */
export function startClock(handle: NativeHandle, clock: () => number): void {
  const begunMs = read(clock);
  const { setClock, cacheId } = handle;
  const tick = (): void => setClock(Math.max(0, read(clock) - begunMs));
  tick();
  clocks.set(cacheId, new WeakRef(tick));
  gone.register(tick, cacheId);
}

/** The function to call before each call on a handle of that cache; undefined: none. */
export function clockOf(handle: NativeHandle): (() => void) | undefined {
  return clocks.get(handle.cacheId)?.deref();
}

function read(clock: () => number): number {
  const ms: unknown = clock();
  if (typeof ms !== 'number' || !Number.isFinite(ms)) throw outOfRange('what clock gives', 'milliseconds', ms);
  return ms;
}
