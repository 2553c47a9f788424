// The table of history, as every database that has one keeps it: each write of a rule with `coalesce: false` is a row,
// in the transaction of its batch, once.

import { describe, expect, test } from 'vitest';
import type { DeleteChange, HistoryRow, SetChange, TouchChange } from '../../src/backend/index.ts';
import { Codec } from '../../src/request/codec.ts';
import type { Rule } from '../../src/rules/index.ts';
import { type Subject, set, touch } from '../../src/testing/harness.ts';

/** A row as a query finds it, numbers as bigints; undefined for NULL. */
export interface FoundHistoryRow {
  /** The whole key. */
  readonly key: Buffer;
  readonly version: bigint;
  readonly kind: string;
  readonly value: Buffer | undefined;
  readonly codec: bigint | undefined;
  readonly clientFlags: bigint | undefined;
  readonly expiresMs: bigint | undefined;
  readonly loggedMs: bigint;
}

export interface HistoryHarness {
  /** Empties the database and opens a backend on it. */
  open(rules: readonly Rule[]): Promise<Subject>;
  /** The rows, by version. */
  rows(): Promise<readonly FoundHistoryRow[]>;
  /** Has the open database refuse rows of history with values of five bytes or more. Left out: it refuses none. */
  refuseLong?(): Promise<unknown>;
}

const KEPT: Rule = { prefix: 'kept:', skip: false, deleteOnExpire: true, history: true };

export function describeHistory(name: string, harness: HistoryHarness): void {
  describe(`the history in ${name}`, () => {
    const logged = (change: DeleteChange | SetChange | TouchChange, loggedWallMs: number): HistoryRow => ({
      ...change,
      loggedWallMs,
    });

    test('has each write of a batch, as it was', async () => {
      const subject = await harness.open([KEPT]);
      const long = `kept:${'x'.repeat(3000)}`;
      const bytes = Buffer.from([0, 255, 10, 13]);
      const history = [
        logged(set('kept:1', 'a', { codec: Codec.ascii, clientFlags: 2 ** 32 - 1 }), 1_900_000_000_123),
        logged(touch('kept:1', 1_900_000_000_999), 1_900_000_000_124),
        logged(set(long, 'b', { version: 2n ** 63n + 5n }), 5),
        logged(set(Buffer.concat([Buffer.from('kept:'), bytes]), 'c', { expiresWallMs: 77 }), 6),
        logged({ kind: 'delete', key: Buffer.from('kept:1'), version: 2n ** 63n + 6n }, 7),
      ];
      const to = subject.next();
      const batch = { changes: history.slice(2), history, from: undefined, to };
      expect(await subject.backend.write(batch)).toEqual({ kind: 'committed', deadLetters: [] });
      const found = await harness.rows();
      expect(found).toHaveLength(5);
      for (const row of history) {
        expect(found).toContainEqual({
          ...{ key: row.key, version: BigInt.asIntN(64, row.version), kind: row.kind },
          value: row.kind === 'set' ? row.value : undefined,
          codec: row.kind === 'set' ? BigInt(row.codec) : undefined,
          clientFlags: row.kind === 'set' ? BigInt(row.clientFlags) : undefined,
          expiresMs: row.kind === 'delete' ? undefined : BigInt(row.expiresWallMs),
          loggedMs: BigInt(row.loggedWallMs),
        });
      }
    });

    test('has a write once, also if its batch is written again or the log has its record twice', async () => {
      const subject = await harness.open([KEPT]);
      const history = [
        logged(set('kept:1', 'a'), 1),
        ...Array.from({ length: 2000 }, (_, i) => logged(touch('kept:1', i), i)),
      ];
      const to = subject.next();
      const batch = { changes: history, history, from: undefined, to };
      expect(await subject.backend.write(batch)).toMatchObject({ kind: 'committed' });
      expect(await subject.backend.write(batch)).toEqual({ kind: 'moved', found: to });
      subject.moveTo(to);
      // A scribe that was started again may have a record twice in the log.
      const again = { changes: [], history: history.slice(0, 3), from: to, to: subject.next() };
      expect(await subject.backend.write(again)).toMatchObject({ kind: 'committed' });
      const versions = (await harness.rows()).map(({ version }) => version);
      expect(versions).toEqual(history.map(({ version }) => version));
    });

    const refuseLong = harness.refuseLong?.bind(harness);
    if (refuseLong === undefined) return;
    test('that the database refuses halts, and nothing of the batch is there', async () => {
      const subject = await harness.open([KEPT]);
      await refuseLong();
      const change = set('kept:1', 'too long');
      const history = [logged(set('kept:1', 'a'), 1), logged(change, 2)];
      const batch = { changes: [change], history, from: undefined, to: subject.next() };
      const error = await subject.backend.write(batch).catch((cause: unknown) => cause);
      expect(error).toMatchObject({ code: 'ERR_BACKEND_UNFIT' });
      expect(subject.backend.classify(error)).toBe('halt');
      expect(await subject.backend.readCursors()).toEqual([]);
      expect(await subject.texts('kept:1')).toEqual([undefined]);
      expect(await harness.rows()).toEqual([]);
    });
  });
}
