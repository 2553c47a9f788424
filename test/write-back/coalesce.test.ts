import { describe, expect, test } from 'vitest';
import type { Change } from '../../src/backend/index.ts';
import { RuleSet } from '../../src/rules/index.ts';
import { Changes } from '../../src/write-back/coalesce.ts';
import { PassedVersions } from '../../src/write-back/passed.ts';
import { Random } from '../support/random.ts';
import { makeRecord, type RecordParts } from '../support/records.ts';

let counter = 0;

function changesOf(...groups: RecordParts[][]): Changes {
  const changes = new Changes();
  counter = 0;
  for (const group of groups) {
    changes.add(Buffer.concat(group.map((parts) => makeRecord({ ...parts, counter: ++counter }))));
  }
  return changes;
}

function show(change: Change): string {
  const key = change.key.toString();
  const version = Number(change.version & 0xffffffffn);
  if (change.kind === 'delete') return `delete ${key} @${version}`;
  if (change.kind === 'add') {
    return `add ${key} ${change.delta} to ${change.value} until ${change.expiresWallMs} @${version}`;
  }
  if (change.kind === 'touch') return `touch ${key} until ${change.expiresWallMs} @${version}`;
  return `set ${key}=${change.value} until ${change.expiresWallMs} @${version}`;
}

const set = (key: string, value: string, expiresWallMs = 0): RecordParts => ({
  kind: 'set',
  key,
  value,
  expiresWallMs,
});
const touch = (key: string, expiresWallMs: number): RecordParts => ({ kind: 'touch', key, expiresWallMs });
const del = (key: string): RecordParts => ({ kind: 'delete', key });

describe('of a key', () => {
  const cases: [string, RecordParts[], string[]][] = [
    ['a later set replaces a set', [set('a', '1'), set('a', '2', 9)], ['set a=2 until 9 @2']],
    ['a set replaces a delete', [del('a'), set('a', '2')], ['set a=2 until 0 @2']],
    ['a set replaces a touch', [touch('a', 5), set('a', '2')], ['set a=2 until 0 @2']],
    ['a delete replaces a set', [set('a', '1'), del('a')], ['delete a @2']],
    ['a delete replaces a touch', [touch('a', 5), del('a')], ['delete a @2']],
    ['a touch alone stays a touch', [touch('a', 5)], ['touch a until 5 @1']],
    ['a later touch replaces a touch', [touch('a', 5), touch('a', 6)], ['touch a until 6 @2']],
    ['a touch gives a set its expiry', [set('a', '1', 9), touch('a', 5)], ['set a=1 until 5 @2']],
    ['a touch of a deleted key changes nothing', [del('a'), touch('a', 5)], ['delete a @1']],
  ];
  test.each(cases)('%s', (_, records, expected) => {
    expect(changesOf(records).list().map(show)).toEqual(expected);
    expect(
      changesOf(...records.map((record) => [record]))
        .list()
        .map(show),
      'in groups of one',
    ).toEqual(expected);
  });
});

test('keys are bytes: those that look alike as text are different keys', () => {
  const keys = [
    Buffer.from('a'),
    Buffer.from('a '),
    Buffer.from('A'),
    Buffer.from([0]),
    Buffer.from([0xff]),
    Buffer.from('ÿ'),
  ];
  const changes = changesOf(keys.map((key) => ({ kind: 'set', key, value: 'x' })));
  expect(changes.list().map(({ key }) => key)).toEqual(keys);
});

test('a clear, and one that is to come, change no row', () => {
  const changes = changesOf([set('a', '1'), { kind: 'clear' }, { kind: 'clearAt', expiresWallMs: 99 }]);
  expect(changes.list().map(show)).toEqual(['set a=1 until 0 @1']);
  expect(changes.recordCount).toBe(1);
});

test('codec and client flags go with the value', () => {
  const [change] = changesOf([{ kind: 'set', key: 'a', value: '1', codec: 3, clientFlags: 77 }, touch('a', 5)]).list();
  expect(change).toMatchObject({ kind: 'set', codec: 3, clientFlags: 77, expiresWallMs: 5 });
});

test('changes come in the order of their newest records', () => {
  const changes = changesOf([set('a', '1'), set('b', '1'), set('a', '2'), set('c', '1')]);
  expect(changes.list().map(({ key }) => key.toString())).toEqual(['b', 'a', 'c']);
});

test('1,000 changes of a key are one row', () => {
  const changes = changesOf(Array.from({ length: 1000 }, (_, i) => set('a', `${i}`)));
  expect(changes.list().map(show)).toEqual(['set a=999 until 0 @1000']);
  expect([changes.rowCount, changes.recordCount]).toEqual([1, 1000]);
});

test('bytes are counted of what is kept: the same as in a batch of the newest records only', () => {
  const random = new Random();
  const records = Array.from({ length: 500 }, (): RecordParts => {
    const key = `key-${random.below(40)}`;
    return random.pick([set(key, 'x'.repeat(random.below(200))), del(key), touch(key, 5)]);
  });
  const changes = changesOf(records);
  const bytes = changes
    .list()
    .reduce((sum, each) => sum + 64 + each.key.length + (each.kind === 'set' ? each.value.length : 0), 0);
  expect(changes.bytes, `CAIRN_SEED=${random.seed}`).toBe(bytes);
});

test('groups of which a few small values are left are not kept whole', () => {
  const changes = new Changes();
  const large = 'x'.repeat(2 ** 20);
  for (let i = 0; i < 16; i++) {
    const group = [set('hot', large), set(`key-${i}`, `value-${i}`), set('hot', 'small')];
    changes.add(Buffer.concat(group.map((parts) => makeRecord({ ...parts, counter: 3 * i + 1 }))));
  }
  const kept = new Set(changes.list().flatMap((each) => (each.kind === 'set' ? [each.value.buffer] : [])));
  const bytes = [...kept].reduce((sum, buffer) => sum + buffer.byteLength, 0);
  expect(changes.list().map(({ key }) => key.toString())).toHaveLength(17);
  expect(bytes).toBeLessThan(8 * 2 ** 20);
});

test('bytes that are no records are refused', () => {
  expect(() => new Changes().add(Buffer.from('no record at all'))).toThrow('is not well-formed');
});

describe('atomic batches', () => {
  const part = (parts: RecordParts, id: bigint, count = 2, index = 0): RecordParts => ({
    ...parts,
    batch: { id, count, index },
  });
  /** The keys of each group, and those of none. */
  function groupsOf(changes: Changes): string[] {
    const groups = new Map<number | string, string[]>();
    for (const { key, atomic } of changes.list()) {
      const name = atomic ?? `alone ${key}`;
      groups.set(name, [...(groups.get(name) ?? []), key.toString()]);
    }
    return [...groups.values()].map((keys) => keys.sort().join()).sort();
  }

  test('the parts of a batch share a number, which no other change has', () => {
    const changes = changesOf(
      [part(set('a', '1'), 7n), part(del('b'), 7n, 2, 1), set('c', '1')],
      [part(touch('d', 5), 8n), part(set('e', '1'), 8n, 2, 1)],
    );
    expect(groupsOf(changes)).toEqual(['a,b', 'c', 'd,e']);
  });

  test('a later change of a key takes its place, and is a part of the batch', () => {
    for (const later of [set('a', '2'), del('a'), touch('a', 9)]) {
      const changes = changesOf([part(set('a', '1'), 7n), part(set('b', '1'), 7n, 2, 1)], [later], [set('c', '1')]);
      expect(groupsOf(changes), later.kind).toEqual(['a,b', 'c']);
    }
    const deleted = changesOf([part(del('a'), 7n), part(set('b', '1'), 7n, 2, 1)], [touch('a', 9)]);
    expect(deleted.list().map(show)).toEqual(['set b=1 until 0 @2', 'delete a @1']);
    expect(groupsOf(deleted)).toEqual(['a,b']);
  });

  test('batches that have a key in common become one, also by way of a third', () => {
    const changes = changesOf(
      [part(set('a', '1'), 1n), part(set('b', '1'), 1n, 2, 1)],
      [part(set('c', '1'), 2n), part(set('d', '1'), 2n, 2, 1)],
      [part(set('x', '1'), 4n), part(set('y', '1'), 4n, 2, 1)],
      [part(set('b', '2'), 3n), part(set('c', '2'), 3n, 2, 1)],
    );
    expect(groupsOf(changes)).toEqual(['a,b,c,d', 'x,y']);
  });

  test('a batch takes the place of changes that were of none', () => {
    const changes = changesOf([set('a', '1'), set('b', '1')], [part(set('a', '2'), 1n), part(del('c'), 1n, 2, 1)]);
    expect(groupsOf(changes)).toEqual(['a,c', 'b']);
  });
});

describe('a counter', () => {
  const rules = new RuleSet([{ prefix: 'n:', skip: false, counter: true, deleteOnExpire: true }]);
  const MOST = 2n ** 64n - 1n;
  const incr = (delta: bigint, result: bigint | number, expiresWallMs = 0): RecordParts => ({
    ...set('n:a', `${result}`, expiresWallMs),
    delta: BigInt.asIntN(64, delta),
  });
  const cases: [string, RecordParts[], string[]][] = [
    ['an incr is an addition', [incr(3n, 5)], ['add n:a 3 to 5 until 0 @1']],
    ['a decr is one of less', [incr(-3n, 5)], ['add n:a -3 to 5 until 0 @1']],
    ['a decr at 0 adds nothing', [incr(0n, 0)], ['add n:a 0 to 0 until 0 @1']],
    [
      'two are one of both sums, with the newest result',
      [incr(3n, 5), incr(-4n, 1, 9)],
      ['add n:a -1 to 1 until 9 @2'],
    ],
    ['a number that wraps adds what was added', [incr(2n, 1)], ['add n:a 2 to 1 until 0 @1']],
    [
      'so does one that is large',
      [incr(2n ** 63n + 1n, 2n ** 63n + 6n)],
      [`add n:a ${2n ** 63n + 1n} to ${2n ** 63n + 6n} until 0 @1`],
    ],
    ['and a large one that is taken away', [incr(-(2n ** 62n), 5)], [`add n:a ${-(2n ** 62n)} to 5 until 0 @1`]],
    ['sums go round', [incr(MOST, MOST), incr(MOST, MOST - 1n)], [`add n:a ${MOST - 1n} to ${MOST - 1n} until 0 @2`]],
    ['a set and an incr are a set of the result', [set('n:a', '5'), incr(3n, 8)], ['set n:a=8 until 0 @2']],
    ['a delete and a set, for initial, are that set', [del('n:a'), set('n:a', '1')], ['set n:a=1 until 0 @2']],
    ['a delete, a set and an incr are a set', [del('n:a'), set('n:a', '1'), incr(3n, 4)], ['set n:a=4 until 0 @3']],
    [
      'a touch and an incr are the incr, which has the expiry',
      [touch('n:a', 9), incr(3n, 5, 9)],
      ['add n:a 3 to 5 until 9 @2'],
    ],
    ['an incr and a touch are the incr with its expiry', [incr(3n, 5), touch('n:a', 9)], ['add n:a 3 to 5 until 9 @2']],
    ['an incr and a delete are the delete', [incr(3n, 5), del('n:a')], ['delete n:a @2']],
    ['an incr and a set are the set', [incr(3n, 5), set('n:a', 'x')], ['set n:a=x until 0 @2']],
    ['an incr, a set and an incr are a set', [incr(3n, 5), set('n:a', '1'), incr(1n, 2)], ['set n:a=2 until 0 @3']],
    [
      'blanks behind a result are none of its digits',
      [{ ...incr(-3n, 9), value: '9  ' }],
      ['add n:a -3 to 9   until 0 @1'],
    ],
    ['of another prefix, it is a set', [{ ...incr(3n, 5), key: 'm:a' }], ['set m:a=5 until 0 @1']],
  ];
  test.each(cases)('%s', (_, records, expected) => {
    for (const groups of [[records], records.map((record) => [record])]) {
      const changes = new Changes(rules);
      let number = 0;
      for (const group of groups) {
        changes.add(Buffer.concat(group.map((parts) => makeRecord({ ...parts, counter: ++number }))));
      }
      expect(changes.list().map(show)).toEqual(expected);
    }
  });

  test('adds what came in between only once: the second copy of a record is passed over', () => {
    const changes = new Changes(rules);
    const passed = new PassedVersions();
    const records = [incr(3n, 5), incr(4n, 9)].map((parts, i) => makeRecord({ ...parts, counter: i + 1 }));
    changes.add(Buffer.concat(records), passed);
    changes.add(records[1]!, passed);
    expect(changes.list().map(show)).toEqual(['add n:a 7 to 9 until 0 @2']);
  });

  test('keeps its sum when the buffers of the log are let go, and its place in an atomic batch', () => {
    const changes = new Changes(rules);
    const waste = makeRecord({ ...set('other', 'w'.repeat(2 ** 20)), counter: 1 });
    for (let i = 1; i <= 20; i++)
      changes.add(Buffer.concat([waste, makeRecord({ ...incr(2n, 2 * i), counter: i + 1 })]));
    expect(changes.list().map(show)).toContain('add n:a 40 to 40 until 0 @21');
    const batch = { id: 7n, count: 2, index: 0 };
    changes.add(
      Buffer.concat([
        makeRecord({ ...set('n:a', '5'), batch, counter: 30 }),
        makeRecord({ ...set('b', '5'), batch: { ...batch, index: 1 }, counter: 31 }),
        makeRecord({ ...incr(1n, 6), counter: 32 }),
      ]),
    );
    const [a, b] = ['n:a', 'b'].map((name) => changes.list().find(({ key }) => `${key}` === name)!);
    expect(show(a!)).toBe('set n:a=6 until 0 @32');
    expect(a!.atomic).toBe(b!.atomic);
    expect(a!.atomic).toBeDefined();
  });

  test('has its results in the history', () => {
    const both = new RuleSet([{ prefix: 'n:', skip: false, history: true, counter: true, deleteOnExpire: true }]);
    const changes = new Changes(both);
    for (const [i, parts] of [incr(3n, 5), incr(4n, 9)].entries())
      changes.add(makeRecord({ ...parts, counter: i + 1 }));
    expect(changes.history.map(show)).toEqual(['set n:a=5 until 0 @1', 'set n:a=9 until 0 @2']);
    // Stored again as it was: no write of the user's.
    changes.add(makeRecord({ ...incr(0n, 9), counter: 3 }));
    changes.add(makeRecord({ ...set('n:b', 'text'), delta: 0n, counter: 4 }));
    expect(changes.history).toHaveLength(2);
    expect(changes.list().map(show)).toEqual(['add n:a 7 to 9 until 0 @3', 'set n:b=text until 0 @4']);
  });
});

describe('history', () => {
  const rules = new RuleSet([{ prefix: 'h:', skip: false, history: true, deleteOnExpire: true }]);

  test('has every record of the keys whose rule keeps it, as it is, beside the coalesced changes', () => {
    const changes = new Changes(rules);
    const records = [set('h:a', '1', 9), touch('h:a', 5), set('b', 'x'), set('h:a', '2'), del('h:a'), touch('h:a', 7)];
    for (const [i, parts] of records.entries()) {
      changes.add(makeRecord({ ...parts, counter: i + 1 }), undefined, 1000 + i);
    }
    expect(changes.history.map((row) => `${show(row)} at ${row.loggedWallMs}`)).toEqual([
      'set h:a=1 until 9 @1 at 1000',
      'touch h:a until 5 @2 at 1001',
      'set h:a=2 until 0 @4 at 1003',
      'delete h:a @5 at 1004',
      'touch h:a until 7 @6 at 1005',
    ]);
    expect(changes.list().map(show)).toEqual(['set b=x until 0 @3', 'delete h:a @5']);
  });

  test('counts in bytes, and keeps its values when the buffers of the log are let go', () => {
    const changes = new Changes(rules);
    const value = 'v'.repeat(100_000);
    const waste = makeRecord({ ...set('other', 'w'.repeat(2 ** 20)), counter: 1 });
    changes.add(makeRecord({ ...set('h:a', value), counter: 2 }));
    expect(changes.bytes).toBeGreaterThan(200_000);
    for (let i = 0; i < 20; i++)
      changes.add(Buffer.concat([waste, makeRecord({ ...set('h:a', value), counter: 3 + i })]));
    expect(changes.history).toHaveLength(21);
    for (const row of changes.history) expect(row.kind === 'set' && row.value.equals(Buffer.from(value))).toBe(true);
  });

  test('of other keys is none', () => {
    expect(changesOf([set('h:a', '1')]).history).toEqual([]);
    const changes = new Changes(rules);
    changes.add(makeRecord({ ...set('b', '1'), counter: 1 }));
    expect(changes.history).toEqual([]);
  });
});
