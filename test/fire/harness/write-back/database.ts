// The databases that write-back is tried on under fire, as a campaign sees them.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { PostgresServer } from '../../../support/postgres.ts';
import { projectRoot } from '../target.ts';

export interface FireRow {
  readonly value: string;
  readonly clientFlags: number;
  /** Unix milliseconds; 0: never. */
  readonly expiresWallMs: number;
}

/** What can be done to a database while it is written. */
export interface DatabaseFault {
  readonly name: string;
  /** Begins it, and resolves when it is over. */
  run(): Promise<void>;
}

export interface FireDatabase {
  readonly name: string;
  /** What `--store` is. */
  readonly store: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly faults: readonly DatabaseFault[];
  /** Called when the cache has been opened: from now on effects are noted. */
  watch(): Promise<void>;
  rows(): Promise<ReadonlyMap<string, FireRow>>;
  /** Every effect that a change has had on a row, named by what happens only once. */
  effects(): Promise<readonly string[]>;
  end(): Promise<void>;
}

interface Tables {
  root: { close(): Promise<void> };
  rows: {
    getRange(): Iterable<{ key: Uint8Array; value: { value: Uint8Array; clientFlags: number; expiresWallMs: number } }>;
  };
  history: { getRange(): Iterable<{ value: [kind: string, key: string, version: string] }> };
}

/** LMDB by test/support/lmdb-backend.mjs. It has no server that could be stopped. */
export class LmdbDatabase implements FireDatabase {
  readonly name = 'lmdb';
  readonly store: string = join(projectRoot, 'test/support/lmdb-backend.mjs');
  readonly environment: Readonly<Record<string, string>>;
  readonly faults: readonly DatabaseFault[] = [];
  readonly #path = mkdtempSync(join(tmpdir(), 'cairn-fire-lmdb-'));

  /** `mistake`: what the database does wrong, to show that it is found. */
  constructor(mistake = '') {
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

/** A PostgreSQL server that is stopped, started and cut off. A trigger notes every effect on a row. */
export class PostgresDatabase implements FireDatabase {
  readonly name = 'postgres';
  readonly store: string;
  readonly environment: Readonly<Record<string, string>> = {};
  readonly faults: readonly DatabaseFault[];
  readonly #server: PostgresServer;

  private constructor(server: PostgresServer) {
    this.#server = server;
    this.store = server.url();
    this.faults = [
      { name: 'database stopped', run: () => this.#stopAWhile() },
      { name: 'connections cut', run: () => this.#cut() },
    ];
  }

  static async start(): Promise<PostgresDatabase> {
    const server = await PostgresServer.start();
    // The table as Cairn makes it, so that there is one for the trigger; docs/backends.md has it.
    await server.query(`
      CREATE TABLE effects (number bigserial PRIMARY KEY, effect text NOT NULL);
      CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP = 'DELETE' THEN
          INSERT INTO effects (effect) VALUES ('delete ' || encode(OLD.key, 'escape') || ' ' || OLD.version);
        ELSE
          INSERT INTO effects (effect) VALUES ('write ' || encode(NEW.key, 'escape') || ' ' || NEW.version);
        END IF;
        RETURN NULL;
      END $$`);
    return new PostgresDatabase(server);
  }

  /** When the tables have been made. */
  async watch(): Promise<void> {
    await this.#server.query(
      'CREATE OR REPLACE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON cairn_entries FOR EACH ROW EXECUTE FUNCTION note()',
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
      "SELECT encode(key, 'escape') AS key, value, client_flags, expires_ms FROM cairn_entries",
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
    return (await this.#server.query('SELECT effect FROM effects ORDER BY number')).map(({ effect }) => String(effect));
  }

  async end(): Promise<void> {
    await this.#server.stop();
  }
}
