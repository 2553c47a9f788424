// The packages for SQLite that are here.

import { type OpenSqlite, openWithBetterSqlite, openWithNodeSqlite } from '../../src/backend/sqlite-driver.ts';
import { type ConditionalTest, skipUnless } from './skip.ts';

const isThere = (load: () => Promise<OpenSqlite>): Promise<boolean> =>
  load().then(
    () => true,
    () => false,
  );

export interface SqlitePackage {
  readonly name: string;
  readonly load: () => Promise<OpenSqlite>;
  readonly isThere: boolean;
  readonly condition: ConditionalTest;
}

const better = await isThere(openWithBetterSqlite);
const node = await isThere(openWithNodeSqlite);

export const SQLITE_PACKAGES: readonly SqlitePackage[] = [
  {
    ...{ name: 'better-sqlite3', load: openWithBetterSqlite, isThere: better },
    condition: skipUnless(better, 'better-sqlite3 is not built (npm rebuild better-sqlite3)'),
  },
  {
    ...{ name: 'node:sqlite', load: openWithNodeSqlite, isThere: node },
    condition: skipUnless(node, 'this Node has no node:sqlite', 'platform'),
  },
];
