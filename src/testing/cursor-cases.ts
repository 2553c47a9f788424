/** The cursor: conditional, exactly once, one for each lane. */
import assert from 'node:assert/strict';
import type { Cursor } from '../backend/index.ts';
import type { CaseText } from './case.ts';
import { LOG_ID, remove, set, touch } from './harness.ts';

export const cursorCases: readonly CaseText[] = [
  {
    name: 'an empty database has no cursors, and the first batch makes the one of its lane',
    async body({ open }) {
      const subject = await open();
      assert.deepEqual(await subject.backend.readCursors(), []);
      assert.deepEqual((await subject.load('key')).cursors, []);
      assert.deepEqual((await subject.scan()).cursors, []);
      await subject.write(set('key', 'value'));
      assert.deepEqual(await subject.backend.readCursors(), [subject.cursor]);
      assert.deepEqual((await subject.load()).cursors, [subject.cursor]);
    },
  },
  {
    name: 'a backend is of the level that its tests are for, and has a name',
    async body({ harness, open }) {
      const { backend } = await open();
      assert.equal(backend.level, harness.level ?? 'transactional');
      assert.ok(backend.name.length > 0);
    },
  },
  {
    name: 'a change of a lower version than the row has leaves the row as it is',
    level: 'idempotent',
    async body({ open }) {
      const subject = await open();
      const old = [set('set', 'old'), remove('deleted'), touch('touched', 1), set('gone', 'old')];
      await subject.write(...['set', 'deleted', 'touched'].map((key) => set(key, 'new')), remove('gone'));
      await subject.write(...old);
      assert.deepEqual(await subject.texts('set', 'deleted', 'touched'), ['new', 'new', 'new']);
      // As after a failure between the changes and the cursor: the same changes once more.
      const again = [set('set', 'newer'), remove('deleted')];
      await subject.write(...again);
      await subject.write(...again);
      assert.deepEqual(await subject.texts('set', 'deleted'), ['newer', undefined]);
    },
  },
  {
    name: 'rows and cursors are there for a backend that opens the database later',
    async body({ open }) {
      const first = await open();
      await first.write(set('key', 'value'));
      await first.backend.open();
      const second = await open();
      assert.deepEqual(await second.backend.readCursors(), [first.cursor]);
      assert.deepEqual(await second.texts('key'), ['value']);
    },
  },
  {
    name: 'a batch without changes moves the cursor',
    async body({ open }) {
      const subject = await open();
      await subject.write();
      await subject.write();
      assert.deepEqual(await subject.backend.readCursors(), [subject.cursor]);
      assert.equal(subject.cursor?.position, 2n);
    },
  },
  {
    name: 'a batch that is written again changes nothing, and is told that it was committed',
    async body({ open }) {
      const subject = await open();
      for (const round of [1, 2]) {
        const batch = { changes: [set('key', `old ${round}`)], from: subject.cursor, to: subject.next() };
        assert.equal((await subject.backend.write(batch)).kind, 'committed');
        subject.moveTo(batch.to);
        assert.deepEqual(await subject.backend.write(batch), { kind: 'moved', found: batch.to });
        const { to } = batch;
        await subject.write(set('key', `new ${round}`), set('other', 'value'));
        assert.deepEqual(await subject.backend.write({ ...batch, to }), { kind: 'moved', found: subject.cursor });
        assert.deepEqual(await subject.texts('key', 'other'), [`new ${round}`, 'value']);
      }
    },
  },
  {
    name: 'a writer whose cursor differs in any part changes nothing',
    async body({ open }) {
      const subject = await open();
      await subject.write(set('key', 'value'), set('kept', 'value'));
      const at = subject.cursor!;
      const strangers: (Cursor | undefined)[] = [
        undefined,
        { ...at, position: at.position - 1n },
        { ...at, position: at.position + 1n },
        { ...at, epoch: at.epoch - 1 },
        { ...at, epoch: at.epoch + 1 },
        { ...at, writer: at.writer - 1n },
        { ...at, holderEpoch: at.holderEpoch - 1 },
        { ...at, holderEpoch: at.holderEpoch + 1 },
        { ...at, holderWriter: at.holderWriter - 1n },
        { ...at, logId: at.logId + 1n },
        { ...at, laneCount: 2 },
      ];
      for (const from of strangers) {
        const to = { ...(from ?? at), position: at.position + 5n };
        const changes = [set('key', 'stranger'), remove('kept'), touch('key', 1), set('new', 'stranger')];
        assert.deepEqual(await subject.backend.write({ changes, from, to }), { kind: 'moved', found: at });
      }
      assert.deepEqual(await subject.texts('key', 'kept', 'new'), ['value', 'value', undefined]);
      assert.deepEqual(await subject.backend.readCursors(), [at]);
    },
  },
  {
    name: 'a writer that another has taken over from changes nothing',
    async body({ open }) {
      const zombie = await open();
      await zombie.write(set('key', 'value'));
      const heir = await open();
      // The cursor stays where it is, and has another holder from here on.
      const held = { ...zombie.cursor!, holderEpoch: 0xffff_ffff, holderWriter: 1n };
      assert.equal((await heir.backend.write({ changes: [], from: zombie.cursor, to: held })).kind, 'committed');
      assert.deepEqual(await zombie.backend.readCursors(), [held]);
      const changes = [set('key', 'of the zombie')];
      const outcome = await zombie.backend.write({ changes, from: zombie.cursor, to: zombie.next() });
      assert.deepEqual(outcome, { kind: 'moved', found: held });
      assert.deepEqual(await heir.texts('key'), ['value']);
      assert.deepEqual((await heir.load('key')).cursors, [held]);
      assert.deepEqual((await heir.scan()).cursors, [held]);
      // What the heir writes then has the holder that it has put there.
      const to = { ...zombie.next(), holderEpoch: held.holderEpoch, holderWriter: held.holderWriter };
      const written = await heir.backend.write({ changes: [set('key', 'of the heir')], from: held, to });
      assert.equal(written.kind, 'committed');
      assert.deepEqual(await heir.backend.readCursors(), [to]);
    },
  },
  {
    name: 'of writers that race with the same cursor, one is committed',
    level: 'transactional',
    async body({ open }) {
      const first = await open();
      const subjects = [first, await open(), await open()];
      for (let round = 0; round < 20; round++) {
        const outcomes = await Promise.all(
          subjects.map((subject, i) => {
            const to = { ...subject.next(), writer: BigInt(round * 10 + i) };
            return subject.backend
              .write({ changes: [set('key', `${round}.${i}`)], from: subject.cursor, to })
              .then((outcome) => ({ outcome, to, i }));
          }),
        );
        const committed = outcomes.filter(({ outcome }) => outcome.kind === 'committed');
        assert.equal(committed.length, 1);
        const [{ to, i }] = committed as [(typeof committed)[number]];
        assert.deepEqual(await first.texts('key'), [`${round}.${i}`]);
        assert.deepEqual(await first.backend.readCursors(), [to]);
        for (const subject of subjects) subject.moveTo(to);
      }
    },
  },
  {
    name: 'each lane has its own cursor, and every load and scan tells all of them',
    async body({ open }) {
      const lanes = [await open(0, 3), await open(1, 3), await open(2, 3)];
      for (let round = 0; round < 5; round++) {
        await Promise.all(lanes.map((lane) => lane.write(set(`${lane.lane}`, `${round}`))));
      }
      await lanes[1]!.write(set('1', 'last'));
      const [first] = lanes as [(typeof lanes)[number]];
      const byLane = (cursors: readonly Cursor[]): Cursor[] => [...cursors].sort((a, b) => a.lane - b.lane);
      const expected = lanes.map(({ cursor }) => cursor);
      assert.deepEqual(byLane(await first.backend.readCursors()), expected);
      assert.deepEqual(byLane((await first.load('0')).cursors), expected);
      assert.deepEqual(byLane((await first.scan()).cursors), expected);
      assert.deepEqual(await first.texts('0', '1', '2'), ['4', 'last', '4']);
    },
  },
  {
    name: 'a lane of another log, or of another number of lanes, does not begin beside one that is there',
    async body({ open }) {
      const there = await open(0, 2);
      await there.write(set('key', 'value'));
      const late = await open(1, 2);
      for (const stranger of [{ logId: LOG_ID - 1n }, { laneCount: 3 }]) {
        const to = { ...late.next(), ...stranger };
        const outcome = await late.backend.write({ changes: [set('key', 'stranger')], from: undefined, to });
        assert.deepEqual(outcome, { kind: 'moved', found: there.cursor });
      }
      await late.write(set('other', 'value'));
      assert.deepEqual(await late.texts('key', 'other'), ['value', 'value']);
    },
  },
];
