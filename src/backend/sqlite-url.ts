/** The address of an SQLite backend: `sqlite:PATH?prefix=cairn_`. */
import { misplaced } from '../errors.ts';
import { checkPrefix, fileAddress } from './address.ts';
import type { MakeBackendOptions } from './open.ts';
import { SqliteBackend } from './sqlite.ts';

export function sqliteFrom(
  address: string,
  { clock, directory, rules, readsOnly, lanes }: MakeBackendOptions,
): SqliteBackend {
  const { path, parameters } = fileAddress(address, directory, { file: 'store.sqlite', known: ['prefix'] });
  // A scan is another connection, which would see another database.
  if (path === ':memory:') throw misplaced('A database in memory is none: expected a path behind sqlite:');
  return new SqliteBackend({ path, prefix: checkPrefix(parameters.get('prefix')), clock, rules, readsOnly, lanes });
}
