// What tests of tables of the user's own share.
import { makeBackend, type SetChange } from '../../src/backend/index.ts';
import { Codec } from '../../src/request/codec.ts';
import type { OwnTableRule, Rule } from '../../src/rules/index.ts';
import { Subject, set } from '../../src/testing/harness.ts';

/** A rule whose rows are in a table. */
export function ownRule(
  prefix: string,
  own: Partial<OwnTableRule> & Pick<OwnTableRule, 'table'>,
  deleteOnExpire = false,
): Rule {
  return { prefix, skip: false, deleteOnExpire, own: { key: ['id'], value: { kind: 'fields' }, ...own } };
}

/** A change that a program makes by `set(key, object)`. */
export function setJson(key: string, value: unknown, more: Parameters<typeof set>[2] = {}): SetChange {
  return set(key, JSON.stringify(value), { codec: Codec.json, ...more });
}

/** A backend that is not opened. */
export async function subjectWith(address: string, rules: readonly Rule[], lanes = 1): Promise<Subject> {
  let clock = (): number => 0;
  const backend = await makeBackend(address, { rules, lanes, clock: () => clock() });
  return new Subject((its) => {
    clock = its;
    return backend;
  });
}
