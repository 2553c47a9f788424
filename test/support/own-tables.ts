// What tests of tables of the user's own share.
import { afterEach } from 'vitest';
import { makeBackend, type SetChange, type SweepPlace } from '../../src/backend/index.ts';
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

/** Subjects of some tests, closed after their test: not opened yet, or opened on a database with these tables alone. */
export interface Subjects {
  closed(rules: readonly Rule[], lanes?: number): Promise<Subject>;
  opened(commands: string, rules: readonly Rule[]): Promise<Subject>;
  /** Has one closed too. */
  keep(subject: Subject): Subject;
}

/** Called where the tests are declared. */
export function subjectsOf(
  reset: (commands: string) => Promise<void>,
  make: (rules: readonly Rule[], lanes?: number) => Subject | Promise<Subject>,
): Subjects {
  const kept: Subject[] = [];
  afterEach(() => Promise.all(kept.splice(0).map(({ backend }) => backend.close())));
  const keep = (subject: Subject): Subject => {
    kept.push(subject);
    return subject;
  };
  const closed = async (rules: readonly Rule[], lanes?: number): Promise<Subject> => keep(await make(rules, lanes));
  return {
    keep,
    closed,
    async opened(commands, rules) {
      await reset(commands);
      const subject = await closed(rules);
      await subject.backend.open();
      return subject;
    },
  };
}

/** Rows with cells as `plain` makes them; by default big integers are numbers. */
export function plainRows(
  rows: Iterable<object>,
  plain: (cell: unknown) => unknown = (cell) => (typeof cell === 'bigint' ? Number(cell) : cell),
): Record<string, unknown>[] {
  return Array.from(rows, (row) => Object.fromEntries(Object.entries(row).map(([name, cell]) => [name, plain(cell)])));
}

/** One pass of the sweep, in pieces of `rows`; how many it has removed. */
export async function sweepOnce(subject: Subject, expiredAtMs: number, rows = 3): Promise<number> {
  let removed = 0;
  let place: SweepPlace | undefined;
  for (let pieces = 0; pieces < 100; pieces++) {
    const swept = await subject.backend.sweep!({ at: [subject.cursor!], expiredAtMs, place, rows });
    removed += swept!.removed;
    place = swept!.place;
    if (place === undefined) return removed;
  }
  throw new Error('The pass does not end');
}
