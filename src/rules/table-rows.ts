/**
 * Entries as rows of a user's own table, by the plan of its rule. Of fields, a load gives an object with each field,
 * those of the key columns first; a set takes an object with some of them. A field that is left out is the default of a
 * column that is NOT NULL, and NULL in others.
 */
import { Codec } from '../request/codec.ts';
import { type Cell, type Column, cellOf, isInteger, isKept, isText, jsonOf } from './columns.ts';
import { parseExactly, parseJson } from './json-text.ts';
import { Misfit } from './misfit.ts';
import { keyCells, keyOfCells } from './row-keys.ts';
import type { TablePlan } from './table-plan.ts';

/** A value as a row has it; the same as RowValue of a backend. */
export interface EntryValue {
  readonly value: Buffer;
  readonly codec: number;
  readonly clientFlags: number;
  readonly expiresWallMs: number;
  readonly version: bigint;
}

/** A cell as it was read: text, or the bytes of a column of bytes. */
export type ReadCell = string | Buffer | null;

/** An entry that is set. */
export interface Entry extends EntryValue {
  readonly key: Buffer;
}

export class TableRows {
  readonly plan: TablePlan;
  readonly #prepared = new WeakMap<Entry, readonly Cell[]>();
  readonly #prefixBytes: number;
  readonly #prefix: Buffer;

  constructor(plan: TablePlan) {
    this.plan = plan;
    this.#prefix = Buffer.from(plan.rule.prefix, 'utf8');
    this.#prefixBytes = this.#prefix.length;
  }

  /** The cells of the key columns; undefined: no row can have the key. */
  keyCells(key: Buffer): Cell[] | undefined {
    return keyCells(key.subarray(this.#prefixBytes), this.plan.key);
  }

  /** The key of a row from the cells of its key columns; undefined: it is the row of no key. */
  keyOf(cells: readonly ReadCell[]): Buffer | undefined {
    const rest = keyOfCells(cells, this.plan.key);
    return rest === undefined ? undefined : Buffer.concat([this.#prefix, rest]);
  }

  /** Whether a touch changes a row of the key. */
  takesTouch(key: Buffer): boolean {
    return (this.plan.expiresAt ?? this.plan.version) !== undefined && this.keyCells(key) !== undefined;
  }

  /** Finds the cells of a set for {@link cellsOf}, or says why it cannot become a row. */
  prepare(set: Entry): Misfit | undefined {
    try {
      this.#prepared.set(set, this.cells(set));
      return undefined;
    } catch (error) {
      if (error instanceof Misfit) return error;
      throw error;
    }
  }

  /** The cells of a set. Where it was prepared, they are at hand. */
  cellsOf(set: Entry): readonly Cell[] {
    return this.#prepared.get(set) ?? this.cells(set);
  }

  /**
   * The cells of a set, in the order of the columns: key, value, expiry in milliseconds (NULL: none), version, client
   * flags; those that the plan has. Throws Misfit.
   */
  cells(entry: Entry): Cell[] {
    const { plan } = this;
    const ofKey = this.keyCells(entry.key);
    if (ofKey === undefined) {
      const columns = plan.key.map(({ name, type }) => `${name} (${type})`).join(', ');
      throw new Misfit(`No row can have this key: its key columns are ${columns}`);
    }
    if (entry.clientFlags !== 0 && plan.clientFlags === undefined) {
      throw new Misfit(`The table has no column for the client flags ${entry.clientFlags}`);
    }
    const cells = [...ofKey, ...(plan.own.value.kind === 'whole' ? [this.#whole(entry)] : this.#fields(ofKey, entry))];
    if (plan.expiresAt !== undefined) cells.push(this.#expiryCell(entry.expiresWallMs));
    if (plan.version !== undefined) cells.push(versionCell(entry.version, plan.version));
    if (plan.clientFlags !== undefined) cells.push(String(entry.clientFlags));
    return cells;
  }

  /** The cells of a touch, in the same order: key, expiry, version. */
  touchCells(key: Buffer, expiresWallMs: number, version: bigint): Cell[] {
    const { expiresAt, version: versions } = this.plan;
    return [
      ...this.keyCells(key)!,
      ...(expiresAt === undefined ? [] : [this.#expiryCell(expiresWallMs)]),
      ...(versions === undefined ? [] : [versionCell(version, versions)]),
    ];
  }

  // NULL, or 0 in a column that takes none: the entry never expires.
  #expiryCell(expiresWallMs: number): Cell {
    return expiresWallMs === 0 && !this.plan.expiresAt!.isRequired ? null : String(expiresWallMs);
  }

  #fields(ofKey: readonly Cell[], { value, codec }: EntryValue): Cell[] {
    if (codec !== Codec.json && codec !== Codec.raw) throw new Misfit('Expected a JSON object: the value is none');
    const object = parsed(value, codec);
    if (typeof object !== 'object' || object === null || Array.isArray(object)) {
      throw new Misfit('Expected a JSON object: the value is none');
    }
    const { key, value: columns } = this.plan;
    const fields = new Map<string, unknown>(Object.entries(object));
    for (const [i, column] of key.entries()) {
      if (!fields.has(column.name)) continue;
      const cell = column.kind === 'bytes' ? undefined : cellOf(column, fields.get(column.name));
      if (cell !== ofKey[i]) throw new Misfit(`The field ${column.name} differs from the key`);
      fields.delete(column.name);
    }
    const cells = columns.map((column) => {
      const field = fields.get(column.name);
      fields.delete(column.name);
      return field === undefined ? null : cellOf(column, field);
    });
    const [unknown] = fields.keys();
    if (unknown !== undefined) throw new Misfit(`The table has no column for the field ${JSON.stringify(unknown)}`);
    return cells;
  }

  #whole({ value, codec }: EntryValue): Cell {
    const column = this.plan.value[0]!;
    const isText8 = codec === Codec.ascii || codec === Codec.utf8;
    switch (column.kind) {
      case 'bytes':
        if (codec === Codec.raw) return value;
        break;
      case 'text': {
        const text = value.toString('utf8');
        if ((isText8 || codec === Codec.raw) && isText(text, column) && Buffer.from(text, 'utf8').equals(value))
          return text;
        break;
      }
      case 'json':
        // NULL is for a row without a value.
        if ((codec === Codec.json || codec === Codec.raw) && parsed(value, codec) !== null)
          return cellOf(column, parsed(value, codec));
        break;
      default: {
        const digits = value.toString('latin1');
        // Of a counter: any whole number that a cache counts.
        if (column.kind === 'decimal' && /^\d{1,20}$/.test(digits) && isKept(digits, column)) return digits;
        if ((codec === Codec.number || codec === Codec.raw) && isInteger(digits, column)) return digits;
      }
    }
    throw new Misfit(`The column ${column.name} (${column.type}) cannot have this value`);
  }

  /** The value of a row, from cells in the order of {@link cells}; undefined: it has none. */
  valueOf(cells: readonly ReadCell[]): EntryValue | undefined {
    const { key, value, own, expiresAt, version, clientFlags } = this.plan;
    let at = key.length + value.length;
    const rest = {
      expiresWallMs: expiresAt === undefined ? 0 : Number(cells[at++] ?? 0),
      version: version === undefined ? 0n : BigInt.asUintN(64, BigInt((cells[at++] as string | null) ?? 0)),
      clientFlags: clientFlags === undefined ? 0 : Number(cells[at++] ?? 0) >>> 0,
    };
    if (own.value.kind === 'whole') {
      const cell = cells[key.length]!;
      if (cell === null) return undefined;
      const bytes = Buffer.from(cell as string);
      return { value: bytes, codec: this.#codecOf(bytes), ...rest };
    }
    const fields = [...key, ...value].flatMap(({ name, kind }, i) =>
      kind === 'bytes' ? [] : [`${JSON.stringify(name)}:${jsonOf(kind, cells[i] as string | null)}`],
    );
    return { value: Buffer.from(`{${fields.join(',')}}`), codec: Codec.json, ...rest };
  }

  #codecOf(bytes: Buffer): number {
    switch (this.plan.value[0]!.kind) {
      case 'bytes':
        return Codec.raw;
      case 'text':
        return bytes.every((byte) => byte < 0x80) ? Codec.ascii : Codec.utf8;
      case 'json':
        return Codec.json;
      default:
        return Codec.number;
    }
  }
}

// 64 bits without a sign, as the column has them.
function versionCell(version: bigint, { isUnsigned }: Column): string {
  return String(isUnsigned ? version : BigInt.asIntN(64, version));
}

/** A cache writes its JSON itself; raw bytes are those of any program. */
function parsed(value: Buffer, codec: number): unknown {
  const text = value.toString('utf8');
  return codec === Codec.json ? parseJson(text) : parseExactly(text);
}
