// The tests of a backend hold for one without transactions too, and find faults in one that has them.

import { afterEach, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/index.ts';
import { type BackendHarness, backendCases } from '../../src/testing/index.ts';
import { describeBackend } from '../conformance/backend.ts';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';

let store = new PlainStore();

const harness: BackendHarness = {
  level: 'idempotent',
  async reset() {
    store = new PlainStore();
  },
  make: (clock) => plainBackend(store, clock),
};
describeBackend('A store without transactions', harness);

describe('the tests of a backend', () => {
  /** The names of the cases that fail for a backend with a fault. */
  async function failures(fault: (backend: Backend) => Partial<Backend>): Promise<string[]> {
    const cases = backendCases({
      ...harness,
      valueBytesMax: 1000,
      make(clock) {
        const backend = plainBackend(store, clock);
        return { ...backend, ...fault(backend) };
      },
    });
    const failed: string[] = [];
    for (const { name, run } of cases) {
      await run().catch(() => failed.push(name));
    }
    return failed;
  }
  afterEach(() => {
    store = new PlainStore();
  });

  test('pass for a backend without a fault', async () => {
    expect(await failures(() => ({}))).toEqual([]);
  });

  const FAULTS: readonly [string, (backend: Backend) => Partial<Backend>][] = [
    ['takes keys for text', (backend) => ({ load: (keys) => backend.load(keys.map((key) => Buffer.from(`${key}`))) })],
    [
      'looks at no cursor',
      (backend) => ({
        async write(batch) {
          const from = (await backend.readCursors()).find(({ lane }) => lane === batch.to.lane);
          return backend.write({ ...batch, from });
        },
      }),
    ],
    [
      'applies deletes last',
      (backend) => ({
        write: (batch) => {
          const rank = (kind: string): number => Number(kind === 'delete');
          return backend.write({ ...batch, changes: [...batch.changes].sort((a, b) => rank(a.kind) - rank(b.kind)) });
        },
      }),
    ],
    [
      'loses a change of a large batch',
      (backend) => ({
        write: (batch) => backend.write({ ...batch, changes: batch.changes.slice(0, 1024) }),
      }),
    ],
    [
      'gives rows that have expired',
      (backend) => ({
        async load(keys) {
          const loaded = await backend.load(keys);
          const rows = keys.map((key, i) => loaded.rows[i] ?? store.rows.get(key.toString('latin1')));
          return { ...loaded, rows };
        },
      }),
    ],
    [
      'scans without a cursor',
      (backend) => ({
        async *scan(signal) {
          for await (const { rows } of backend.scan(signal)) yield { rows, cursors: [] };
        },
      }),
    ],
    ['goes on after its end', () => ({ close: async () => {} })],
    ['says that it is transactional', () => ({ level: 'transactional' })],
  ];
  test.each(FAULTS)('find one that %s', async (_, fault) => {
    expect(await failures(fault)).not.toEqual([]);
  });
});
