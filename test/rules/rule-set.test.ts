import { describe, expect, test } from 'vitest';
import { RuleSet } from '../../src/rules/index.ts';

const rule = (prefix: string, skip = false) => ({ prefix, skip, deleteOnExpire: !skip });
const prefixOf = (rules: RuleSet, key: string | Buffer): string => rules.of(Buffer.from(key as string)).prefix;

describe('the rule of a key', () => {
  const rules = new RuleSet([rule('a:', true), rule('a:b:'), rule('a:b:c', true), rule('é', true)]);

  test.each([
    ['b', ''],
    ['a', ''],
    ['a:', 'a:'],
    ['a:b', 'a:'],
    ['a:b:', 'a:b:'],
    ['a:b:c', 'a:b:c'],
    ['a:b:cd', 'a:b:c'],
    ['é1', 'é'],
    ['e1', ''],
  ])('of %s is that of the prefix "%s", the longest', (key, prefix) => {
    expect(prefixOf(rules, key)).toBe(prefix);
  });

  test('is found for keys that are no text', () => {
    expect(prefixOf(rules, Buffer.from([0x61, 0x3a, 0xff, 0x00]))).toBe('a:');
    expect(prefixOf(rules, Buffer.from([0xc3]))).toBe('');
  });

  test('is that of the prefix "" where no other is longer', () => {
    const all = new RuleSet([rule('', true), rule('a:')]);
    expect([all.writes(Buffer.from('b')), all.loads(Buffer.from('b'))]).toEqual([false, false]);
    expect([all.writes(Buffer.from('a:1')), all.loads(Buffer.from('a:1'))]).toEqual([true, true]);
    expect(new RuleSet([]).writes(Buffer.from('a'))).toBe(true);
  });
});
