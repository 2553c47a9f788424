/** Additions: what they leave of rows that other writers change too. */
import assert from 'node:assert/strict';
import type { Change } from '../backend/index.ts';
import type { CaseText } from './case.ts';
import {
  add,
  bytes,
  compare,
  Draw,
  NOW_MS,
  REFUSED,
  REFUSED_EXPIRY,
  RowsModel,
  remove,
  type Subject,
  set,
  touch,
} from './harness.ts';

const MOST = 2n ** 64n - 1n;

/** What a row has, what is added, and what it has then. The cache saw another result. */
const SUMS: readonly (readonly [string, bigint, string])[] = [
  ['5', 1n, '6'],
  ['0', 0n, '0'],
  ['5', -5n, '0'],
  ['5', -6n, '0'],
  ['0', MOST, `${MOST}`],
  [`${MOST}`, 1n, '0'],
  [`${MOST}`, 3n, '2'],
  [`${MOST}`, -1n, `${MOST - 1n}`],
  [`${MOST}`, MOST, `${MOST - 1n}`],
  ['9223372036854775807', 1n, '9223372036854775808'],
  ['9223372036854775808', -9_223_372_036_854_775_807n, '1'],
  // As memcached reads and writes numbers.
  ['007', 1n, '8'],
  ['12  ', -3n, '9'],
  [' +5', 1n, '6'],
  ['5\r\n', 1n, '6'],
];

/** What holds no number. */
const NO_NUMBERS: readonly string[] = [
  '',
  ' ',
  'abc',
  '5a',
  '-5',
  '1.5',
  '1e5',
  '0x10',
  '٣',
  `${MOST + 1n}`,
  '\n',
  '5,000',
  '\xff',
];

async function run(subject: Subject, draw: Draw): Promise<void> {
  const model = new RowsModel();
  const keys = ['a', 'b', 'c', 'd', 'e'].map(bytes);
  const numberOf = (key: Buffer): bigint | undefined => {
    const row = model.stored(key);
    return row === undefined ? undefined : BigInt(row.value.toString());
  };
  // As a cache makes them: each addition knows its result.
  const change = (): Change => {
    const key = draw.pick(keys);
    const expiresWallMs = draw.pick([0, NOW_MS + 1 + draw.below(30)]);
    const kind = draw.below(12);
    if (kind === 0) return remove(key);
    if (kind < 3) return touch(key, expiresWallMs);
    const random = draw.pick([0n, 3n, 1000n, MOST - 3n]) + BigInt(draw.below(4));
    const number = numberOf(key);
    if (kind < 5) return set(key, `${random}`, { codec: 4, expiresWallMs });
    if (number === undefined) return add(key, random, BigInt(draw.below(10)), { expiresWallMs });
    const by = random > number ? number : random;
    if (kind < 8) return add(key, -by, number - by, { expiresWallMs });
    return add(key, random, BigInt.asUintN(64, number + random), { expiresWallMs });
  };
  for (let step = 0; step < 60; step++) {
    const changes: Change[] = [];
    for (let i = draw.pick([0, 1, 2, 8, 40]); i > 0; i--) {
      const next = change();
      model.apply([next]);
      changes.push(next);
    }
    await subject.write(...changes);
    if (draw.below(4) === 0) subject.nowMs += draw.below(8);
    if (draw.below(5) === 0) await compare(subject, model, keys);
  }
  await compare(subject, model, keys);
}

export const counterCases: readonly CaseText[] = [
  {
    name: 'what is added is added to the number of the row: modulo 2^64, and not below 0',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      await subject.write(
        ...SUMS.map(([before], i) => set(`key ${i}`, before, { codec: 3, clientFlags: 7, expiresWallMs: NOW_MS + 5 })),
      );
      const { deadLetters } = await subject.write(
        ...SUMS.map(([, delta], i) => add(`key ${i}`, delta, 77, { clientFlags: 9, expiresWallMs: NOW_MS + 9 })),
      );
      assert.deepEqual(deadLetters, []);
      const { rows } = await subject.load(...SUMS.map((_, i) => `key ${i}`));
      assert.deepEqual(
        rows.map((row) => row?.value.toString()),
        SUMS.map(([, , after]) => after),
      );
      // The row keeps how it is encoded; expiry and version are those of the addition.
      for (const row of rows) {
        assert.deepEqual([row?.codec, row?.clientFlags, row?.expiresWallMs], [3, 7, NOW_MS + 9]);
      }
    },
  },
  {
    name: 'an addition to no row makes that of its result',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      const model = new RowsModel();
      const keys = ['new', 'deleted', 'there', Buffer.alloc(5000, 'k'), Buffer.from([0, 0xff])].map(bytes);
      await subject.write(set('deleted', '1'), set('there', '5'));
      await subject.write(remove('deleted'));
      model.apply([set('there', '5')]);
      const changes = keys.map((key, i) =>
        add(key, 1n, 6 + i, { codec: 5, clientFlags: 8, expiresWallMs: NOW_MS + 3 }),
      );
      await subject.write(...changes);
      model.apply(changes);
      await compare(subject, model, keys);
      const again = keys.map((key) => add(key, 10n, 3));
      await subject.write(...again);
      model.apply(again);
      await compare(subject, model, keys);
    },
  },
  {
    name: 'additions of a batch are many, and a batch that is written again adds nothing',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      const keys = Array.from({ length: 2500 }, (_, i) => `counter ${i}`);
      // Some are there, others not.
      await subject.write(...keys.filter((_, i) => i % 10 !== 0).map((key) => set(key, '1000')));
      const from = subject.cursor;
      const changes = keys.flatMap((key, i) => [add(key, BigInt(i), i), add(key, 1n, i + 1)]);
      await subject.write(...changes);
      const again = await subject.backend.write({ changes, from, to: subject.next() });
      assert.equal(again.kind, 'moved');
      assert.deepEqual(
        await subject.texts(...keys),
        keys.map((_, i) => `${i % 10 === 0 ? i + 1 : 1001 + i}`),
      );
    },
  },
  {
    name: 'random additions among other changes leave the rows that a Map has',
    level: 'transactional',
    async body({ open, seed }) {
      try {
        await run(await open(), new Draw(seed));
      } catch (error) {
        throw new Error(`Failed with the seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    },
  },
  {
    name: 'an addition to a row that holds no number is answered with its result, and others are committed',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      const key = (i: number): string => `key ${i}`;
      await subject.write(
        ...NO_NUMBERS.map((value, i) => set(key(i), Buffer.from(value, 'latin1'))),
        set('sound', '5'),
      );
      await subject.write(...NO_NUMBERS.map((_, i) => add(key(i), 2n, 40 + i)), add('sound', 2n, 40));
      const keys = NO_NUMBERS.map((_, i) => key(i));
      assert.deepEqual(await subject.texts('sound', ...keys), ['7', ...keys.map((_, i) => `${40 + i}`)]);
      await subject.write(...keys.map((each, i) => add(each, -1n, 39 + i)));
      assert.deepEqual(
        await subject.texts(...keys),
        keys.map((_, i) => `${39 + i}`),
      );
    },
  },
];

/** Of a backend with dead letters. */
export const counterLetterCases: readonly CaseText[] = [
  {
    name: 'the dead letter of an addition is superseded by a set or a delete, and not by another addition',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      const { list, drop } = subject.backend.deadLetters!;
      const keys = ['set', 'deleted', 'added', 'touched', 'dropped'];
      await subject.write(...keys.map((key) => set(key, 'no number', { codec: 1 })));
      const first = keys.map((key) => add(key, -(2n ** 63n), 10, { clientFlags: 5, expiresWallMs: NOW_MS + 5 }));
      const { deadLetters } = await subject.write(...first);
      assert.equal(deadLetters.length, keys.length);
      const kept = await list(100);
      const byKey = (a: { key: Buffer }, b: { key: Buffer }): number => Buffer.compare(a.key, b.key);
      assert.deepEqual(kept.map(({ change }) => change).sort(byKey), [...first].sort(byKey));
      assert.deepEqual(await subject.texts(...keys), ['10', '10', '10', '10', '10']);
      await subject.write(
        set('set', '3'),
        remove('deleted'),
        add('added', 4n, 14, { expiresWallMs: NOW_MS + 50 }),
        touch('touched', NOW_MS + 50),
      );
      assert.deepEqual(await subject.texts(...keys), ['3', undefined, '14', '10', '10']);
      subject.nowMs += 10;
      assert.deepEqual(await subject.texts(...keys), ['3', undefined, '14', '10', undefined]);
      const live = (await list(100)).filter(({ isSuperseded }) => !isSuperseded).map(({ change }) => `${change.key}`);
      assert.deepEqual(live.sort(), ['added', 'added', 'dropped', 'touched']);
      await drop(kept.map(({ id }) => id));
      // What is left is an addition to a row that holds no number.
      assert.deepEqual(await subject.texts('added', 'touched'), ['14', 'no number']);
    },
  },
  {
    name: 'a key may have any number of dead letters: a load adds all of them, in their order',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      await subject.write(set('many', 'no number', { codec: 1 }), set('few', 'no number', { codec: 1 }));
      await subject.write(add('few', 1n, 1));
      const count = 530;
      for (let i = 1; i <= count; i++) await subject.write(add('many', 1n, i));
      await subject.write(add('few', 5n, 6), touch('many', NOW_MS + 50));
      assert.deepEqual(await subject.texts('few', 'many', 'none', 'many'), ['6', `${count}`, undefined, `${count}`]);
      subject.nowMs += 50;
      assert.deepEqual(await subject.texts('few', 'many'), ['6', undefined]);
      assert.equal((await subject.backend.deadLetters!.list(1000)).length, count + 2);
    },
  },
  {
    name: 'an addition to a key whose set was refused is a set of its result',
    level: 'transactional',
    async body({ open, harness }) {
      const subject = await open();
      await subject.write(set('a', '1'), set('b', '1'), set(`${REFUSED} c`, '1'));
      await harness.refuse!();
      await subject.write(set('a', `${REFUSED} 10`), set('b', `${REFUSED} 10`), remove(`${REFUSED} c`));
      await subject.write(add('a', 1n, 11), touch('b', NOW_MS + 5));
      assert.deepEqual(await subject.texts('a', 'b', `${REFUSED} c`), ['11', `${REFUSED} 10`, undefined]);
      await subject.write(add(`${REFUSED} c`, 1n, 5));
      assert.deepEqual(await subject.texts(`${REFUSED} c`), ['5']);
      const live = (await subject.backend.deadLetters!.list(100)).filter(({ isSuperseded }) => !isSuperseded);
      assert.deepEqual(
        live.map(({ change }) => `${change.key}`),
        ['b'],
      );
      await subject.write(add('a', 1n, 12));
      assert.deepEqual(await subject.texts('a'), ['12']);
    },
  },
  {
    name: 'an addition that was put aside is made again only if it still counts, and stays if it is refused once more',
    level: 'transactional',
    async body({ open, harness }) {
      const subject = await open();
      const letters = subject.backend.deadLetters!;
      if (letters.addAgain === undefined) return;
      await subject.write(set('a', 'no number', { codec: 1 }), set('b', '1'));
      await subject.write(add('a', 2n, 40));
      const [letter] = await letters.list(10);
      const again = await letters.addAgain(letter!.id);
      assert.equal(again.outcome, 'refused');
      assert.equal(typeof again.reason, 'string');
      assert.deepEqual(await subject.texts('a', 'b'), ['40', '1']);
      assert.deepEqual(await letters.list(10), [letter]);
      assert.equal((await letters.addAgain(letter!.id + 1n)).outcome, 'gone');
      // Its transaction holds nothing up.
      await subject.write(set('a', '5'));
      assert.equal((await letters.addAgain(letter!.id)).outcome, 'gone');
      assert.deepEqual(await subject.texts('a', 'b'), ['5', '1']);
      await letters.drop([letter!.id]);
      // Another writer has changed the row since the cache saw it.
      await harness.refuse!();
      await subject.write(add('b', 2n, 77, { expiresWallMs: REFUSED_EXPIRY }));
      await subject.write(touch('b', NOW_MS + 50));
      assert.deepEqual(await subject.texts('b'), ['3']);
      const [other] = await letters.list(10);
      assert.deepEqual(await letters.addAgain(other!.id), { outcome: 'added', reason: undefined });
      assert.equal((await letters.addAgain(other!.id)).outcome, 'gone');
      assert.deepEqual(await letters.list(10), []);
      assert.deepEqual(await subject.texts('b'), ['3']);
      subject.nowMs += 50;
      assert.deepEqual(await subject.texts('b'), [undefined]);
    },
  },
  {
    name: 'an atomic batch that has an addition to no number is put aside as a whole',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      await subject.write(set('poison', 'no number'), set('sound', '1'));
      const changes = [
        { ...add('poison', 1n, 2), atomic: 0 },
        { ...set('with it', 'x'), atomic: 0 },
        { ...add('sound', 1n, 2), atomic: 1 },
        { ...set('beside', 'x'), atomic: 1 },
      ];
      const { deadLetters } = await subject.write(...changes);
      assert.deepEqual(deadLetters.map(({ change }) => `${change.key}`).sort(), ['poison', 'with it']);
      assert.deepEqual(await subject.texts('poison', 'with it', 'sound', 'beside'), ['2', 'x', '2', 'x']);
      const { list, drop } = subject.backend.deadLetters!;
      await drop((await list(10)).map(({ id }) => id));
      assert.deepEqual(await subject.texts('poison', 'with it', 'sound', 'beside'), ['no number', undefined, '2', 'x']);
    },
  },
];
