/** What happens to the changes of a share of the keys: checked options. It can be cloned, and written as JSON. */
export interface Rule {
  /** Text that the keys begin with; `''`: every key. */
  readonly prefix: string;
  /** The name of the database of these keys; left out: the default one. */
  readonly store?: string;
  /** Changes of these keys never reach the database, and it is never asked for them. */
  readonly skip: boolean;
  /** Every write is kept, too, as a row of the table of history. */
  readonly history?: true;
  /** `incr` and `decr` add to the row, so that what other writers add to it stays. */
  readonly counter?: true;
  /** Rows that have expired are removed. */
  readonly deleteOnExpire: boolean;
  /** The user's own table, which has the rows of these keys; left out: Cairn's table of entries. */
  readonly own?: OwnTableRule;
}

/** How keys and values stand in a table of the user's own. Names are those of the database. */
export interface OwnTableRule {
  /** With its schema, if it has one: `shop.users`. */
  readonly table: string;
  /** The columns of the key: the parts of the key's text behind the prefix, with `:` between them. */
  readonly key: readonly string[];
  readonly value: OwnValueRule;
  readonly expiresAt?: string;
  readonly version?: string;
  readonly clientFlags?: string;
}

export type OwnValueRule =
  /** Each field of a JSON object in the column of that name. Without names: all columns that take a value. */
  | { readonly kind: 'fields'; readonly columns?: readonly string[] }
  /** The whole value in one column. */
  | { readonly kind: 'whole'; readonly column: string };

/** The most rules of a cache: each length of a prefix is a look-up for each record. */
export const RULES_MAX = 64;

/** Of keys without a rule of theirs. */
export const DEFAULT_RULE: Rule = { prefix: '', skip: false, deleteOnExpire: true };
