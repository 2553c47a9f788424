/** Several cursors that move in one transaction: batches of more than one lane, and another number of lanes. */
import assert from 'node:assert/strict';
import type { Cursor, CursorMove, WriteBatch } from '../backend/index.ts';
import type { CaseText } from './case.ts';
import { type Subject, set } from './harness.ts';

/** A batch of the lanes of some subjects, which have to be in the order of their lanes. */
function jointly(lanes: readonly Subject[], changes: WriteBatch['changes']): WriteBatch {
  const [first, ...also] = lanes.map((lane): CursorMove & { to: Cursor } => ({ from: lane.cursor, to: lane.next() }));
  return { changes, ...first!, also };
}

function moveAll(lanes: readonly Subject[], { to, also = [] }: WriteBatch): void {
  lanes.forEach((lane, i) => {
    lane.moveTo(i === 0 ? to : also[i - 1]!.to);
  });
}

/** The cursors as they have to be. */
async function expectCursors({ backend }: Subject, expected: readonly (Cursor | undefined)[]): Promise<void> {
  const found = [...(await backend.readCursors())].sort((a, b) => a.lane - b.lane);
  assert.deepEqual(found, expected);
}

export const laneCases: readonly CaseText[] = [
  {
    name: 'a batch of several lanes moves all their cursors, and changes nothing again',
    level: 'transactional',
    async body({ open }) {
      const lanes = [await open(0, 4), await open(1, 4), await open(2, 4), await open(3, 4)];
      const [first, second] = lanes as [Subject, Subject];
      for (const round of [1, 2]) {
        const batch = jointly(lanes, [set('key', `${round}`), set('other', `${round}`)]);
        assert.equal((await first.backend.write(batch)).kind, 'committed');
        moveAll(lanes, batch);
        assert.deepEqual(await second.texts('key', 'other'), [`${round}`, `${round}`]);
        await second.write(set('key', 'newer'));
        assert.deepEqual(await first.backend.write(batch), { kind: 'moved', found: batch.to });
        assert.deepEqual(await first.texts('key'), ['newer']);
        await expectCursors(
          first,
          lanes.map(({ cursor }) => cursor),
        );
      }
    },
  },
  {
    name: 'lanes that get another holder in one batch stay where they are, and no batch of the one before has an effect',
    level: 'transactional',
    async body({ open }) {
      const lanes = [await open(0, 4), await open(1, 4), await open(2, 4), await open(3, 4)];
      const [first] = lanes as [Subject];
      for (const lane of lanes) await lane.write(set(`${lane.lane}`, 'value'));
      const [own, ...also] = lanes.map(({ cursor }): CursorMove & { to: Cursor } => {
        return { from: cursor, to: { ...cursor!, holderEpoch: 4, holderWriter: 1n } };
      });
      assert.equal((await first.backend.write({ changes: [], ...own!, also })).kind, 'committed');
      const held = [own!, ...also].map(({ to }) => to);
      await expectCursors(first, held);
      for (const lane of lanes) {
        const changes = [set(`${lane.lane}`, 'of the zombie'), set('new', 'of the zombie')];
        const outcome = await lane.backend.write({ changes, from: lane.cursor, to: lane.next() });
        assert.deepEqual(outcome, { kind: 'moved', found: held[lane.lane] });
      }
      const all = jointly(lanes, [set('new', 'of the zombie')]);
      assert.deepEqual(await first.backend.write(all), { kind: 'moved', found: held[0] });
      assert.deepEqual(await first.texts('0', '1', '2', '3', 'new'), [...Array(4).fill('value'), undefined]);
      await expectCursors(first, held);
    },
  },
  {
    name: 'a batch of several lanes changes nothing if one of its cursors is elsewhere, whichever it is',
    level: 'transactional',
    async body({ open }) {
      const lanes = [await open(0, 4), await open(1, 4), await open(3, 4)];
      const [first] = lanes as [Subject];
      await first.write(set('key', 'old'));
      await lanes[1]!.write();
      await lanes[2]!.write();
      const there = lanes.map(({ cursor }) => cursor!);
      for (let i = 0; i < lanes.length; i++) {
        const batch = jointly(lanes, [set('key', 'torn'), set('new', 'torn')]);
        const moves = [{ from: batch.from, to: batch.to }, ...batch.also!] as { from: Cursor; to: Cursor }[];
        for (const part of [
          { position: there[i]!.position + 1n },
          { writer: 1n },
          { holderWriter: 1n },
          { logId: 1n },
          { laneCount: 2 },
        ]) {
          const [own, ...also] = moves.map((move, at) =>
            at === i ? { ...move, from: { ...move.from, ...part } } : move,
          );
          const outcome = await first.backend.write({ changes: batch.changes, ...own!, also });
          assert.deepEqual(outcome, { kind: 'moved', found: there[i] });
        }
        const [own, ...also] = moves.map((move, at) => (at === i ? { ...move, from: undefined } : move));
        const outcome = await first.backend.write({ changes: batch.changes, ...own!, also });
        assert.deepEqual(outcome, { kind: 'moved', found: there[i] });
      }
      assert.deepEqual(await first.texts('key', 'new'), ['old', undefined]);
      await expectCursors(first, there);
    },
  },
  {
    name: 'the number of lanes becomes another in one batch: rows of cursors come, change and go',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      const { backend } = subject;
      await subject.write(set('key', 'value'));
      const at = subject.cursor!;
      const cursorsOf = (laneCount: number): Cursor[] =>
        Array.from({ length: laneCount }, (_, lane) => ({ ...at, lane, laneCount }));
      let before = cursorsOf(1);
      for (const count of [4, 2, 16, 1, 8, 4, 1]) {
        const after = cursorsOf(count);
        const moves = Array.from({ length: Math.max(before.length, count) }, (_, lane) => ({
          from: before[lane],
          to: after[lane],
        }));
        const [own, ...also] = moves as [CursorMove & { to: Cursor }, ...CursorMove[]];
        const batch = { changes: [], ...own, also };
        // Of a lane that is no more, another cursor than that which is removed.
        const last = also.at(-1);
        if (last?.to === undefined && last?.from !== undefined) {
          const other = { ...last.from, position: last.from.position + 1n };
          const stranger = { ...batch, also: [...also.slice(0, -1), { from: other, to: undefined }] };
          assert.deepEqual(await backend.write(stranger), { kind: 'moved', found: last.from });
          await expectCursors(subject, before);
        }
        assert.deepEqual(await backend.write(batch), { kind: 'committed', deadLetters: [] });
        await expectCursors(subject, after);
        assert.deepEqual(await backend.write(batch), { kind: 'moved', found: after[0] });
        before = after;
      }
      assert.deepEqual(await subject.texts('key'), ['value']);
    },
  },
  {
    name: 'lanes that write by themselves and together at the same time wait for one another, and end',
    level: 'transactional',
    async body({ open }) {
      const lanes = await Promise.all([0, 1, 2, 3].map((lane) => open(lane, 4)));
      const chosen = (parts: readonly number[]): Subject[] => parts.map((i) => lanes[i]!);
      // Of batches of the same lane, one begins when the other has ended, as writers do it.
      const rounds: readonly (readonly (readonly number[])[])[] = [
        [[0], [1], [2], [3]],
        [
          [0, 1],
          [2, 3],
        ],
        [[1, 2], [0], [3]],
        [
          [0, 3],
          [1, 2],
        ],
        [[0, 1, 2, 3]],
        [[0, 2], [1], [3]],
      ];
      for (let round = 0; round < 24; round++) {
        const written = rounds[round % rounds.length]!.map(async (parts) => {
          const subjects = chosen(parts);
          const batch = jointly(
            subjects,
            parts.map((lane) => set(`${lane}`, `${round}`)),
          );
          assert.equal((await subjects[0]!.backend.write(batch)).kind, 'committed');
          moveAll(subjects, batch);
        });
        await Promise.all(written);
        assert.deepEqual(await lanes[0]!.texts('0', '1', '2', '3'), Array(4).fill(`${round}`));
      }
      await expectCursors(
        lanes[0]!,
        lanes.map(({ cursor }) => cursor),
      );
    },
  },
  {
    name: 'of batches of two lanes each that race for a lane, one is committed and the other changes nothing',
    level: 'transactional',
    async body({ open }) {
      const lanes = await Promise.all([0, 1, 2].map((lane) => open(lane, 4)));
      const [first, second, third] = lanes as [Subject, Subject, Subject];
      for (const lane of lanes) await lane.write();
      for (let round = 0; round < 12; round++) {
        const pairs = [
          { lanes: [first, second], name: 'a' },
          { lanes: [second, third], name: 'b' },
        ];
        const outcomes = await Promise.all(
          pairs.map(async (pair) => {
            const batch = jointly(pair.lanes, [set(`${pair.name} 1`, `${round}`), set(`${pair.name} 2`, `${round}`)]);
            return { pair, batch, outcome: await pair.lanes[0]!.backend.write(batch) };
          }),
        );
        const [winner, ...none] = outcomes.filter(({ outcome }) => outcome.kind === 'committed');
        assert.ok(winner !== undefined && none.length === 0, 'one is committed');
        moveAll(winner.pair.lanes, winner.batch);
        const { name } = winner.pair;
        const texts = await first.texts(`${name} 1`, `${name} 2`, ...(name === 'a' ? ['b 1', 'b 2'] : ['a 1', 'a 2']));
        assert.deepEqual(texts.slice(0, 2), [`${round}`, `${round}`]);
        assert.ok(texts[2] === texts[3] && texts[2] !== `${round}`);
        await expectCursors(
          first,
          lanes.map(({ cursor }) => cursor),
        );
      }
    },
  },
];
