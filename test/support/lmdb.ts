// What is in the database of lmdb-backend.mjs, for a test that has ended or begins.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openTables } from './lmdb-backend.mjs';

export const LMDB_MODULE: string = fileURLToPath(new URL('./lmdb-backend.mjs', import.meta.url));

export interface LmdbContent {
  /** By key. */
  readonly rows: Readonly<Record<string, string>>;
  /** Unix milliseconds by key; 0: never. */
  readonly expiries: Readonly<Record<string, number>>;
  /** Every change that had an effect, in order: `set key@version`. */
  readonly history: readonly string[];
}

/** A directory for one database, whose name the backend finds in CAIRN_TEST_LMDB. */
export class LmdbDirectory {
  path = '';

  /** Makes it. A second call makes another one, which is empty. */
  make(): this {
    this.path = mkdtempSync(join(tmpdir(), 'cairn-lmdb-'));
    process.env['CAIRN_TEST_LMDB'] = this.path;
    return this;
  }

  async read(): Promise<LmdbContent> {
    const { root, rows, history } = openTables(this.path);
    const all = [...rows.getRange()].map(({ key, value }) => ({ key: Buffer.from(key).toString('latin1'), value }));
    const content = {
      rows: Object.fromEntries(all.map(({ key, value }) => [key, String(value.value)])),
      expiries: Object.fromEntries(all.map(({ key, value }) => [key, value.expiresWallMs])),
      history: [...history.getRange()].map(({ value: [kind, key, version] }) => `${kind} ${key}@${version}`),
    };
    await root.close();
    return content;
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
