/**
 * Cache: a handle as a whole. Opening, options, events, the log, the database behind, the end. It ends a chain of
 * classes, each with the verbs of its kind and their documentation: cache-entries.ts, cache-fetch.ts, cache-whole.ts.
 */
import { inspect } from 'node:util';
import { answerError } from './answers.ts';
import { closeFetches } from './cache-fetch.ts';
import { CacheLog } from './cache-log.ts';
import { CacheServers } from './cache-servers.ts';
import { CacheWhole } from './cache-whole.ts';
import { CacheWriteBack, type DrainOptions, type WriteBack } from './cache-write-back.ts';
import { register } from './copies.ts';
import { type CloseOptions, Ending } from './ending.ts';
import type { NativeHandle } from './native.ts';
import { attach, effectiveOptions, givenName, make, Opened, open, openNames } from './opening.ts';
import type { AttachOptions, CacheOptions, EffectiveOptions, ServeOptions } from './options.ts';
import { CachePromises } from './promises/index.ts';
import { guardReceivers, NOT_CLONEABLE, tickBefore } from './receiver.ts';
import { type CacheEvents, type RemovalHandle, type RemovalOptions, Removals } from './removals.ts';
import type { NoticeListener, RecoverySummary, SnapshotSummary } from './scribe/index.ts';
import type { MemcachedServer } from './server/index.ts';
import { describeCache, readStats } from './stats.ts';
import type { WriteBackListener } from './write-back/index.ts';

/**
 * The native handle behind a cache, for the other stages.
 * @internal
 */
export let handleOf: (cache: Cache<never>) => NativeHandle;

// True for a Cache of this copy of the module.
let isCache: (value: unknown) => boolean;

/**
 * A cache outside the JavaScript heap, limited in bytes, which all threads of the process can share.
 *
 * Values are copies: `get` never returns the object that was set. The verbs here run on the calling thread and are done
 * when they return. Each throws `ERR_CLOSED` on a closed cache, and `ERR_INVALID_ARGUMENT` for a key that is not a
 * string, `Buffer` or `Uint8Array` of 1 to 65,536 bytes (text without lone surrogates).
 *
 * A handle is open until `close()` or `destroy()`. `new Cache` and `Cache.open` make a cache, and their handle is its
 * owner. `Cache.open` with the name and equal options of an open cache joins it as one more owner. `Cache.attach`
 * returns a handle that is not an owner. A cache ends for all handles when its last owner closes. It also ends when its
 * last handle of any kind is gone: closed, garbage-collected, or ended with its thread.
 */
export class Cache<V = unknown> extends CacheWhole<V> {
  static {
    isCache = (value) => typeof value === 'object' && value !== null && #opened in value;
    handleOf = (cache) => (cache as unknown as Cache<unknown>).#handle;
  }

  readonly #handle: NativeHandle;
  readonly #opened: Opened;
  readonly #log: CacheLog;
  readonly #writeBack: CacheWriteBack;
  readonly #servers: CacheServers;
  readonly #ending: Ending;
  #options: EffectiveOptions | undefined;
  #promises: CachePromises<V> | undefined;
  #removals: Removals | undefined;

  /**
   * Makes a cache, ready at once, with this handle as its owner.
   *
   * Throws `ERR_INVALID_ARGUMENT` for an option that is unknown or out of range, `ERR_NAME_TAKEN` if the process has an
   * open cache of that name, and `ERR_OUT_OF_MEMORY` if the system refuses the address space.
   */
  constructor(options?: CacheOptions<NoInfer<V>>);
  /** @internal */
  constructor(opened: Opened);
  constructor(given?: CacheOptions | Opened) {
    const opened = given instanceof Opened ? given : make(given);
    super(opened);
    const { handle, raw, tick } = opened;
    this.#handle = handle;
    this.#opened = opened;
    this.#log = new CacheLog(handle, opened.keeper);
    this.#writeBack = new CacheWriteBack(handle, () => opened.resolved);
    this.#servers = new CacheServers(handle);
    this.#ending = new Ending({
      handle,
      log: this.#log,
      servers: this.#servers,
      promises: () => this.#promises as CachePromises<never> | undefined,
      closeNow: () => this.#closeNow(),
    });
    if (raw !== 'buffer') handle.rawAsBuffer(false);
    Object.defineProperty(this, 'Cache.attach(name)', NOT_CLONEABLE);
    if (tick !== undefined) tickBefore(this, Cache.prototype, tick);
  }

  /**
   * Makes a cache, or joins the open cache of that name if its options are equal; both handles are then owners. Rejects
   * with the errors of the constructor; `ERR_NAME_TAKEN` names the option that differs. Of two calls for one name at
   * the same time, the second waits for the first and joins.
   *
   * With `data`, the entries of the directory are in the cache when this resolves, and every write goes to the log
   * there (docs/durability.md). Rejects with `ERR_LOG_LOCKED` if another process has the directory, and with
   * `ERR_LOG_CORRUPT`, `ERR_LOG_VERSION` or `ERR_LOG_IO` if it cannot be read; the directory is then unchanged. In
   * other threads than the main one, rejects with `ERR_INVALID_ARGUMENT`: use `Cache.attach` there.
   */
  static async open<V = unknown>(options?: CacheOptions<NoInfer<V>>): Promise<Cache<V>> {
    return new Cache<V>(await open(options));
  }

  /**
   * A handle to the open cache of that name, in any thread of the process. Throws `ERR_NO_SUCH_CACHE` if there is no
   * such cache, and `ERR_NOT_READY` while it is recovering. Closing the handle only detaches it.
   */
  static attach<V = unknown>(name: string, options?: AttachOptions<NoInfer<V>>): Cache<V> {
    return new Cache<V>(attach(name, options));
  }

  /** The names of the caches that are open in this process. */
  static get names(): string[] {
    return openNames();
  }

  /** The name; `''` if it has none. */
  get name(): string {
    return givenName(this.#handle);
  }

  /**
   * The options in effect, in bytes and milliseconds, with the chosen value for each option left out; `raw` and
   * `promises` are those of this handle. `Cache.open` accepts them. `stats()` has the limits that `resize` has changed.
   */
  get options(): EffectiveOptions {
    const { raw, promises } = this.#opened;
    this.#options ??= Object.freeze(effectiveOptions(this.#handle, this.#opened.resolved, raw, promises));
    return this.#options;
  }

  /** What `Cache.open` read from `data`; undefined without `data`, and for attached handles. */
  get recovery(): RecoverySummary | undefined {
    return this.#log.recovery;
  }

  /** The same verbs as promises, executed in batches by other threads. docs/threads.md says when to use them. */
  get promises(): CachePromises<V> {
    if (this.#promises === undefined) {
      const ack = this.closed ? 'memory' : this.#opened.resolved.ack;
      const { raw, promises, tick } = this.#opened;
      this.#promises = new CachePromises<V>(this.#handle, raw, promises, ack);
      if (tick !== undefined) tickBefore(this.#promises, CachePromises.prototype, tick);
    }
    return this.#promises;
  }

  /** True after this handle was closed, or the cache by its last owner. */
  get closed(): boolean {
    return this.#handle.isClosed();
  }

  // ---- events ----

  /**
   * Calls `listener` for events of the cache, caused by any thread or client:
   *
   * - `'removal'`: entries have left, in batches of `{ key, reason, value? }`. Options select the reasons, and values.
   *   The event of an expired entry comes when the entry is found or removed, not at the millisecond of its expiry.
   * - `'cleared'`: the number of entries that `clear()` removed, without an event for each.
   * - `'removals-lost'`: the number of events that this thread did not read before the ring (1 MiB) was full. No call
   *   waits for a listener.
   *
   * - `'log'`: notices of the cache's log, each with its `kind` (docs/durability.md lists them), on handles of the
   *   thread that opened the cache.
   * - `'write-back'`: notices of write-back, likewise (docs/write-back.md lists them).
   *
   * Listening does not keep the process alive. It keeps the handle from garbage collection until `off` or `close()`.
   */
  on(event: 'removal', listener: CacheEvents<V>['removal'], options?: RemovalOptions): this;
  on(event: 'cleared' | 'removals-lost', listener: (count: number) => void): this;
  on(event: 'log', listener: NoticeListener): this;
  on(event: 'write-back', listener: WriteBackListener): this;
  on(event: EventName<V>, listener: AnyListener<V>, options?: RemovalOptions): this {
    return this.#listen(event, listener, options, false);
  }

  /** As `on`, for the first event only. */
  once(event: 'removal', listener: CacheEvents<V>['removal'], options?: RemovalOptions): this;
  once(event: 'cleared' | 'removals-lost', listener: (count: number) => void): this;
  once(event: 'log', listener: NoticeListener): this;
  once(event: 'write-back', listener: WriteBackListener): this;
  once(event: EventName<V>, listener: AnyListener<V>, options?: RemovalOptions): this {
    return this.#listen(event, listener, options, true);
  }

  /** Removes a listener of `on` or `once`; if it was added twice, the later one. */
  off<E extends keyof CacheEvents<V>>(event: E, listener: CacheEvents<V>[E]): this;
  off(event: 'log', listener: NoticeListener): this;
  off(event: 'write-back', listener: WriteBackListener): this;
  off(event: EventName<V>, listener: AnyListener<V>): this {
    if (event === 'log') this.#log.listeners.remove(listener as NoticeListener);
    else if (event === 'write-back') this.#writeBack.listeners.remove(listener as WriteBackListener);
    else this.#removals?.remove(event, listener as CacheEvents<V>[typeof event]);
    return this;
  }

  // ---- the log ----

  /**
   * Resolves when everything written so far, by any thread or client, is on the disk, where a power cut does not take
   * it; under every `sync`. Without `data` it resolves at once.
   *
   * Rejects with `ERR_LOG_FULL` if the log has no room, with `ERR_LOG_IO` if it cannot be written (the cache has the
   * entries, the disk may not), and with `ERR_CLOSED`.
   */
  sync(): Promise<void> {
    return this.#log.sync();
  }

  /**
   * Takes a snapshot of all entries, without blocking other calls, and resolves when it is on the disk and was read
   * back. Snapshots are also taken on schedule (option `snapshot`). Rejects with `ERR_LOG_IO` if it cannot be written,
   * and keeps the previous snapshot then; with `ERR_INVALID_ARGUMENT` without `data`.
   */
  snapshot(): Promise<SnapshotSummary> {
    return this.#log.snapshot();
  }

  // ---- the database behind ----

  /**
   * Resolves when the database has everything that was done so far, by any thread or client. Writes it at once, and
   * waits while the database cannot be written, or writing is paused.
   *
   * Rejects with `ERR_TIMEOUT` after `timeout` (nothing is lost: the log has it, and it is written on); with
   * `ERR_STORE_REFUSED` if the database is not that of the log any more; with `ERR_INVALID_ARGUMENT` without `store`;
   * and as `sync()`. With `keys` it waits for the changes of these keys only, and rejects as a change at the level
   * `stored` does, for example with `ERR_DEAD_LETTER`.
   */
  drain(options?: DrainOptions): Promise<void> {
    return this.#writeBack.drain(options);
  }

  /** Pauses and resumes writing to the database. */
  get writeBack(): WriteBack {
    return this.#writeBack.control;
  }

  // ---- the port ----

  /**
   * Serves this cache to memcached clients: threads of the addon, or on systems other than Linux the calling thread,
   * answer from the entries that this process uses. Resolves when the server listens, by default on loopback, port
   * 11211. A cache may have several servers.
   *
   * The end of this handle ends the server: `close()` answers first what clients have sent, `destroy()` does not. It
   * also ends when the cache is closed by its last owner.
   *
   * Rejects with `ERR_INVALID_ARGUMENT` for a wrong option, `ERR_CLOSED` for a closed cache, and `ERR_LISTEN`, with the
   * system's error as `cause`, if it cannot listen on an address.
   */
  listen(options?: ServeOptions): Promise<MemcachedServer> {
    return this.#servers.listen(options, this.options);
  }

  // ---- the end ----

  /**
   * Closes this handle: finishes accepted promised calls, refuses new ones, then closes the handle (before close()
   * returns, if no promised verb was used). If it was the last owner, the cache ends: its name is free, other handles
   * throw `ERR_CLOSED`, and its memory is freed in steps. Calls of `fetch` on this handle are rejected; loads that
   * other threads wait for continue there. Removal events from before are delivered first. Closing again returns the
   * same promise.
   *
   * Servers that `listen` has made close first, within 5 s and half of `timeout`: clients get the answers to what they
   * have sent, and the handle stays open until then.
   *
   * With `data`, the last owner also writes the remaining records, takes a snapshot and closes the log, within
   * `timeout` (default 10 s; 0: no limit). The snapshot is left out if the time does not suffice. If the log did not
   * get all records, this rejects with `ERR_LOG_FULL`, `ERR_LOG_IO` or `ERR_TIMEOUT`; the cache is closed all the same.
   * Promised calls that still wait for the log when the time is over are rejected as by `destroy()`.
   */
  close(options?: CloseOptions): Promise<void> {
    return this.#ending.close(options);
  }

  /**
   * Closes this handle without finishing promised calls. Calls that were not sent reject with `ERR_CLOSED` and are not
   * done. Calls that were sent reject with `ERR_WORKER_EXITED` and may be done; so do calls that wait for the log, with
   * a message that says that they may be lost. Resolves when the threads of this handle have ended. With `data`,
   * changes already made still reach the log, as with `close()`, but no snapshot is taken.
   */
  destroy(): Promise<void> {
    return this.#ending.destroy();
  }

  /** `using cache = new Cache()` destroys it at the end of the block. */
  [Symbol.dispose](): void {
    void this.destroy();
  }

  /** `await using cache = await Cache.open(...)` closes it at the end of the block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What `console.log(cache)` shows. */
  [inspect.custom](_depth: number, options: object): string {
    return describeCache(this.name, this.closed ? undefined : readStats(this.#handle), options);
  }

  // ---- the parts, each made when it is first needed ----

  #closeNow(): void {
    this.#servers.destroy();
    this.#log.close();
    this.#writeBack.close();
    this.#removals?.close();
    closeFetches(this);
    this.#handle.close();
    this.#writeBack.handleClosed();
    this.#promises?.handleClosed();
  }

  #listen(event: EventName<V>, listener: AnyListener<V>, options: RemovalOptions | undefined, once: boolean): this {
    if (event === 'log') this.#log.listeners.add(listener as NoticeListener, once);
    else if (event === 'write-back') this.#writeBack.listeners.add(listener as WriteBackListener, once);
    else this.#listening().add(event, listener as CacheEvents<V>[typeof event], options, once);
    return this;
  }

  #listening(): Removals {
    this.#removals ??= new Removals({
      handle: this.#handle as RemovalHandle,
      raw: this.#opened.raw,
      error: (code) => answerError(this.#handle, code),
    });
    return this.#removals;
  }
}

guardReceivers(Cache.prototype, isCache, ['get', 'set']);
register(openNames);

type EventName<V> = keyof CacheEvents<V> | 'log' | 'write-back';
type AnyListener<V> = CacheEvents<V>[keyof CacheEvents<V>] | NoticeListener | WriteBackListener;
