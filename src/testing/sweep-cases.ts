/** The sweep of expired rows: bounded, and never of a row that is not over. */
import assert from 'node:assert/strict';
import type { Cursor, SweepPlace } from '../backend/index.ts';
import type { CaseText } from './case.ts';
import { bytes, compare, REFUSED_EXPIRY, RowsModel, type Subject, set, touch, WRITER } from './harness.ts';

/** Sweeps once through all rows; returns how many were removed by each piece. */
async function pass(subject: Subject, expiredAtMs: number, rows: number): Promise<number[]> {
  const removed: number[] = [];
  let place: SweepPlace | undefined;
  do {
    const swept = await subject.backend.sweep!({ at: [subject.cursor!], expiredAtMs, place, rows });
    assert.ok(swept !== undefined, 'the cursor is that of the writer');
    removed.push(swept.removed);
    place = swept.place;
    assert.ok(removed.length < 1000, 'a pass ends');
  } while (place !== undefined);
  return removed;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);

export const sweepCases: readonly CaseText[] = [
  {
    name: 'a sweep removes the rows that expired by its time, in pieces of that many rows',
    async body({ open }) {
      const subject = await open();
      const model = new RowsModel();
      const timeMs = subject.nowMs + 100;
      const long = 'x'.repeat(2000);
      const keys = Array.from({ length: 60 }, (_, i) => bytes(`${i % 7 === 0 ? long : 'key'} ${i}`));
      const changes = keys.map((key, i) => {
        return set(key, `${i}`, { expiresWallMs: [0, timeMs - 1, timeMs, timeMs + 1][i % 4]! });
      });
      await subject.write(...changes);
      model.apply(changes.filter(({ expiresWallMs }) => expiresWallMs === 0 || expiresWallMs > timeMs));
      const removed = await pass(subject, timeMs, 7);
      assert.equal(sum(removed), 30);
      assert.ok(Math.max(...removed) <= 7, 'no piece looks at more rows');
      // At a time when none of them had expired yet: those that were removed are not there.
      await compare(subject, model, keys);
      assert.equal(sum(await pass(subject, timeMs, 1000)), 0);
      await subject.write(set(keys[1]!, 'again'));
      assert.deepEqual(await subject.texts(keys[1]!), ['again']);
    },
  },
  {
    name: 'a sweep with the cursor of another writer, or one that is ahead, removes nothing',
    async body({ open }) {
      const subject = await open();
      await subject.write(set('first', 'x'));
      const earlier = subject.cursor!;
      const timeMs = subject.nowMs + 100;
      await subject.write(set('key', 'x', { expiresWallMs: timeMs }));
      const cursor = subject.cursor!;
      const others: Cursor[] = [
        { ...cursor, position: cursor.position + 1n },
        { ...cursor, epoch: cursor.epoch + 1 },
        { ...cursor, writer: WRITER - 1n },
        { ...cursor, holderEpoch: cursor.holderEpoch - 1 },
        { ...cursor, holderWriter: WRITER - 1n },
        { ...cursor, logId: cursor.logId - 1n },
        { ...cursor, lane: 1, laneCount: 2 },
      ];
      const sweep = (...at: Cursor[]) =>
        subject.backend.sweep!({ at, expiredAtMs: timeMs, place: undefined, rows: 10 });
      for (const at of others) assert.equal(await sweep(at), undefined);
      for (const at of others) assert.equal(await sweep(cursor, at), undefined);
      assert.deepEqual(await subject.texts('key'), ['x']);
      assert.equal((await sweep(earlier))?.removed, 1);
      assert.deepEqual(await subject.texts('key'), [undefined]);
      assert.deepEqual(await subject.backend.readCursors(), [cursor]);
    },
  },
];

/** Of backends that the harness can make refuse changes. */
export const sweptLetterCases: readonly CaseText[] = [
  {
    name: 'a sweep leaves a row whose longer expiry was refused, until the dead letter is dropped',
    async body({ open, harness }) {
      const subject = await open();
      const timeMs = subject.nowMs + 100;
      await subject.write(set('touched', 'x', { expiresWallMs: timeMs }), set('other', 'x', { expiresWallMs: timeMs }));
      await harness.refuse!();
      assert.equal((await subject.write(touch('touched', REFUSED_EXPIRY))).deadLetters.length, 1);
      assert.equal(sum(await pass(subject, timeMs, 10)), 1);
      assert.deepEqual(await subject.texts('touched', 'other'), ['x', undefined]);
      const letters = await subject.backend.deadLetters!.list(10);
      await subject.backend.deadLetters!.drop(letters.map(({ id }) => id));
      assert.equal(sum(await pass(subject, timeMs, 10)), 1);
    },
  },
];
