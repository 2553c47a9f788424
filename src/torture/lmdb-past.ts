/** An earlier state of an LMDB file: copies of its databases in this process. */
import { loadTools } from '../backend/index.ts';
import type { Past } from './failovers.ts';
import { isEffect } from './noted.ts';

/** What is used of the package lmdb. */
interface Table {
  get(key: Buffer): Buffer | undefined;
  getRange(options?: object): Iterable<{ key: Buffer; value: Buffer }>;
  putSync(key: Buffer, value: Buffer): void;
  removeSync(key: Buffer): void;
}
interface Root {
  openDB(name: string, options: object): Table;
  transactionSync(run: () => void): void;
  close(): Promise<void>;
}

const BINARY = { encoding: 'binary', keyEncoding: 'binary' };

export class LmdbPast implements Past {
  readonly #path: string;
  #rows: (readonly [Buffer, Buffer])[] = [];
  #cursors: (readonly [Buffer, Buffer])[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  remember(): Promise<void> {
    return this.#use(({ root, entries, cursors }) => {
      root.transactionSync(() => {
        this.#rows = copyOf(entries);
        this.#cursors = copyOf(cursors);
      });
    });
  }

  goBack(): Promise<number> {
    return this.#use(({ root, entries, cursors, batches }) => {
      let taken = 0;
      root.transactionSync(() => {
        const present = copyOf(entries);
        taken = effectsIn(present) - effectsIn(this.#rows);
        replace(entries, this.#rows);
        replace(cursors, this.#cursors);
        // A batch that was prepared on the state before must not be written to this one: their count goes on.
        const [count] = copyOf(batches);
        if (count === undefined) return;
        const [key, bytes] = count;
        bytes.writeDoubleLE(bytes.readDoubleLE(0) + 1);
        batches.putSync(key, bytes);
      });
      return taken;
    });
  }

  async #use<T>(use: (opened: { root: Root; entries: Table; cursors: Table; batches: Table }) => T): Promise<T> {
    const { loadDriver } = await loadTools();
    const { open } = (await loadDriver('LMDB', 'lmdb', 'lmdb@3')) as { open: (options: object) => Root };
    const root = open({ ...BINARY, path: this.#path, noSubdir: true, maxDbs: 4, overlappingSync: false });
    try {
      const [entries, cursors, batches] = ['entries', 'cursors', 'batches'].map((name) => root.openDB(name, BINARY));
      return use({ root, entries: entries!, cursors: cursors!, batches: batches! });
    } finally {
      await root.close();
    }
  }
}

function copyOf(table: Table): (readonly [Buffer, Buffer])[] {
  return Array.from(table.getRange(), ({ key, value }) => [Buffer.from(key), Buffer.from(value)]);
}

function effectsIn(rows: readonly (readonly [Buffer, Buffer])[]): number {
  return rows.filter(([key]) => isEffect(key)).length;
}

function replace(table: Table, rows: readonly (readonly [Buffer, Buffer])[]): void {
  for (const [key] of copyOf(table)) table.removeSync(key);
  for (const [key, value] of rows) table.putSync(key, value);
}
