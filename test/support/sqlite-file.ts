// A SQLite database of one test: what it refuses, and what is in it.

import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { loadSqlite, type SqliteRow } from '../../src/backend/sqlite-driver.ts';

/** Whether a package for SQLite is here. */
export const hasSqlite: boolean = await loadSqlite().then(
  () => true,
  () => false,
);

export class SqliteFile {
  readonly path: string;

  /** `folder`: a directory that need not be there yet. */
  constructor(folder: string) {
    this.path = join(folder, 'store.sqlite');
    mkdirSync(dirname(this.path), { recursive: true });
  }

  get url(): string {
    return `sqlite:${this.path}`;
  }

  /** All rows of the last command. */
  async query(command: string): Promise<SqliteRow[]> {
    const database = (await loadSqlite())(this.path);
    try {
      return database.prepare(command).all();
    } finally {
      database.close();
    }
  }

  async run(commands: string): Promise<void> {
    const database = (await loadSqlite())(this.path);
    try {
      database.exec(commands);
    } finally {
      database.close();
    }
  }

  /**
   * From now on it refuses values that begin with "refused", that they are touched, and that they are deleted. The
   * tables have to be there.
   */
  async refuse(): Promise<void> {
    const values = "substr(CAST(NEW.value AS TEXT), 1, 7) = 'refused'";
    const before = "substr(CAST(OLD.value AS TEXT), 1, 7) = 'refused'";
    const abort = "BEGIN SELECT RAISE(ABORT, 'This value is refused'); END";
    await this.run(`
      CREATE TRIGGER no_insert BEFORE INSERT ON cairn_entries WHEN ${values} ${abort};
      CREATE TRIGGER no_update BEFORE UPDATE ON cairn_entries WHEN ${values} ${abort};
      CREATE TRIGGER no_delete BEFORE DELETE ON cairn_entries WHEN ${before} ${abort}`);
  }

  async allow(): Promise<void> {
    await this.run('DROP TRIGGER no_insert; DROP TRIGGER no_update; DROP TRIGGER no_delete');
  }

  /** Values by key. */
  async rows(): Promise<Record<string, string>> {
    const rows = await this.query('SELECT key, value FROM cairn_entries ORDER BY key');
    return Object.fromEntries(rows.map(({ key, value }) => [String(key), String(value)]));
  }
}
