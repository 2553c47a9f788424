import { expect, test } from 'vitest';
import type { DeadLetters, KeptDeadLetter } from '../../src/backend/index.ts';
import { lettersBehind } from '../../src/write-back/letters-behind.ts';

// Letters 1 to `count`, each of a batch that ends at ten times its number.
function table(count: number): DeadLetters {
  const letters = Array.from({ length: count }, (_, i): KeptDeadLetter => {
    const id = BigInt(i + 1);
    const cursor = { lane: 0, laneCount: 1, logId: 7n, position: id * 10n, epoch: 1, writer: 1n };
    const change = { kind: 'delete', key: Buffer.from(`k${id}`), version: id } as const;
    return { id, change, error: `reason ${id}`, errorCode: undefined, cursor, addedWallMs: 0, isSuperseded: false };
  });
  return {
    list: async (limit, after = 0n) => letters.filter(({ id }) => id > after).slice(0, limit),
    drop: async () => 0,
  };
}

test('the letters of the batches in a range are found among many, and of this log only', async () => {
  const deadLetters = table(350);
  const { letters, ids } = await lettersBehind({ deadLetters }, { logId: 7n, afterOf: () => 1990n, end: 2020n });
  expect(letters.map(({ change, error }) => [change.key.toString(), error.message])).toEqual([
    ['k200', 'reason 200'],
    ['k201', 'reason 201'],
    ['k202', 'reason 202'],
  ]);
  expect(ids).toEqual([200n, 201n, 202n]);
  const none = { letters: [], ids: [] };
  expect(await lettersBehind({ deadLetters }, { logId: 8n, afterOf: () => 0n, end: 9999n })).toEqual(none);
  expect(await lettersBehind({}, { logId: 7n, afterOf: () => 0n, end: 10n }), 'of a database that keeps none').toEqual(
    none,
  );
});
