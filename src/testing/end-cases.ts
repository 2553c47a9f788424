/** Closing: twice, while busy, and what calls meet afterwards. */
import assert from 'node:assert/strict';
import type { CaseText } from './case.ts';
import { Subject, set } from './harness.ts';

const isClosed = (error: unknown): boolean => (error as { code?: unknown }).code === 'ERR_CLOSED';

export const endCases: readonly CaseText[] = [
  {
    name: 'a backend that is closed refuses every call, and closes again',
    async body({ open }) {
      const { backend } = await open();
      await Promise.all([backend.close(), backend.close()]);
      await backend.close();
      const to = {
        lane: 0,
        laneCount: 1,
        logId: 1n,
        position: 1n,
        epoch: 1,
        writer: 1n,
        holderEpoch: 1,
        holderWriter: 1n,
      };
      await assert.rejects(async () => backend.load([]), isClosed);
      await assert.rejects(async () => backend.readCursors(), isClosed);
      await assert.rejects(async () => backend.write({ changes: [], from: undefined, to }), isClosed);
      await assert.rejects(async () => backend.open(), isClosed);
      const { deadLetters } = backend;
      if (deadLetters !== undefined) await assert.rejects(async () => deadLetters.list(1), isClosed);
      await assert.rejects(async () => {
        for await (const _ of backend.scan());
      }, isClosed);
    },
  },
  {
    name: 'a backend that was never opened closes',
    async body({ harness }) {
      await new Subject((clock) => harness.make(clock)).backend.close();
    },
  },
  {
    name: 'closing while busy ends each call with its result or ERR_CLOSED, and leaves whole batches',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      const keys = Array.from({ length: 2000 }, (_, i) => `key ${i}`);
      await subject.write(...keys.map((key) => set(key, 'old')));
      const from = subject.cursor;
      const to = subject.next();
      const calls: Promise<unknown>[] = [
        subject.backend.write({ changes: keys.map((key) => set(key, 'new')), from, to }),
        ...Array.from({ length: 20 }, () => subject.load(...keys)),
        subject.scan(),
        subject.backend.readCursors(),
      ];
      const settled = Promise.allSettled(calls);
      await subject.backend.close();
      for (const result of await settled) {
        if (result.status === 'rejected') assert.ok(isClosed(result.reason), String(result.reason));
      }
      const later = await open();
      const [cursor] = await later.backend.readCursors();
      const expected = cursor!.position === to.position ? 'new' : 'old';
      assert.deepEqual(new Set(await later.texts(...keys)), new Set([expected]));
    },
  },
];
