// The databases of the clone that write-back is tried on under fire: a private server that is stopped, and databases
// with a planted mistake.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { DatabaseFault, FireDatabase, FireRow } from '../../../../src/torture/database.ts';
import type { Past } from '../../../../src/torture/failovers.ts';
import { PostgresPast } from '../../../../src/torture/postgres-past.ts';
import { PostgresServer } from '../../../support/postgres.ts';
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

/** LMDB by test/support/lmdb-backend.mjs. It has no server that could be stopped. */
export class LmdbDatabase implements FireDatabase, Past {
  readonly name = 'lmdb';
  readonly store: string = join(projectRoot, 'test/support/lmdb-backend.mjs');
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
    this.environment = { CAIRN_TEST_LMDB: this.#path, CAIRN_TEST_LMDB_MISTAKE: mistake };
  }

  async watch(): Promise<void> {}

  rows(): Promise<ReadonlyMap<string, FireRow>> {
    return this.#read(({ rows }) => {
      return new Map(
        Array.from(rows.getRange(), ({ key, value: { value, clientFlags, expiresWallMs } }) => [
          Buffer.from(key).toString('latin1'),
          { value: Buffer.from(value).toString('latin1'), clientFlags, expiresWallMs },
        ]),
      );
    });
  }

  effects(): Promise<readonly string[]> {
    return this.#read(({ history }) => Array.from(history.getRange(), ({ value }) => value.join(' ')));
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
    const { openTables } = (await import(pathToFileURL(this.store).href)) as { openTables(path: string): Tables };
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

/** Only what is in here is ever put back. */
const SCHEMA = 'cairn_torture';

/** A PostgreSQL server that is stopped, started and cut off. A trigger notes every effect on a row. */
export class PostgresDatabase implements FireDatabase {
  readonly name = 'postgres';
  readonly store: string;
  readonly environment: Readonly<Record<string, string>> = {};
  readonly faults: readonly DatabaseFault[];
  readonly past: Past;
  readonly #server: PostgresServer;

  private constructor(server: PostgresServer, mistake: string) {
    this.#server = server;
    const url = new URL(server.url());
    url.searchParams.set('schema', SCHEMA);
    this.store = url.href;
    this.past = new PostgresPast({
      query: (text) => server.query(text),
      schema: SCHEMA,
      leavesCursors: mistake === 'rows-alone',
    });
    this.faults = [
      { name: 'database stopped', run: () => this.#stopAWhile() },
      { name: 'connections cut', run: () => this.#cut() },
    ];
  }

  static async start(mistake = ''): Promise<PostgresDatabase> {
    const server = await PostgresServer.start();
    // The table as Cairn makes it, so that there is one for the trigger; docs/backends.md has it.
    await server.query(`
      CREATE SCHEMA ${SCHEMA};
      CREATE TABLE ${SCHEMA}.effects (number bigserial PRIMARY KEY, effect text NOT NULL);
      CREATE FUNCTION ${SCHEMA}.note() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP = 'DELETE' THEN
          INSERT INTO ${SCHEMA}.effects (effect) VALUES ('delete ' || encode(OLD.key, 'escape') || ' ' || OLD.version);
        ELSE
          INSERT INTO ${SCHEMA}.effects (effect) VALUES ('write ' || encode(NEW.key, 'escape') || ' ' || NEW.version);
        END IF;
        RETURN NULL;
      END $$`);
    return new PostgresDatabase(server, mistake);
  }

  /** When the tables have been made. */
  async watch(): Promise<void> {
    await this.#server.query(
      `CREATE OR REPLACE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON ${SCHEMA}.cairn_entries FOR EACH ROW EXECUTE FUNCTION ${SCHEMA}.note()`,
    );
  }

  async #stopAWhile(): Promise<void> {
    await this.#server.crash();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await this.#server.run();
  }

  // In the middle of a transaction or not, as it comes.
  async #cut(): Promise<void> {
    for (let i = 0; i < 5; i++) {
      await this.#server
        .query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cairn-cache'")
        .catch(() => {
          // It is stopped meanwhile.
        });
      await new Promise((resolve) => setTimeout(resolve, 7));
    }
  }

  async rows(): Promise<ReadonlyMap<string, FireRow>> {
    const rows = await this.#server.query(
      `SELECT encode(key, 'escape') AS key, value, client_flags, expires_ms FROM ${SCHEMA}.cairn_entries`,
    );
    return new Map(
      rows.map(({ key, value, client_flags, expires_ms }) => [
        String(key),
        {
          value: (value as Buffer).toString('latin1'),
          clientFlags: Number(client_flags),
          expiresWallMs: Number(expires_ms),
        },
      ]),
    );
  }

  async effects(): Promise<readonly string[]> {
    const rows = await this.#server.query(`SELECT effect FROM ${SCHEMA}.effects ORDER BY number`);
    return rows.map(({ effect }) => String(effect));
  }

  async end(): Promise<void> {
    await this.#server.stop();
  }
}
