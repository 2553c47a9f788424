/** What a tool uses that works on a database beside a backend: packages, and addresses taken apart. */
export { fileAddress } from './address.ts';
export { loadDriver } from './driver.ts';
export { mariadbTarget } from './mariadb-target.ts';
export { loadSqlite, type SqliteDatabase } from './sqlite-driver.ts';
