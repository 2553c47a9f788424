/**
 * A cache that begins with the rows of its database (`recover: 'store'`): one consistent scan, whose rows come into
 * memory until that is full, and the cursor of the same moment. Then the cursor is moved to the log, on the condition
 * that it still is where the scan has seen it. That is the adoption of a database by a new log: a writer of the log
 * before is refused from then on.
 *
 * The rows leave no record and are owed to no database. Their versions are of the epoch in which the cache is opened,
 * which is above every epoch in the database, so that each later change is newer than its row.
 */
import { type Backend, type Cursor, sameCursor, sameCursors } from '../backend/index.ts';
import { CairnError, reasonOf } from '../errors.ts';
import type { FeedHandle } from '../native.ts';
import type { RecoveryProgress } from '../options/types.ts';
import { epochOf, recordBytes, type SetParts, versionOf, writeSet } from '../request/record.ts';
import type { RuleSet } from '../rules/index.ts';
import type { Filler, OpeningAnswer } from '../scribe/index.ts';
import { heldAs, holderOf } from './holder.ts';
import { allLanes, NOT_ALL_LANES, ONE_LANE } from './identity.ts';

/** From one epoch to the next, as openings of a log count them. */
const EPOCH_STEP = 2;
/** The first version of a row: a shard begins an epoch in the lower half of its versions (Store::StartEpoch). */
const COUNTER_FIRST = 2 ** 31;
/** Records that are put into memory at once; memory may be full by this much before that is noticed. */
const CHUNK_BYTES = 256 * 1024;
const PROGRESS_MS = 250;

export interface RestoreOptions {
  /** The name of the database. */
  readonly store: string;
  readonly backend: Backend;
  /** It is not the program's, and is closed with this. */
  readonly ownsBackend: boolean;
  /** Which keys have rows; undefined: all. */
  readonly rules: RuleSet | undefined;
  /** What fits into memory. */
  readonly memoryBytes: number;
}

export class Restore implements Filler {
  readonly #options: RestoreOptions;
  /** As of the scan, in the order of the lanes. */
  #cursors: readonly Cursor[] = [];
  #epochMin = 0;

  private constructor(options: RestoreOptions) {
    this.#options = options;
  }

  /** Looks at the database. Rejects with why the cache cannot begin with it. */
  static async open(options: RestoreOptions): Promise<Restore> {
    const restore = new Restore(options);
    try {
      await restore.#look();
    } catch (error) {
      await restore.close();
      throw restore.#refusal(error);
    }
    return restore;
  }

  /** The cache's epoch is at least this. */
  get epochMin(): number {
    return this.#epochMin;
  }

  /** Where the database has everything before: the cursor of the lane that is furthest behind. */
  get cursor(): Cursor | undefined {
    return this.#cursors.toSorted((a, b) => (a.position < b.position ? -1 : 1))[0];
  }

  async #look(): Promise<void> {
    const { backend } = this.#options;
    await backend.open();
    const cursors = await backend.readCursors();
    this.#cursors = whole(cursors, backend.name);
    // Every row was written with a cursor of its epoch or a later one.
    let newest = newestOf(this.#cursors);
    if (this.#cursors.length === 0) {
      for await (const { rows } of backend.scan()) {
        for (const { version } of rows) newest = Math.max(newest, epochOf(version));
      }
    }
    this.#epochMin = newest + EPOCH_STEP;
  }

  async fill(
    handle: FeedHandle,
    epoch: number,
    onProgress: (progress: RecoveryProgress) => void,
  ): Promise<OpeningAnswer> {
    const { backend, memoryBytes } = this.#options;
    const filling = new Filling(handle, epoch);
    const begunMs = performance.now();
    let toldMs = begunMs;
    try {
      let isFirst = true;
      for await (const { rows, cursors } of backend.scan()) {
        const found = whole(cursors, backend.name);
        if (isFirst) this.#cursors = found;
        else if (!sameCursors(this.#cursors, found)) throw new Error('its cursor moves within one scan');
        isFirst = false;
        if (newestOf(this.#cursors) >= epoch) throw new Error('another cache writes to it');
        for (const row of rows) if (this.#isWanted(row)) filling.add(row);
        if (filling.isFull) break;
        const nowMs = performance.now();
        if (nowMs < toldMs + PROGRESS_MS) continue;
        toldMs = nowMs;
        onProgress(filling.progress(nowMs - begunMs, memoryBytes));
      }
      filling.flush();
    } catch (error) {
      throw this.#refusal(error);
    }
    return filling.answer;
  }

  #isWanted({ key }: SetParts): boolean {
    return this.#options.rules?.loads(key) !== false;
  }

  async adopt({ takeover, ...at }: Parameters<Filler['adopt']>[0]): Promise<void> {
    const { backend, store } = this.#options;
    // Of one lane, as of a new database: the writer divides it among its lanes.
    const to: Cursor = { ...ONE_LANE, ...at, ...holderOf(heldAs(store, takeover)) };
    try {
      const [from, ...others] = this.#cursors;
      if (others.length === 0 && sameCursor(from, to)) return;
      const also = others.map((other) => ({ from: other, to: undefined }));
      const outcome = await backend.write({ changes: [], from, to, ...(also.length === 0 ? {} : { also }) });
      if (outcome.kind !== 'committed' && !sameCursor(outcome.found, to)) throw new Error('another cache writes to it');
    } catch (error) {
      throw this.#refusal(error, 'Its rows are as they were; open the cache again');
    }
  }

  async close(): Promise<void> {
    if (!this.#options.ownsBackend) return;
    try {
      await this.#options.backend.close();
    } catch {
      // It is not used any more, whatever its end was.
    }
  }

  // What a person can mend keeps its code.
  #refusal(error: unknown, then = 'Nothing was changed'): CairnError {
    if (error instanceof CairnError) return error;
    const { name } = this.#options.backend;
    return new CairnError(
      'ERR_STORE_REFUSED',
      `The cache cannot begin with the rows of ${name}: ${reasonOf(error)}. ${then}`,
      { cause: error },
    );
  }
}

function whole(cursors: readonly Cursor[], name: string): readonly Cursor[] {
  const lanes = allLanes(cursors);
  if (lanes === undefined) throw new CairnError('ERR_STORE_REFUSED', `${name} ${NOT_ALL_LANES}`);
  return lanes;
}

function newestOf(cursors: readonly Cursor[]): number {
  return cursors.reduce((newest, { epoch }) => Math.max(newest, epoch), 0);
}

/** Rows on their way into memory. */
class Filling {
  readonly #handle: FeedHandle;
  readonly #epoch: number;
  #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #used = 0;
  #rows = 0;
  #bytes = 0;
  #applied = 0;
  /** Entries that came before, of another database. */
  readonly #before: number;

  constructor(handle: FeedHandle, epoch: number) {
    this.#handle = handle;
    this.#before = handle.size();
    this.#epoch = epoch;
  }

  /** Entries have left for those that came last. */
  get isFull(): boolean {
    return this.#handle.size() < this.#before + this.#applied;
  }

  get answer(): OpeningAnswer {
    return { rows: this.#rows, bytes: this.#bytes, isFull: this.isFull };
  }

  progress(elapsedMs: number, bytesTotal: number): RecoveryProgress {
    const perSecond = 1000 / Math.max(1, elapsedMs);
    const [bytes, records] = [this.#bytes, this.#rows];
    return {
      ...{ source: 'store', bytes, bytesTotal, records, elapsedMs },
      ...{ bytesPerSecond: bytes * perSecond, recordsPerSecond: records * perSecond },
    };
  }

  add(row: SetParts): void {
    const bytes = recordBytes(row.key.length, row.value.length);
    if (this.#used + bytes > this.#chunk.length) {
      this.flush();
      if (bytes > this.#chunk.length) this.#chunk = Buffer.allocUnsafeSlow(bytes);
    }
    this.#used = writeSet(this.#chunk, this.#used, row, versionOf(this.#epoch, COUNTER_FIRST + this.#rows));
    this.#rows++;
    this.#bytes += row.key.length + row.value.length;
  }

  flush(): void {
    if (this.#used === 0) return;
    const count = this.#handle.applyRecords(this.#chunk.subarray(0, this.#used));
    if (count === -2) throw new CairnError('ERR_CLOSED', 'The cache has ended');
    if (count < 0) throw new Error('a row is no entry of a cache');
    this.#applied += count;
    this.#used = 0;
  }
}
