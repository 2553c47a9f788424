/** What the catalogue of MariaDB or MySQL says of a table of the user's own. */
import type { ColumnKind, FoundColumn, FoundTable, OwnTableRule } from '../rules/index.ts';
import type { Cell, MariadbConnection } from './mariadb-connection.ts';
import type { Reference } from './own-table.ts';

export interface MariadbFoundTable extends FoundTable {
  /** The columns of every unique index, also of those that no key can have. */
  readonly indexes: readonly (readonly string[])[];
}

export function quoted(name: string): string {
  return `\`${name.replaceAll('`', '``')}\``;
}

/** The name of a table as statements write it: with its database, if the rule names one. */
export function nameInSql({ table }: OwnTableRule): string {
  return table.split('.').map(quoted).join('.');
}

/** Undefined: there is no such table, or the user may not know of it. */
export async function describe(
  connection: MariadbConnection,
  own: OwnTableRule,
  readsOnly: boolean,
): Promise<MariadbFoundTable | undefined> {
  const [table, schema] = own.table.split('.').reverse();
  const candidates = await connection.run(
    `SELECT table_schema, table_name, table_type, engine, @@lower_case_table_names
      FROM information_schema.tables WHERE table_schema = coalesce(?, DATABASE()) AND table_name = ?`,
    [schema ?? null, table!],
  );
  // The catalogue compares names without case; the server may tell them apart.
  const found =
    candidates.find(([, name]) => name === table) ?? candidates.find(([, , , , isLower]) => Number(isLower) !== 0);
  if (found === undefined) return undefined;
  const [itsSchema, itsName, type, engine] = found;
  const problems: string[] = [];
  if (type !== 'BASE TABLE' && type !== 'SYSTEM VERSIONED') problems.push(`${own.table} is not a table`);
  else if (engine !== 'InnoDB' && !readsOnly) {
    problems.push(`${own.table} has the engine ${String(engine)}, which has no transactions: change it to InnoDB`);
  }
  const where = 'WHERE table_schema = ? AND table_name = ? AND BINARY table_name = ?';
  const names: Cell[] = [itsSchema!, itsName!, itsName!];
  const columns = await connection.run(
    `SELECT column_name, data_type, column_type, is_nullable, column_default, extra,
        coalesce(generation_expression, '') <> '', character_maximum_length, datetime_precision, collation_name
      FROM information_schema.columns ${where} ORDER BY ordinal_position`,
    names,
  );
  const checked = connection.isMariadb
    ? await connection.run(
        `SELECT check_clause FROM information_schema.check_constraints
          WHERE constraint_schema = ? AND table_name = ? AND BINARY table_name = ?`,
        names,
      )
    : [];
  const clauses = new Set(checked.map(([clause]) => textOf(clause)));
  const parts = await connection.run(
    `SELECT index_name, column_name, sub_part IS NOT NULL OR index_type <> 'BTREE'
      FROM information_schema.statistics ${where} AND non_unique = 0 ORDER BY index_name, seq_in_index`,
    names,
  );
  const indexes = new Map<string, { readonly columns: string[]; isWhole: boolean }>();
  for (const [name, column, isPart] of parts) {
    const index = indexes.get(textOf(name)) ?? { columns: [], isWhole: true };
    indexes.set(textOf(name), index);
    index.columns.push(column === null ? '' : textOf(column));
    // A part of a column, an expression, or a hash that has no order.
    if (Number(isPart) !== 0 || column === null) index.isWhole = false;
  }
  const described = new Map(
    columns.map((column): [string, FoundColumn] => {
      const name = textOf(column[0]);
      return [name, columnOf(name, column, clauses.has(`json_valid(${quoted(name)})`), connection.isMariadb)];
    }),
  );
  if (problems.length === 0 && own.key.every((column) => described.has(column))) {
    problems.push(...(await missingPermissions(connection, own, readsOnly)));
  }
  return {
    identity: `${textOf(itsSchema)}.${textOf(itsName)}`,
    problems,
    columns: described,
    unique: [...indexes.values()].filter(({ isWhole }) => isWhole).map(({ columns: its }) => its),
    indexes: [...indexes.values()].map(({ columns: its }) => its),
  };
}

/** The foreign keys of a table, with the tables that they refer to. */
export async function references(connection: MariadbConnection, own: OwnTableRule): Promise<Reference[]> {
  const [table, schema] = own.table.split('.').reverse();
  const rows = await connection.run(
    `SELECT DISTINCT constraint_name, referenced_table_schema, referenced_table_name
      FROM information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL
        AND table_schema = coalesce(?, DATABASE()) AND table_name = ? ORDER BY constraint_name`,
    [schema ?? null, table!],
  );
  return rows.map(([name, itsSchema, itsName]) => ({
    name: textOf(name),
    identity: `${textOf(itsSchema)}.${textOf(itsName)}`,
  }));
}

/** Statements that touch no row find out what the user may: the catalogue does not know of roles. */
async function missingPermissions(
  connection: MariadbConnection,
  own: OwnTableRule,
  readsOnly: boolean,
): Promise<string[]> {
  const table = nameInSql(own);
  const key = own.key.map(quoted);
  const reading = `SELECT ${key.join(', ')} FROM ${table} LIMIT 0`;
  const writing = [
    `INSERT INTO ${table} (${key.join(', ')}) SELECT ${key.join(', ')} FROM ${table} WHERE FALSE`,
    `UPDATE ${table} SET ${key[0]} = ${key[0]} WHERE FALSE`,
    `DELETE FROM ${table} WHERE FALSE`,
  ];
  for (const statement of readsOnly ? [reading] : [reading, ...writing]) {
    try {
      await connection.command(statement);
    } catch (error) {
      if (connection.isBroken) throw error;
      // Others are those of a table that would not do, which the columns say by name.
      if (!PERMISSION.has((error as { errno?: unknown }).errno)) continue;
      return [
        readsOnly ? `SELECT on ${own.table} is needed` : `SELECT, INSERT, UPDATE and DELETE on ${own.table} are needed`,
      ];
    }
  }
  return [];
}

/** For a table, for a column, for a view that names what may not be seen. */
const PERMISSION: ReadonlySet<unknown> = new Set([1142, 1143, 1345]);

const INTEGERS: Readonly<Record<string, number>> = { tinyint: 8, smallint: 16, mediumint: 24, int: 32, bigint: 64 };
const KINDS: Readonly<Record<string, ColumnKind>> = {
  decimal: 'decimal',
  float: 'float',
  double: 'float',
  varchar: 'text',
  char: 'text',
  tinytext: 'text',
  text: 'text',
  mediumtext: 'text',
  longtext: 'text',
  enum: 'text',
  json: 'json',
  timestamp: 'instant',
  datetime: 'time',
  date: 'date',
  uuid: 'uuid',
  varbinary: 'bytes',
  tinyblob: 'bytes',
  blob: 'bytes',
  mediumblob: 'bytes',
  longblob: 'bytes',
};

function columnOf(name: string, cells: readonly Cell[], isJson: boolean, isMariadb: boolean): FoundColumn {
  const [, dataType, columnType, isNullable, given, extra, isGenerated, charsMax, precision, collation] = cells;
  const [type, whole] = [textOf(dataType).toLowerCase(), textOf(columnType).toLowerCase()];
  const bits = INTEGERS[type];
  const kind = isJson ? 'json' : whole.startsWith('tinyint(1)') ? 'boolean' : bits ? 'integer' : KINDS[type];
  return {
    type: textOf(columnType),
    kind,
    bits: bits ?? 0,
    isUnsigned: whole.includes('unsigned'),
    accepts: kind === 'text' ? acceptsOf(type, textOf(columnType), Number(charsMax)) : undefined,
    isRequired: isNullable === 'NO',
    otherwise: otherwiseOf(name, given === null ? undefined : textOf(given), textOf(extra)),
    isGenerated: Number(isGenerated) !== 0,
    keyProblem: kind === 'text' ? keyProblemOf(type, textOf(columnType), textOf(collation), isMariadb) : undefined,
    expiryProblem: Number(precision) < 3 ? 'has no milliseconds, as timestamp(3) has' : undefined,
  };
}

/** Texts that the server would keep as others without a word are not accepted. */
function acceptsOf(type: string, whole: string, max: number): (text: string) => boolean {
  switch (type) {
    case 'enum': {
      // A number is a place in the list, and case may not count.
      const members = new Set(Array.from(whole.matchAll(/'((?:[^']|'')*)'/g), ([, one]) => one!.replaceAll("''", "'")));
      return (text) => members.has(text);
    }
    case 'char':
      return (text) => !text.endsWith(' ');
    case 'varchar':
      // Spaces beyond the length are cut off.
      return (text) => text.length <= max || Array.from(text).length <= max;
    default:
      return (text) => !text.endsWith(' ') || Buffer.byteLength(text) <= max;
  }
}

function otherwiseOf(name: string, given: string | undefined, extra: string): string | undefined {
  // NULL has the next number.
  if (/auto_increment/i.test(extra)) return 'NULL';
  // MySQL has no DEFAULT() of an expression.
  if (/DEFAULT_GENERATED/i.test(extra)) return `(${given})`;
  return given === undefined ? undefined : `DEFAULT(${quoted(name)})`;
}

function keyProblemOf(type: string, whole: string, collation: string, isMariadb: boolean): string | undefined {
  if (type === 'enum' || type === 'char') return `has the type ${whole}`;
  const good = isMariadb ? 'utf8mb4_nopad_bin' : 'utf8mb4_0900_bin';
  if (/^utf8mb4_(nopad|0900)_bin$/.test(collation)) return undefined;
  return /(nopad|0900)_bin$/.test(collation)
    ? `has the collation ${collation}, which has not every text, as ${good} has`
    : `has the collation ${collation}, which merges texts that differ, as ${good} does not`;
}

// The catalogue has some texts as bytes.
function textOf(cell: Cell | undefined): string {
  return Buffer.isBuffer(cell) ? cell.toString() : String(cell);
}
