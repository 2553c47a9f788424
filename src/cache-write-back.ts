/** Write-back of a cache, for a handle: through the keeper if this thread has opened the cache, else by message. */
import { answerError } from './answers.ts';
import type { KeptDeadLetter, RefusedKey } from './backend/index.ts';
import { CairnError, CairnTypeError, wrongType } from './errors.ts';
import { KeyDrains } from './key-drains.ts';
import { type BackedHandle, Code, feedOf, type NativeHandle } from './native.ts';
import { NoticeListeners } from './notices.ts';
import { checkChoice, checkInteger, checkNames, type Duration, type ResolvedOptions } from './options.ts';
import { checkPatience, wait } from './patience.ts';
import { report } from './reports.ts';
import { asArray, type Key } from './request/arguments.ts';
import { copyOfBytes } from './request/bytes.ts';
import { DEFAULT_STORE, RuleSet, storeOf } from './rules/index.ts';
import {
  RemoteWriteBack,
  type RetriedDeadLetter,
  type WriteBackActions,
  WriteBackKeeper,
  type WriteBackNotice,
} from './write-back/index.ts';

/** The options of `drain`. */
export interface DrainOptions {
  /** Rejects with `ERR_TIMEOUT` if the database does not have everything within this time. Default (and 0): waits. */
  timeout?: Duration;
  /**
   * Waits for the changes of these keys only, which are written at once. Rejects as a change at the level `stored`
   * does: with `ERR_DEAD_LETTER` if the database refuses a change for good that it waits for, or has refused one before
   * that no later change has superseded. Rejects with the error of a database that cannot be asked for that.
   */
  keys?: Iterable<Key>;
}

/** `cache.writeBack`. Its methods reject with `ERR_INVALID_ARGUMENT` if the cache has no `store`. */
export interface WriteBack {
  /**
   * Begins no further transaction, until `resume()`. The log keeps the changes meanwhile. Lasts until the cache is
   * closed.
   */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /**
   * Changes that the database has refused for good, oldest first. `limit`: default 100; `after`: the id of the last one
   * that was listed. Rejects with the error of a database that cannot be asked.
   */
  deadLetters(options?: DeadLettersOptions): Promise<KeptDeadLetter[]>;
  /** Removes dead letters; the rows stay as the database has them. Resolves to the number of those that there were. */
  dropDeadLetters(ids: readonly bigint[], options?: OfStore): Promise<number>;
  /**
   * Makes the changes of dead letters again: those of these ids, or `'all'` that no later change has superseded. Sets
   * and deletes go through the log; an addition of a counter is made in the database. Letters of one atomic batch, or
   * of one key, are tried together, at one moment. Resolves, when the database has written or refused them, to what has
   * become of each; a newer change of the key wins. Waits as `drain()` does. Rejects with the error of a database that
   * cannot be asked; then the rest can be tried again.
   */
  retryDeadLetters(ids: readonly bigint[] | 'all', options?: OfStore): Promise<RetriedDeadLetter[]>;
}

/** Which of several databases. */
export interface OfStore {
  /** One of the names in `stores`. Default: `'default'`, that of `store`. */
  store?: string;
}

/** The options of `deadLetters`. */
export interface DeadLettersOptions extends OfStore {
  limit?: number;
  after?: bigint;
}

/** Dead letters of one list: each has a value. */
const DEAD_LETTERS_MAX = 1000;

/** Cache has the documentation of what is public here. */
export class CacheWriteBack {
  /** To notices of write-back. */
  readonly listeners = new NoticeListeners<WriteBackNotice>(() => this.#keeper());
  readonly #handle: NativeHandle;
  readonly #options: () => ResolvedOptions;
  #remote: RemoteWriteBack | undefined;
  #drains: KeyDrains | undefined;

  readonly control: WriteBack;

  constructor(handle: NativeHandle, options: () => ResolvedOptions) {
    this.#handle = handle;
    this.#options = options;
    this.control = {
      pause: async () => this.#reached('pause').pause(),
      resume: async () => this.#reached('resume').resume(),
      deadLetters: (given) => this.#deadLetters(given),
      dropDeadLetters: (ids, given) => this.#dropDeadLetters(ids, given),
      retryDeadLetters: (ids, given) => this.#retryDeadLetters(ids, given),
    };
  }

  async drain(options: DrainOptions | undefined): Promise<void> {
    const given = checkNames<DrainOptions>('options', options, ['timeout', 'keys']);
    const patience = checkPatience(given);
    const keys = given.keys === undefined ? undefined : asArray('keys', given.keys).map(copyOfBytes);
    const reached = this.#reached('drain');
    const drain = (signal?: AbortSignal): Promise<void> =>
      keys === undefined ? reached.drain(signal) : this.#keyDrains().drain(keys, signal);
    if (patience === undefined) return drain();
    // What is not awaited any more does not keep the process alive.
    const controller = new AbortController();
    const drained = drain(controller.signal);
    return new Promise((resolve, reject) => {
      const stop = wait(patience, 'timer', {
        late: (timeoutMs) => {
          reject(tooLate(timeoutMs));
          controller.abort();
        },
        aborted: reject,
      });
      drained.then(resolve, reject).finally(stop);
    });
  }

  #keyDrains(): KeyDrains {
    const rules = new RuleSet(this.#options().store?.rules ?? []);
    this.#drains ??= new KeyDrains(this.#handle as BackedHandle, {
      storeOf: (key) => (rules.writes(key) ? storeOf(rules.of(key)) : undefined),
      refusedKey: (keys, store) => this.#refusedKey(keys, store),
    });
    return this.#drains;
  }

  async #refusedKey(keys: readonly Buffer[], store: string): Promise<RefusedKey | undefined> {
    try {
      return await this.#reached('drain').refusedKey(keys, store);
    } catch (error) {
      // A database that keeps no dead letters.
      if ((error as CairnError).code === 'ERR_INVALID_ARGUMENT') return undefined;
      throw error;
    }
  }

  async #deadLetters(given: DeadLettersOptions | undefined): Promise<KeptDeadLetter[]> {
    const { limit, after = 0n, store } = checkNames<DeadLettersOptions>('options', given, ['limit', 'after', 'store']);
    if (typeof after !== 'bigint') throw wrongType('after', 'a bigint, the id of a dead letter', after);
    const count = checkInteger('limit', limit, 1, DEAD_LETTERS_MAX, 100);
    const letters = await this.#reached('deadLetters').deadLetters(count, after, this.#checkStore(store));
    return letters.map((letter) => report(letter));
  }

  async #dropDeadLetters(ids: readonly bigint[], given: OfStore | undefined): Promise<number> {
    checkIds(ids, 'an array of bigints, the ids of dead letters');
    const { store } = checkNames<OfStore>('options', given, ['store']);
    return this.#reached('dropDeadLetters').dropDeadLetters(ids, this.#checkStore(store));
  }

  #checkStore(given: unknown): string {
    if (given === undefined) return DEFAULT_STORE;
    const names = [DEFAULT_STORE, ...Object.keys(this.#options().store?.stores ?? {})];
    return checkChoice('store', given, names, DEFAULT_STORE);
  }

  async #retryDeadLetters(ids: readonly bigint[] | 'all', given: OfStore | undefined): Promise<RetriedDeadLetter[]> {
    if (ids !== 'all') checkIds(ids, "an array of bigints, the ids of dead letters, or 'all'");
    const { store } = checkNames<OfStore>('options', given, ['store']);
    const retried = await this.#reached('retryDeadLetters').retryDeadLetters(ids, this.#checkStore(store));
    return retried.map((letter) => report(letter));
  }

  /** The handle is about to be closed. */
  close(): void {
    this.listeners.close();
    this.#remote?.close(new CairnError('ERR_CLOSED', 'The cache is closed'));
  }

  /** The handle was closed: nothing wakes this thread for it any more. */
  handleClosed(): void {
    this.#drains?.handleClosed();
  }

  #keeper(): WriteBackKeeper | undefined {
    return WriteBackKeeper.of(this.#handle.cacheId);
  }

  #reached(verb: string): WriteBackActions {
    if (this.#handle.isClosed()) throw answerError(this.#handle, Code.closed);
    const keeper = this.#keeper();
    if (keeper !== undefined) return keeper;
    const feed = feedOf(this.#handle);
    if (feed === undefined || this.#options().store === undefined) {
      throw new CairnTypeError('ERR_INVALID_ARGUMENT', `A cache without store has no database for ${verb}()`);
    }
    this.#remote ??= new RemoteWriteBack(feed);
    return this.#remote;
  }
}

function checkIds(ids: readonly bigint[], expected: string): void {
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === 'bigint')) throw wrongType('ids', expected, ids);
}

function tooLate(timeoutMs: number): CairnError {
  return new CairnError(
    'ERR_TIMEOUT',
    `The database does not have every change after ${timeoutMs} ms: the rest is in the log, and is written on`,
  );
}
