/** Random batches, compared step by step with a Map. */
import type { Change } from '../backend/index.ts';
import type { CaseText } from './case.ts';
import { bytes, compare, Draw, NOW_MS, RowsModel, remove, type Subject, set, touch } from './harness.ts';
import { ODD_KEYS } from './row-cases.ts';

const KEYS: readonly Buffer[] = [...ODD_KEYS.slice(0, 40), ...ODD_KEYS.slice(-8), ...['x', 'y', 'z'].map(bytes)];

export function randomChange(draw: Draw, keys: readonly Buffer[]): Change {
  const key = draw.pick(keys);
  // Past, present, future, never.
  const expiresWallMs = draw.pick([0, 0, NOW_MS - 5, NOW_MS, NOW_MS + 1 + draw.below(30)]);
  const kind = draw.below(10);
  if (kind < 2) return remove(key);
  if (kind < 4) return touch(key, expiresWallMs);
  const value = Buffer.alloc(draw.pick([0, 1, 10, 3000]), draw.below(256));
  return set(key, value, { codec: draw.below(8), clientFlags: draw.below(2 ** 32), expiresWallMs });
}

async function run(subject: Subject, draw: Draw): Promise<void> {
  const model = new RowsModel();
  for (let step = 0; step < 60; step++) {
    const changes = Array.from({ length: draw.pick([0, 1, 2, 8, 40]) }, () => randomChange(draw, KEYS));
    const from = subject.cursor;
    await subject.write(...changes);
    model.apply(changes);
    if (draw.below(3) === 0) {
      // A writer that has been left behind.
      const to = { ...subject.next(), position: 1_000_000n };
      const stale = Array.from({ length: 5 }, () => randomChange(draw, KEYS));
      const { kind } = await subject.backend.write({ changes: stale, from, to });
      if (kind !== 'moved') throw new Error(`A batch from an older cursor was ${kind}`);
    }
    if (draw.below(4) === 0) subject.nowMs += draw.below(8);
    if (draw.below(5) === 0) await compare(subject, model, KEYS);
  }
  await compare(subject, model, KEYS);
}

export const randomCases: readonly CaseText[] = [
  {
    name: 'random batches leave the rows that a Map has',
    async body({ open, seed }) {
      try {
        await run(await open(), new Draw(seed));
      } catch (error) {
        throw new Error(`Failed with the seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    },
  },
];
