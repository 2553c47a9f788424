// The databases that write-back is tried on under fire, as a campaign sees them.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
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
