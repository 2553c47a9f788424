/** Makes the tables of a MariaDB backend where they are missing, and finds at opening why they would not do. */
import type { MariadbConnection } from './mariadb-connection.ts';
import { unfit } from './own-errors.ts';
import { ROW_KEY_BYTES_MAX } from './row-key.ts';
import { CURSOR_COLUMNS, PLACE_COLUMNS } from './sql-rows.ts';

/** The names of the tables, quoted. */
export interface TableNames {
  readonly entries: string;
  readonly cursors: string;
  readonly letters: string;
  /** There only if a rule keeps history. */
  readonly history: string;
}

export interface TableOptions {
  readonly prefix: string;
  readonly hasHistory: boolean;
  /** No table is made, and one that is missing is as an empty one. */
  readonly readsOnly: boolean;
}

interface Layout {
  /** Its columns, and keys besides the primary one. */
  readonly columns: readonly string[];
  /** The columns of its primary key. */
  readonly key: readonly string[];
  /** Whether rows are told apart by this key alone: another unique index would let a row change that of another key. */
  readonly isKeyed: boolean;
}

export async function makeTables(
  connection: MariadbConnection,
  { prefix, hasHistory, readsOnly }: TableOptions,
): Promise<TableNames> {
  const tables = {
    entries: `\`${prefix}entries\``,
    cursors: `\`${prefix}cursors\``,
    letters: `\`${prefix}dead_letters\``,
    history: `\`${prefix}history\``,
  };
  const key = `\`key\` varbinary(${ROW_KEY_BYTES_MAX + 32}) NOT NULL`;
  const value = ['value longblob', 'codec smallint', 'client_flags bigint', 'expires_ms bigint'];
  const numbers = (columns: string): string[] =>
    columns.split(', ').map((column) => `${column} ${column.startsWith('lane') ? 'int' : 'bigint'} NOT NULL`);
  const version = 'version bigint NOT NULL';
  const layout: Record<string, Layout> = {
    [tables.entries]: {
      columns: [key, ...value.map((column) => `${column} NOT NULL`), version, 'long_key mediumblob'],
      ...{ key: ['key'], isKeyed: true },
    },
    [tables.cursors]: {
      columns: [...numbers(CURSOR_COLUMNS), 'moved_ms bigint NOT NULL'],
      key: ['lane'],
      isKeyed: false,
    },
    [tables.letters]: {
      columns: [
        ...['id bigint NOT NULL AUTO_INCREMENT', 'kind varchar(10) NOT NULL', key, ...value, version],
        ...[
          'delta decimal(65)',
          'atomic int',
          'long_key mediumblob',
          'error text NOT NULL',
          'error_code varchar(100)',
          ...numbers(PLACE_COLUMNS),
        ],
        ...['added_ms bigint NOT NULL', 'superseded tinyint NOT NULL DEFAULT 0', 'KEY live (superseded, `key`)'],
      ],
      ...{ key: ['id'], isKeyed: false },
    },
  };
  if (hasHistory) {
    layout[tables.history] = {
      columns: [
        key,
        version,
        'kind varchar(10) NOT NULL',
        ...value,
        'long_key mediumblob',
        'logged_ms bigint NOT NULL',
      ],
      ...{ key: ['key', 'version'], isKeyed: true },
    };
  }
  const problems: string[] = [];
  const missing = new Set<string>();
  for (const [table, { columns, key: keyColumns, isKeyed }] of Object.entries(layout)) {
    const primary = keyColumns.map((column) => `\`${column}\``).join(', ');
    const name = table.slice(1, -1);
    const [exists] = await connection.run(
      'SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?',
      [name],
    );
    if (exists === undefined && readsOnly) {
      missing.add(table);
      continue;
    }
    if (exists === undefined) {
      await connection.command(`CREATE TABLE IF NOT EXISTS ${table} (${columns.join(', ')}, PRIMARY KEY (${primary}))
        ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4`);
    } else if (exists[0] !== 'InnoDB') problems.push(`${name} has the engine ${String(exists[0])}, and needs InnoDB`);
    const found = await connection.run(
      `SELECT column_name, CONVERT(data_type USING utf8mb4), is_nullable, column_default IS NULL, column_key, extra
        FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?`,
      [name],
    );
    const ours = columns
      .filter((column) => !column.startsWith('KEY'))
      .map((column) => column.replaceAll('`', '').split(' '));
    for (const [column, type = ''] of ours) {
      const actual = found.find(([other]) => other === column);
      const wanted = type.replace(/\(.*/, '');
      if (actual === undefined) problems.push(`${name} has no column ${column} (${wanted})`);
      else if (actual[1] !== wanted)
        problems.push(`${name}.${column} is ${String(actual[1])}, and has to be ${wanted}`);
    }
    for (const [column, , isNullable, hasNoDefault, , extra] of found) {
      if (ours.some(([known]) => known === column) || isNullable === 'YES' || Number(hasNoDefault) === 0) continue;
      if (!String(extra).includes('auto_increment')) {
        problems.push(`${name}.${String(column)} is NOT NULL without a default, and no value goes there`);
      }
    }
    const keys = found.filter(([, , , , kind]) => kind === 'PRI').map(([column]) => column);
    if (keys.length !== keyColumns.length || !keyColumns.every((column) => keys.includes(column))) {
      problems.push(`the primary key of ${name} is not ${keyColumns.join(', ')} alone`);
    }
    if (!isKeyed) continue;
    const others = await connection.run(
      `SELECT DISTINCT index_name FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = ? AND non_unique = 0 AND index_name <> 'PRIMARY'`,
      [name],
    );
    for (const [index] of others) problems.push(`${name} has the unique index ${String(index)} besides its key`);
  }
  if (problems.length > 0) throw unfit(problems);
  const orEmpty = (table: string): string => (missing.has(table) ? empty(layout[table]!) : table);
  return {
    ...tables,
    entries: orEmpty(tables.entries),
    cursors: orEmpty(tables.cursors),
    letters: orEmpty(tables.letters),
  };
}

/** What stands for a missing table in statements that read. */
function empty({ columns }: Layout): string {
  const names = columns.filter((column) => !column.startsWith('KEY')).map((column) => column.split(' ')[0]);
  return `(SELECT ${names.map((name) => `NULL AS ${name}`).join(', ')} FROM DUAL WHERE FALSE)`;
}
