import { describe, expect, test } from 'vitest';
import { type Column, type ColumnKind, cellOf, jsonOf } from '../../src/rules/columns.ts';
import { Misfit } from '../../src/rules/misfit.ts';
import { keyCells, keyOfCells } from '../../src/rules/row-keys.ts';
import { Random } from '../support/random.ts';

const column = (kind: ColumnKind, bits = 64): Column => ({
  ...{ name: 'c', kind, bits, type: kind },
  ...{ isRequired: false, otherwise: undefined },
});

describe('a value of JSON and its cell', () => {
  test.each<[ColumnKind, unknown, string | boolean]>([
    ['boolean', true, true],
    ['integer', -5, '-5'],
    ['integer', '9007199254740993', '9007199254740993'],
    ['integer', '-9223372036854775808', '-9223372036854775808'],
    ['decimal', 0.1, '0.1'],
    ['decimal', '12345678901234567890.5', '12345678901234567890.5'],
    ['float', 1e21, '1e+21'],
    ['text', 'a\u{1f98a}', 'a\u{1f98a}'],
    ['json', [1, null], '[1,null]'],
    ['json', 'text', '"text"'],
    ['instant', '2026-01-31T12:00:00Z', '2026-01-31T12:00:00Z'],
    ['date', '2026-01-31', '2026-01-31'],
  ])('%s: %j is %j, and comes back', (kind, value, cell) => {
    expect(cellOf(column(kind), value)).toBe(cell);
    expect(JSON.parse(jsonOf(kind, String(cell)))).toEqual(value);
    expect([cellOf(column(kind), null), jsonOf(kind, null)]).toEqual([null, 'null']);
  });

  test.each<[ColumnKind, unknown[]]>([
    ['boolean', [1, 'true', {}]],
    ['integer', [1.5, 1e300, 2 ** 53, '5', '05', '-0', '9223372036854775808', true, [1]]],
    ['decimal', ['5', '0.10', '1e5', ' 1', true]],
    ['float', ['1', false]],
    ['text', [1, 'a\0', '\ud800', ['a']]],
    ['json', [{ a: '\0' }, ['\udc00']]],
    ['instant', ['2026-01-31', '2026-01-31T12:00:00', 'now', 5]],
    ['time', ['2026-01-31T12:00:00Z']],
    ['date', ['2026-1-31', 'today']],
    ['uuid', ['6f1e1c1a5c1b4c3c9a3e1b2c3d4e5f60', '{6f1e1c1a-5c1b-4c3c-9a3e-1b2c3d4e5f60}']],
    ['bytes', ['text', 5]],
  ])('%s refuses what it would keep as another value', (kind, values) => {
    for (const value of values) expect(() => cellOf(column(kind), value), JSON.stringify(value)).toThrow(Misfit);
  });

  test('a number of a column is refused beyond its bits', () => {
    expect(cellOf(column('integer', 16), 32767)).toBe('32767');
    expect(() => cellOf(column('integer', 16), 32768)).toThrow('The column c (integer) cannot have 32768');
  });

  test.each<[ColumnKind, string, unknown]>([
    ['decimal', '5.00', 5],
    ['decimal', '-0.00', 0],
    ['decimal', '100', 100],
    ['decimal', '0.1000000000000000001', '0.1000000000000000001'],
    ['decimal', 'NaN', null],
    ['float', 'Infinity', null],
    ['boolean', 't', true],
    ['boolean', '0', false],
    ['instant', '2026-01-31T12:00:00.123000Z', '2026-01-31T12:00:00.123Z'],
    ['json', '{"a" : 1}', { a: 1 }],
  ])('%s: a cell %s is read as %j', (kind, cell, value) => {
    expect(JSON.parse(jsonOf(kind, cell))).toEqual(value);
  });
});

describe('the key of a row', () => {
  const kinds: ColumnKind[] = ['text', 'integer', 'uuid', 'bytes'];

  test('is that of one row, and each row that of one key at most', () => {
    const random = new Random(7);
    for (let round = 0; round < 5000; round++) {
      const columns = Array.from({ length: 1 + random.below(3) }, (_, i, all = 3) =>
        column(kinds[random.below(i < all - 1 ? 3 : 4)]!, 16),
      );
      const letters = ['a', ':', '0', '7', '-', 'é', '\0', '32768'];
      const text = Array.from({ length: random.below(6) }, () => letters[random.below(letters.length)]!).join('');
      const key = Buffer.from(text);
      const cells = keyCells(key, columns);
      if (cells === undefined) continue;
      expect(cells).toHaveLength(columns.length);
      expect(
        keyOfCells(cells as (string | Buffer)[], columns),
        JSON.stringify([text, columns.map((each) => each.kind)]),
      ).toEqual(key);
    }
  });

  test('of a first part with the separator in it is that of no key', () => {
    const two = [column('text'), column('text')];
    expect(keyOfCells(['a', 'b:c'], two)?.toString()).toBe('a:b:c');
    expect(keyOfCells(['a:b', 'c'], two)).toBeUndefined();
    expect(keyOfCells([null, 'c'], two)).toBeUndefined();
  });

  test.each<[string, ColumnKind]>([
    ['', 'integer'],
    ['+1', 'integer'],
    ['01', 'integer'],
    ['-0', 'integer'],
    ['1.0', 'integer'],
    ['32768', 'integer'],
    ['6F1E1C1A-5C1B-4C3C-9A3E-1B2C3D4E5F60', 'uuid'],
    ['a\0', 'text'],
  ])('%j stands for no row of a key that is %s', (text, kind) => {
    expect(keyCells(Buffer.from(text), [column(kind, 16)])).toBeUndefined();
  });

  test('that is no UTF-8 stands for rows of bytes only', () => {
    const key = Buffer.from([0xff, 0x00]);
    expect(keyCells(key, [column('text')])).toBeUndefined();
    expect(keyCells(key, [column('bytes')])).toEqual([key]);
  });
});
