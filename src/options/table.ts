/**
 * Every option of a cache and of `serve`: what checks it, what it is without, and the line that documents it. The
 * checks, `cairn serve -h`, docs/api.md and docs/cli.md follow this table (test/tables.test.ts compares the documents
 * with it).
 *
 * The rows are in rows/, a file for each group of options. What an option must be beside others is in cache.ts, log.ts,
 * store.ts and src/server/settings.ts.
 */
import { ENTRY_OPTIONS } from './rows/entries.ts';
import { LOG_OPTIONS } from './rows/log.ts';
import type { Row, Rows } from './rows/row.ts';
import { STORE_OPTIONS } from './rows/store.ts';
import type { CacheOptions } from './types.ts';

export { LOADS_OPTIONS } from './rows/loads.ts';
export { SNAPSHOT_OPTIONS } from './rows/log.ts';
export { PROMISE_OPTIONS } from './rows/promises.ts';
export { type Checked, checkAll, type Flag, type Row } from './rows/row.ts';
export { RULE_OPTIONS } from './rows/rules.ts';
export { SERVE_OPTIONS } from './rows/serve.ts';
export { TLS_OPTIONS, type TlsSettings } from './rows/tls.ts';
export { WARM_UP_OPTIONS } from './rows/warm-up.ts';
export { DELAY_BY_MODE, WRITE_BACK_OPTIONS } from './rows/write-back.ts';

/** `new Cache` and `Cache.open`. */
export const CACHE_OPTIONS = {
  ...ENTRY_OPTIONS,
  ...LOG_OPTIONS,
  ...STORE_OPTIONS,
} as const satisfies Rows<CacheOptions>;

/** The options that only a cache with a log has. */
export const LOG_OPTION_NAMES: readonly (keyof CacheOptions)[] = Object.entries<Row>(CACHE_OPTIONS)
  .filter(([, row]) => row.ofLog)
  .map(([name]) => name as keyof CacheOptions);

/** The options that only a cache with a database has. */
export const STORE_OPTION_NAMES: readonly (keyof CacheOptions)[] = Object.entries<Row>(CACHE_OPTIONS)
  .filter(([, row]) => row.ofStore)
  .map(([name]) => name as keyof CacheOptions);
