/** The option `stores`: databases beside that of `store`, which rules name. */
import { CairnTypeError, misplaced, outOfRange, show, wrongType } from '../errors.ts';
import { STORES_MAX } from '../limits.ts';
import { DEFAULT_STORE, type Rule } from '../rules/index.ts';
import { suggestion } from './check.ts';
import * as kinds from './kinds.ts';
import type { NamedStore, StoreTarget } from './types.ts';

const NAME = /^[a-z][a-z0-9_-]{0,39}$/i;

/** Databases by their names. */
export const stores: kinds.Check<readonly NamedStore[]> = (given, name, usableMemory) => {
  if (given === undefined) return [];
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    // Text may be an address with a password.
    throw wrongType(name, 'an object of databases by their names', typeof given === 'string' ? '...' : given);
  }
  const entries = Object.entries(given);
  if (entries.length >= STORES_MAX) throw outOfRange(name, `at most ${STORES_MAX - 1} databases`, entries.length);
  return entries.map(([each, target]) => {
    if (each === DEFAULT_STORE) throw misplaced(`Expected ${name} without ${DEFAULT_STORE}, which is that of store`);
    if (!NAME.test(each)) throw outOfRange(`a name in ${name}`, 'a letter, and letters, digits, - and _ behind', each);
    return { name: each, target: kinds.store(target ?? null, `${name}.${each}`, usableMemory)! };
  });
};

/** All databases of a cache, that of `store` first. Refuses those that rules and one another do not fit. */
export function checkStores(
  store: StoreTarget,
  others: readonly NamedStore[],
  rules: readonly Rule[],
): readonly NamedStore[] {
  const all = [{ name: DEFAULT_STORE, target: store }, ...others];
  const names = all.map(({ name }) => name);
  for (const { prefix, store: name } of rules) {
    if (name === undefined || names.includes(name)) continue;
    throw new CairnTypeError(
      'ERR_INVALID_ARGUMENT',
      `The rule for ${show(prefix)} names the store ${show(name)}, which is not among stores${suggestion(name, names)}`,
    );
  }
  for (const [i, { name, target }] of all.entries()) {
    if (i > 0 && !rules.some((rule) => rule.store === name)) {
      throw misplaced(`The option stores has ${name}, which no rule names: give a rule with store: '${name}', too`);
    }
    const twin = all.slice(0, i).find((other) => isSame(other.target, target));
    if (twin === undefined) continue;
    throw misplaced(
      `The stores ${twin.name} and ${name} are one database, ${target.name}: give each a separate one, or another schema or prefix of tables`,
    );
  }
  return all;
}

function isSame(a: StoreTarget, b: StoreTarget): boolean {
  if (a.kind === 'object' || b.kind === 'object') {
    return a.kind === 'object' && b.kind === 'object' && a.backend === b.backend;
  }
  return a.name === b.name;
}
