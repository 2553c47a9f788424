/** The options of the database behind a cache. */
import { takesOwnTables } from '../backend/index.ts';
import { misplaced, show } from '../errors.ts';
import type { Rule } from '../rules/index.ts';
import { type CACHE_OPTIONS, type Checked, STORE_OPTION_NAMES } from './table.ts';
import type { CacheOptions, ResolvedStoreOptions, StoreTarget } from './types.ts';

/** What they are beside one another; undefined: there is no database. `options`: each was checked by itself. */
export function resolveStoreOptions(
  given: CacheOptions | undefined,
  { store, mode, writeBack, rules }: Checked<typeof CACHE_OPTIONS>,
): ResolvedStoreOptions | undefined {
  if (store !== undefined) {
    checkOwnTables(store, rules, given?.mode !== undefined);
    return { store: store.name, mode, writeBack, rules };
  }
  const name = STORE_OPTION_NAMES.find((each) => given?.[each] !== undefined);
  if (name === undefined) return undefined;
  throw misplaced(`The option ${name} is for a cache with a database: give store, the database behind it, too`);
}

// Tables of the user's own are written only if the user says so.
function checkOwnTables(store: StoreTarget, rules: readonly Rule[], isModeGiven: boolean): void {
  const rule = rules.find(({ own }) => own !== undefined);
  if (rule === undefined) return;
  const named = `The rule for ${show(rule.prefix)} names a table of yours`;
  if (store.kind === 'object' || !takesOwnTables(store.address)) {
    throw misplaced(`${named}: that is for postgres:, and the database is ${store.name}`);
  }
  if (!isModeGiven) throw misplaced(`${named}: give mode: 'write-back', which lets the cache change its rows`);
}
