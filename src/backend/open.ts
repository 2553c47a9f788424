/** From an address to a backend: by its scheme, or as a module of the user's. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { misplaced, show, wrongType } from '../errors.ts';
import type { Rule } from '../rules/index.ts';
import type { Backend } from './backend.ts';
import { checkBackend } from './check.ts';

export interface MakeBackendOptions {
  /** Unix milliseconds: which rows have expired. Default: the clock of the machine. */
  readonly clock?: (() => number) | undefined;
  /** Where the database is, in a file, if its address names no path (`lmdb:`). */
  readonly directory?: string | undefined;
  /** Which keys have their rows in tables of the user's own. Default: none. */
  readonly rules?: readonly Rule[] | undefined;
  /** Rows are read and never written: opening makes no table, and needs no right but to read. Default: false. */
  readonly readsOnly?: boolean | undefined;
  /** How many lanes write at the same time. Default 1. */
  readonly lanes?: number | undefined;
}

/** The databases that can have rows in tables of the user's own. */
const OWN_TABLES: readonly string[] = ['mariadb', 'mysql', 'postgres', 'postgresql', 'sqlite'];
/** The databases that can keep every write as a row of history. */
const HISTORY: readonly string[] = ['lmdb', 'mariadb', 'mysql', 'postgres', 'postgresql', 'sqlite'];

/** The schemes of the databases that can do what a rule asks for; undefined: any can. */
export function schemesFor({ own, history }: Rule): readonly string[] | undefined {
  return own !== undefined ? OWN_TABLES : history ? HISTORY : undefined;
}

type Make = (address: string, options: MakeBackendOptions) => Promise<Backend>;

const lmdb: Make = async (address, options) => (await import('./lmdb-url.ts')).lmdbFrom(address, options);
const mariadb: Make = async (address, options) => (await import('./mariadb-url.ts')).mariadbFrom(address, options);
const sqlite: Make = async (address, options) => (await import('./sqlite-url.ts')).sqliteFrom(address, options);
const postgres: Make = async (address, options) => (await import('./postgres-url.ts')).postgresFrom(address, options);

/** Each scheme with what makes its backend. Modules are imported on first use: an unused database costs no start. */
const SCHEMES: Readonly<Record<string, Make>> = {
  lmdb,
  mariadb,
  mysql: mariadb,
  postgres,
  postgresql: postgres,
  sqlite,
};

/** The schemes of databases that are known, as messages list them. */
export const BACKEND_SCHEMES: readonly string[] = Object.keys(SCHEMES).map((scheme) => `${scheme}:`);

/** The scheme of an address without its colon; undefined for a path, and a drive of Windows is one. */
export function schemeOf(address: string): string | undefined {
  return /^([a-z][a-z0-9+.-]+):/i.exec(address)?.[1]?.toLowerCase();
}

/**
 * Makes the backend of an address: `postgres://...`, `lmdb:PATH`, or the path (or `file:` URL) of a module whose
 * default export is a function that returns a backend. It is not opened: `open` finds out whether the database can be
 * reached.
 *
 * Throws `ERR_INVALID_ARGUMENT` for a scheme that is unknown and for a module that makes no backend. Messages never
 * repeat an address that may have credentials.
 */
export async function makeBackend(address: string, options: MakeBackendOptions = {}): Promise<Backend> {
  const scheme = schemeOf(address);
  if (scheme === undefined || scheme === 'file') return fromModule(address, options);
  const make = SCHEMES[scheme];
  if (make === undefined) {
    throw misplaced(`No database has the scheme ${show(`${scheme}:`)}: known are ${BACKEND_SCHEMES.join(', ')}`);
  }
  return make(address, options);
}

async function fromModule(path: string, options: MakeBackendOptions): Promise<Backend> {
  const url = schemeOf(path) === 'file' ? path : pathToFileURL(resolve(path)).href;
  const { default: make } = (await import(url)) as { default?: unknown };
  if (typeof make !== 'function') throw wrongType(`the default export of ${path}`, 'a function', make);
  const backend: unknown = await make(options);
  checkBackend(backend, `what ${path} makes`);
  return backend;
}
