/**
 * How long a caller waits: timeouts and AbortSignals, by one rule at every door (`fetch`, promised verbs, `close`).
 *
 * A timeout of 0 or `Infinity`, or none, waits forever; any other may be longer than the longest timer of Node (24.8
 * days). A signal may come from another realm (a vm context, a test runner). A signal that is already aborted refuses
 * the call with its reason before anything is done.
 */
import { wrongType } from './errors.ts';
import { TIMER_MS_MAX } from './limits.ts';
import { parseDuration } from './options.ts';

/** When a caller stops waiting. */
export interface Patience {
  /** 0: no limit. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Checks the options `signal` and `timeout` of a call; undefined: neither was given. Throws the reason of a signal. */
export function checkPatience(given: { readonly timeout?: unknown; readonly signal?: unknown }): Patience | undefined {
  const signal = checkSignal(given.signal);
  const timeoutMs = parseDuration('timeout', given.timeout, 0);
  return timeoutMs === 0 && signal === undefined ? undefined : { timeoutMs, signal };
}

/** Checks the option `signal` of a call. Throws its reason if it is aborted. */
export function checkSignal(signal: unknown): AbortSignal | undefined {
  if (signal === undefined) return undefined;
  if (!isAbortSignal(signal)) throw wrongType('signal', 'an AbortSignal', signal);
  if (signal.aborted) throw signal.reason;
  return signal;
}

// By its members, so that the class may be that of another realm.
function isAbortSignal(signal: unknown): signal is AbortSignal {
  if (typeof signal !== 'object' || signal === null) return false;
  const { aborted, addEventListener, removeEventListener } = signal as Partial<AbortSignal>;
  return (
    typeof aborted === 'boolean' && typeof addEventListener === 'function' && typeof removeEventListener === 'function'
  );
}

/** The callbacks that end a wait early. */
export interface GivingUp {
  /** The time is over. */
  late(timeoutMs: number): void;
  /** The signal was aborted, perhaps before the wait began. */
  aborted(reason: unknown): void;
}

/** What keeps the process alive while a call waits: the timer, or something of the caller's. */
export type KeepsAlive = 'timer' | 'caller';

/** Calls `giveUp` when patience ends, unless the returned function is called before. */
export function wait({ timeoutMs, signal }: Patience, keepsAlive: KeepsAlive, giveUp: GivingUp): () => void {
  const timer = timeoutMs === 0 ? undefined : longTimeout(timeoutMs, keepsAlive, () => giveUp.late(timeoutMs));
  const onAbort = (): void => giveUp.aborted(signal!.reason);
  if (signal?.aborted) onAbort();
  else signal?.addEventListener('abort', onAbort, { once: true });
  return () => {
    timer?.stop();
    signal?.removeEventListener('abort', onAbort);
  };
}

/** A timer of any length: a time longer than Node's longest timer is divided into several. */
export function longTimeout(ms: number, keepsAlive: KeepsAlive, action: () => void): { stop(): void } {
  let left = ms;
  let timer: NodeJS.Timeout;
  const turn = (): void => {
    const now = Math.min(left, TIMER_MS_MAX);
    left -= now;
    timer = setTimeout(left > 0 ? turn : action, now);
    if (keepsAlive === 'caller') timer.unref();
  };
  turn();
  return { stop: () => clearTimeout(timer) };
}
