/** From the address of a database to one that campaigns may do with as they like. */
import { randomBytes } from 'node:crypto';
import { makeBackend, schemeOf } from '../backend/index.ts';
import type { DatabaseFault, MakeDatabase } from './database.ts';
import { lmdbStore, sqliteStore } from './file-stores.ts';
import { mariadbStore } from './mariadb-store.ts';
import { NotedStore } from './noted-store.ts';
import { PostgresStore } from './postgres-store.ts';
import { withBackend } from './scanned.ts';

export interface Stores {
  /** Each call makes one that is empty. */
  readonly make: MakeDatabase;
  /** A module of the user's: it is not known how to empty its database, so `make` is called once. */
  readonly isModule: boolean;
}

/** What all names begin with that a torture makes in a database. */
export const OWN_PREFIX = 'cairn_torture_';

export function storesOf(address: string, faults: readonly DatabaseFault[] = []): Stores {
  const own = (): string => OWN_PREFIX + randomBytes(4).toString('hex');
  switch (schemeOf(address)) {
    case 'postgres':
    case 'postgresql':
      return { isModule: false, make: () => PostgresStore.make({ address, schema: own(), faults }) };
    case 'mariadb':
    case 'mysql':
      return { isModule: false, make: () => mariadbStore(address, own(), faults) };
    case 'sqlite':
      return { isModule: false, make: () => sqliteStore(address) };
    case 'lmdb':
      return { isModule: false, make: () => lmdbStore(address) };
    default:
      return { isModule: true, make: () => moduleStore(address, faults) };
  }
}

async function moduleStore(address: string, faults: readonly DatabaseFault[]): Promise<NotedStore> {
  const { name, level } = await makeBackend(address);
  await withBackend(address, async (backend) => {
    const cursors = await backend.readCursors();
    let isEmpty = cursors.length === 0;
    for await (const { rows } of backend.scan()) isEmpty &&= rows.length === 0;
    if (!isEmpty) throw new Error(`${name} is not empty: torture may write to a database of its only`);
  });
  return new NotedStore({ name, address, level, faults, remove: () => {} });
}
