// The checker of histories: it lets pass what a correct cache gives, and finds each kind of mistake. Shown with
// histories made by hand, with random ones of a small world (support/history-random.ts) that is correct by
// construction, with the same world making one mistake, and against a search that tries every order of small histories
// one after the other.

import { describe, expect, test } from 'vitest';
import type { Answer, History, Life, Operation, Question } from '../support/history.ts';
import { type CheckOptions, checkHistory, expectLegal, type ViolationKind } from '../support/history-check.ts';
import { HistoryWorld, type Mistake, type WorldOptions } from '../support/history-random.ts';
import { ABSENT, IMPOSSIBLE, Register, type State, type Step } from '../support/history-register.ts';
import { Random, withRandom } from '../support/random.ts';

/** [session, asked, answered, question, answer] or, with `undefined` for the last and for the third, unknown. */
type Line = [number, number, number | undefined, Question, Answer | undefined];

/** Lives end at the given moments. */
function history(lines: Line[], ends: number[] = []): History {
  const lives: Life[] = ends.map((endedAt, i) => ({ startedAt: ends[i - 1] ?? 0, endedAt }));
  lives.push({ startedAt: ends.at(-1) ?? 0 });
  const operations = lines.map(([session, askedAt, answeredAt, question, answer]): Operation => {
    const life = lives.findIndex(({ endedAt }) => endedAt === undefined || askedAt < endedAt);
    const operation: Operation = { ...question, session, life, askedAt };
    if (answer !== undefined) Object.assign(operation, { answer, answeredAt });
    return operation;
  });
  return { lives, operations };
}

const set = (value: string): Question => ({ verb: 'set', key: 'k', value });
const get: Question = { verb: 'get', key: 'k' };
const del: Question = { verb: 'delete', key: 'k' };
const hit = (value: string, version?: bigint): Answer => (version === undefined ? { value } : { value, version });

const kinds = (lines: Line[], ends?: number[], options?: CheckOptions): ViolationKind[] =>
  checkHistory(history(lines, ends), options).violations.map(({ kind }) => kind);

describe('a history that a correct cache can give', () => {
  test.each<[string, Line[], number[]?, CheckOptions?]>([
    ['nothing', []],
    [
      'reads of what was written',
      [
        [1, 0, 1, set('a'), 'stored'],
        [2, 2, 3, get, hit('a')],
      ],
    ],
    [
      'a read beside a write sees the old value or the new one, and then the new one only',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 9, set('b'), 'stored'],
        [2, 3, 4, get, hit('a')],
        [2, 5, 6, get, hit('b')],
        [3, 5, 7, get, hit('b')],
      ],
    ],
    [
      'a write without an answer that happens late',
      [
        [1, 0, undefined, set('a'), undefined],
        [2, 1, 2, get, 'miss'],
        [2, 100, 101, get, hit('a')],
      ],
    ],
    [
      'a write without an answer that never happens',
      [
        [1, 0, undefined, set('a'), undefined],
        [2, 100, 101, get, 'miss'],
      ],
    ],
    [
      'a write without an answer that the crash has kept',
      [
        [1, 0, undefined, set('a'), undefined],
        [2, 20, 21, get, hit('a')],
        [2, 22, 23, get, hit('a')],
      ],
      [10],
    ],
    [
      'of many writes without an answer one is kept by the crash, and its successor is deleted',
      [
        ...Array.from({ length: 60 }, (_, i): Line => [i, i / 100, undefined, set(`v${i}`), undefined]),
        [99, 20, 21, get, hit('v17')],
        [99, 22, 23, del, 'found'],
        [99, 24, 25, get, 'miss'],
      ],
      [10],
    ],
    [
      'one of many unanswered writes, whose value is never read, took effect',
      [
        ...Array.from({ length: 60 }, (_, i): Line => [i, i / 100, undefined, set(`v${i}`), undefined]),
        [99, 20, 21, del, 'found'],
        [99, 24, 25, del, 'not-found'],
      ],
      [10],
    ],
    [
      'an answer that is taken from the socket after the crash',
      [
        [1, 0, 15, set('a'), 'stored'],
        [2, 12, 13, get, hit('a')],
      ],
      [10],
    ],
    [
      'counters and pieces',
      [
        [1, 0, 1, set('9'), 'stored'],
        [1, 2, 3, { verb: 'incr', key: 'k', delta: 2n }, hit('11')],
        [1, 4, 5, { verb: 'decr', key: 'k', delta: 3n }, hit('8 ')],
        [2, 6, 7, get, hit('8 ')],
        [2, 8, 9, { verb: 'decr', key: 'k', delta: 30n }, hit('0')],
        [2, 10, 11, set('a'), 'stored'],
        [2, 12, 13, { verb: 'append', key: 'k', value: 'b' }, 'stored'],
        [2, 14, 15, { verb: 'prepend', key: 'k', value: 'c' }, 'stored'],
        [2, 16, 17, { verb: 'incr', key: 'k' }, 'not-stored'],
        [2, 18, 19, get, hit('cab')],
      ],
    ],
    [
      'swaps',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, get, hit('a', 5n)],
        [1, 4, 5, { verb: 'cas', key: 'k', value: 'b', token: 5n }, 'stored'],
        [2, 6, 7, { verb: 'cas', key: 'k', value: 'c', token: 5n }, 'exists'],
        [2, 8, 9, get, hit('b', 6n)],
        [2, 10, 11, del, 'found'],
        [2, 12, 13, { verb: 'cas', key: 'k', value: 'c', token: 6n }, 'not-found'],
      ],
    ],
    [
      'what was asked in one session is done in that order',
      [
        [1, 0, 9, set('a'), 'stored'],
        [1, 0, 9, set('b'), 'stored'],
        [1, 0, 9, get, hit('b')],
        [2, 10, 11, get, hit('b')],
      ],
    ],
    [
      'a clear concerns every key',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, { verb: 'clear', key: '' }, 'done'],
        [1, 4, 5, get, 'miss'],
      ],
    ],
    [
      'an entry that expires, and one that was touched in time',
      [
        [1, 0, 1, { ...set('a'), ttlMs: 1000 }, 'stored'],
        [1, 900, 901, get, hit('a')],
        [1, 902, 903, { verb: 'touch', key: 'k', ttlMs: 2000 }, 'found'],
        [1, 2500, 2501, get, hit('a')],
        [1, 3500, 3501, get, 'miss'],
        [1, 3502, 3503, { verb: 'add', key: 'k', value: 'b' }, 'stored'],
        [1, 3504, 3505, get, hit('b')],
      ],
      [],
      { clockSlackMs: 100 },
    ],
    [
      'where entries are evicted, one that is missed and comes back with a crash',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, get, 'miss'],
        [1, 12, 13, get, hit('a')],
        [1, 14, 15, { verb: 'add', key: 'k', value: 'b' }, 'stored'],
        [1, 16, 17, get, hit('b')],
      ],
      [10],
      { misses: 'allowed' },
    ],
  ])('%s', (_, lines, ends, options) => {
    expect(kinds(lines, ends, options)).toEqual([]);
  });
});

describe('a mistake', () => {
  test.each<[string, ViolationKind, Line[], number[]?, CheckOptions?]>([
    [
      'an acknowledged write that a crash takes',
      'lost',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, set('b'), 'stored'],
        [2, 20, 21, get, hit('a')],
      ],
      [10],
    ],
    [
      'an acknowledged write that is missed',
      'lost',
      [
        [1, 0, 1, set('a'), 'stored'],
        [2, 20, 21, get, 'miss'],
      ],
      [10],
    ],
    [
      'an entry that is gone without a reason',
      'lost',
      [
        [1, 0, 1, set('a'), 'stored'],
        [2, 2, 3, get, 'miss'],
      ],
    ],
    [
      'a read of what an acknowledged write has replaced',
      'stale',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, set('b'), 'stored'],
        [2, 4, 5, get, hit('a')],
        [2, 6, 7, get, hit('b')],
      ],
    ],
    [
      'two readers who see a write beside them one after the other, the second the old value',
      'impossible',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 9, set('b'), 'stored'],
        [2, 3, 4, get, hit('b')],
        [3, 5, 6, get, hit('a')],
      ],
    ],
    [
      'a value that is read before it is safe, and that a crash takes back',
      'taken-back',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, undefined, set('b'), undefined],
        [2, 3, 4, get, hit('b')],
        [2, 20, 21, get, hit('a')],
      ],
      [10],
    ],
    [
      'a write without an answer that a crash has left out, and that comes later',
      'taken-back',
      [
        [1, 0, undefined, set('a'), undefined],
        [2, 20, 21, get, 'miss'],
        [2, 22, 23, get, hit('a')],
      ],
      [10],
    ],
    [
      'what was deleted is back',
      'resurrected',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, del, 'found'],
        [2, 20, 21, get, hit('a')],
      ],
      [10],
    ],
    [
      'what was deleted is back, where entries are evicted too',
      'resurrected',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, del, 'not-found'],
        [2, 20, 21, get, hit('a')],
      ],
      [10],
      { misses: 'allowed' },
    ],
    [
      'a value that goes back, where entries are evicted',
      'lost',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, set('b'), 'stored'],
        [1, 4, 5, get, 'miss'],
        [2, 20, 21, get, hit('a')],
      ],
      [10],
      { misses: 'allowed' },
    ],
    [
      'a value that was never written',
      'invented',
      [
        [1, 0, 1, set('a'), 'stored'],
        [2, 2, 3, get, hit('b')],
      ],
    ],
    [
      'one version of two values',
      'version-repeated',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, get, hit('a', 7n)],
        [1, 4, 5, set('b'), 'stored'],
        [1, 6, 7, get, hit('b', 7n)],
      ],
    ],
    [
      'a version that goes back',
      'version-back',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, get, hit('a', 7n)],
        [1, 4, 5, set('b'), 'stored'],
        [1, 16, 17, get, hit('b', 6n)],
      ],
      [10],
    ],
    [
      'two swaps with one token',
      'version-repeated',
      [
        [1, 0, 1, set('a'), 'stored'],
        [1, 2, 3, get, hit('a', 7n)],
        [1, 4, 5, { verb: 'cas', key: 'k', value: 'b', token: 7n }, 'stored'],
        [1, 6, 7, set('a2'), 'stored'],
        [1, 8, 9, { verb: 'cas', key: 'k', value: 'c', token: 7n }, 'stored'],
      ],
    ],
    [
      'a counter that counts twice',
      'impossible',
      [
        [1, 0, 1, set('1'), 'stored'],
        [1, 2, 3, { verb: 'incr', key: 'k' }, hit('2')],
        [1, 4, 5, { verb: 'incr', key: 'k' }, hit('4')],
      ],
    ],
    [
      'an acknowledged piece that is not in the text',
      'impossible',
      [
        [1, 0, 1, set('<>'), 'stored'],
        [1, 2, 3, { verb: 'append', key: 'k', value: '[1]' }, 'stored'],
        [1, 4, 5, { verb: 'append', key: 'k', value: '[2]' }, 'stored'],
        [1, 26, 27, get, hit('<>[2]')],
      ],
      [10],
    ],
    [
      'requests of one session in the wrong order',
      'stale',
      [
        [1, 0, 9, set('a'), 'stored'],
        [1, 0, 9, set('b'), 'stored'],
        [2, 10, 11, get, hit('a')],
      ],
    ],
    [
      'an expired entry that a crash brings back',
      'resurrected',
      [
        [1, 0, 1, { ...set('a'), ttlMs: 1000 }, 'stored'],
        [2, 5000, 5001, get, hit('a')],
      ],
      [3000],
    ],
  ])('is found: %s', (_, kind, lines, ends, options) => {
    expect(kinds(lines, ends, options)).toContain(kind);
  });

  test('is told with what was done around it', () => {
    const { violations } = checkHistory(
      history(
        [
          [1, 0, 1, set('a'), 'stored'],
          [1, 2, 3, set('b'), 'stored'],
          [2, 20, 21, get, hit('a')],
        ],
        [10],
      ),
    );
    expect(violations[0]?.message).toContain('life 1 session 2: get k -> "a"');
    expect(violations[0]?.message).toContain('life 0 session 1: set k "b" -> stored');
    expect(() => expectLegal(history([[1, 0, 1, get, hit('a')]]))).toThrow('No cache can have given this history');
  });
});

describe('random histories', () => {
  const shapes: [string, Partial<WorldOptions>, CheckOptions][] = [
    ['of every verb', {}, {}],
    ['with crashes', { crashEvery: 150 }, {}],
    ['with crashes and long pipelines on few keys', { crashEvery: 300, keys: 3, sessions: 4, depth: 8 }, {}],
    ['of a cache that evicts, with crashes', { evicts: true, crashEvery: 150 }, { misses: 'allowed' }],
    ['with clears', { verbs: ['get', 'set', 'clear', 'delete', 'add'], crashEvery: 200 }, {}],
  ];

  test.each(shapes)('%s of a correct cache pass', (_, shape, options) => {
    withRandom((random) => {
      for (let i = 0; i < 40; i++) {
        expectLegal(new HistoryWorld(random, { operations: 500, ...shape }).run(), options);
      }
    });
  });

  const mistakes: [Mistake, CheckOptions][] = [
    ['lost', {}],
    ['lost', { misses: 'allowed' }],
    ['stale', {}],
    ['taken-back', {}],
    ['resurrected', {}],
    ['resurrected', { misses: 'allowed' }],
    ['version-repeated', {}],
    ['version-back', {}],
    ['miss', {}],
  ];
  test.each(mistakes)('with one mistake (%s, %o) are found out', (mistake, options) => {
    withRandom((random) => {
      for (let i = 0; i < 20; i++) {
        const world = new HistoryWorld(random, { operations: 400, crashEvery: 200, mistake });
        const kinds = checkHistory(world.run(), options).violations.map(({ kind }) => kind);
        // Between other operations, what is wrong with the order may look like something else.
        expect(kinds.length).toBeGreaterThan(0);
        if (mistake.startsWith('version')) expect(kinds).toContain(mistake);
      }
    });
  });

  test('small ones, right and wrong, are judged as by trying every order', () => {
    withRandom((random) => {
      const found = { legal: 0, illegal: 0 };
      for (let i = 0; i < 3000; i++) {
        const small = smallHistory(random);
        const isLegal = checkHistory(small).violations.length === 0;
        const text = JSON.stringify(small, (_, v) => (typeof v === 'bigint' ? `${v}n` : v), 1);
        // The checker may take an unanswered operation for that of any session, so the two searches bound its verdict.
        if (isLegal) expect(isExplainedBySomeOrder(small, false), text).toBe(true);
        else expect(isExplainedBySomeOrder(small, true), text).toBe(false);
        found[isLegal ? 'legal' : 'illegal']++;
      }
      expect(found.legal).toBeGreaterThan(300);
      expect(found.illegal).toBeGreaterThan(300);
    });
  });

  test('of which too many orders are possible are not called right', () => {
    const made = new HistoryWorld(new Random(1), { operations: 2000, keys: 1, sessions: 8 }).run();
    const { violations, undecided } = checkHistory(made, { configurationsMax: 10 });
    expect(violations).toEqual([]);
    expect(undecided.length).toBeGreaterThan(0);
  });

  test('a hundred thousand operations are judged quickly', () => {
    const made = new HistoryWorld(new Random(1), {
      operations: 100_000,
      keys: 500,
      sessions: 32,
      crashEvery: 5000,
    }).run();
    const { operations, configurations } = expectLegal(made);
    expect(operations).toBe(100_000);
    // No time is asserted; what the search looks at is.
    expect(configurations).toBeLessThan(300_000);
  });
});

/** A few operations of two sessions on one key over one crash, with answers that may be wrong. */
function smallHistory(random: Random): History {
  const lines: Line[] = [];
  const clocks = [0, 0, 0];
  const count = 3 + random.below(5);
  const values = ['a', 'b', 'c'];
  for (let i = 0; i < count; i++) {
    const session = random.below(3);
    const asked = clocks[session]! + random.below(4);
    const answered = asked + 1 + random.below(6);
    clocks[session] = random.below(3) === 0 ? asked : answered + 1;
    const verb = random.pick([
      'get',
      'get',
      'set',
      'set',
      'delete',
      'add',
      'incr',
      'append',
      'replace',
      'take',
    ] as const);
    const told = random.pick(values);
    const [question, answer] = ((): [Question, Answer] => {
      switch (verb) {
        case 'get':
        case 'take':
          return [{ verb, key: 'k' }, random.below(4) === 0 ? 'miss' : hit(random.pick([told, told, '1', 'ax']))];
        case 'set':
          return [{ verb, key: 'k', value: random.pick([told, told, '0']) }, 'stored'];
        case 'add':
        case 'replace':
          return [{ verb, key: 'k', value: told }, random.pick(['stored', 'not-stored'])];
        case 'append':
          return [{ verb, key: 'k', value: 'x' }, random.pick(['stored', 'not-stored'])];
        case 'incr':
          return [{ verb, key: 'k' }, random.pick<Answer>(['not-found', 'not-stored', hit('1'), hit('2')])];
        default:
          return [{ verb, key: 'k' }, random.pick(['found', 'not-found'])];
      }
    })();
    const isUnknown = random.below(3) === 0;
    lines.push([session, asked, isUnknown ? undefined : answered, question, isUnknown ? undefined : answer]);
  }
  return history(lines, random.below(2) === 0 ? [6] : []);
}

// Tries every order that the times and the sessions allow, unknown operations in and out. `strictly`: those too are
// done in the order of their sessions.
function isExplainedBySomeOrder(made: History, strictly: boolean): boolean {
  const register = new Register({ missesAllowed: false, clockSlackMs: 0, isSeen: () => true });
  const steps = made.operations.map((operation): Step & { isOptional: boolean } => {
    const end = made.lives[operation.life]?.endedAt ?? Number.POSITIVE_INFINITY;
    return {
      operation,
      verb: operation.verb,
      value: operation.value ?? '',
      answer: operation.answer,
      expected: undefined,
      from: operation.askedAt,
      until: Math.min(operation.answeredAt ?? Number.POSITIVE_INFINITY, end),
      isOptional: operation.answer === undefined,
    };
  });
  const order = (left: typeof steps, state: State, now: number): boolean => {
    if (left.every(({ isOptional }) => isOptional)) return true;
    for (const [i, step] of left.entries()) {
      // Nothing may be put before it that had to be done earlier, and what it overtakes in its session is left out.
      const at = Math.max(now, step.from);
      if (at > step.until) continue;
      const others = left.filter((_, j) => j !== i);
      if (others.some((other) => !other.isOptional && other.until < at)) continue;
      const overtaken = left.filter((other, j) => {
        if (j >= i || other.operation.session !== step.operation.session) return false;
        return strictly || (!other.isOptional && !step.isOptional);
      });
      if (overtaken.some(({ isOptional }) => !isOptional)) continue;
      const next = register.next(state, step, 'as-is');
      if (next === IMPOSSIBLE) continue;
      if (
        order(
          others.filter((other) => !overtaken.includes(other)),
          next,
          at,
        )
      )
        return true;
    }
    return false;
  };
  return order(steps, ABSENT, 0);
}
