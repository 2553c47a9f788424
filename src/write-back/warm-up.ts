/**
 * The warm-up of a cache: walks the rows of the database and loads those whose keys are not in memory, until all were
 * looked at or memory has no free room. The cache serves meanwhile.
 *
 *     walk: keys that are not in memory, up to a number -> loads, a batch at a time -> ... -> the next walk
 *
 * A walk gives the keys only, and lasts as long as a scan takes: the database keeps its snapshot no longer. A value
 * comes by a load as of any request (loader.ts): its ticket is there before the database is asked, so a newer write
 * wins, and a database that has gone back is noticed. Nothing is evicted for it. One batch is under way at a time, as
 * one question to the database: others are free for requests.
 *
 * A walk that fails begins again after a while, as often as it takes: what is in memory by then is passed.
 */
import type { Backend } from '../backend/index.ts';
import { Loads } from '../loads.ts';
import { type LoadHandle, native } from '../native.ts';
import type { ResolvedWarmUpOptions } from '../options.ts';
import type { RuleSet } from '../rules/index.ts';
import { retryDelayMs } from './backoff.ts';
import { sleep, type WriterClock } from './clock.ts';
import { RowRate } from './row-rate.ts';
import { WarmUpNumbers } from './warm-up-numbers.ts';

/** Keys of one batch: half of what a question of the loader has. */
const BATCH_KEYS = 128;
/** Batches in a row of which no row finds room: memory is full. */
const FULL_BATCHES = 2;

/** Keys of one walk, and their bytes. Another walk finds more of them, and passes what is in memory by then. */
const KEYS_MAX = 1_000_000;
const KEY_BYTES_MAX: number = 64 * 2 ** 20;
/** The share of memory, or of the entries, from which on a row that was not stored found no room. */
const NEARLY_FULL = 0.9;

/** What a warm-up needs in another thread. */
export interface WarmUpData {
  readonly options: ResolvedWarmUpOptions;
  /** Of warm-up-numbers.ts. */
  readonly numbers: SharedArrayBuffer;
}

export interface WarmUpTask extends WarmUpData {
  readonly cacheId: number;
  /** One call of the database. Rejects with its error. */
  readonly use: <T>(run: (backend: Backend) => Promise<T>) => Promise<T>;
  /** Which keys have rows; undefined: all. */
  readonly rules: RuleSet | undefined;
  readonly clock: WriterClock;
  /** In [0, 1). */
  readonly random: () => number;
  /** Keys of one walk; left out: KEYS_MAX. */
  readonly keysMax?: number;
}

/** Keys of one walk, packed. */
class FoundKeys {
  readonly #keysMax: number;
  #packed = Buffer.allocUnsafeSlow(64 * 1024);
  readonly #ends: number[] = [];
  readonly #bytes: number[] = [];

  constructor(keysMax: number) {
    this.#keysMax = keysMax;
  }

  get count(): number {
    return this.#ends.length;
  }

  get isFull(): boolean {
    return this.count >= this.#keysMax || (this.#ends.at(-1) ?? 0) >= KEY_BYTES_MAX;
  }

  add(key: Buffer, bytes: number): void {
    const at = this.#ends.at(-1) ?? 0;
    const end = at + key.length;
    if (end > this.#packed.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(end, 2 * this.#packed.length));
      this.#packed.copy(larger, 0, 0, at);
      this.#packed = larger;
    }
    key.copy(this.#packed, at);
    this.#ends.push(end);
    this.#bytes.push(bytes);
  }

  rows(from: number, count: number): WarmRow[] {
    const to = Math.min(from + count, this.count);
    const rows: WarmRow[] = [];
    for (let i = from; i < to; i++)
      rows.push({ key: this.#packed.subarray(this.#ends[i - 1] ?? 0, this.#ends[i]), bytes: this.#bytes[i]! });
    return rows;
  }
}

interface WarmRow {
  readonly key: Buffer;
  readonly bytes: number;
}

export class WarmUp {
  readonly #task: WarmUpTask;
  readonly #numbers: WarmUpNumbers;
  /** For this alone: a handle tells of each load that has ended once. */
  readonly #handle: LoadHandle | undefined;
  readonly #loads: Loads | undefined;
  readonly #rate: RowRate;
  readonly #prefix: Buffer;
  readonly #ending = new AbortController();
  #fullBatches = 0;
  /** No row has come into memory yet. */
  #isFirst = true;
  #toldMs: number;
  /** Resolves when it is over. */
  readonly ended: Promise<void>;

  constructor(task: WarmUpTask) {
    this.#task = task;
    this.#numbers = new WarmUpNumbers(task.numbers);
    const handle = native.attachById(task.cacheId);
    this.#handle = typeof handle === 'number' ? undefined : (handle as LoadHandle);
    this.#loads = this.#handle === undefined ? undefined : Loads.intoFreeRoom(this.#handle);
    this.#rate = new RowRate(task.options.rowsPerSecond);
    this.#prefix = Buffer.from(task.options.prefix, 'utf8');
    this.#toldMs = task.clock.steadyMs();
    const isWanted = this.#numbers.state === 'running' && this.#handle !== undefined;
    this.ended = isWanted ? this.#run() : Promise.resolve();
  }

  close(): void {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    this.#loads?.end();
    this.#handle?.close();
    if (this.#numbers.state === 'running') this.#numbers.state = 'closed';
  }

  get #isOver(): boolean {
    return this.#ending.signal.aborted;
  }

  async #run(): Promise<void> {
    const { clock, random } = this.#task;
    for (let failures = 0; !this.#isOver; ) {
      const rowsBefore = this.#numbers.rows;
      try {
        const state = await this.#walk();
        if (!this.#isOver) this.#numbers.state = state;
        this.#tell();
        return;
      } catch {
        // The loads tell of the database's errors, and the writer does.
        if (this.#numbers.rows > rowsBefore) failures = 0;
        this.#tell();
        await sleep(clock, retryDelayMs(++failures, false, random), this.#ending.signal);
      }
    }
  }

  // Walks until one has found no more keys than it may keep.
  async #walk(): Promise<'done' | 'full'> {
    this.#fullBatches = 0;
    let isWhole = true;
    for (;;) {
      const found = await this.#collect();
      for (let from = 0; from < found.count; from += BATCH_KEYS) {
        if (!(await this.#load(found.rows(from, BATCH_KEYS)))) isWhole = false;
        if (this.#isOver || this.#hasAll) return 'done';
        if (this.#fullBatches === FULL_BATCHES) return 'full';
      }
      if (!found.isFull) return isWhole || !this.#isNearlyFull ? 'done' : 'full';
    }
  }

  // The keys of rows that are not in memory, as many as there is room for here. Without a pause: the database keeps the
  // snapshot of a scan as long as that lasts. It takes longer than a call of `use` may.
  async #collect(): Promise<FoundKeys> {
    const { signal } = this.#ending;
    const backend = await this.#task.use(async (each) => each);
    const found = new FoundKeys(this.#task.keysMax ?? KEYS_MAX);
    this.#isFirst = this.#numbers.rows === 0;
    if (this.#isFirst) this.#numbers.clear('residentRows');
    for await (const { rows } of backend.scan(signal)) {
      for (const { key, value } of rows) {
        if (this.#isWanted(key)) found.add(key, key.length + value.length);
        if (found.isFull) return found;
      }
      await this.#task.clock.yield();
    }
    return found;
  }

  // A row that was not stored may have been deleted, or may be too large.
  get #isNearlyFull(): boolean {
    const numbers = new Float64Array(native.statNames.length);
    this.#handle?.stats(numbers);
    const of = (name: string): number => numbers[native.statNames.indexOf(name)]!;
    const isFull = (used: number, limit: number): boolean => limit > 0 && used >= limit * NEARLY_FULL;
    return isFull(of('chargedBytes'), of('limitBytes')) || isFull(of('entries'), of('maxEntries'));
  }

  #isWanted(key: Buffer): boolean {
    const prefix = this.#prefix;
    if (prefix.length > 0 && !key.subarray(0, prefix.length).equals(prefix)) return false;
    if (this.#task.rules?.loads(key) === false) return false;
    // Of a key that the database does not have yet, or of a closed cache, it answers something else.
    const has = this.#handle?.has(key);
    if (has === true && this.#isFirst) this.#numbers.add('residentRows', 1);
    return has === false;
  }

  #isResident(key: Buffer): boolean {
    return this.#handle?.has(key) === true;
  }

  get #hasAll(): boolean {
    const { limit } = this.#task.options;
    return limit > 0 && this.#numbers.rows >= limit;
  }

  // Loads the rows, and counts those that have found room. False: one has not, and is not being written either.
  async #load(batch: readonly WarmRow[]): Promise<boolean> {
    const { clock, options } = this.#task;
    const left = options.limit === 0 ? batch.length : Math.max(0, options.limit - this.#numbers.rows);
    // A request may have loaded some of them since.
    const rows = batch.filter(({ key }) => !this.#isResident(key)).slice(0, left);
    if (rows.length === 0) return true;
    const waitMs = this.#rate.waitMs(clock.steadyMs());
    if (waitMs > 0) await sleep(clock, waitMs, this.#ending.signal);
    if (this.#isOver) return true;
    this.#rate.count(rows.length, clock.steadyMs());
    await this.#loaded(rows);
    let count = 0;
    for (const { key, bytes } of rows) {
      if (!this.#isResident(key)) continue;
      count++;
      this.#numbers.add('rows', 1);
      this.#numbers.add('bytes', bytes);
    }
    this.#fullBatches = count === 0 ? this.#fullBatches + 1 : 0;
    this.#tell();
    await clock.yield();
    return count === rows.length;
  }

  // Resolves when all loads have ended; rejects if one has failed: the database does not answer.
  #loaded(rows: readonly WarmRow[]): Promise<void> {
    return new Promise((resolve, reject) => {
      let left = rows.length;
      let failure: Error | undefined;
      const end = (why?: string): void => {
        if (why !== undefined) failure ??= new Error(why);
        if (--left > 0) return;
        if (failure === undefined) resolve();
        else reject(failure);
      };
      for (const { key } of rows) this.#loads?.wait({ key, loaded: () => end(), failed: (why) => end(why) });
    });
  }

  #tell(): void {
    const nowMs = this.#task.clock.steadyMs();
    this.#numbers.add('elapsedMs', nowMs - this.#toldMs);
    this.#toldMs = nowMs;
  }
}
