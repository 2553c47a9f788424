/**
 * Columns of a user's own table as values of JSON, and back. A value that a column would store as another one is
 * refused (Misfit), so that a load gives what was set. Types that no value of JSON stands for have no kind.
 *
 * | kind    | JSON                                         | cell                            |
 * |---------|----------------------------------------------|---------------------------------|
 * | boolean | true, false                                  | true, false                     |
 * | integer | a whole number; beyond 2^53 its digits       | digits                          |
 * | decimal | a number; where that is not exact its digits | digits                          |
 * | float   | a number                                     | digits                          |
 * | text    | text without NUL                             | text                            |
 * | json    | anything                                     | JSON text                       |
 * | instant | `"2026-01-31T12:00:00.000Z"`                 | that text; loaded with Z        |
 * | time    | the same without a zone                      | that text                       |
 * | date    | `"2026-01-31"`                               | that text                       |
 * | uuid    | its 36 characters                            | that text; loaded in small ones |
 * | bytes   | none: for keys and whole values              | bytes                           |
 *
 * `null` is NULL, in each of them.
 */
import { Misfit } from './misfit.ts';

export type ColumnKind =
  | 'boolean'
  | 'integer'
  | 'decimal'
  | 'float'
  | 'text'
  | 'json'
  | 'instant'
  | 'time'
  | 'date'
  | 'uuid'
  | 'bytes';

/** What a column gets; a dialect writes it as its driver wants it. */
export type Cell = string | boolean | Buffer | null;

export interface Column {
  readonly name: string;
  readonly kind: ColumnKind;
  /** Of an integer. */
  readonly bits: number;
  /** Of an integer: it has no sign. */
  readonly isUnsigned?: boolean | undefined;
  /** Of text and decimals: whether the column keeps it as it is; left out: it keeps all, or refuses. */
  readonly accepts?: ((text: string) => boolean) | undefined;
  /** The type as the database names it. */
  readonly type: string;
  readonly isRequired: boolean;
  /** An expression of the database for a field that is left out; undefined: there is none. */
  readonly otherwise: string | undefined;
}

const TIME = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?`;
const PATTERNS: Readonly<Partial<Record<ColumnKind, RegExp>>> = {
  instant: new RegExp(`^${TIME}(Z|[+-]\\d\\d:\\d\\d)$`),
  time: new RegExp(`^${TIME}$`),
  date: /^\d{4}-\d\d-\d\d$/,
  uuid: /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i,
};

/** The cell of a value of JSON. Throws Misfit. */
export function cellOf(column: Column, value: unknown): Cell {
  const { name, kind, type } = column;
  if (value === null) return null;
  const misfit = (): Misfit => new Misfit(`The column ${name} (${type}) cannot have ${shown(value)}`);
  switch (kind) {
    case 'boolean':
      if (typeof value === 'boolean') return value;
      break;
    case 'integer': {
      const digits = typeof value === 'string' && isBeyond(value) ? value : Number.isSafeInteger(value) && `${value}`;
      if (digits !== false && isInteger(digits, column)) return digits;
      break;
    }
    case 'decimal':
      if (typeof value === 'number') return String(value);
      if (typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value) && !isExact(value) && isKept(value, column))
        return value;
      break;
    case 'float':
      if (typeof value === 'number') return String(value);
      break;
    case 'text':
      if (typeof value === 'string' && isText(value, column)) return value;
      break;
    case 'json': {
      const text = JSON.stringify(value);
      // NUL and lone surrogates stand in JSON as escapes, which databases refuse or keep, each in another way.
      if (!/\\u(0000|d[89a-f])/i.test(text)) return text;
      break;
    }
    case 'instant':
    case 'time':
    case 'date':
    case 'uuid':
      if (typeof value === 'string' && PATTERNS[kind]!.test(value)) return value;
      break;
    case 'bytes':
      break;
  }
  throw misfit();
}

/** The text in JSON of a cell that was read, as text. */
export function jsonOf(kind: ColumnKind, text: string | null): string {
  if (text === null) return 'null';
  switch (kind) {
    case 'boolean':
      return text === 't' || text === '1' || text === 'true' ? 'true' : 'false';
    case 'integer':
      // A column of SQLite may have something else.
      return NUMBER.test(text) && !isBeyond(text) ? text : JSON.stringify(text);
    case 'decimal':
      if (!/^-?\d/.test(text)) return 'null'; // NaN
      return isExact(text) ? String(Number(text)) : JSON.stringify(text);
    case 'float':
      return Number.isFinite(Number(text)) ? String(Number(text)) : 'null';
    case 'json':
      return text;
    case 'instant':
    case 'time':
      // As JavaScript writes it, where milliseconds are all there is.
      return JSON.stringify(text.replace(/(\.\d{3})000/, '$1'));
    default:
      return JSON.stringify(text);
  }
}

/** Whether the column keeps the text as it is. */
export function isText(text: string, column: Pick<Column, 'accepts'>): boolean {
  return !/\0|\p{Surrogate}/u.test(text) && isKept(text, column);
}

/** Whether the column keeps the text of a number, or a text, as it is. */
export function isKept(text: string, { accepts }: Pick<Column, 'accepts'>): boolean {
  return accepts === undefined || accepts(text);
}

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?(e[-+]?\d+)?$/;
const INTEGER = /^(0|-?[1-9]\d{0,19})$/;

/** Whether the text is a whole number as JavaScript writes it, which the column can have. */
export function isInteger(digits: string, { bits, isUnsigned }: Pick<Column, 'bits' | 'isUnsigned'>): boolean {
  if (!INTEGER.test(digits)) return false;
  const number = BigInt(digits);
  return (isUnsigned ? BigInt.asUintN(bits, number) : BigInt.asIntN(bits, number)) === number;
}

// Digits of a whole number that a number of JavaScript is not sure to have.
function isBeyond(digits: string): boolean {
  return INTEGER.test(digits) && !Number.isSafeInteger(Number(digits));
}

// Whether a number of JavaScript is the same number as these digits.
function isExact(digits: string): boolean {
  const least = digits.includes('.') ? digits.replace(/\.?0+$/, '') : digits;
  return String(Number(digits)) === (least === '-0' ? '0' : least);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 60)}...`;
}
