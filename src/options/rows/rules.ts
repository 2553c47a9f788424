/** The options of a rule. */
import type { Rule } from '../../rules/index.ts';
import * as kinds from '../kinds.ts';
import * as ofRules from '../rules.ts';
import type { RuleOptions } from '../types.ts';
import { checkAll, type Rows } from './row.ts';

/** Each of `rules`. */
export const RULE_OPTIONS = {
  prefix: {
    check: ofRules.prefix,
    default: '',
    doc: "what the keys begin with; `''`: every key that has no other rule",
  },
  store: {
    check: ofRules.storeName,
    default: "`'default'`",
    doc: 'the name of one of `stores`, which has these keys: [several stores](#several-stores)',
  },
  skip: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'the keys are in memory and in the log only: the database never gets them',
  },
  coalesce: {
    check: kinds.yesOrNo(true),
    default: 'true',
    doc: '`false`: every write is kept, too, as a row of the table `cairn_history`',
  },
  counter: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: '`incr` and `decr` add to the row, so that what other programs add to it stays: [counters](#counters)',
  },
  table: {
    check: ofRules.table,
    default: "Cairn's own",
    doc: "a table of yours that has the rows, with its schema if it has one: `'shop.users'`. The options below are for it",
  },
  key: {
    check: ofRules.keyColumns,
    default: '',
    doc: 'its key columns: the text behind the prefix, of several columns with `:` between',
  },
  value: {
    check: ofRules.value,
    default: "`'json'`",
    doc: "`'json'`: each field of a JSON object in the column of that name. `{ columns: ['name'] }`: in these columns only. `{ column: 'data' }`: the whole value in one column",
  },
  expiresAt: {
    check: ofRules.column,
    default: 'none',
    doc: 'the column of the expiry; without one, rows do not expire',
  },
  version: { check: ofRules.column, default: 'none', doc: 'the column of the version of a change' },
  clientFlags: {
    check: ofRules.column,
    default: 'none',
    doc: "the column of memcached's client flags; without one, values with flags are dead letters",
  },
  deleteOnExpire: {
    check: (given, name) => (given === undefined ? undefined : kinds.yesOrNo(false)(given, name, () => 0)),
    default: '`true`, of a table of yours `false`',
    doc: 'rows that have expired are removed; of a table of yours only with `expiresAt`',
  },
} as const satisfies Rows<RuleOptions>;

export function rules(given: unknown, name: string, usableMemory: () => number): readonly Rule[] {
  return ofRules.rulesOf(given, name, (rule, itsName) => {
    const checked = checkAll(RULE_OPTIONS, itsName, rule as RuleOptions, usableMemory);
    return ofRules.ruleOf(checked, rule as RuleOptions, itsName);
  });
}
