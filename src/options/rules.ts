/** The options of a rule: what each takes, and what they are beside one another. All throw `ERR_INVALID_ARGUMENT`. */
import { misplaced, outOfRange, show, wrongType } from '../errors.ts';
import { KEY_BYTES_MAX } from '../limits.ts';
import { DEFAULT_STORE, type OwnValueRule, RULES_MAX, type Rule } from '../rules/index.ts';
import { checkNames } from './check.ts';
import type { RuleOptions } from './types.ts';

/** What keys begin with. A longer prefix is one of no key. */
export function prefix(given: unknown, name: string): string {
  if (typeof given !== 'string') throw wrongType(name, 'text that keys begin with', given);
  if (Buffer.byteLength(given) > KEY_BYTES_MAX) throw outOfRange(name, `text of at most ${KEY_BYTES_MAX} bytes`, given);
  if (/\p{Surrogate}/u.test(given)) throw outOfRange(name, 'text without lone surrogates', given);
  return given;
}

/** The name of a database; undefined: that of the option `store`. */
export function storeName(given: unknown, name: string): string | undefined {
  if (given === undefined || given === DEFAULT_STORE) return undefined;
  if (typeof given !== 'string') throw wrongType(name, 'the name of one of stores', given);
  return given;
}

/** The name of a table; undefined: none. */
export function table(given: unknown, name: string): string | undefined {
  if (given === undefined) return undefined;
  if (typeof given !== 'string') throw wrongType(name, 'the name of a table', given);
  if (!/^[^.\0]+(\.[^.\0]+)?$/.test(given)) throw outOfRange(name, "the name of a table, such as 'shop.users'", given);
  return given;
}

/** The name of a column; undefined: none. */
export function column(given: unknown, name: string): string | undefined {
  if (given === undefined) return undefined;
  if (typeof given !== 'string') throw wrongType(name, 'the name of a column', given);
  if (given === '' || given.includes('\0')) throw outOfRange(name, 'the name of a column', given);
  return given;
}

function columns(given: unknown, name: string): readonly string[] {
  if (!Array.isArray(given)) throw wrongType(name, 'an array of names of columns', given);
  if (given.length === 0) throw outOfRange(name, 'at least one name of a column', given);
  return given.map((each, i) => column(each ?? null, `${name}[${i}]`)!);
}

/** The names of key columns; undefined: none. */
export function keyColumns(given: unknown, name: string): readonly string[] | undefined {
  if (given === undefined) return undefined;
  return typeof given === 'string' ? [column(given, name)!] : columns(given, name);
}

/** Where values are; undefined: not said. */
export function value(given: unknown, name: string): OwnValueRule | undefined {
  if (given === undefined) return undefined;
  if (given === 'json') return { kind: 'fields' };
  if (typeof given !== 'object' || given === null) {
    throw wrongType(name, "'json', { columns: [...] } or { column: '...' }", given);
  }
  const checked = checkNames<Record<string, unknown>>(name, given as Record<string, unknown>, ['columns', 'column']);
  const { columns: some, column: whole } = checked;
  if ((some === undefined) === (whole === undefined)) {
    throw misplaced(`Expected ${name} to have either columns or column`);
  }
  if (some !== undefined) return { kind: 'fields', columns: columns(some, `${name}.columns`) };
  return { kind: 'whole', column: column(whole, `${name}.column`)! };
}

/** The options of a rule, each checked by itself. */
export interface CheckedRule {
  readonly prefix: string;
  readonly store: string | undefined;
  readonly skip: boolean;
  readonly table: string | undefined;
  readonly key: readonly string[] | undefined;
  readonly value: OwnValueRule | undefined;
  readonly expiresAt: string | undefined;
  readonly version: string | undefined;
  readonly clientFlags: string | undefined;
  readonly deleteOnExpire: boolean | undefined;
  readonly coalesce: boolean;
  readonly counter: boolean;
}

const OF_TABLES = ['key', 'value', 'expiresAt', 'version', 'clientFlags'] as const;

/** A rule from its options. */
export function ruleOf(checked: CheckedRule, given: RuleOptions, name: string): Rule {
  const { prefix: its, skip, table: own, key, value: where, expiresAt, version, clientFlags } = checked;
  if (skip && checked.store !== undefined) throw misplaced(`Expected ${name} to have either skip or store`);
  if (skip && checked.deleteOnExpire) throw misplaced(`Expected ${name} to have either skip or deleteOnExpire`);
  if (skip && !checked.coalesce) throw misplaced(`Expected ${name} to have either skip or coalesce: false`);
  if (skip && checked.counter) throw misplaced(`Expected ${name} to have either skip or counter`);
  if (checked.counter && own !== undefined && where?.kind !== 'whole') {
    throw misplaced(`The option ${name}.counter needs the column of the number: give value: { column: '...' } too`);
  }
  const store = checked.store === undefined ? {} : { store: checked.store };
  const history = checked.coalesce ? {} : ({ history: true } as const);
  const counter = checked.counter ? ({ counter: true } as const) : {};
  if (own === undefined) {
    const other = OF_TABLES.find((each) => given[each] !== undefined);
    if (other !== undefined) throw misplaced(`The option ${name}.${other} is for a rule with a table: give table too`);
    return { prefix: its, ...store, skip, ...history, ...counter, deleteOnExpire: checked.deleteOnExpire ?? !skip };
  }
  if (skip) throw misplaced(`Expected ${name} to have either skip or table`);
  if (key === undefined) throw misplaced(`Expected ${name} to name the key columns of ${show(own)}: give key too`);
  if (checked.deleteOnExpire && expiresAt === undefined) {
    throw misplaced(`The option ${name}.deleteOnExpire needs a column of the expiry: give expiresAt too`);
  }
  return {
    prefix: its,
    ...store,
    skip,
    ...history,
    ...counter,
    deleteOnExpire: checked.deleteOnExpire ?? false,
    own: {
      ...{ table: own, key, value: where ?? { kind: 'fields' } },
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(version === undefined ? {} : { version }),
      ...(clientFlags === undefined ? {} : { clientFlags }),
    },
  };
}

/** Rules, each of another prefix. `check`: makes a rule of what was given. */
export function rulesOf(given: unknown, name: string, check: (given: object, name: string) => Rule): readonly Rule[] {
  if (given === undefined) return [];
  if (!Array.isArray(given)) throw wrongType(name, 'an array of rules', given);
  if (given.length > RULES_MAX) throw outOfRange(name, `at most ${RULES_MAX} rules`, given.length);
  const rules = given.map((rule, i) => check(rule as object, `${name}[${i}]`));
  for (const [i, rule] of rules.entries()) {
    if (rules.findIndex((other) => other.prefix === rule.prefix) < i) {
      throw misplaced(`Expected each of the rules to have another prefix, got ${show(rule.prefix)} twice`);
    }
  }
  return rules;
}
