/** What happens to the changes of a share of the keys: checked options. It can be cloned, and written as JSON. */
export interface Rule {
  /** Text that the keys begin with; `''`: every key. */
  readonly prefix: string;
  /** Changes of these keys never reach the database, and it is never asked for them. */
  readonly skip: boolean;
}

/** The most rules of a cache: each length of a prefix is a look-up for each record. */
export const RULES_MAX = 64;

/** Of keys without a rule of theirs. */
export const DEFAULT_RULE: Rule = { prefix: '', skip: false };
