/**
 * The main thread's side of write-back: the keepers of all databases of a cache, as the cache and its other threads see
 * them. Each database has its own writer, in its own thread, with its own cursors, states and dead letters: what holds
 * one up holds up the keys of no other.
 */
import type { Worker } from 'node:worker_threads';
import type { KeptDeadLetter, RefusedKey } from '../backend/index.ts';
import { CairnError, CairnTypeError, show } from '../errors.ts';
import { native } from '../native.ts';
import type { Rule } from '../rules/index.ts';
import type { LogKeeper } from '../scribe/index.ts';
import { keepRules } from './kept-rules.ts';
import type { RetriedDeadLetter } from './letter-retry.ts';
import { cursorOf, type StoreNotice, type WriteBackNotice } from './message.ts';
import { type WriteBackActions, WriteBackHost } from './remote.ts';
import { type CarriedStore, StoreKeeper } from './store-keeper.ts';
import { forgetWarmUp } from './warm-up-numbers.ts';

/** Gets the notices of write-back. */
export type WriteBackListener = (notice: WriteBackNotice) => void;

export interface WriteBackKeeperOptions {
  readonly cacheId: number;
  readonly log: LogKeeper;
  /** The default one first. */
  readonly stores: readonly CarriedStore[];
  /** As they are for all databases together. */
  readonly rules: readonly Rule[];
}

/** Of all caches of this thread that write to a database. It hangs on the addon's exports, as the log's keepers do. */
const shared = native as unknown as { writeBackKeepers?: Map<number, WriteBackKeeper> };
shared.writeBackKeepers ??= new Map();
const keepers = shared.writeBackKeepers;

export class WriteBackKeeper implements WriteBackActions {
  readonly #options: WriteBackKeeperOptions;
  readonly #listeners = new Set<WriteBackListener>();
  readonly #keepers: ReadonlyMap<string, StoreKeeper>;
  readonly #host: WriteBackHost;
  #closing: Promise<void> | undefined;
  #putRulesBack: () => void = () => {};

  /** The keeper of a cache, if this thread has it. */
  static of(cacheId: number): WriteBackKeeper | undefined {
    return keepers.get(cacheId);
  }

  /**
   * Starts to write the log of a cache to its databases. Resolves when each has been found to belong to the log, or
   * does not answer. Rejects with `ERR_STORE_REFUSED` if one does not, and with what its module throws.
   */
  static async open(options: WriteBackKeeperOptions): Promise<WriteBackKeeper> {
    const keeper = new WriteBackKeeper(options);
    try {
      await keeper.#open();
    } catch (error) {
      await keeper.close(1, false);
      await keeper.#leaveLog();
      throw error;
    }
    return keeper;
  }

  private constructor(options: WriteBackKeeperOptions) {
    this.#options = options;
    const { cacheId, log, stores } = options;
    this.#keepers = new Map(
      stores.map((store) => {
        const { name, count } = store.seat;
        const named = count === 1 ? {} : { store: name };
        const onNotice = (notice: StoreNotice): void => this.#notify({ ...notice, ...named });
        return [name, new StoreKeeper({ ...store, cacheId, log, onNotice })];
      }),
    );
    keepers.set(cacheId, this);
    this.#host = new WriteBackHost(cacheId, this);
  }

  get #all(): StoreKeeper[] {
    return [...this.#keepers.values()];
  }

  async #open(): Promise<void> {
    const { log, stores, rules } = this.#options;
    const confirmed = new Map<string, bigint>();
    for (const { name } of stores.map(({ seat }) => seat)) {
      confirmed.set(name, (await log.cursor(cursorOf(name)).position()) ?? 0n);
    }
    this.#putRulesBack = keepRules({ files: log.files!, rules, confirmed });
    // None is left in the middle of its opening.
    const opened = await Promise.allSettled(this.#all.map((keeper) => keeper.open()));
    for (const each of opened) if (each.status === 'rejected') throw each.reason;
    log.endReader = (timeoutMs, finishes) => this.close(timeoutMs, finishes);
  }

  // The log is as it was before an opening that is refused: the options of before open it again.
  async #leaveLog(): Promise<void> {
    const { log } = this.#options;
    try {
      this.#putRulesBack();
      await log.putCursorsBack();
    } catch {
      // A disk that takes no more: the refusal says more.
    }
  }

  // ---- what a cache asks ----

  listen(listener: WriteBackListener): void {
    this.#listeners.add(listener);
  }

  unlisten(listener: WriteBackListener): void {
    this.#listeners.delete(listener);
  }

  async drain(signal?: AbortSignal): Promise<void> {
    await Promise.all(this.#all.map((keeper) => keeper.drain(signal)));
  }

  async pause(): Promise<void> {
    await Promise.all(this.#all.map((keeper) => keeper.pause()));
  }

  async resume(): Promise<void> {
    await Promise.all(this.#all.map((keeper) => keeper.resume()));
  }

  async deadLetters(limit: number, after: bigint, store: string): Promise<readonly KeptDeadLetter[]> {
    return this.#of(store).deadLetters(limit, after);
  }

  async refusedKey(keys: readonly Uint8Array[], store: string): Promise<RefusedKey | undefined> {
    return this.#of(store).refusedKey(keys);
  }

  async dropDeadLetters(ids: readonly bigint[], store: string): Promise<number> {
    return this.#of(store).dropDeadLetters(ids);
  }

  async retryDeadLetters(ids: readonly bigint[] | 'all', store: string): Promise<readonly RetriedDeadLetter[]> {
    return this.#of(store).retryDeadLetters(ids);
  }

  #of(store: string): StoreKeeper {
    const keeper = this.#keepers.get(store);
    if (keeper !== undefined) return keeper;
    const names = [...this.#keepers.keys()].map(show).join(', ');
    throw new CairnTypeError('ERR_INVALID_ARGUMENT', `The cache has no store ${show(store)}: it has ${names}`);
  }

  /** The thread that writes to the default database, if there is one: for tests. */
  get thread(): Worker | undefined {
    return this.#all[0]!.thread;
  }

  /**
   * Ends the writers; with `finishes`, what the log has by now is written before, within the time (0: no limit). What
   * is left stays in the log. Never rejects. A second call returns the same promise.
   */
  close(timeoutMs: number, finishes: boolean): Promise<void> {
    this.#closing ??= this.#close(timeoutMs, finishes);
    return this.#closing;
  }

  async #close(timeoutMs: number, finishes: boolean): Promise<void> {
    await Promise.all(this.#all.map((keeper) => keeper.close(timeoutMs, finishes)));
    this.#host.close(new CairnError('ERR_CLOSED', 'The cache was closed'));
    this.#listeners.clear();
    keepers.delete(this.#options.cacheId);
    forgetWarmUp(this.#options.cacheId);
  }

  // What a listener throws is an uncaught error of the program, and not ours to be stopped by.
  #notify(notice: WriteBackNotice): void {
    for (const listener of [...this.#listeners]) queueMicrotask(() => listener(notice));
  }
}
