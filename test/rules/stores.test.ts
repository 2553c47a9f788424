import { expect, test } from 'vitest';
import { type Rule, RuleSet, rulesOfStore } from '../../src/rules/index.ts';

const rule = (prefix: string, store?: string): Rule => ({
  ...{ prefix, skip: false, deleteOnExpire: true },
  ...(store === undefined ? {} : { store }),
});

const key = (text: string): Buffer => Buffer.from(text);

/** Which of the keys a database gets. */
function written(rules: readonly Rule[], store: string, keys: readonly string[]): string[] {
  const set = RuleSet.from(rulesOfStore(rules, store));
  return keys.filter((each) => set?.writes(key(each)) !== false);
}

test('each key is written to the database that its longest prefix leads to, and to no other', () => {
  const rules = [rule('a:', 'other'), rule('a:b:'), rule('a:b:c:', 'third')];
  const keys = ['a:1', 'a:b:1', 'a:b:c:1', 'x'];
  expect(written(rules, 'default', keys)).toEqual(['a:b:1', 'x']);
  expect(written(rules, 'other', keys)).toEqual(['a:1']);
  expect(written(rules, 'third', keys)).toEqual(['a:b:c:1']);
});

test('a rule without a prefix may lead all other keys to another database', () => {
  const rules = [rule('', 'other'), rule('a:')];
  expect(written(rules, 'default', ['a:1', 'x'])).toEqual(['a:1']);
  expect(written(rules, 'other', ['a:1', 'x'])).toEqual(['x']);
});

test('a database loads and sweeps its own keys only', () => {
  const rules = [rule('a:', 'other')];
  const [main, other] = [new RuleSet(rulesOfStore(rules, 'default')), new RuleSet(rulesOfStore(rules, 'other'))];
  for (const [set, own, foreign] of [
    [main, 'x', 'a:1'],
    [other, 'a:1', 'x'],
  ] as const) {
    expect([set.loads(key(own)), set.sweeps(key(own))]).toEqual([true, true]);
    expect([set.loads(key(foreign)), set.sweeps(key(foreign))]).toEqual([false, false]);
  }
});

test('the rules of a cache with one database stay as they are', () => {
  const rules = [rule('a:')];
  expect(rulesOfStore(rules, 'default')).toBe(rules);
  expect(rulesOfStore([], 'default')).toEqual([]);
});
