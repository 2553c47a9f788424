/** Tables of the user's own in PostgreSQL: what the catalogue says of them, and the statements on them. */
import type {
  Cell,
  Column,
  ColumnKind,
  FoundColumn,
  FoundTable,
  OwnTableRule,
  ReadCell,
  RuleSet,
  TablePlan,
} from '../rules/index.ts';
import { addOrMake } from './add-or-make.ts';
import type { AddChange, DeleteChange, Row, RowValue, SetChange, TouchChange } from './backend.ts';
import { COUNTER_MODULUS, numberOf } from './counter.ts';
import { findOwnTables, type OpenOwnTables, OwnTableRows, type Reference } from './own-table.ts';
import type { PostgresConnection, Result } from './postgres-connection.ts';
import { bytesOf, filled, groups, type Parameter, quoted, STATEMENT_ROWS_MAX, sizeFor } from './postgres-sql.ts';
import { areNeeded, hasRights, rightsFor } from './postgres-tables.ts';
import type { OwnTable } from './routes.ts';
import type { SweptPage, SweptTable } from './sweep.ts';

/** PostgreSQL counts the parameters of a statement with 16 bits. */
const PARAMETERS_MAX = 65_535;

/** Finds the tables of all rules. Throws `ERR_BACKEND_UNFIT` with every reason against one of them. */
export function openOwnTables(connection: PostgresConnection, options: OpenOwnTables): Promise<PostgresOwnTable[]> {
  return findOwnTables(options, {
    describe: (own) => describe(connection, own, options.readsOnly),
    references: (own) => references(connection, own),
    make: (plan, index) => new PostgresOwnTable(plan, index, options.rules),
  });
}

/** The foreign keys of a table, with the tables that they refer to. */
async function references(connection: PostgresConnection, own: OwnTableRule): Promise<Reference[]> {
  const text = `SELECT conname, confrelid FROM pg_constraint WHERE contype = 'f' AND conrelid = to_regclass($1)
    ORDER BY conname`;
  const { rows } = await connection.run({ name: '', text, values: [nameInSql(own)] });
  return rows.map(([name, identity]) => ({ name: name!, identity: identity! }));
}

/** The name of a table as statements write it: `shop.users`, with or without its schema. */
function nameInSql({ table }: OwnTableRule): string {
  return table.split('.').map(quoted).join('.');
}

const KINDS: Readonly<Record<string, readonly [ColumnKind, number]>> = {
  boolean: ['boolean', 0],
  smallint: ['integer', 16],
  integer: ['integer', 32],
  bigint: ['integer', 64],
  numeric: ['decimal', 0],
  real: ['float', 0],
  'double precision': ['float', 0],
  text: ['text', 0],
  'character varying': ['text', 0],
  json: ['json', 0],
  jsonb: ['json', 0],
  'timestamp with time zone': ['instant', 0],
  'timestamp without time zone': ['time', 0],
  date: ['date', 0],
  uuid: ['uuid', 0],
  bytea: ['bytes', 0],
};

/** Undefined: there is no such table. */
async function describe(
  connection: PostgresConnection,
  own: OwnTableRule,
  readsOnly: boolean,
): Promise<FoundTable | undefined> {
  const rights = rightsFor(readsOnly);
  const run = (text: string) => connection.run({ name: '', text, values: [nameInSql(own)] });
  const [table] = (
    await run(`SELECT c.oid, c.relkind, c.relpersistence, row_security_active(c.oid),
        has_schema_privilege(c.relnamespace, 'USAGE') AND ${hasRights('c.oid', rights)}
      FROM pg_class AS c WHERE c.oid = to_regclass($1)`)
  ).rows;
  if (table === undefined) return undefined;
  const [identity, kind, persistence, hidesRows, isGranted] = table;
  const problems: string[] = [];
  if (kind !== 'r' && kind !== 'p') problems.push(`${own.table} is not a table`);
  if (persistence !== 'p' && !readsOnly) {
    problems.push(
      `${own.table} is ${persistence === 'u' ? 'unlogged' : 'temporary'}: a crash of the database empties it`,
    );
  }
  if (hidesRows === 't') problems.push(`row-level security hides rows of ${own.table} from this user`);
  if (isGranted !== 't') problems.push(areNeeded(rights, own.table));
  const { rows: columns } = await run(`SELECT a.attname, format_type(t.oid, NULL), t.typtype, a.attnotnull,
        CASE WHEN a.attidentity = '' THEN pg_get_expr(d.adbin, d.adrelid)
          ELSE format('nextval(%L::regclass)', pg_get_serial_sequence($1, a.attname)) END,
        a.attgenerated <> '' OR a.attidentity = 'a',
        coalesce(l.collisdeterministic, true), l.collname
      FROM pg_attribute AS a JOIN pg_type AS own ON own.oid = a.atttypid
        JOIN pg_type AS t ON t.oid = CASE WHEN own.typtype = 'd' THEN own.typbasetype ELSE own.oid END
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
      WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`);
  const { rows: unique } = await run(`SELECT (SELECT json_agg(a.attname) FROM pg_attribute AS a
        WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]))
      FROM pg_index AS i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate
        AND i.indpred IS NULL AND i.indexprs IS NULL`);
  return {
    identity: identity!,
    problems,
    columns: new Map(columns.map(([name, ...rest]) => [name!, columnOf(rest)])),
    unique: unique.map(([names]) => JSON.parse(names!) as string[]),
  };
}

function columnOf(cells: readonly (string | null)[]): FoundColumn {
  const [type, typeKind, isRequired, otherwise, isGenerated, isDeterministic, collation] = cells;
  const isEnum = typeKind === 'e';
  const [kind, bits] = isEnum ? (['text', 0] as const) : (KINDS[type!] ?? [undefined, 0]);
  return {
    type: type!,
    kind,
    bits,
    isRequired: isRequired === 't',
    otherwise: otherwise ?? undefined,
    isGenerated: isGenerated === 't',
    keyProblem: isEnum
      ? `has the type ${type}`
      : isDeterministic === 't'
        ? undefined
        : `has the collation ${collation}, which merges texts that differ`,
  };
}

export class PostgresOwnTable
  extends OwnTableRows
  implements OwnTable<PostgresConnection>, SweptTable<PostgresConnection>
{
  readonly rowsMax: number;
  readonly #table: string;
  readonly #name: string;
  readonly #texts = new Map<string, string>();

  /** `index`: tells its prepared statements from those of other tables. */
  constructor(plan: TablePlan, index: number, rules: RuleSet) {
    super(plan, rules);
    this.#table = nameInSql(plan.own);
    this.#name = `cairn_own_${index}`;
    this.rowsMax = Math.min(STATEMENT_ROWS_MAX, 2 ** Math.floor(Math.log2(PARAMETERS_MAX / this.columns.length)));
  }

  remove(connection: PostgresConnection, deletes: readonly DeleteChange[]): Promise<unknown> {
    return this.#byKeys(connection, 'delete', deletes, (list) => `DELETE FROM ${this.#table} AS own WHERE ${list}`);
  }

  set(connection: PostgresConnection, sets: readonly SetChange[]): Promise<unknown> {
    return this.#insert(connection, 'set', sets, (changed) => {
      return changed.length === 0
        ? 'NOTHING'
        : `UPDATE SET ${changed.map((each) => `${each} = excluded.${each}`).join(', ')}`;
    });
  }

  // `onConflict` is given the quoted names of all columns but those of the key.
  #insert(
    connection: PostgresConnection,
    verb: string,
    sets: readonly Row[],
    onConflict: (changed: readonly string[]) => string,
  ) {
    const columns = this.columns;
    const size = sizeFor(sets.length);
    const name = `${this.#name}_${verb}_${size}`;
    const text = this.#text(name, () => {
      const names = columns.map((column) => quoted(column.name));
      const keys = this.plan.key.map((column) => quoted(column.name));
      return `INSERT INTO ${this.#table} (${names.join(', ')})
        SELECT ${columns.map((column, i) => this.#written(column, i)).join(', ')}
        FROM (VALUES ${groups(
          size,
          columns.map((column) => this.#parameterType(column)),
        )})
          AS change (${columns.map((_, i) => `c${i}`).join(', ')}) WHERE c0 IS NOT NULL
        ON CONFLICT (${keys.join(', ')}) DO ${onConflict(names.slice(keys.length))}`;
    });
    const values = sets.flatMap((set) => this.rows.cellsOf(set).map(parameterOf));
    return connection.run({ name, text, values: filled(values, size * columns.length, null) });
  }

  add(connection: PostgresConnection, adds: readonly AddChange[]): Promise<unknown> {
    const keys = this.plan.key.map((column) => `own.${quoted(column.name)}`);
    const namesOf = ({ rows }: Result): string[] =>
      rows.map((cells) => this.rows.keyOf(this.#cellsOf(cells))?.toString('latin1') ?? 'of no key');
    return addOrMake(adds, {
      add: async (some) => namesOf(await this.#addTo(connection, some, keys)),
      make: async (some) => {
        const names = this.plan.key.map((column) => quoted(column.name));
        return namesOf(await this.#insert(connection, 'make', some, () => `NOTHING RETURNING ${names.join(', ')}`));
      },
      nameOf: ({ key }) => key.toString('latin1'),
    });
  }

  // A row without a value gets the result. A sum that the column cannot have is refused by the cast to its type.
  #addTo(connection: PostgresConnection, adds: readonly AddChange[], keys: readonly string[]): Promise<Result> {
    const { key, value } = this.plan;
    const columns = [...key, ...this.touched];
    const [delta, result] = [`c${columns.length}`, `c${columns.length + 1}`];
    const size = sizeFor(adds.length);
    const name = `${this.#name}_add_${size}`;
    const text = this.#text(name, () => {
      const [column] = value as [Column];
      const cell = `own.${quoted(column.name)}`;
      const sum = `${cell} + ${delta}`;
      // NaN and the infinities, which are no number to add to: the cast refuses the text.
      const isNone = `WHEN ${cell} - ${cell} <> 0 THEN ('no number: ' || ${cell})::numeric`;
      const wraps = `WHEN ${cell} < ${COUNTER_MODULUS} THEN mod(${sum}, ${COUNTER_MODULUS})`;
      const set = columns.slice(key.length).map((each, i) => {
        return `${quoted(each.name)} = ${this.#written(each, key.length + i)}`;
      });
      set.push(`${quoted(column.name)} = coalesce(CASE ${column.kind === 'decimal' ? isNone : ''}
          WHEN ${delta} < 0 THEN greatest(${sum}, least(${cell}, 0))
          ${column.kind === 'decimal' ? wraps : ''} ELSE ${sum} END, ${result})`);
      const types = [...columns.map((each) => this.#parameterType(each)), 'numeric', 'numeric'];
      return `UPDATE ${this.#table} AS own SET ${set.join(', ')} FROM (VALUES ${groups(size, types)})
          AS change (${types.map((_, i) => `c${i}`).join(', ')})
        WHERE ${keys.map((each, i) => `${each} = c${i}`).join(' AND ')} RETURNING ${keys.join(', ')}`;
    });
    const values = adds.flatMap((change): Parameter[] => [
      ...this.rows.touchCells(change.key, change.expiresWallMs, change.version).map(parameterOf),
      ...[change.delta, `${numberOf(change.value)}`],
    ]);
    return connection.run({ name, text, values: filled(values, size * (columns.length + 2), null) });
  }

  touch(connection: PostgresConnection, touches: readonly TouchChange[]): Promise<unknown> {
    const { key } = this.plan;
    const columns = [...key, ...this.touched];
    const size = sizeFor(touches.length);
    const name = `${this.#name}_touch_${size}`;
    const text = this.#text(name, () => {
      const set = columns.slice(key.length).map((column, i) => {
        return `${quoted(column.name)} = ${this.#written(column, key.length + i)}`;
      });
      return `UPDATE ${this.#table} AS own SET ${set.join(', ')}
        FROM (VALUES ${groups(
          size,
          columns.map((column) => this.#parameterType(column)),
        )})
          AS change (${columns.map((_, i) => `c${i}`).join(', ')})
        WHERE ${key.map((column, i) => `own.${quoted(column.name)} = c${i}`).join(' AND ')}`;
    });
    const values = touches.flatMap((touch) => {
      return this.rows.touchCells(touch.key, touch.expiresWallMs, touch.version).map(parameterOf);
    });
    return connection.run({ name, text, values: filled(values, size * columns.length, null) });
  }

  async load(connection: PostgresConnection, keys: readonly Buffer[]): Promise<(RowValue | undefined)[]> {
    const known = this.rowKeys(keys).map((key) => ({ key }));
    const found: ReadCell[][] = [];
    const most = 2 ** Math.floor(Math.log2(PARAMETERS_MAX / this.plan.key.length));
    for (let start = 0; start < known.length; start += most) {
      const some = known.slice(start, start + most);
      const { rows } = await this.#byKeys(connection, 'load', some, (list) => `${this.#select()} WHERE ${list}`);
      found.push(...rows.map((cells) => this.#cellsOf(cells)));
    }
    return this.byKey(keys, found);
  }

  /** The statement that reads all rows, for a cursor of the database. */
  scan(): string {
    return this.#select();
  }

  /** The key and the value of a row of {@link scan}. */
  entryOf(cells: readonly (string | null)[]): { readonly key: Buffer; readonly value: RowValue } | undefined {
    return this.entryIn(this.#cellsOf(cells));
  }

  /** REQUIRES, as the next one: the plan has an expiry. */
  async page(connection: PostgresConnection, after: readonly unknown[] | undefined, rows: number): Promise<SweptPage> {
    const { key, expiresAt } = this.plan;
    const names = key.map((column) => `own.${quoted(column.name)}`);
    const passed = (after ?? []) as Parameter[];
    const count = passed.length;
    const types = key.slice(0, count).map(({ type }) => type);
    const from = count === 0 ? '' : `WHERE (${names.slice(0, count).join(', ')}) > ${groups(1, types)}`;
    const { rows: found } = await connection.run({
      name: `${this.#name}_sweep_${count}`,
      text: `SELECT ${names.join(', ')}, ${this.#read(expiresAt!)} FROM ${this.#table} AS own ${from}
        ORDER BY ${names.join(', ')} LIMIT $${count + 1}`,
      values: [...passed, rows],
    });
    const cells = found.map((row) => [...this.#cellsOf(row.slice(0, key.length)), row[key.length]!]);
    // The order of an index has NULLs last, and no entry has such a row: the next page begins behind all rows that
    // share the cells before the NULL.
    const last = found.length < rows ? [] : cells.at(-1)!.slice(0, key.length);
    const known = last.includes(null) ? last.slice(0, last.indexOf(null)) : last;
    return { rows: this.sweptRows(cells), last: known.length === 0 ? undefined : known };
  }

  async removeExpired(connection: PostgresConnection, keys: readonly Buffer[], expiredAtMs: number): Promise<number> {
    const expiry = this.#read(this.plan.expiresAt!);
    let removed = 0;
    const most = 2 ** Math.floor(Math.log2(PARAMETERS_MAX / this.plan.key.length));
    for (let start = 0; start < keys.length; start += most) {
      const some = keys.slice(start, start + most).map((key) => ({ key }));
      const { rowCount } = await this.#byKeys(
        connection,
        'expired',
        some,
        // The time stands in the text of this statement alone, so it is not prepared.
        (list) =>
          `DELETE FROM ${this.#table} AS own WHERE ${expiry} BETWEEN 1 AND ${Math.floor(expiredAtMs)} AND ${list}`,
        false,
      );
      removed += rowCount ?? 0;
    }
    return removed;
  }

  // Of a row whose columns are those of this table, or the first of them.
  #cellsOf(cells: readonly (string | null)[]): ReadCell[] {
    return cells.map((cell, i) => (cell !== null && this.columns[i]!.kind === 'bytes' ? bytesOf(cell) : cell));
  }

  #select(): string {
    return `SELECT ${this.columns.map((column) => this.#read(column)).join(', ')} FROM ${this.#table} AS own`;
  }

  // A statement on the rows of some keys. Repeated keys change nothing: a connection prepares it for few sizes.
  #byKeys(
    connection: PostgresConnection,
    verb: string,
    keyed: readonly { readonly key: Buffer }[],
    command: (list: string) => string,
    isPrepared = true,
  ) {
    const { key } = this.plan;
    const size = sizeFor(keyed.length);
    const name = `${this.#name}_${verb}_${size}`;
    const make = (): string => {
      const names = key.map((column) => `own.${quoted(column.name)}`).join(', ');
      const types = key.map(({ type }) => type);
      return command(`(${names}) IN (${groups(size, types)})`);
    };
    const values = keyed.flatMap((each) => this.rows.keyCells(each.key)!.map(parameterOf));
    const last = values.slice(-key.length);
    while (values.length < size * key.length) values.push(...last);
    return connection.run(
      isPrepared ? { name, text: this.#text(name, make), values } : { name: '', text: make(), values },
    );
  }

  #parameterType(column: Column): string {
    return column === this.plan.expiresAt ? 'bigint' : column.type;
  }

  // The cell as the column has it. Milliseconds are exact in numbers of this size.
  #written(column: Column, index: number): string {
    const cell = `c${index}`;
    if (column === this.plan.expiresAt && column.kind === 'instant') return `to_timestamp(${cell} / 1000.0)`;
    const { isRequired, otherwise } = column;
    return isRequired && otherwise !== undefined ? `coalesce(${cell}, ${otherwise})` : cell;
  }

  #read(column: Column): string {
    const name = `own.${quoted(column.name)}`;
    if (column === this.plan.expiresAt && column.kind === 'instant') {
      // Of the infinities one never comes, and the other has been.
      const ms = `round(extract(epoch FROM ${name}) * 1000)::bigint`;
      return `CASE WHEN isfinite(${name}) THEN ${ms} WHEN ${name} < now() THEN 1 END`;
    }
    switch (column.kind) {
      case 'instant':
        return `to_char(${name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
      case 'time':
        return `to_char(${name}, 'YYYY-MM-DD"T"HH24:MI:SS.US')`;
      case 'date':
        return `to_char(${name}, 'YYYY-MM-DD')`;
      default:
        return name;
    }
  }

  #text(name: string, make: () => string): string {
    let text = this.#texts.get(name);
    if (text === undefined) {
      text = make();
      this.#texts.set(name, text);
    }
    return text;
  }
}

function parameterOf(cell: Cell): Parameter {
  return typeof cell === 'boolean' ? (cell ? 't' : 'f') : cell;
}
