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
}

export async function openTables(connection: PostgresConnection, names: TableNames): Promise<Tables> {
  const state = await connection.command(
    "SELECT current_setting('server_version_num'), current_schema(), pg_is_in_recovery()",
  );
  const [version, currentSchema, isStandby] = state.rows[0]!;
  if (Number(version) < SERVER_VERSION_MIN) throw unfit(['PostgreSQL 12 or newer is needed']);
  // During a failover the address may still be a standby's: the next try may find the new primary.
  if (isStandby === 't') throw Object.assign(new Error('The database is a standby: read-only'), { code: '25006' });
  const schema = names.schema ?? currentSchema;
  if (schema == null) throw unfit(['the search path has no schema that exists: name one (?schema=NAME)']);
  const tables = tablesOf(schema, names.prefix);
  const all = [tables.cursors, tables.entries, tables.deadLetters, ...(names.hasHistory ? [tables.history] : [])];
  let found = await describe(connection, schema, all);
  if (all.some((table) => !found.has(table.name))) {
    await create(connection, schema, tables, all);
    found = await describe(connection, schema, all);
  }
  const problems = all.flatMap((table) => problemsOf(table, found.get(table.name)));
  if (problems.length > 0) throw unfit(problems);
  return tables;
}

async function create(
  connection: PostgresConnection,
  schema: string,
  tables: Tables,
  all: readonly Table[],
): Promise<void> {
  await connection.command(`BEGIN; SELECT pg_advisory_xact_lock(${ADVISORY_LOCK})`);
  const schemas = await connection.run({
    name: '',
    text: 'SELECT 1 FROM pg_namespace WHERE nspname = $1',
    values: [schema],
  });
  if (schemas.rows.length === 0) await connection.command(`CREATE SCHEMA ${quoted(schema)}`);
  const found = await describe(connection, schema, all);
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
): Promise<Map<string, FoundTable>> {
  const values = [schema, ...all.map(({ name }) => name)];
  const ours = `n.nspname = $1 AND c.relname IN (${all.map((_, i) => `$${i + 2}`).join(', ')})`;
  const from = 'pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace';
  const { rows: tables } = await connection.run({
    name: '',
    text: `SELECT c.relname, c.relkind, c.relpersistence,
        has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
          AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
          AND has_table_privilege(c.oid, 'DELETE'),
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

function problemsOf(table: Table, found: FoundTable | undefined): string[] {
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
  if (!found.isGranted) problems.push(`SELECT, INSERT, UPDATE and DELETE on ${name} are needed`);
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
