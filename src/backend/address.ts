/** The addresses of databases that are files: `lmdb:PATH?size=10gb&full=evict`. */
import { join } from 'node:path';
import { misplaced, show } from '../errors.ts';

export interface FileAddress {
  readonly path: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * Takes the address apart. `directory` and `file`: where the database is if the address names no path. `known`: the
 * parameters that the database has; throws `ERR_INVALID_ARGUMENT` for others.
 */
export function fileAddress(
  address: string,
  directory: string | undefined,
  { file, known }: { readonly file: string; readonly known: readonly string[] },
): FileAddress {
  const scheme = address.slice(0, address.indexOf(':') + 1);
  const [given = '', query = '', ...rest] = address.slice(scheme.length).split('?');
  if (rest.length > 0) throw misplaced(`Expected one ? in ${show(address)}`);
  const parameters = new Map(new URLSearchParams(query));
  for (const name of parameters.keys()) {
    if (!known.includes(name)) {
      const list = known.length === 0 ? 'none is known' : `known are ${known.join(', ')}`;
      throw misplaced(`${scheme} has no parameter ${show(name)}: ${list}`);
    }
  }
  // As in file:///PATH.
  const path = given.replace(/^\/\/(?=\/)/, '');
  if (path !== '') return { path, parameters };
  if (directory === undefined) throw misplaced(`Expected a path behind ${scheme}`);
  return { path: join(directory, file), parameters };
}

const UNITS: Readonly<Record<string, number>> = { b: 1, kb: 2 ** 10, mb: 2 ** 20, gb: 2 ** 30, tb: 2 ** 40 };

/** A size such as `10gb`, in bytes. */
export function sizeOf(name: string, text: string): number {
  const [, digits, unit = 'b'] = /^(\d+(?:\.\d+)?)\s*([kmgt]?b)?$/i.exec(text.trim()) ?? [];
  const bytes = Math.floor(Number(digits) * (UNITS[unit.toLowerCase()] ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) {
    throw misplaced(`Expected the parameter ${name} to be a size such as 10gb, got ${show(text)}`);
  }
  return bytes;
}

/** One of several words; the first if the parameter is missing. */
export function wordOf<W extends string>(name: string, text: string | undefined, words: readonly [W, ...W[]]): W {
  const word = words.find((each) => each === text);
  if (word !== undefined) return word;
  if (text === undefined) return words[0];
  throw misplaced(`Expected the parameter ${name} to be ${words.join(' or ')}, got ${show(text)}`);
}

/** Longer ones would have PostgreSQL cut the names of tables and indexes, which end at 63 bytes. */
const PREFIX_LENGTH_MAX = 40;

/** What the names of tables begin with: letters, digits and `_`. */
export function checkPrefix(prefix: string | undefined): string | undefined {
  if (prefix === undefined || new RegExp(`^\\w{0,${PREFIX_LENGTH_MAX}}$`).test(prefix)) return prefix;
  throw misplaced(
    `Expected the parameter prefix of the database to be at most ${PREFIX_LENGTH_MAX} letters, digits and _`,
  );
}
