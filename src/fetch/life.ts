/** How long a loaded value is kept and how long of that it is fresh; and when a hit refreshes it ahead of its end. */
import { outOfRange } from '../errors.ts';
import { TTL_MS_MAX } from '../limits.ts';
import { parseDuration } from '../options.ts';
import type { Part, Wants } from './fetch-options.ts';
import type { FetchCache, Key } from './flight-binding.ts';

/** In the place of a time to live: the value is not stored. */
export const TTL_NOTHING = -2;

/** How long a loaded value is kept, and how long of that it is fresh. */
export interface Life {
  /** Milliseconds, 0: it does not expire, undefined: the cache's own, TTL_NOTHING. */
  readonly ttlMs: number | undefined;
  /** undefined: it is fresh until it expires. */
  readonly freshMs: number | undefined;
}

const CACHE_LIFE: Life = { ttlMs: undefined, freshMs: undefined };
const ENDLESS_LIFE: Life = { ttlMs: 0, freshMs: undefined };
const NO_LIFE: Life = { ttlMs: TTL_NOTHING, freshMs: undefined };

/** The life of a value that a loader returned to a call that wants this. */
export function lifeOf(cache: FetchCache, wants: Wants, key: Key, value: unknown): Life {
  const { ttl, jitter } = wants;
  // A stale window makes the entry live longer than it is fresh.
  const longerMs = Math.max(wants.revalidateMs, wants.errorMs);
  const given = typeof ttl === 'function' ? ttl(value, key) : ttl;
  if (given === Number.POSITIVE_INFINITY) return ENDLESS_LIFE;
  if (given === undefined && ((longerMs === 0 && jitter === undefined) || cache.ttl === 0)) return CACHE_LIFE;
  const exactMs = parseDuration('ttl', given, cache.ttl);
  if (exactMs === 0) return NO_LIFE;
  const ttlMs = jitter === undefined ? exactMs : shortened(exactMs, jitter, cache.random);
  if (longerMs === 0) return { ttlMs, freshMs: undefined };
  return {
    ttlMs: longerMs === Number.POSITIVE_INFINITY ? 0 : Math.min(ttlMs + longerMs, TTL_MS_MAX),
    freshMs: ttlMs,
  };
}

/** The milliseconds before the end of a present value's freshness in which a hit refreshes it; 0: none. */
export function aheadMsOf(cache: FetchCache, { ahead, ttl }: Wants, key: Key, value: unknown): number {
  if (ahead === undefined) return 0;
  if (ahead.share === 0) return ahead.ms;
  return partOf(parseDuration('ttl', typeof ttl === 'function' ? ttl(value, key) : ttl, cache.ttl), ahead);
}

function shortened(ttlMs: number, jitter: Part, random: () => number): number {
  const drawn: unknown = random();
  if (typeof drawn !== 'number' || !(drawn >= 0 && drawn <= 1)) {
    throw outOfRange('what random gives', 'a number from 0 to 1', drawn);
  }
  return Math.max(1, ttlMs - Math.round(partOf(ttlMs, jitter) * drawn));
}

function partOf(ttlMs: number, { ms, share }: Part): number {
  return share === 0 ? ms : Math.floor(ttlMs * share);
}
