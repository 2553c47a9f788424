/** Connections that break at each statement of a transaction: the cursor tells what became of it. */
import assert from 'node:assert/strict';
import type { Change } from '../backend/index.ts';
import type { CaseText } from './case.ts';
import {
  type BackendHarness,
  type Cuts,
  compare,
  NOW_MS,
  REFUSED,
  RowsModel,
  remove,
  Subject,
  set,
  touch,
} from './harness.ts';

/** No transaction of these cases has more statements. */
const STATEMENTS_MAX = 100;

/** A subject whose connections can be cut, closed when the body ends. */
async function withCuts(harness: BackendHarness, body: (subject: Subject, cuts: Cuts) => Promise<void>): Promise<void> {
  let cuts: Cuts | undefined;
  const subject = new Subject((clock) => {
    const made = harness.makeCuttable!(clock);
    cuts = made;
    return made.backend;
  });
  try {
    await subject.backend.open();
    await body(subject, cuts!);
  } finally {
    await subject.backend.close();
  }
}

/** Cuts at each statement of the second of three batches, on either side; returns how many cuts that were. */
async function cutEverywhere(subject: Subject, cuts: Cuts, changesOf: (batch: number) => Change[]): Promise<number> {
  const { backend } = subject;
  const model = new RowsModel();
  const keys = [0, 1, 2].flatMap(changesOf).map(({ key }) => key);
  const write = async (changes: Change[]): Promise<void> => {
    await subject.write(...changes);
    model.apply(changes);
  };
  let count = 0;
  for (const side of ['before', 'after'] as const) {
    let hasCut = true;
    for (let at = 0; hasCut; at++) {
      assert.ok(at < STATEMENTS_MAX);
      await write(changesOf(0));
      const batch = { changes: changesOf(1), from: subject.cursor, to: subject.next() };
      cuts.cutAt(at, side);
      const outcome = await backend.write(batch).catch((error: unknown) => error as Error);
      hasCut = cuts.disarm();
      if (outcome instanceof Error) {
        assert.ok(hasCut, String(outcome));
        assert.equal(backend.classify(outcome), 'transient', String(outcome));
      } else assert.equal(outcome.kind, 'committed');
      const [cursor] = await backend.readCursors();
      const isCommitted = cursor!.position === batch.to.position;
      assert.deepEqual(cursor, isCommitted ? batch.to : batch.from);
      if (!hasCut) assert.ok(isCommitted);
      if (isCommitted) {
        model.apply(batch.changes);
        subject.moveTo(batch.to);
      }
      await compare(subject, model, keys);
      // The same batch again has its effect now, or had it before.
      assert.equal((await backend.write(batch)).kind, isCommitted ? 'moved' : 'committed');
      if (!isCommitted) model.apply(batch.changes);
      subject.moveTo(batch.to);
      await write(changesOf(2));
      await compare(subject, model, keys);
      if (hasCut) count++;
    }
  }
  return count;
}

export const cutCases: readonly CaseText[] = [
  {
    name: 'a connection that breaks at any statement of a batch leaves all of it or nothing, and the cursor tells which',
    level: 'transactional',
    async body({ harness }) {
      await withCuts(harness, async (subject, cuts) => {
        const cutCount = await cutEverywhere(subject, cuts, (batch) => [
          set('a', `${batch}`),
          ...(batch === 1 ? [remove('b')] : [set('b', `${batch}`)]),
          ...(batch === 1 ? [touch('c', NOW_MS + 1000)] : [set('c', `${batch}`)]),
        ]);
        assert.ok(cutCount > 4);
      });
    },
  },
  {
    name: 'so it does while refused changes are put aside',
    level: 'transactional',
    async body({ harness }) {
      if (harness.refuse === undefined) return;
      await withCuts(harness, async (subject, cuts) => {
        await harness.refuse!();
        const cutCount = await cutEverywhere(subject, cuts, (batch) => [
          ...[set('a', `${batch}`), set('b', batch === 1 ? REFUSED : `${batch}`), set('c', `${batch}`)],
        ]);
        assert.ok(cutCount > 8);
      });
    },
  },
  {
    name: 'a load or a scan whose connection breaks fails, and the next one works',
    async body({ harness }) {
      await withCuts(harness, async (subject, cuts) => {
        await subject.write(...Array.from({ length: 600 }, (_, i) => set(`key ${i}`, 'value')));
        const reads = [() => subject.texts('key 1'), () => subject.scan(), () => subject.backend.readCursors()];
        for (const read of reads) {
          await read();
          let hasCut = true;
          for (let at = 0; hasCut; at++) {
            assert.ok(at < STATEMENTS_MAX);
            cuts.cutAt(at, 'before');
            const error = await read().then(
              () => undefined,
              (reason: unknown) => reason,
            );
            hasCut = cuts.disarm();
            assert.equal(error !== undefined, hasCut);
            if (hasCut) assert.equal(subject.backend.classify(error), 'transient');
            await read();
          }
        }
        assert.deepEqual(await subject.texts('key 1'), ['value']);
      });
    },
  },
];
