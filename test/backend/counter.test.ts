// Numbers that a cache counts, as rows have them; and additions to rows that other writers make and remove.

import { describe, expect, test } from 'vitest';
import { addOrMake } from '../../src/backend/add-or-make.ts';
import type { AddChange } from '../../src/backend/backend.ts';
import { COUNTER_BYTES_MAX, COUNTER_MODULUS, deltaOf, numberOf, sumOf, together } from '../../src/backend/counter.ts';

const HALF = 2n ** 63n;
const MOST = COUNTER_MODULUS - 1n;

describe('the number of a row', () => {
  test.each<[string, bigint | undefined]>([
    ['0', 0n],
    ['007', 7n],
    [' \t+42 apples', 42n],
    [`${MOST}`, MOST],
    [`${COUNTER_MODULUS}`, undefined],
    ['', undefined],
    ['-1', undefined],
    ['1.5', undefined],
    ['x1', undefined],
    ['7'.padStart(COUNTER_BYTES_MAX, '0'), 7n],
    ['7'.padStart(COUNTER_BYTES_MAX + 1, '0'), undefined],
  ])('%j', (text, number) => {
    expect(numberOf(Buffer.from(text))).toBe(number);
  });
});

describe('what was added', () => {
  // The difference of a record is modulo 2^64.
  test.each<[string, bigint, bigint, bigint]>([
    ['is the difference', 12n, 7n, 7n],
    ['is below 0 for what was taken away', 5n, COUNTER_MODULUS - 7n, -7n],
    ['is what a number that has wrapped was incremented by', 1n, 2n, 2n],
    ['may be as much as half of all', HALF, HALF, HALF],
    ['is positive at the half, where both would do', 0n, HALF, HALF],
    ['is negative one above it', 1n, HALF + 2n, -(HALF - 2n)],
  ])('%s', (_, result, difference, added) => {
    expect(deltaOf(result, difference)).toBe(added);
    const before = BigInt.asUintN(64, result - difference);
    expect(sumOf(before, added)).toBe(result);
  });

  test('goes round in a row, and not below 0', () => {
    expect(sumOf(MOST, 1n)).toBe(0n);
    expect(sumOf(MOST, 5n)).toBe(4n);
    expect(sumOf(3n, -3n)).toBe(0n);
    expect(sumOf(3n, -4n)).toBe(0n);
  });

  test('twice adds up, and stays below 2^64', () => {
    expect(together(2n, 3n)).toBe(5n);
    expect(together(-2n, -3n)).toBe(-5n);
    expect(together(MOST, 1n)).toBe(0n);
    expect(together(HALF, HALF + 1n)).toBe(1n);
  });
});

describe('an addition to a row that comes and goes', () => {
  const add = (key: string): AddChange => ({
    ...{ kind: 'add', key: Buffer.from(key), value: Buffer.from('1'), codec: 0, clientFlags: 0 },
    ...{ expiresWallMs: 0, version: 1n, delta: 1n },
  });
  const nameOf = ({ key }: AddChange): string => key.toString();
  const names = (adds: readonly AddChange[]): string[] => adds.map(nameOf);

  test('is made once, whichever statement finds it', async () => {
    const asked: string[] = [];
    const answers = [['a'], ['b'], [], [], ['c']];
    const answer = (what: string) => async (adds: readonly AddChange[]) => {
      asked.push(`${what} ${names(adds).join(' ')}`);
      return answers.shift()!;
    };
    await addOrMake([add('a'), add('b'), add('c')], { add: answer('add'), make: answer('make'), nameOf });
    expect(asked).toEqual(['add a b c', 'make b c', 'add c', 'make c', 'add c']);
  });

  test('is refused if neither ever does: a trigger keeps the row as it is', async () => {
    const none = async (): Promise<string[]> => [];
    await expect(addOrMake([add('a')], { add: none, make: none, nameOf })).rejects.toMatchObject({ code: '09000' });
  });
});
