/** `cairn rebuild`, from its arguments on: the directory is locked, its log opened, and the database made. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { CairnError, show } from '../errors.ts';
import { EmbeddedLog, hasLog } from '../log/index.ts';
import { lockByAddon } from '../native/directory-lock.ts';
import { CACHE_OPTIONS } from '../options.ts';
import { DEFAULT_STORE, type Rule, RuleSet, rulesOfStore, storeOf } from '../rules/index.ts';
import { readKeptRules } from './kept-rules.ts';
import { type RebuildProgress, type Rebuilt, rebuild } from './rebuild.ts';
import { connector } from './store.ts';

/**
 * Brings what a directory has to a database. `name`: which of several it is. Rejects with why it cannot be done.
 */
export async function rebuildDirectory(
  data: string,
  store: string,
  onProgress: (progress: RebuildProgress) => void,
  name?: string,
): Promise<Rebuilt> {
  const directory = resolve(data);
  if (!existsSync(directory) || !hasLog(directory))
    throw new CairnError('ERR_INVALID_ARGUMENT', `There is no log in ${directory}`);
  const target = CACHE_OPTIONS.store.check(store, '--store', () => 0)!;
  if (target.kind === 'object') throw new CairnError('ERR_INVALID_ARGUMENT', 'Expected the address of a database');
  const known = readKeptRules(directory);
  const kept = known ?? [];
  checkName(kept, name);
  const rules = rulesOfStore(kept, name ?? DEFAULT_STORE);
  const log = EmbeddedLog.look({ directory, lockDirectory: lockByAddon });
  try {
    return await rebuild({
      ...{ log, rules, onProgress, ...(name === undefined ? {} : { name }) },
      connect: await connector(target, { directory, rules }),
      isKnown: known !== undefined,
      ...(namesOf(kept).length > 1 && { storeOf: storesBy(kept) }),
    });
  } finally {
    log.close();
  }
}

// A database must not get the keys of another one.
function checkName(rules: readonly Rule[], name: string | undefined): void {
  const names = namesOf(rules);
  if (name === undefined ? names.length === 1 : names.includes(name)) return;
  const given = name === undefined ? 'none' : show(name);
  throw new CairnError(
    'ERR_INVALID_ARGUMENT',
    `Expected --name to be one of the stores of the directory, ${names.map(show).join(', ')}, got ${given}`,
  );
}

function namesOf(rules: readonly Rule[]): string[] {
  return [...new Set([DEFAULT_STORE, ...rules.map(storeOf)])];
}

/** Which store has a key; undefined: none. */
function storesBy(rules: readonly Rule[]): (key: Buffer) => string | undefined {
  const set = new RuleSet(rules);
  return (key) => {
    const rule = set.of(key);
    return rule.skip ? undefined : storeOf(rule);
  };
}
