/**
 * Loads from the database behind a cache, for one handle: {@link Loads} for the callers of this thread that wait for
 * values, {@link Loader} for the thread that reads the database. All threads share the loads
 * (native/process/load_table.h): one load of a key serves everyone who waits for it, and a loaded value never replaces
 * a newer write.
 */
import { CairnError, show } from './errors.ts';
import { holdAwake, type Looker, lookers } from './native/wake.ts';
import { type LoadHandle, loadsOf, type NativeHandle } from './native.ts';
import { type Patience, wait } from './patience.ts';

type Key = string | Uint8Array;

/** A request that waits for the load of its key. None of its methods may throw. */
export interface LoadWaiter {
  /** A valid key. It stays as it is. */
  readonly key: Key;
  /** The load has ended: the value is in memory, if there is one. */
  loaded(): void;
  /** The value was not loaded, for this reason. `isUnknown`: the database did not answer, and a read is a miss then. */
  failed(why: string, isUnknown: boolean): void;
}

const CLOSED = 'the cache is closed';
const TOO_MANY = 'too many values are being loaded';

/** The error of a request that needs a value which was not loaded. The request was not done. */
export function loadError(what: string, key: Key, why: string): CairnError {
  const code = why === CLOSED ? 'ERR_CLOSED' : 'ERR_NOT_RESIDENT';
  return new CairnError(code, `${what}: the value of ${show(key)} was not loaded: ${why}`);
}

/** The loads for which callers of this handle wait. */
export class Loads implements Looker {
  readonly #handle: LoadHandle;
  // To be begun together, in this turn.
  readonly #new = new Set<LoadWaiter>();
  readonly #waiters = new Map<number, LoadWaiter>();
  readonly #ids = new Map<LoadWaiter, number>();
  readonly #onlyFreeRoom: boolean;
  #isLooking = false;

  /**
   * Of a handle for which nothing else waits: its values are stored where there is free room, and its loads do not keep
   * the thread awake.
   */
  static intoFreeRoom(handle: LoadHandle): Loads {
    return new Loads(handle, true);
  }

  /** Of a handle, which has one; undefined: there is no database behind its cache. */
  static of(handle: NativeHandle): Loads | undefined {
    const loading = loadsOf(handle);
    if (loading === undefined) return undefined;
    let loads = loadsOfHandles.get(loading);
    if (loads === undefined) {
      loads = new Loads(loading);
      loadsOfHandles.set(loading, loads);
    }
    return loads;
  }

  private constructor(handle: LoadHandle, onlyFreeRoom = false) {
    this.#handle = handle;
    this.#onlyFreeRoom = onlyFreeRoom;
  }

  /** Tells the waiter once, in a later turn, unless it leaves before. */
  wait(waiter: LoadWaiter): void {
    this.#new.add(waiter);
    if (this.#new.size === 1) queueMicrotask(() => this.#begin());
  }

  /** The waiter is not told any more. False: it was told. */
  leave(waiter: LoadWaiter): boolean {
    if (this.#new.delete(waiter)) return true;
    const id = this.#ids.get(waiter);
    if (id === undefined) return false;
    this.#forget(id, waiter);
    this.#handle.leaveLoads([id]);
    this.#rest();
    return true;
  }

  /**
   * Resolves when the loads of all keys have ended, to the keys that are misses because the database did not answer.
   * Rejects with `ERR_NOT_RESIDENT` when one of them has failed, and when `patience` ends. REQUIRES: valid keys, which
   * stay as they are.
   */
  load(what: string, keys: readonly Key[], patience?: Patience): Promise<ReadonlySet<Key>> {
    return new Promise((resolve, reject) => {
      const unknown = new Set<Key>();
      const waiters = new Set<LoadWaiter>();
      let stop: (() => void) | undefined;
      const end = (settle: () => void): void => {
        stop?.();
        for (const waiter of waiters) this.leave(waiter);
        waiters.clear();
        settle();
      };
      for (const key of new Set(keys)) {
        const waiter: LoadWaiter = {
          key,
          loaded: () => {
            waiters.delete(waiter);
            if (waiters.size === 0) end(() => resolve(unknown));
          },
          failed(why, isUnknown) {
            if (!isUnknown) return end(() => reject(loadError(what, key, why)));
            unknown.add(key);
            this.loaded();
          },
        };
        waiters.add(waiter);
        this.wait(waiter);
      }
      if (waiters.size === 0) return resolve(unknown);
      if (patience === undefined) return;
      const late = (ms: number): CairnError =>
        new CairnError('ERR_TIMEOUT', `${what}: no value was loaded within ${ms} ms; nothing was done`);
      stop = wait(patience, 'caller', {
        late: (timeoutMs) => end(() => reject(late(timeoutMs))),
        aborted: (reason) => end(() => reject(reason)),
      });
    });
  }

  /** Tells all waiters that the cache is closed. */
  end(): void {
    for (const waiter of [...this.#new, ...this.#ids.keys()]) if (this.leave(waiter)) waiter.failed(CLOSED, false);
  }

  /** Tells waiters whose loads have ended; all of them, if the handle is closed. */
  look(): void {
    for (;;) {
      const rows = this.#handle.takeEndedLoads();
      if (rows === undefined) {
        for (const [id, waiter] of [...this.#waiters]) {
          this.#forget(id, waiter);
          waiter.failed(CLOSED, false);
        }
        break;
      }
      if (rows.length === 0) break;
      for (let at = 0; at < rows.length; at += 3) {
        const id = rows[at] as number;
        const waiter = this.#waiters.get(id);
        if (waiter === undefined) continue;
        this.#forget(id, waiter);
        const why = rows[at + 1] as string | undefined;
        if (why === undefined) waiter.loaded();
        else waiter.failed(why, rows[at + 2] as boolean);
      }
    }
    this.#rest();
  }

  #begin(): void {
    const waiters = [...this.#new];
    this.#new.clear();
    if (waiters.length === 0) return;
    const keys = waiters.map(({ key }) => nativeKey(key));
    const ids = this.#handle.beginLoads(keys, this.#onlyFreeRoom);
    for (const [at, waiter] of waiters.entries()) {
      const id = ids === undefined ? 0 : ids[at]!;
      if (id === 0) {
        waiter.failed(ids === undefined ? CLOSED : TOO_MANY, false);
        continue;
      }
      this.#waiters.set(id, waiter);
      this.#ids.set(waiter, id);
    }
    if (this.#isLooking || this.#waiters.size === 0) return;
    this.#isLooking = true;
    lookers.add(this);
    if (!this.#onlyFreeRoom) holdAwake(true);
  }

  #forget(id: number, waiter: LoadWaiter): void {
    this.#waiters.delete(id);
    this.#ids.delete(waiter);
  }

  // The thread need not stay alive for this handle any more.
  #rest(): void {
    if (!this.#isLooking || this.#waiters.size > 0) return;
    this.#isLooking = false;
    lookers.delete(this);
    if (!this.#onlyFreeRoom) holdAwake(false);
  }
}

// The addon takes text with U+FFFD as bytes only: there it may stand for a lone surrogate.
function nativeKey(key: Key): Key {
  return typeof key === 'string' && key.includes('\uFFFD') ? Buffer.from(key, 'utf8') : key;
}

// The addon tells a handle once of a load that has ended.
const loadsOfHandles = new WeakMap<LoadHandle, Loads>();

/** A load that this thread has taken. */
export interface PendingLoad {
  readonly id: number;
  readonly key: Buffer;
}

/** How a load ends. */
export type LoadEnd =
  | {
      readonly kind: 'value';
      readonly id: number;
      readonly value: Uint8Array;
      readonly codec: number;
      readonly clientFlags: number;
      /** Unix milliseconds; 0: never. */
      readonly expiresWallMs: number;
    }
  /** Neither the log nor the database has a value. The key is known to be absent for `forMs`, a second at least. */
  | { readonly kind: 'absent'; readonly id: number; readonly forMs: number }
  /** Unknown: the requests look again. */
  | { readonly kind: 'again'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly why: string }
  /** The same, but a read is a miss. */
  | { readonly kind: 'unknown'; readonly id: number; readonly why: string };

// LoadResult::Kind of native/process/load_table.h.
const END_KINDS = { value: 1, absent: 2, again: 3, failed: 4, unknown: 5 } as const;

/**
 * The loader's side: takes the loads of all threads and ends them. Loads that it has when it is detached, or when its
 * thread ends, wait for the next loader.
 */
export class Loader implements Looker {
  readonly #handle: LoadHandle;
  readonly #onPending: () => void;
  #isDetached = false;

  /** `onPending` is called when loads may wait to be drained, and for other news of this thread. It must not throw. */
  constructor(handle: LoadHandle, onPending: () => void) {
    this.#handle = handle;
    this.#onPending = onPending;
    lookers.add(this);
    this.#handle.attachLoader();
  }

  look(): void {
    this.#onPending();
  }

  /**
   * Takes at most `most` loads, oldest first. An empty list: there are none, and `onPending` is called when there are.
   * A loader that leaves some behind drains again without being told.
   */
  drain(most: number): PendingLoad[] {
    const loads: PendingLoad[] = [];
    while (loads.length < most && !this.#isDetached) {
      const rows = this.#handle.drainLoads(most - loads.length);
      if (rows === undefined || rows.length === 0) break;
      for (let at = 0; at < rows.length; at += 2) loads.push({ id: rows[at] as number, key: rows[at + 1] as Buffer });
    }
    return loads;
  }

  /** Stores the values and ends the loads. Ignores loads that another loader has got meanwhile. */
  finish(ends: readonly LoadEnd[]): void {
    if (this.#isDetached) return;
    const rows: unknown[] = [];
    for (const end of ends) {
      rows.push(end.id, END_KINDS[end.kind]);
      if (end.kind === 'value') rows.push(end.value, end.codec, end.clientFlags, end.expiresWallMs);
      else if (end.kind === 'failed' || end.kind === 'unknown') rows.push(end.why, 0, 0, 0);
      else rows.push(undefined, 0, 0, end.kind === 'absent' ? end.forMs : 0);
    }
    this.#handle.finishLoads(rows);
  }

  detach(): void {
    this.#isDetached = true;
    lookers.delete(this);
    this.#handle.detachLoader();
  }
}
