/**
 * A cache that begins with the rows of its databases: of each the rows of the keys that rules lead there (restore.ts),
 * one database after another. Each is one consistent scan; between two of them there is no common moment, as there is
 * none between their transactions.
 */
import type { NamedStore } from '../options/types.ts';
import { type Rule, rulesOfStore } from '../rules/index.ts';
import type { Filler, OpeningAnswer, ProgressListener, StoredPlace } from '../scribe/index.ts';
import type { Restore } from './restore.ts';
import { restoreFrom } from './store.ts';

export interface RestoresOptions {
  readonly stores: readonly NamedStore[];
  readonly directory: string;
  /** As they are for all databases together. */
  readonly rules: readonly Rule[];
  /** What fits into memory. */
  readonly memoryBytes: number;
}

export class Restores implements Filler {
  readonly #restores = new Map<string, Restore>();

  /** Looks at the databases. Rejects with why the cache cannot begin with one of them. */
  static async open({ stores, directory, rules, memoryBytes }: RestoresOptions): Promise<Restores> {
    const restores = new Restores();
    try {
      for (const { name, target } of stores) {
        restores.#restores.set(
          name,
          await restoreFrom(name, target, directory, rulesOfStore(rules, name), memoryBytes),
        );
      }
    } catch (error) {
      await restores.close();
      throw error;
    }
    return restores;
  }

  /** The cache's epoch is at least this. */
  get epochMin(): number {
    return Math.max(...this.#all.map(({ epochMin }) => epochMin));
  }

  /** Where a database has everything before. */
  storedOf(store: string): StoredPlace | undefined {
    return this.#restores.get(store)!.cursor;
  }

  async fill(...[handle, epoch, onProgress]: Parameters<Filler['fill']>): Promise<OpeningAnswer> {
    let all: OpeningAnswer = { rows: 0, bytes: 0, isFull: false };
    for (const restore of this.#all) {
      const before = all;
      const more: ProgressListener = (progress) => {
        const { bytes, records } = progress;
        onProgress({ ...progress, bytes: before.bytes + bytes, records: before.rows + records });
      };
      const { rows, bytes, isFull } = await restore.fill(handle, epoch, more);
      all = { rows: all.rows + rows, bytes: all.bytes + bytes, isFull: all.isFull || isFull };
    }
    return all;
  }

  async adopt(at: Parameters<Filler['adopt']>[0]): Promise<void> {
    for (const restore of this.#all) await restore.adopt(at);
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((restore) => restore.close()));
  }

  get #all(): Restore[] {
    return [...this.#restores.values()];
  }
}
