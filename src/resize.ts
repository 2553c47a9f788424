/** resize(): new limits for a cache that is open. */
import { answerError } from './answers.ts';
import { wrongType } from './errors.ts';
import { Code, type NativeHandle, native } from './native.ts';
import { checkEntries, checkNames, parseSize, type Size } from './options.ts';
import { refusalError } from './refusals.ts';

/** The arguments of `resize`. */
export interface NewLimits {
  maxMemory?: Size;
  maxEntries?: number;
}

/** The pause between two tries while a value is being read or received. */
const PAUSE_MS = 10;
/** As a limit on entries: no limit any more. native/base/limits.h has the same number. */
const ENTRIES_UNLIMITED: number = Number.MAX_SAFE_INTEGER;

/** Cache.resize, which has the documentation. */
export async function resize(handle: NativeHandle, limits: NewLimits): Promise<void> {
  const given = checkNames<NewLimits>('limits', limits, ['maxMemory', 'maxEntries']);
  const maxMemory = parseSize('maxMemory', given.maxMemory, 0, native.usableMemory);
  // 0 keeps a limit; a limit that cannot be reached is no limit.
  const isUnlimited = given.maxEntries === Number.POSITIVE_INFINITY;
  const maxEntries = isUnlimited ? ENTRIES_UNLIMITED : checkEntries(given.maxEntries);
  if (maxMemory === 0 && maxEntries === 0) throw wrongType('limits', 'an object with maxMemory or maxEntries', limits);
  for (;;) {
    const code = handle.resize(maxMemory, maxEntries);
    if (code === Code.stored) return;
    if (code === Code.refused) throw refusalError(native.takeRefusal());
    if (code !== Code.needsRoom && code !== Code.notReady) throw answerError(handle, code);
    await new Promise((resolve) => {
      // A value being read or received may block it for long.
      if (code === Code.notReady) setTimeout(resolve, PAUSE_MS);
      else setImmediate(resolve);
    });
  }
}
