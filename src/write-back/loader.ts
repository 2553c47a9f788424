/**
 * The loader: answers the misses of all threads and connections. It takes the keys that wait (loads.ts), and ends each:
 *
 * | of the key there is                        | then                                                              |
 * |--------------------------------------------|-------------------------------------------------------------------|
 * | a stub of a value that left memory before  | the value comes back from the log: the database does not have it  |
 * | the database had it                        | yet                                                               |
 * | a stub that says it is gone                | the request looks again, and finds that                           |
 * | neither, and a rule skips the key          | there is no value                                                 |
 * | neither                                    | the database is asked, for many keys at once                      |
 *
 * A row that is read loses to any newer write: the load's ticket sees to that. And an answer counts only if the cursor
 * that was read with it is not behind the furthest one that was seen: otherwise the database has gone back, and the
 * writer is told; or a standby that lags has answered.
 */
import type { Backend, Cursor, Loaded } from '../backend/index.ts';
import { type LoadEnd, Loader, type PendingLoad } from '../loads.ts';
import type { Position } from '../log/index.ts';
import type { LoadHandle } from '../native.ts';
import type { RuleSet } from '../rules/index.ts';
import type { StubResolver } from './stub-resolver.ts';

/** Keys of one question to the database. */
const BATCH_KEYS = 256;
/** Questions at a time. */
const QUESTIONS_MAX = 4;
/** How long a key without a row is known to be absent. */
const NEGATIVE_MS = 1000;

/** Where the loader reads. */
export interface LoadSource {
  /** Everything before this was in the database, as far as it has ever been. */
  readonly reached: Position;
  /** The database may have gone back. */
  doubt(): void;
  /** One call of the database. Rejects with its error. */
  use<T>(run: (backend: Backend) => Promise<T>): Promise<T>;
}

export interface LoaderServiceOptions {
  readonly handle: LoadHandle;
  readonly source: LoadSource;
  /** What keys owe; undefined: the cache writes nothing. */
  readonly stubs: StubResolver | undefined;
  /** Which keys the database is asked for; undefined: all. */
  readonly rules: RuleSet | undefined;
  readonly on: { failed(error: Error): void };
}

export class LoaderService {
  readonly #source: LoadSource;
  readonly #stubs: StubResolver | undefined;
  readonly #rules: RuleSet | undefined;
  readonly #on: LoaderServiceOptions['on'];
  readonly #loader: Loader;
  #questions = 0;
  #isClosed = false;

  constructor({ handle, source, stubs, rules, on }: LoaderServiceOptions) {
    this.#source = source;
    this.#stubs = stubs;
    this.#rules = rules;
    this.#on = on;
    this.#loader = new Loader(handle, () => this.#pump());
    this.#pump();
  }

  /** Loads that are not ended wait for the next loader. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#loader.detach();
  }

  #pump(): void {
    while (!this.#isClosed && this.#questions < QUESTIONS_MAX) {
      const loads = this.#loader.drain(BATCH_KEYS);
      if (loads.length === 0) return;
      const ask = this.#answerWithoutDatabase(loads);
      if (ask.length > 0) void this.#askDatabase(ask);
    }
  }

  // Ends the loads of keys that the database does not have yet, and of those that it never has; returns the others.
  #answerWithoutDatabase(loads: readonly PendingLoad[]): PendingLoad[] {
    const ends: LoadEnd[] = [];
    const others = loads.filter((load) => {
      const end = this.#endAlone(load);
      if (end !== undefined) ends.push(end);
      return end === undefined;
    });
    for (const end of ends) if (end.kind === 'failed') this.#on.failed(new Error(end.why));
    if (ends.length > 0) this.#loader.finish(ends);
    return others;
  }

  #endAlone({ id, key }: PendingLoad): LoadEnd | undefined {
    const resolved = this.#stubs?.resolve(key);
    if (resolved?.kind === 'failed') return { kind: 'failed', id, why: resolved.why };
    if (resolved?.kind === 'memory') return { kind: 'again', id };
    return this.#rules?.loads(key) === false ? { kind: 'absent', id, forMs: NEGATIVE_MS } : undefined;
  }

  async #askDatabase(loads: readonly PendingLoad[]): Promise<void> {
    this.#questions++;
    let ends: LoadEnd[];
    try {
      const { reached } = this.#source;
      const loaded = await this.#source.use((backend) => backend.load(loads.map(({ key }) => key)));
      if (isBehind(loaded.cursors, reached)) {
        this.#source.doubt();
        throw new Error('the database has gone back to an earlier state');
      }
      ends = loads.map(({ id }, i) => endOf(id, loaded.rows[i]));
    } catch (error) {
      this.#on.failed(error instanceof Error ? error : new Error(String(error)));
      const why = reasonOf(error);
      ends = loads.map(({ id }) => ({ kind: 'failed', id, why }));
    }
    this.#questions--;
    if (this.#isClosed) return;
    this.#loader.finish(ends);
    this.#pump();
  }
}

function isBehind(cursors: readonly Cursor[], reached: Position): boolean {
  return reached > 0n && !cursors.some(({ position }) => position >= reached);
}

function endOf(id: number, row: Loaded['rows'][number]): LoadEnd {
  if (row === undefined) return { kind: 'absent', id, forMs: NEGATIVE_MS };
  const { value, codec, clientFlags, expiresWallMs } = row;
  return { kind: 'value', id, value, codec, clientFlags, expiresWallMs };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
