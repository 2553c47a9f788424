/** Changes that the database refuses: put aside with their batch, and still what a load answers. */
import assert from 'node:assert/strict';
import type { Change, CursorPlace } from '../backend/index.ts';
import type { CaseText } from './case.ts';
import { bytes, compare, NOW_MS, REFUSED, REFUSED_EXPIRY, RowsModel, remove, set, touch } from './harness.ts';

const names = (changes: readonly Change[]): string[] => changes.map(({ kind, key }) => `${kind} ${key}`).sort();

function placeOf({ lane, laneCount, logId, position, epoch, writer }: CursorPlace): CursorPlace {
  return { lane, laneCount, logId, position, epoch, writer };
}

export const deadLetterCases: readonly CaseText[] = [
  {
    name: 'a refused change at any place of a batch is put aside, and all others are committed',
    async body({ open, harness }) {
      const subject = await open();
      await harness.refuse!();
      for (let bad = 0; bad < 9; bad++) {
        const changes = Array.from({ length: 9 }, (_, i) => set(`key ${i}`, i === bad ? `${REFUSED} ${i}` : `${bad}`));
        const { deadLetters } = await subject.write(...changes);
        assert.deepEqual(names(deadLetters.map(({ change }) => change)), [`set key ${bad}`]);
        assert.ok(deadLetters[0]!.error instanceof Error);
        const texts = Array.from({ length: 9 }, (_, i) => (i === bad ? `${REFUSED} ${i}` : `${bad}`));
        assert.deepEqual(await subject.texts(...changes.map(({ key }) => key)), texts);
      }
      assert.deepEqual(await subject.backend.readCursors(), [subject.cursor]);
    },
  },
  {
    name: 'refused sets, deletes and touches among others, some of them or all, are put aside',
    async body({ open, harness }) {
      const subject = await open();
      const model = new RowsModel();
      const keys = Array.from({ length: 60 }, (_, i) => bytes(i % 4 === 1 ? `${REFUSED} ${i}` : `key ${i}`));
      const before = keys.map((key) => set(key, 'before'));
      await subject.write(...before);
      model.apply(before);
      await harness.refuse!();
      const change = (key: Buffer, i: number): Change => {
        if (i % 4 === 0) return set(key, `${REFUSED} value`);
        if (i % 4 === 1) return remove(key);
        return i % 4 === 2 ? touch(key, REFUSED_EXPIRY) : set(key, 'after');
      };
      const changes = keys.map(change);
      const { deadLetters } = await subject.write(...changes);
      const refused = changes.filter((_, i) => i % 4 < 3);
      assert.deepEqual(names(deadLetters.map((letter) => letter.change)), names(refused));
      // Loads and scans answer as if nothing had been refused: the cache has acknowledged it.
      model.apply(changes);
      await compare(subject, model, keys);
      // And so they do after a restart.
      const later = await open();
      later.moveTo(subject.cursor);
      await compare(later, model, keys);
      const kept = await later.backend.deadLetters!.list(1000);
      assert.deepEqual(names(kept.map((letter) => letter.change)), names(refused));
    },
  },
  {
    name: 'an atomic batch of which one change is refused is put aside as a whole, and others are committed',
    async body({ open, harness }) {
      const subject = await open();
      const model = new RowsModel();
      const keys = Array.from({ length: 40 }, (_, i) => bytes(`key ${String(i).padStart(2, '0')}`));
      const before = keys.filter((_, i) => i % 2 === 0).map((key) => set(key, 'before'));
      await subject.write(...before);
      model.apply(before);
      await harness.refuse!();
      // Four atomic batches, one in the other: of the first one change is refused, of the second each.
      const changes = keys.map((key, i): Change => {
        const atomic = i % 5;
        if (atomic === 4) return set(key, i === 4 ? `${REFUSED} alone` : 'alone');
        if (i === 15 || atomic === 1) return { ...set(key, `${REFUSED} ${i}`), atomic };
        if (i % 3 === 0) return { ...touch(key, NOW_MS + 1000), atomic };
        return i % 3 === 1 ? { ...remove(key), atomic } : { ...set(key, 'after'), atomic };
      });
      const { deadLetters } = await subject.write(...changes);
      const isOut = (i: number): boolean => i % 5 < 2 || i === 4;
      assert.deepEqual(names(deadLetters.map(({ change }) => change)), names(changes.filter((_, i) => isOut(i))));
      assert.ok(deadLetters.every(({ error }) => error instanceof Error));
      // Loads and scans answer as if nothing had been refused; the rows say it when the dead letters are dropped.
      model.apply(changes);
      await compare(subject, model, keys);
      const kept = await subject.backend.deadLetters!.list(1000);
      assert.deepEqual(names(kept.map(({ change }) => change)), names(changes.filter((_, i) => isOut(i))));
      // Which of them belong together is kept.
      for (const { change } of kept) {
        const i = keys.findIndex((key) => key.equals(change.key));
        assert.equal(change.atomic, changes[i]!.atomic);
      }
      await subject.backend.deadLetters!.drop(kept.map(({ id }) => id));
      const rows = new RowsModel();
      rows.apply(before);
      rows.apply(changes.filter((_, i) => !isOut(i)));
      await compare(subject, rows, keys);
    },
  },
  {
    name: 'a later change of the key supersedes a dead letter',
    async body({ open, harness }) {
      const subject = await open();
      const model = new RowsModel();
      const write = async (...changes: Change[]): Promise<void> => {
        await subject.write(...changes);
        model.apply(changes);
      };
      const keys = ['set', 'deleted', 'touched', 'refused again', 'twice touched'].map(bytes);
      await write(...keys.map((key) => set(key, 'first')));
      await harness.refuse!();
      await write(...keys.map((key) => set(key, `${REFUSED} 1`, { expiresWallMs: NOW_MS + 20 })));
      await compare(subject, model, keys);
      await write(
        set('set', 'second'),
        remove('deleted'),
        touch('touched', NOW_MS + 100),
        set('refused again', `${REFUSED} 2`),
        touch('twice touched', REFUSED_EXPIRY),
      );
      await compare(subject, model, keys);
      const live = (await subject.backend.deadLetters!.list(100)).filter(({ isSuperseded }) => !isSuperseded);
      assert.deepEqual([...new Set(live.map(({ change }) => change.key.toString()))].sort(), [
        'refused again',
        'touched',
        'twice touched',
      ]);
      subject.nowMs += 50;
      await compare(subject, model, keys);
      await write(touch('twice touched', NOW_MS + 60), set('refused again', 'third'));
      await compare(subject, model, keys);
      subject.nowMs += 11;
      await compare(subject, model, keys);
      await write(...keys.map((key) => set(key, 'last')));
      await compare(subject, model, keys);
      assert.ok((await subject.backend.deadLetters!.list(100)).every(({ isSuperseded }) => isSuperseded));
    },
  },
  {
    name: 'dead letters are listed in pages with all that a retry needs, and dropped by number',
    async body({ open, harness }) {
      const subject = await open();
      await harness.refuse!();
      const long = Buffer.alloc(5000, 'k');
      const expiresWallMs = NOW_MS + 1000;
      const changes = [
        set('a', `${REFUSED} a`, { codec: 6, clientFlags: 77, expiresWallMs, version: (1n << 64n) - 2n }),
        set(long, `${REFUSED}\0\xff`),
        set('c', REFUSED),
      ];
      await subject.write(...changes);
      const { list, drop } = subject.backend.deadLetters!;
      const all = await list(100);
      assert.deepEqual(
        all.map(({ change }) => change).sort((a, b) => Buffer.compare(a.key, b.key)),
        [...changes].sort((a, b) => Buffer.compare(a.key, b.key)),
      );
      for (const letter of all) {
        assert.deepEqual(placeOf(letter.cursor), placeOf(subject.cursor!));
        assert.equal(letter.isSuperseded, false);
        assert.ok(letter.error.length > 0);
        assert.ok(Math.abs(letter.addedWallMs - Date.now()) < 3_600_000);
      }
      const [first, second, third] = all;
      assert.ok(first !== undefined && second !== undefined && third !== undefined);
      assert.deepEqual(await list(2), [first, second]);
      assert.deepEqual(await list(2, second.id), [third]);
      assert.deepEqual(await list(2, third.id), []);
      assert.equal(await drop([first.id, third.id, first.id + 1_000_000n]), 2);
      assert.equal(await drop([]), 0);
      assert.deepEqual(await list(100), [second]);
      // What was dropped is gone; the row is what the database has, which is nothing.
      const loaded = await subject.backend.load(all.map(({ change }) => change.key));
      assert.deepEqual(
        loaded.rows.map((row) => row !== undefined),
        all.map((letter) => letter === second),
      );
    },
  },
  {
    name: 'of some keys the oldest dead letter that counts is found by its key',
    async body({ open, harness }) {
      const subject = await open();
      const { oldestOf, list } = subject.backend.deadLetters!;
      if (oldestOf === undefined) return;
      await harness.refuse!();
      const long = Buffer.alloc(5000, 'k');
      const others = Array.from({ length: 300 }, (_, i) => bytes(`other ${i}`));
      for (const key of ['superseded', 'first', long, 'second'])
        await subject.write(set(key, `${REFUSED} ${key.length}`));
      await subject.write(set('second', `${REFUSED} again`));
      await subject.write(...others.slice(0, 100).map((key) => set(key, REFUSED)));
      await subject.write(set('superseded', 'better'), set('row', 'good'));
      const letters = await list(1000);
      const errorOf = (key: Buffer): string => letters.find(({ change }) => change.key.equals(key))!.error;
      const found = async (...keys: (Buffer | string)[]) => oldestOf(keys.map(bytes));
      for (const key of ['first', long, 'second'].map(bytes)) {
        assert.deepEqual(await found(key), { key, error: errorOf(key) });
        assert.deepEqual(await found('row', key, 'superseded', 'none'), { key, error: errorOf(key) });
      }
      assert.deepEqual((await found('second', ...others, long, 'first'))?.key, bytes('first'));
      assert.deepEqual((await found(...others, 'second'))?.key, bytes('second'));
      assert.equal(await found('superseded', 'row', ...others.slice(100), long.subarray(1)), undefined);
      assert.equal(await found(), undefined);
    },
  },
];
