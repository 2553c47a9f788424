/**
 * The options of a cache with their defaults: the names that are checked, and what docs/api.md has to say of them
 * (test/options.test.ts compares them).
 */
import type { CacheOptions } from './types.ts';

interface OptionRow {
  /** As docs/api.md shows it; `none`: without it there is no such thing. */
  readonly default: string;
  /** For a cache with a log only. */
  readonly ofLog?: true;
}

type OptionName = keyof CacheOptions;

export const OPTIONS: Readonly<Record<OptionName, OptionRow>> = {
  name: { default: 'none' },
  maxMemory: { default: "'64mb'" },
  maxMemoryCeiling: { default: '4 x maxMemory' },
  maxEntries: { default: 'none' },
  maxValueBytes: { default: '1/1024 of maxMemory, at least 1 MiB' },
  ttl: { default: '0' },
  shards: { default: 'chosen' },
  hash: { default: "'fast'" },
  trackAccess: { default: 'false' },
  raw: { default: "'buffer'" },
  promises: { default: '' },
  clock: { default: "the machine's" },
  data: { default: 'none' },
  ack: { default: "'logged'" },
  sync: { default: "'always'", ofLog: true },
  recover: { default: "'log'", ofLog: true },
  logLimit: { default: "'4gb'", ofLog: true },
  segmentSize: { default: "'64mb'", ofLog: true },
  ringSize: { default: '1/16 of maxMemory, at most 16 MiB', ofLog: true },
  snapshot: { default: '', ofLog: true },
  onRecovery: { default: '', ofLog: true },
};

export const CACHE_OPTION_NAMES: readonly OptionName[] = Object.keys(OPTIONS) as OptionName[];
export const LOG_OPTION_NAMES: readonly OptionName[] = CACHE_OPTION_NAMES.filter((name) => OPTIONS[name].ofLog);
