/** The options of the database behind a cache. */
import { misplaced } from '../errors.ts';
import { type CACHE_OPTIONS, type Checked, STORE_OPTION_NAMES } from './table.ts';
import type { CacheOptions, ResolvedStoreOptions } from './types.ts';

/** What they are beside one another; undefined: there is no database. `options`: each was checked by itself. */
export function resolveStoreOptions(
  given: CacheOptions | undefined,
  { store, mode, writeBack, rules }: Checked<typeof CACHE_OPTIONS>,
): ResolvedStoreOptions | undefined {
  if (store !== undefined) return { store: store.name, mode, writeBack, rules };
  const name = STORE_OPTION_NAMES.find((each) => given?.[each] !== undefined);
  if (name === undefined) return undefined;
  throw misplaced(`The option ${name} is for a cache with a database: give store, the database behind it, too`);
}
