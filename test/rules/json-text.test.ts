import { describe, expect, test } from 'vitest';
import { Misfit } from '../../src/rules/index.ts';
import { parseExactly } from '../../src/rules/json-text.ts';

describe('JSON of another program', () => {
  test.each([
    '0',
    '-0',
    '5',
    '-17.50',
    '1e3',
    '1E-3',
    '100000000000000000000',
    '9007199254740992',
    '0.1',
    '0.10000000000000001',
    '1.7976931348623157e308',
    '5e-324',
    '{"a":[1,{"b":0.30000000000000004}],"9007199254740993":"9007199254740993 \\" 9007199254740993"}',
    '"9007199254740993"',
    'null',
  ])('%s is its value', (text) => {
    expect(parseExactly(text)).toEqual(JSON.parse(text));
  });

  test.each([
    '9007199254740993',
    '-9007199254740993',
    '{"id":9007199254740993}',
    '{"a":[{"b":[18446744073709551615]}]}',
    '0.1000000000000000055511151231257827',
    '1e400',
    '["x",12345678901234567890]',
  ])('%s is refused, as it would be rounded', (text) => {
    expect(() => parseExactly(text)).toThrow(Misfit);
  });

  test.each(['', '{', '01', 'NaN', "{'a':1}"])('%s is none', (text) => {
    expect(() => parseExactly(text)).toThrow(/Expected JSON/);
  });
});
