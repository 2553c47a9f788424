/** A row of the table of options, and the check of a group of them. */
import { checkNames } from '../check.ts';
import type { Check } from '../kinds.ts';

/** One option. */
export interface Row<T = unknown> {
  readonly check: Check<T>;
  /** What it is if it is left out, as docs/api.md says it. */
  readonly default: string;
  /** The line of docs/api.md. */
  readonly doc: string;
  /** For a cache with a log only. */
  readonly ofLog?: true;
  /** For a cache with a database only. */
  readonly ofStore?: true;
  /** Its flag of `cairn serve`. */
  readonly flag?: Flag;
}

/** A flag of the command line. */
export interface Flag {
  /** `-m, --memory-limit <num>`. */
  readonly names: string;
  /** As -h and docs/cli.md say it; `''`: there is none. */
  readonly default: string;
  /** The line of -h and docs/cli.md. */
  readonly doc: string;
  /** Makes an option of the text; undefined: it is not `expected`. Left out: the text is the option. */
  readonly read?: (text: string) => unknown;
  readonly expected?: string;
}

/** Options by their names. */
export type Rows<Given> = { readonly [Name in keyof Required<Given>]: Row };

/** What checking makes of options. */
export type Checked<R> = { readonly [Name in keyof R]: R[Name] extends Row<infer T> ? T : never };

/** Checks each option by itself. `what`: `options`, or the option that has these. */
export function checkAll<R extends Readonly<Record<string, Row>>>(
  rows: R,
  what: string,
  given: object | undefined,
  usableMemory: () => number,
): Checked<R> {
  const options = checkNames<Record<string, unknown>>(what, given as Record<string, unknown>, Object.keys(rows));
  const prefix = what === 'options' ? '' : `${what}.`;
  const checked = Object.entries(rows).map(([name, row]) => [
    name,
    row.check(options[name], prefix + name, usableMemory),
  ]);
  return Object.fromEntries(checked) as Checked<R>;
}
