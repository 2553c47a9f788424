/** What the catalogue of SQLite says of a table of the user's own. */
import { type ColumnKind, type FoundColumn, type FoundTable, isInteger, type OwnTableRule } from '../rules/index.ts';
import type { Reference } from './own-table.ts';
import type { SqliteDatabase, SqliteRow } from './sqlite-driver.ts';

export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** The name of a table without the schema, of which a file has one. */
function nameOf({ table }: OwnTableRule): string | undefined {
  const [name, schema = 'main'] = table.split('.').reverse();
  return schema === 'main' ? name : undefined;
}

export function nameInSql(own: OwnTableRule): string {
  return `main.${quoted(nameOf(own)!)}`;
}

/** The foreign keys of a table, which have numbers, with the tables that they refer to. */
export function references(database: SqliteDatabase, own: OwnTableRule): Reference[] {
  const command = `SELECT DISTINCT k.id AS id, l.name AS name FROM pragma_foreign_key_list(?) AS k
    JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = k."table" COLLATE NOCASE ORDER BY k.id`;
  const rows = database.prepare(command).all(nameOf(own)!);
  return rows.map(({ id, name }) => ({ name: String(id), identity: name as string }));
}

/** Undefined: there is no such table. */
export function describe(database: SqliteDatabase, own: OwnTableRule): FoundTable | undefined {
  const ask = (command: string, ...cells: string[]): SqliteRow[] => database.prepare(command).all(...cells);
  const given = nameOf(own);
  const [table] = ask(
    "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE",
    given ?? '',
  );
  if (table === undefined) return undefined;
  const name = table['name'] as string;
  const rows = ask('SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)', name);
  const indexes = ask(`SELECT name, origin, partial FROM pragma_index_list(?) WHERE "unique" = 1`, name).map(
    (index) => ({
      isOfPrimaryKey: index['origin'] === 'pk',
      isPartial: index['partial'] !== 0n,
      columns: ask('SELECT name, coll FROM pragma_index_xinfo(?) WHERE key = 1', index['name'] as string),
    }),
  );
  const primary = rows.filter(({ pk }) => pk !== 0n);
  // The number of the row under another name: no index has it, and it is never NULL.
  const [alias] =
    primary.length === 1 &&
    /^integer$/i.test(String(primary[0]!['type'])) &&
    table['wr'] === 0n &&
    !indexes.some(({ isOfPrimaryKey }) => isOfPrimaryKey)
      ? primary
      : [];
  const columns = new Map<string, FoundColumn>();
  for (const row of rows) {
    columns.set(row['name'] as string, columnOf(row, table['strict'] !== 0n, row === alias));
  }
  const unique: string[][] = alias === undefined ? [] : [[alias['name'] as string]];
  for (const { isPartial, columns: its } of indexes) {
    if (isPartial || its.some((column) => column['name'] === null)) continue;
    const names = its.map((column) => column['name'] as string);
    const merging = its.find((column) => {
      return columns.get(column['name'] as string)?.kind === 'text' && column['coll'] !== 'BINARY';
    });
    if (merging === undefined) unique.push(names);
    else if (names.length === own.key.length && own.key.every((each) => names.includes(each))) {
      const of = merging['name'] as string;
      const keyProblem = `has the collation ${String(merging['coll'])} in its unique index, which merges texts that differ`;
      columns.set(of, { ...columns.get(of)!, keyProblem });
    }
  }
  // An index of another collation does not matter where one compares bytes.
  if (unique.some((names) => names.length === own.key.length && own.key.every((each) => names.includes(each)))) {
    for (const [each, column] of columns) columns.set(each, { ...column, keyProblem: undefined });
  }
  return {
    identity: name,
    columns,
    unique,
    problems: table['type'] === 'table' ? [] : [`${own.table} is not a table`],
  };
}

function columnOf(row: SqliteRow, isStrict: boolean, isAlias: boolean): FoundColumn {
  const declared = row['type'] as string;
  const otherwise = row['dflt_value'] as string | null;
  const kind = kindOf(declared.toUpperCase(), isStrict);
  return {
    type: declared === '' ? 'none' : declared,
    kind,
    bits: 64,
    accepts: isStrict ? undefined : acceptsOf(declared.toUpperCase(), kind),
    isRequired: row['notnull'] !== 0n && !isAlias,
    otherwise: otherwise ?? undefined,
    isGenerated: row['hidden'] !== 0n,
  };
}

/** By the affinity of the column, which is in the declared type, and by a few names for what people keep there. */
function kindOf(declared: string, isStrict: boolean): ColumnKind | undefined {
  if (/BOOL/.test(declared) && !isStrict) return 'boolean';
  if (declared.includes('INT')) return 'integer';
  if (/CHAR|CLOB|TEXT/.test(declared)) return 'text';
  if (declared.includes('BLOB')) return 'bytes';
  if (/REAL|FLOA|DOUB/.test(declared)) return 'float';
  if (declared === 'JSON') return 'json';
  if (/DEC|NUM/.test(declared)) return 'decimal';
  return /DATE|TIME|UUID/.test(declared) ? 'text' : undefined;
}

function acceptsOf(declared: string, kind: ColumnKind | undefined): ((text: string) => boolean) | undefined {
  // Of numeric affinity: a text that is a number becomes one, and digits beyond those of a number are lost.
  if (kind === 'decimal') return (text) => isInteger(text, { bits: 64 });
  return kind === 'text' && !/CHAR|CLOB|TEXT/.test(declared) ? (text) => Number.isNaN(Number(text)) : undefined;
}
