/** The types that options of several groups have. */

/** A time span: whole milliseconds, or text such as `'500ms'`, `'60s'`, `'1.5h'`, `'7d'` (units ms, s, m, h, d). */
export type Duration = number | string;

/**
 * A size: whole bytes, or text such as `'512mb'` (units b, kb, mb, gb, tb, each 1024 times the one before, as memcached
 * counts) or `'25%'` of the memory that this process may use.
 */
export type Size = number | string;
