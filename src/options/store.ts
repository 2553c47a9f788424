/** The options of the database behind a cache. */
import { schemeOf, schemesFor } from '../backend/index.ts';
import { type CairnError, misplaced, show } from '../errors.ts';
import { SHARD_BYTES_MIN, SHARD_ENTRIES_MIN } from '../limits.ts';
import { type Rule, storeOf } from '../rules/index.ts';
import { checkStores } from './stores.ts';
import { type CACHE_OPTIONS, type Checked, DELAY_BY_MODE, STORE_OPTION_NAMES } from './table.ts';
import type { CacheOptions, NamedStore, ResolvedStoreOptions, StoreMode } from './types.ts';

/** How long a change waits for others where no delay is given, in milliseconds. */
const DELAYS: Readonly<Record<StoreMode, number>> = { 'read-through': 0, 'write-back': 50, 'write-through': 0 };

/**
 * What they are beside one another; undefined: there is no database. `hasLog`: changes are kept until the database has
 * them. `options`: each was checked by itself.
 */
export function resolveStoreOptions(
  given: CacheOptions | undefined,
  { store, stores, mode: givenMode, writeBack, loads, warmUp, rules, ...cache }: Checked<typeof CACHE_OPTIONS>,
  hasLog: boolean,
): ResolvedStoreOptions | undefined {
  if (store === undefined) {
    const name = STORE_OPTION_NAMES.find((each) => given?.[each] !== undefined);
    if (name === undefined) return undefined;
    throw misplaced(`The option ${name} is for a cache with a database: give store, the database behind it, too`);
  }
  const all = checkStores(store, stores, rules);
  checkAbilities(all, rules);
  const mode = givenMode ?? (rules.some(({ own }) => own !== undefined) ? 'read-through' : 'write-back');
  if (mode === 'read-through') {
    const stray = hasLog ? 'data' : given?.writeBack === undefined ? undefined : 'writeBack';
    if (stray !== undefined) {
      throw misplaced(
        `The option ${stray} is for a cache that changes its database: leave it out, or give mode: 'write-back'`,
      );
    }
    const kept = rules.find(({ history }) => history);
    if (kept !== undefined) {
      throw misplaced(
        `The rule for ${show(kept.prefix)} keeps every write (coalesce: false), and mode 'read-through' writes nothing`,
      );
    }
    const counting = rules.find(({ counter }) => counter);
    if (counting !== undefined) {
      throw misplaced(
        `The rule for ${show(counting.prefix)} adds to rows (counter: true), and mode 'read-through' writes nothing`,
      );
    }
  } else if (!hasLog) {
    throw misplaced(
      `A cache that changes its database keeps each change in a log until it is there: give data, the directory of the log, or mode: 'read-through'`,
    );
  }
  checkLanes(writeBack.lanes, cache);
  const delay = writeBack.delay === DELAY_BY_MODE ? DELAYS[mode] : writeBack.delay;
  const warmed = warmUp === undefined ? {} : { warmUp };
  const named = Object.fromEntries(stores.map(({ name, target }) => [name, target.name]));
  const others = stores.length === 0 ? {} : { stores: named };
  return { store: store.name, ...others, mode, writeBack: { ...writeBack, delay }, loads, ...warmed, rules };
}

/** Refuses a rule that the database cannot follow. */
function checkAbilities(stores: readonly NamedStore[], rules: readonly Rule[]): void {
  for (const rule of rules) {
    const { target: store } = stores.find(({ name }) => name === storeOf(rule))!;
    const scheme = store.kind === 'address' ? schemeOf(store.address) : undefined;
    const schemes = schemesFor(rule);
    if (schemes === undefined || schemes.includes(scheme ?? '')) continue;
    const what = rule.own === undefined ? 'keeps every write (coalesce: false)' : 'names a table of yours';
    const known = schemes.map((each) => `${each}:`).join(', ');
    throw misplaced(
      `The rule for ${show(rule.prefix)} ${what}: that is for ${known}, and the database is ${store.name}`,
    );
  }
}

// A lane has whole shards. Where their number is chosen, it is at least that of the lanes: not where they would be
// smaller than any that are chosen.
function checkLanes(
  lanes: number,
  { shards, maxMemory, maxEntries }: Pick<Checked<typeof CACHE_OPTIONS>, 'shards' | 'maxMemory' | 'maxEntries'>,
): void {
  if (lanes === 1 || shards >= lanes) return;
  const refused = (why: string): CairnError => {
    return misplaced(`The option writeBack.lanes is ${lanes}, and each lane needs a shard: ${why}`);
  };
  if (shards !== 0) throw refused(`give shards of at least ${lanes}, not ${shards}, or fewer lanes`);
  if (maxMemory < lanes * SHARD_BYTES_MIN) {
    throw refused(`give a maxMemory of at least ${lanes * SHARD_BYTES_MIN} bytes, not ${maxMemory}, or fewer lanes`);
  }
  if (maxEntries !== 0 && maxEntries < lanes * SHARD_ENTRIES_MIN) {
    throw refused(`give maxEntries of at least ${lanes * SHARD_ENTRIES_MIN}, not ${maxEntries}, or fewer lanes`);
  }
}
