// The rule by which readers decide which entries count, row by row, and that it gives one writer at a time whatever the
// order in which several writers' entries come.

import { describe, expect, test } from 'vitest';
import { Fence, type Fenced } from '../../src/log/index.ts';
import { withRandom } from '../support/random.ts';

const at = { epoch: 5, writer: 1n, recordsBefore: 100n };
const records = (change: Partial<Fenced> = {}): Fenced => ({ kind: 'records', recordCount: 3, ...at, ...change });
const takeover = (change: Partial<Fenced> = {}): Fenced => ({
  kind: 'takeover',
  recordCount: 0,
  epoch: 6,
  writer: 2n,
  recordsBefore: 100n,
  ...change,
});

describe('a reader of a log', () => {
  test('takes what its writer has written next', () => {
    const fence = new Fence(at);
    expect(fence.admit(records())).toBe(true);
    expect(fence.state).toEqual({ epoch: 5, writer: 1n, recordsBefore: 103n });
    expect(fence.admit(records({ recordsBefore: 103n, epoch: 9 }))).toBe(true);
    expect(fence.state).toEqual({ epoch: 9, writer: 1n, recordsBefore: 106n });
  });

  test.each([
    ['a batch twice', records({ recordsBefore: 97n })],
    ['a batch behind a gap', records({ recordsBefore: 101n })],
    ['a batch of another writer', records({ writer: 2n })],
    ['a batch of an earlier epoch', records({ epoch: 4 })],
    ['a take-over that does not raise the epoch', takeover({ epoch: 5 })],
    ['a take-over in ignorance of a batch', takeover({ recordsBefore: 97n })],
    ['a gap that begins elsewhere', { ...records({ recordsBefore: 99n }), kind: 'lost' as const }],
  ])('does not take %s', (_, entry) => {
    const fence = new Fence(at);
    expect(fence.admit(entry)).toBe(false);
    expect(fence.state).toEqual(at);
  });

  test('does not take later writes of a writer that was taken over, even in the same epoch', () => {
    const fence = new Fence(at);
    expect(fence.admit(takeover())).toBe(true);
    // The old writer has cleared, which has raised its epoch too.
    expect(fence.admit(records({ epoch: 6 }))).toBe(false);
    expect(fence.admit(records({ epoch: 7 }))).toBe(false);
    expect(fence.admit(records({ writer: 2n, epoch: 6 }))).toBe(true);
  });

  test('takes the first of two take-overs', () => {
    const fence = new Fence(at);
    expect(fence.admit(takeover())).toBe(true);
    expect(fence.admit(takeover({ writer: 3n }))).toBe(false);
    expect(fence.admit(records({ writer: 3n, epoch: 6 }))).toBe(false);
  });

  test('goes on behind a gap as the gap says', () => {
    const fence = new Fence(at);
    expect(fence.admit({ kind: 'lost', epoch: 8, writer: 4n, recordsBefore: 100n, recordCount: 50 })).toBe(true);
    expect(fence.admit(records({ epoch: 8, writer: 4n, recordsBefore: 150n }))).toBe(true);
  });

  test('agrees with every other reader, and no two writers have records in one reign', () => {
    withRandom((random) => {
      for (let round = 0; round < 300; round++) {
        // Writers that each know only what they have read, and append without asking.
        const log: Fenced[] = [];
        const writers = [1n, 2n, 3n].map((writer) => ({ writer, fence: new Fence(), read: 0 }));
        for (let step = 0; step < 60; step++) {
          const { writer, fence, read } = random.pick(writers);
          const me = writers.find((other) => other.writer === writer)!;
          if (random.below(3) === 0) {
            for (const entry of log.slice(read)) fence.admit(entry);
            me.read = log.length;
          } else {
            const { state } = fence;
            const isTakeover = random.below(3) === 0;
            const epoch = state.epoch + (isTakeover ? 1 : random.below(2));
            const recordCount = isTakeover ? 0 : 1 + random.below(3);
            log.push({ ...state, kind: isTakeover ? 'takeover' : 'records', epoch, writer, recordCount });
          }
        }
        const readers = [new Fence(), new Fence()];
        let reigning = 0n;
        let count = 0n;
        for (const entry of log) {
          const [first, second] = readers.map((reader) => reader.admit(entry));
          expect(first).toBe(second);
          if (!first) continue;
          if (entry.kind === 'takeover') reigning = entry.writer;
          else expect(entry.writer).toBe(reigning);
          expect(entry.recordsBefore).toBe(count);
          count += BigInt(entry.recordCount);
        }
      }
    });
  });
});
