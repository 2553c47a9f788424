import { expect, test } from 'vitest';
import type { DeadLetters, KeptDeadLetter } from '../../src/backend/index.ts';
import { lettersBehind } from '../../src/write-back/letters-behind.ts';

// Letters 1 to `count`, each of a batch that ends at ten times its number.
function table(count: number): DeadLetters & { readonly dropped: bigint[] } {
  const letters = Array.from({ length: count }, (_, i): KeptDeadLetter => {
    const id = BigInt(i + 1);
    const cursor = { lane: 0, laneCount: 1, logId: 7n, position: id * 10n, epoch: 1, writer: 1n };
    const change = { kind: 'delete', key: Buffer.from(`k${id}`), version: id } as const;
    return { id, change, error: `reason ${id}`, errorCode: undefined, cursor, addedWallMs: 0, isSuperseded: false };
  });
  const dropped: bigint[] = [];
  return {
    dropped,
    list: async (limit, after = 0n) => letters.filter(({ id }) => id > after).slice(0, limit),
    drop: async (ids) => dropped.push(...ids),
  };
}

test('the letters of the batches in a range are found among many, and of this log only', async () => {
  const deadLetters = table(350);
  const found = await lettersBehind({ deadLetters }, { logId: 7n, after: 1990n, end: 2020n }, false);
  expect(found.map(({ change, error }) => [change.key.toString(), error.message])).toEqual([
    ['k200', 'reason 200'],
    ['k201', 'reason 201'],
    ['k202', 'reason 202'],
  ]);
  expect(await lettersBehind({ deadLetters }, { logId: 8n, after: 0n, end: 9999n }, true)).toEqual([]);
  expect(deadLetters.dropped).toEqual([]);
});

test('they are removed if they are not to be kept', async () => {
  const deadLetters = table(5);
  await lettersBehind({ deadLetters }, { logId: 7n, after: 30n, end: 50n }, true);
  expect(deadLetters.dropped).toEqual([4n, 5n]);
});

test('a database that keeps none has none', async () => {
  expect(await lettersBehind({}, { logId: 7n, after: 0n, end: 10n }, true)).toEqual([]);
});
