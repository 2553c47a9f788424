/** When what was appended becomes durable. */
import { wrongType } from '../errors.ts';
import { LOG_SYNC_MS_MAX } from '../limits.ts';

/**
 * - `always`: before an append is answered.
 * - `<n>ms`: at most n milliseconds after it; until then a power cut may take it back.
 * - `none`: when a segment ends, at `sync()` and at `close()`; in between whenever the system writes its pages.
 *
 * The end of the process, however it ends, takes nothing back under any of them.
 */
export type SyncPolicy = 'always' | 'none' | `${number}ms`;

/** After how many milliseconds: 0 for `always`, Infinity for `none`. Throws `ERR_INVALID_ARGUMENT`. */
export function syncDelayMs(policy: unknown): number {
  if (policy === 'always') return 0;
  if (policy === 'none') return Number.POSITIVE_INFINITY;
  const [, digits] = typeof policy === 'string' ? (/^(\d{1,7})ms$/.exec(policy) ?? []) : [];
  const delay = Number(digits ?? 0);
  if (delay < 1 || delay > LOG_SYNC_MS_MAX) {
    throw wrongType('sync', `'always', 'none' or an interval such as '10ms' of up to ${LOG_SYNC_MS_MAX} ms`, policy);
  }
  return delay;
}
