// A backend without transactions, in memory: changes are applied one by one, then the cursor moves. It is the least
// that an idempotent backend has to do.

import type { Backend, Cursor, Row, RowValue, WriteBatch, WriteOutcome } from '../../src/backend/index.ts';
import { CairnError } from '../../src/index.ts';

/** What outlives a backend: several may be open on it. */
export class PlainStore {
  readonly rows = new Map<string, RowValue>();
  /** The versions of deletes: an older change of the key that comes later is told apart. */
  readonly deleted = new Map<string, bigint>();
  readonly cursors = new Map<number, Cursor>();
}

export function plainBackend(store: PlainStore, clock: () => number): Backend {
  let isClosed = false;
  const check = (): void => {
    if (isClosed) throw new CairnError('ERR_CLOSED', 'The backend is closed');
  };
  const alive = (row: RowValue | undefined): RowValue | undefined =>
    row !== undefined && (row.expiresWallMs === 0 || row.expiresWallMs > clock()) ? row : undefined;
  const cursors = (): Cursor[] => [...store.cursors.values()].sort((a, b) => a.lane - b.lane);

  function apply({ changes }: WriteBatch): void {
    for (const change of changes) {
      const name = change.key.toString('latin1');
      const row = store.rows.get(name);
      const known = row?.version ?? store.deleted.get(name) ?? -1n;
      if (change.version <= known && (row === undefined || change.version < known)) continue;
      if (change.kind === 'delete') {
        store.rows.delete(name);
        store.deleted.set(name, change.version);
      } else if (change.kind === 'set') {
        const { value, codec, clientFlags, expiresWallMs, version } = change;
        store.rows.set(name, { value: Buffer.from(value), codec, clientFlags, expiresWallMs, version });
      } else if (row !== undefined) {
        store.rows.set(name, { ...row, expiresWallMs: change.expiresWallMs, version: change.version });
      }
    }
  }

  return {
    name: 'a map',
    level: 'idempotent',
    async open() {
      check();
    },
    async readCursors() {
      check();
      return cursors();
    },
    async load(keys) {
      check();
      return { rows: keys.map((key) => alive(store.rows.get(key.toString('latin1')))), cursors: cursors() };
    },
    async *scan(signal) {
      check();
      const before = cursors();
      yield { rows: [], cursors: before };
      for (const [name, value] of [...store.rows]) {
        signal?.throwIfAborted();
        check();
        const row: Row = { key: Buffer.from(name, 'latin1'), ...value };
        if (alive(row) !== undefined) yield { rows: [row], cursors: before };
      }
      signal?.throwIfAborted();
    },
    async write(batch): Promise<WriteOutcome> {
      check();
      const { from, to } = batch;
      const own = store.cursors.get(to.lane);
      const isAt = (cursor: Cursor): boolean =>
        (Object.keys(cursor) as (keyof Cursor)[]).every((field) => cursor[field] === from?.[field]);
      const stranger = cursors().find(({ laneCount, logId }) => laneCount !== to.laneCount || logId !== to.logId);
      if (own === undefined ? from !== undefined || stranger !== undefined : !isAt(own)) {
        return { kind: 'moved', found: own ?? stranger };
      }
      apply(batch);
      // Where a crash would apply the changes and not move the cursor.
      await undefined;
      store.cursors.set(to.lane, to);
      return { kind: 'committed', deadLetters: [] };
    },
    classify: () => 'transient',
    async close() {
      isClosed = true;
    },
  };
}
