/**
 * Rules of a cache with several databases: which of them a rule leads to. Each writer follows the rules as they are for
 * its database, where the keys of all others are skipped.
 */
import { DEFAULT_RULE, type Rule } from './rule.ts';

/** The database of the option `store`, which keys without a rule go to. */
export const DEFAULT_STORE = 'default';

/** The name of the database that a rule leads to. */
export function storeOf(rule: Rule): string {
  return rule.store ?? DEFAULT_STORE;
}

/** The rules as they are for one database. */
export function rulesOfStore(rules: readonly Rule[], store: string): readonly Rule[] {
  const isOwn = (rule: Rule): boolean => storeOf(rule) === store;
  if (store === DEFAULT_STORE && rules.every(isOwn)) return rules;
  const others = rules.some(({ prefix }) => prefix === '') ? [] : [DEFAULT_RULE];
  return [...rules, ...others].flatMap((rule) => {
    if (!isOwn(rule)) return [{ prefix: rule.prefix, skip: true, deleteOnExpire: false }];
    return rule === DEFAULT_RULE ? [] : [rule];
  });
}
