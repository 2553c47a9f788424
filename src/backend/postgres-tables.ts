/** Makes the tables of a PostgreSQL backend where they are missing, and finds at opening why they would not do. */
import { unfit } from './own-errors.ts';
import type { PostgresConnection } from './postgres-connection.ts';
import { creation, LAYOUT, quoted, type Table, type Tables, tablesOf } from './postgres-sql.ts';

/** PostgreSQL 12: older ones get no fixes from their makers, and are not tested here. */
const SERVER_VERSION_MIN = 120_000;

/** "cairn": openings that make tables take turns by this number. */
const ADVISORY_LOCK = 0x636169726e;

export interface TableNames {
  /** Undefined: the first schema of the search path that exists. */
  readonly schema: string | undefined;
  readonly prefix: string;
  /** Whether there is a table of history. */
  readonly hasHistory: boolean;
  /** No table is made, and one that is missing is as an empty one. */
  readonly readsOnly: boolean;
}

/** The rights on a table that are needed. */
export function rightsFor(readsOnly: boolean): readonly string[] {
  return readsOnly ? ['SELECT'] : ['SELECT', 'INSERT', 'UPDATE', 'DELETE'];
}

/** The condition that the user has all of the rights on a table. */
export function hasRights(table: string, rights: readonly string[]): string {
  return rights.map((right) => `has_table_privilege(${table}, '${right}')`).join(' AND ');
}

/** What is wrong where the user lacks one of them. */
export function areNeeded(rights: readonly string[], table: string): string {
  return rights.length === 1
    ? `${rights[0]} on ${table} is needed`
    : `${rights.slice(0, -1).join(', ')} and ${rights.at(-1)} on ${table} are needed`;
}

export async function openTables(connection: PostgresConnection, names: TableNames): Promise<Tables> {
  const state = await connection.command(
    "SELECT current_setting('server_version_num'), current_schema(), pg_is_in_recovery()",
  );
  const [version, currentSchema, isStandby] = state.rows[0]!;
  if (Number(version) < SERVER_VERSION_MIN) throw unfit(['PostgreSQL 12 or newer is needed']);
  // During a failover the address may still be a standby's: the next try may find the new primary.
  if (isStandby === 't' && !names.readsOnly)
    throw Object.assign(new Error('The database is a standby: read-only'), { code: '25006' });
  const schema = names.schema ?? currentSchema;
  if (schema == null) throw unfit(['the search path has no schema that exists: name one (?schema=NAME)']);
  const tables = tablesOf(schema, names.prefix);
  const all = [tables.cursors, tables.entries, tables.deadLetters, ...(names.hasHistory ? [tables.history] : [])];
  let found = await describe(connection, schema, all, names);
  if (names.readsOnly) return readable(tables, all, names, found);
  if (all.some((table) => !found.has(table.name))) {
    await create(connection, schema, tables, all, names);
    found = await describe(connection, schema, all, names);
  }
  const problems = all.flatMap((table) => problemsOf(table, found.get(table.name), names));
  if (problems.length > 0) throw unfit(problems);
  return tables;
}

/** The tables for a cache that only reads. */
function readable(
  tables: Tables,
  all: readonly Table[],
  names: TableNames,
  found: ReadonlyMap<string, FoundTable>,
): Tables {
  const problems = all.flatMap((table) => {
    const its = found.get(table.name);
    return its === undefined ? [] : problemsOf(table, its, names);
  });
  if (problems.length > 0) throw unfit(problems);
  const orEmpty = (table: Table): Table => (found.has(table.name) ? table : { ...table, quoted: empty(table) });
  const { entries, cursors, deadLetters } = tables;
  return { ...tables, entries: orEmpty(entries), cursors: orEmpty(cursors), deadLetters: orEmpty(deadLetters) };
}

/** What stands for a missing table in statements that read. */
function empty({ columns }: Table): string {
  return `(SELECT ${columns.map(({ name, type }) => `NULL::${type} AS ${quoted(name)}`).join(', ')} WHERE false)`;
}

async function create(
  connection: PostgresConnection,
  schema: string,
  tables: Tables,
  all: readonly Table[],
  names: TableNames,
): Promise<void> {
  await connection.command(`BEGIN; SELECT pg_advisory_xact_lock(${ADVISORY_LOCK})`);
  const schemas = await connection.run({
    name: '',
    text: 'SELECT 1 FROM pg_namespace WHERE nspname = $1',
    values: [schema],
  });
  if (schemas.rows.length === 0) await connection.command(`CREATE SCHEMA ${quoted(schema)}`);
  const found = await describe(connection, schema, all, names);
  for (const table of all) {
    if (!found.has(table.name)) for (const command of creation(tables, table)) await connection.command(command);
  }
  await connection.command('COMMIT');
}

interface FoundColumn {
  readonly type: string;
  readonly isRequired: boolean;
  readonly hasDefault: boolean;
}

interface FoundTable {
  readonly kind: string;
  readonly persistence: string;
  readonly isGranted: boolean;
  readonly hidesRows: boolean;
  readonly comment: string;
  readonly columns: ReadonlyMap<string, FoundColumn>;
  /** The columns of each unique key. */
  readonly unique: readonly (readonly string[])[];
}

/** What the catalogue says of those of the tables that exist. */
async function describe(
  connection: PostgresConnection,
  schema: string,
  all: readonly Table[],
  { readsOnly }: TableNames,
): Promise<Map<string, FoundTable>> {
  const values = [schema, ...all.map(({ name }) => name)];
  const ours = `n.nspname = $1 AND c.relname IN (${all.map((_, i) => `$${i + 2}`).join(', ')})`;
  const from = 'pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace';
  const { rows: tables } = await connection.run({
    name: '',
    text: `SELECT c.relname, c.relkind, c.relpersistence,
        has_schema_privilege(n.oid, 'USAGE') AND ${hasRights('c.oid', rightsFor(readsOnly))},
        row_security_active(c.oid), obj_description(c.oid, 'pg_class')
      FROM ${from} WHERE ${ours} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`,
    values,
  });
  const { rows: columns } = await connection.run({
    name: '',
    text: `SELECT c.relname, a.attname, format_type(a.atttypid, NULL), a.attnotnull,
        a.atthasdef OR a.attidentity <> ''
      FROM ${from} JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE ${ours}`,
    values,
  });
  const { rows: keys } = await connection.run({
    name: '',
    text: `SELECT c.relname, (SELECT json_agg(a.attname) FROM pg_attribute AS a
          WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]))
        FROM ${from} JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
          AND i.indpred IS NULL AND i.indexprs IS NULL
      WHERE ${ours}`,
    values,
  });
  return new Map(
    tables.map(([name, kind, persistence, isGranted, hidesRows, comment]) => [
      name!,
      {
        kind: kind!,
        persistence: persistence!,
        isGranted: isGranted === 't',
        hidesRows: hidesRows === 't',
        comment: comment ?? '',
        columns: new Map(
          columns
            .filter(([table]) => table === name)
            .map(([, column, type, isRequired, hasDefault]) => [
              column!,
              { type: type!, isRequired: isRequired === 't', hasDefault: hasDefault === 't' },
            ]),
        ),
        unique: keys.filter(([table]) => table === name).map(([, names]) => JSON.parse(names!) as string[]),
      },
    ]),
  );
}

function problemsOf(table: Table, found: FoundTable | undefined, { readsOnly }: TableNames): string[] {
  const { quoted: name } = table;
  if (found === undefined) return [`the table ${name} is missing`];
  if (found.kind !== 'r' && found.kind !== 'p') return [`${name} is not a table`];
  const [, layout] = /^cairn-cache, layout (\d+)/.exec(found.comment) ?? [];
  if (layout !== undefined && Number(layout) > LAYOUT) {
    return [`${name} has layout ${layout}, which a newer version made; this version knows ${LAYOUT}`];
  }
  const problems: string[] = [];
  if (found.persistence !== 'p') {
    problems.push(
      `${name} is ${found.persistence === 'u' ? 'unlogged' : 'temporary'}: a crash of the database empties it`,
    );
  }
  if (!found.isGranted) problems.push(areNeeded(rightsFor(readsOnly), name));
  if (found.hidesRows) problems.push(`row-level security hides rows of ${name} from this user`);
  for (const { name: column, type } of table.columns) {
    const actual = found.columns.get(column);
    if (actual === undefined) problems.push(`${name} has no column ${column} (${type})`);
    else if (actual.type !== type) problems.push(`${name}.${column} is ${actual.type}, and has to be ${type}`);
  }
  for (const [column, { isRequired, hasDefault }] of found.columns) {
    const expected = table.columns.find((known) => known.name === column);
    if (isRequired && !hasDefault && expected === undefined) {
      problems.push(`${name}.${column} is NOT NULL without a default, and no value goes there`);
    }
    if (isRequired && expected !== undefined && !expected.isRequired) {
      problems.push(`${name}.${column} is NOT NULL, and has to take NULL`);
    }
  }
  const { key } = table;
  if (!found.unique.some((index) => index.length === key.length && key.every((column) => index.includes(column)))) {
    problems.push(`${name} has no unique index on ${key.join(', ')} alone`);
  }
  return problems;
}
