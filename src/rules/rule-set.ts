/**
 * Finds the rule of a key: that of the longest prefix which the key begins with. Prefixes are compared as bytes, so a
 * key that is no text has a rule too.
 */
import { DEFAULT_RULE, type Rule } from './rule.ts';

export class RuleSet {
  readonly rules: readonly Rule[];
  /** By the bytes of the prefix, as latin1; the rules of one length are together, the longest first. */
  readonly #lengths: readonly (readonly [number, ReadonlyMap<string, Rule>])[];
  readonly #default: Rule;

  /** The set of the given rules; undefined: there are none, and every key has the default rule. */
  static from(rules: readonly Rule[]): RuleSet | undefined {
    return rules.length === 0 ? undefined : new RuleSet(rules);
  }

  constructor(rules: readonly Rule[]) {
    this.rules = rules;
    const lengths = new Map<number, Map<string, Rule>>();
    let otherwise = DEFAULT_RULE;
    for (const rule of rules) {
      const bytes = Buffer.from(rule.prefix, 'utf8');
      if (bytes.length === 0) {
        otherwise = rule;
        continue;
      }
      const same = lengths.get(bytes.length) ?? new Map<string, Rule>();
      lengths.set(bytes.length, same.set(bytes.toString('latin1'), rule));
    }
    this.#lengths = [...lengths].sort(([a], [b]) => b - a);
    this.#default = otherwise;
  }

  of(key: Buffer): Rule {
    for (const [length, rules] of this.#lengths) {
      if (key.length < length) continue;
      const rule = rules.get(key.toString('latin1', 0, length));
      if (rule !== undefined) return rule;
    }
    return this.#default;
  }

  /** Whether changes of the key go to the database. */
  writes(key: Buffer): boolean {
    return !this.of(key).skip;
  }

  /** Whether every write of the key is kept. */
  keepsHistory(key: Buffer): boolean {
    return this.of(key).history === true;
  }

  /** Whether there are keys of which every write is kept. */
  get hasHistory(): boolean {
    return this.rules.some(({ history }) => history);
  }

  /** Whether `incr` and `decr` of the key add to its row. */
  counts(key: Buffer): boolean {
    return this.of(key).counter === true;
  }

  /** A rule of counters, if there is one. */
  get counterRule(): Rule | undefined {
    return this.rules.find(({ counter }) => counter);
  }

  /** Whether a row of the key in Cairn's table is removed when it has expired. */
  sweeps(key: Buffer): boolean {
    const { deleteOnExpire, own } = this.of(key);
    return deleteOnExpire && own === undefined;
  }

  /** Whether the database is asked for the key. */
  loads(key: Buffer): boolean {
    return !this.of(key).skip;
  }
}
