// The databases of the clone that write-back is tried on under fire: a private server that is stopped, and databases
// with a planted mistake.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  type DatabaseFault,
  type Effects,
  effectsOf,
  type TortureDatabase,
  type TortureRow,
} from '../../../../src/torture/database.ts';
import type { Past } from '../../../../src/torture/failovers.ts';
import { PostgresStore } from '../../../../src/torture/postgres-store.ts';
import { PostgresServer } from '../../../support/postgres.ts';
import { PostgresPair } from '../../../support/postgres-pair.ts';
import { projectRoot } from '../target.ts';

interface Tables {
  root: { close(): Promise<void>; transactionSync(run: () => void): void };
  rows: Table<Uint8Array, { value: Uint8Array; clientFlags: number; expiresWallMs: number }>;
  cursors: Table<number, unknown>;
  history: Table<number, [kind: string, key: string, version: string]>;
}

interface Table<Key, Value> {
  getRange(options?: { snapshot: boolean }): Iterable<{ key: Key; value: Value }>;
  putSync(key: Key, value: Value): void;
  removeSync(key: Key): void;
}

const LMDB_MODULE: string = join(projectRoot, 'test/support/lmdb-backend.mjs');

/** LMDB by test/support/lmdb-backend.mjs. It has no server that could be stopped. */
export class LmdbDatabase implements TortureDatabase, Past {
  readonly name = 'lmdb';
  readonly level = 'transactional';
  readonly environment: Readonly<Record<string, string>>;
  readonly faults: readonly DatabaseFault[] = [];
  readonly #path = mkdtempSync(join(tmpdir(), 'cairn-fire-lmdb-'));

  readonly past = this;
  readonly #leavesCursors: boolean;
  /** By the names of the tables. */
  readonly #copies = new Map<'rows' | 'cursors' | 'history', { key: never; value: never }[]>();

  /** `mistake`: what the database does wrong, to show that it is found. */
  constructor(mistake = '') {
    this.#leavesCursors = mistake === 'rows-alone';
    this.environment = { CAIRN_STORE: LMDB_MODULE, CAIRN_TEST_LMDB: this.#path, CAIRN_TEST_LMDB_MISTAKE: mistake };
  }

  async watch(): Promise<void> {}

  rows(): Promise<ReadonlyMap<string, TortureRow>> {
    return this.#read(({ rows }) => {
      return new Map(
        Array.from(rows.getRange(), ({ key, value: { value, clientFlags, expiresWallMs } }) => [
          Buffer.from(key).toString('latin1'),
          { value: Buffer.from(value).toString('latin1'), clientFlags, expiresWallMs },
        ]),
      );
    });
  }

  effects(): Promise<Effects> {
    return this.#read(({ history }) => effectsOf(Array.from(history.getRange(), ({ value }) => value.join(' '))));
  }

  remember(): Promise<void> {
    return this.#read((tables) => {
      tables.root.transactionSync(() => {
        for (const name of ['rows', 'cursors', 'history'] as const) {
          this.#copies.set(name, [...tables[name].getRange({ snapshot: true })] as { key: never; value: never }[]);
        }
      });
    });
  }

  goBack(): Promise<number> {
    return this.#read((tables) => {
      let taken = 0;
      tables.root.transactionSync(() => {
        taken = [...tables.history.getRange()].length - this.#copies.get('history')!.length;
        for (const [name, copies] of this.#copies) {
          if (name === 'cursors' && this.#leavesCursors) continue;
          for (const { key } of [...tables[name].getRange()]) tables[name].removeSync(key as never);
          for (const { key, value } of copies) tables[name].putSync(key, value);
        }
      });
      return taken;
    });
  }

  async #read<T>(use: (tables: Tables) => T): Promise<T> {
    const { openTables } = (await import(pathToFileURL(LMDB_MODULE).href)) as { openTables(path: string): Tables };
    const tables = openTables(this.#path);
    try {
      return use(tables);
    } finally {
      await tables.root.close();
    }
  }

  async end(): Promise<void> {
    rmSync(this.#path, { recursive: true, force: true });
  }
}

/** test/support/postgres-pair.ts counts effects in it. */
const SCHEMA = 'cairn_torture';

/** PostgreSQL on a private server, which is also stopped and started. */
export async function postgresDatabase(mistake = ''): Promise<TortureDatabase> {
  const server = await PostgresServer.start();
  const stopAWhile = async (): Promise<void> => {
    await server.crash();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await server.run();
  };
  const store = await PostgresStore.make({
    address: server.url(),
    schema: SCHEMA,
    faults: [{ name: 'database stopped', run: stopAWhile }],
    leavesCursors: mistake === 'rows-alone',
  });
  const end = store.end.bind(store);
  return Object.assign(store, {
    end: async (keeps: boolean) => {
      await end(keeps);
      await server.stop();
    },
  });
}

/** PostgreSQL with an asynchronous standby: it goes back because the primary is killed and the standby promoted. */
export async function standbyDatabase(): Promise<TortureDatabase> {
  const pair = await PostgresPair.start();
  const store = await PostgresStore.make({ address: pair.url, schema: SCHEMA });
  const end = store.end.bind(store);
  return Object.assign(store, {
    past: pair,
    end: async (keeps: boolean) => {
      await end(keeps);
      await pair.stop();
    },
  });
}
