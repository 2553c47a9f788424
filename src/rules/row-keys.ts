/**
 * The key of an entry as the cells of key columns, and back: what is behind the prefix, with `:` between the parts. Of
 * several parts the last has the rest, `:` included. Each key is one row and each row one key: a key that another key's
 * row would have (`007` beside `7`) has none.
 */
import { type Cell, type Column, isInteger, isText } from './columns.ts';

const SEPARATOR = 0x3a;

/** The cells; undefined: no row can have this key. `rest`: the key without its prefix. */
export function keyCells(rest: Buffer, columns: readonly Column[]): Cell[] | undefined {
  const cells: Cell[] = [];
  let from = 0;
  for (const [i, column] of columns.entries()) {
    const isLast = i === columns.length - 1;
    const end = isLast ? rest.length : rest.indexOf(SEPARATOR, from);
    if (end < 0) return undefined;
    const cell = keyCell(rest.subarray(from, end), column);
    if (cell === undefined) return undefined;
    cells.push(cell);
    from = end + 1;
  }
  return cells;
}

/** What is behind the prefix in the key of a row; undefined: the row is that of no key. */
export function keyOfCells(cells: readonly (string | Buffer | null)[], columns: readonly Column[]): Buffer | undefined {
  const parts: Buffer[] = [];
  for (const [i, cell] of cells.entries()) {
    if (cell === null) return undefined;
    if (i > 0) parts.push(Buffer.from(':'));
    parts.push(Buffer.from(cell as string));
  }
  const rest = Buffer.concat(parts);
  // A first part may have the separator in it.
  const again = keyCells(rest, columns);
  return again?.every((cell, i) => Buffer.from(cell as string).equals(Buffer.from(cells[i] as string)))
    ? rest
    : undefined;
}

function keyCell(bytes: Buffer, column: Column): Cell | undefined {
  if (column.kind === 'bytes') return bytes;
  const text = bytes.toString('utf8');
  switch (column.kind) {
    case 'integer':
      return isInteger(text, column) ? text : undefined;
    case 'uuid':
      return /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/.test(text) ? text : undefined;
    case 'text':
      return isText(text, column) && Buffer.from(text, 'utf8').equals(bytes) ? text : undefined;
    default:
      return undefined;
  }
}
