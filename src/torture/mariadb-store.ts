/** MariaDB or MySQL: a database that is made for it, or where the user may make none, tables with a prefix. */
import { loadTools, makeBackend } from '../backend/index.ts';
import type { DatabaseFault } from './database.ts';
import { NotedStore } from './noted-store.ts';
import { type Run, SqlPast } from './sql-past.ts';

/** What is used of the package mariadb. */
interface Connection {
  query(options: object): Promise<unknown>;
  end(): Promise<void>;
}

/** The errors of a user who may not make a database. */
const NOT_GRANTED: readonly unknown[] = [1044, 1227];

/** `own`: a name that nothing has: of the database, or what the names of tables begin with. */
export async function mariadbStore(
  address: string,
  own: string,
  faults: readonly DatabaseFault[] = [],
): Promise<NotedStore> {
  const { loadDriver, mariadbTarget } = await loadTools();
  const { target } = mariadbTarget(address);
  const driver = await loadDriver('MariaDB or MySQL', 'mariadb', 'mariadb@3');
  const connect = driver['createConnection'] as (options: object) => Promise<Connection>;
  const connected = async <T>(use: (run: Run) => Promise<T>): Promise<T> => {
    const connection = await connect({ ...target, logParam: false });
    try {
      return await use(async (sql) => {
        const result = await connection.query({ sql, rowsAsArray: true });
        return Array.isArray(result) ? (result as unknown[][]) : [];
      });
    } finally {
      await connection.end();
    }
  };
  const isOwn = await connected((run) => makes(run, own));
  const database = isOwn ? own : target.database;
  const prefix = isOwn ? 'cairn_' : `${own}_`;
  if (!isOwn) await connected((run) => refuseTables(run, prefix));
  const store = placed(address, { database: isOwn ? own : undefined, prefix });
  const table = (name: string): string => `\`${database}\`.\`${prefix}${name}\``;
  const tables = { cursors: table('cursors'), entries: table('entries'), letters: table('dead_letters') };
  const copyOf = (name: string): string => name.replace(/`$/, '_past`');
  const past = new SqlPast({
    connected,
    tables,
    copyOf,
    begin: ['START TRANSACTION', `SELECT * FROM ${tables.cursors} FOR UPDATE`],
    make: (copy, like) => `CREATE TABLE IF NOT EXISTS ${copy} LIKE ${like}`,
  });
  const drop = isOwn
    ? [`DROP DATABASE \`${own}\``]
    : Object.values(tables).flatMap((name) => [name, copyOf(name)].map((each) => `DROP TABLE IF EXISTS ${each}`));
  const remove = (): Promise<void> =>
    connected(async (run) => {
      for (const command of drop) await run(command);
    });
  const cut = (): Promise<void> => connected((run) => cutConnections(run, own));
  const { name } = await makeBackend(store);
  return new NotedStore({
    name: isOwn ? name : `${name}, tables ${prefix}*`,
    address: store,
    // Those to a database that others use, too, are not told apart.
    faults: isOwn ? [...faults, { name: 'connections cut', run: cut }] : faults,
    past,
    remove,
  });
}

async function makes(run: Run, database: string): Promise<boolean> {
  try {
    await run(`CREATE DATABASE \`${database}\``);
    return true;
  } catch (error) {
    if (NOT_GRANTED.includes((error as { errno?: unknown }).errno)) return false;
    throw error;
  }
}

async function refuseTables(run: Run, prefix: string): Promise<void> {
  const [found] = await run(
    `SELECT table_name FROM information_schema.tables
      WHERE table_schema = DATABASE() AND LEFT(table_name, ${prefix.length}) = '${prefix}'`,
  );
  if (found !== undefined) throw new Error(`The table ${String(found[0])} exists, and is not of this torture`);
}

async function cutConnections(run: Run, database: string): Promise<void> {
  const found = await run(`SELECT id FROM information_schema.processlist WHERE db = '${database}'`);
  for (const [id] of found) {
    await run(`KILL CONNECTION ${Number(id)}`).catch(() => {
      // It has ended meanwhile.
    });
  }
}

/** The address with these in place of its database and prefix. */
function placed(address: string, { database, prefix }: { database: string | undefined; prefix: string }): string {
  const question = address.indexOf('?');
  const parameters = new URLSearchParams(question < 0 ? '' : address.slice(question + 1));
  parameters.set('prefix', prefix);
  const base = question < 0 ? address : address.slice(0, question);
  const there = database === undefined ? base : base.replace(/\/[^/]*$/, `/${database}`);
  return `${there}?${parameters}`;
}
