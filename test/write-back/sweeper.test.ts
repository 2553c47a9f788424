import { beforeEach, describe, expect, test } from 'vitest';
import type { Backend, Cursor, SweepPiece, Swept } from '../../src/backend/index.ts';
import type { Position } from '../../src/log/index.ts';
import { SWEEP_GRACE_MS, Sweeper, type SweepSource } from '../../src/write-back/sweeper.ts';
import type { WriterState } from '../../src/write-back/writer.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const CURSOR: Cursor = {
  lane: 0,
  laneCount: 1,
  logId: 7n,
  position: 10n,
  epoch: 1,
  writer: 1n,
  holderEpoch: 1,
  holderWriter: 1n,
};

/** A writer that has written the log up to a position, and a database that answers as the test says. */
class Source implements SweepSource {
  state: WriterState = 'writing';
  cursors: readonly Cursor[] = [CURSOR];
  written: Position = 0n;
  readonly pieces: SweepPiece[] = [];
  readonly answers: (Swept | undefined | Error)[] = [];

  has(position: Position): boolean {
    return this.written >= position;
  }

  async use<T>(run: (backend: Backend) => Promise<T>): Promise<T> {
    const sweep = async (piece: SweepPiece): Promise<Swept | undefined> => {
      this.pieces.push(piece);
      const answer = this.answers.length === 0 ? { removed: 0, place: undefined } : this.answers.shift();
      if (answer instanceof Error) throw answer;
      return answer;
    };
    return run({ sweep } as unknown as Backend);
  }
}

describe('the sweeper', () => {
  let clock: VirtualClock;
  let source: Source;
  let swept: number;
  let failures: string[];
  /** Where the log's end is. */
  let end: Position;
  let sweeper: Sweeper;
  beforeEach(() => {
    clock = new VirtualClock();
    source = new Source();
    [swept, failures, end] = [0, [], 5n];
    sweeper = new Sweeper({
      ...{ source, clock, rows: 10, settled: async () => end },
      on: {
        swept: (rows) => {
          swept += rows;
        },
        failed: (error) => failures.push(error.message),
      },
    });
  });

  test('begins when the database has everything that was done before, and removes what expired before that', async () => {
    await clock.advance(1000);
    const begunMs = clock.wallMs();
    await clock.advance(5000);
    expect(source.pieces).toEqual([]);
    end = 9n;
    source.written = 5n;
    await clock.advance(1000);
    expect(source.pieces).toEqual([
      { at: [CURSOR], expiredAtMs: begunMs - SWEEP_GRACE_MS, place: undefined, rows: 10 },
    ]);
  });

  test('goes on a piece a second, and begins again after a minute', async () => {
    source.written = 5n;
    const place = { table: 0, after: ['x'] };
    source.answers.push({ removed: 3, place }, { removed: 4, place: undefined });
    await clock.advance(1000);
    expect([source.pieces.length, swept]).toEqual([1, 3]);
    await clock.advance(1000);
    expect([source.pieces.length, swept]).toEqual([2, 7]);
    expect(source.pieces[1]).toMatchObject({ place, expiredAtMs: source.pieces[0]!.expiredAtMs });
    await clock.advance(57_000);
    expect(source.pieces).toHaveLength(2);
    await clock.advance(3000);
    expect(source.pieces).toHaveLength(3);
    expect(source.pieces[2]!.place).toBeUndefined();
    expect(source.pieces[2]!.expiredAtMs).toBeGreaterThanOrEqual(source.pieces[0]!.expiredAtMs + 60_000);
  });

  test.each<[string, (its: Source) => void]>([
    ['paused', (its) => (its.state = 'paused')],
    ['retrying', (its) => (its.state = 'retrying')],
    ['healing', (its) => (its.state = 'healing')],
    ['without a cursor', (its) => (its.cursors = [])],
    ['behind again, after the database went back', (its) => (its.written = 4n)],
  ])('removes nothing while the writer is %s', async (_, change) => {
    source.written = 5n;
    source.answers.push({ removed: 1, place: { table: 0, after: [] } });
    await clock.advance(1000);
    expect(source.pieces).toHaveLength(1);
    change(source);
    await clock.advance(5000);
    expect(source.pieces).toHaveLength(1);
    Object.assign(source, { state: 'writing', cursors: [CURSOR], written: 5n });
    await clock.advance(1000);
    expect(source.pieces).toHaveLength(2);
  });

  test('tries a piece again after an error, and where the cursor was another one', async () => {
    source.written = 5n;
    source.answers.push(new Error('down'), undefined, { removed: 2, place: undefined });
    await clock.advance(3000);
    expect(source.pieces).toHaveLength(3);
    expect([failures, swept]).toEqual([['down'], 2]);
  });

  test('does nothing after close()', async () => {
    source.written = 5n;
    sweeper.close();
    await clock.advance(5000);
    expect(source.pieces).toEqual([]);
  });
});
