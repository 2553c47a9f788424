/**
 * The log of a cache, for a handle: through the keeper if this thread has opened the cache, otherwise through messages
 * to the scribe. Syncs, snapshots and notices.
 */
import { answerError } from './answers.ts';
import { CairnTypeError, wrongType } from './errors.ts';
import { Code, feedOf, type NativeHandle } from './native.ts';
import { report } from './reports.ts';
import {
  LogKeeper,
  type NoticeListener,
  type RecoverySummary,
  RemoteScribe,
  type SnapshotSummary,
} from './scribe/index.ts';

interface Listener {
  readonly listener: NoticeListener;
  /** What the keeper calls. */
  readonly heard: NoticeListener;
}

/** Cache has the documentation of what is public here. */
export class CacheLog {
  readonly #handle: NativeHandle;
  readonly #keeper: LogKeeper | undefined;
  #remote: RemoteScribe | undefined;
  #listeners: readonly Listener[] = [];

  /** `keeper`: for a handle that owns the cache. */
  constructor(handle: NativeHandle, keeper: LogKeeper | undefined) {
    this.#handle = handle;
    this.#keeper = keeper;
  }

  get recovery(): RecoverySummary | undefined {
    const recovery = this.#keeper?.recovery;
    return recovery === undefined ? undefined : report(recovery);
  }

  async sync(): Promise<void> {
    if (this.#handle.isClosed()) throw answerError(this.#handle, Code.closed);
    await this.#reached()?.sync();
  }

  async snapshot(): Promise<SnapshotSummary> {
    if (this.#handle.isClosed()) throw answerError(this.#handle, Code.closed);
    const log = this.#reached();
    if (log === undefined) throw new CairnTypeError('ERR_INVALID_ARGUMENT', 'A cache without data has no snapshots');
    return report(await log.snapshot());
  }

  /** A thread gets no notices of a log that another thread has opened. */
  listen(listener: NoticeListener, once: boolean): void {
    if (typeof listener !== 'function') throw wrongType('listener', 'a function', listener);
    const keeper = this.#keeperHere();
    if (keeper === undefined) return;
    const added: Listener = {
      listener,
      heard: (notice) => {
        // It may have been removed while the notice was on its way.
        if (!this.#listeners.includes(added)) return;
        if (once) this.#remove(added);
        listener(report(notice));
      },
    };
    this.#listeners = [...this.#listeners, added];
    keeper.listen(added.heard);
  }

  /** If a listener was added twice, the later one. */
  unlisten(listener: NoticeListener): void {
    const found = this.#listeners.findLast((each) => each.listener === listener);
    if (found !== undefined) this.#remove(found);
  }

  /** The handle is about to be closed. */
  close(): void {
    for (const each of this.#listeners) this.#remove(each);
    this.#remote?.close();
  }

  /** Closes an owner's share of the log, within the time (0: no limit). */
  async release(timeoutMs: number, withSnapshot: boolean): Promise<void> {
    await this.#keeper?.release(timeoutMs, withSnapshot);
  }

  #remove(listener: Listener): void {
    this.#listeners = this.#listeners.filter((other) => other !== listener);
    this.#keeperHere()?.unlisten(listener.heard);
  }

  #keeperHere(): LogKeeper | undefined {
    return this.#keeper ?? LogKeeper.of(this.#handle.cacheId);
  }

  // Undefined: the cache has no log.
  #reached(): LogKeeper | RemoteScribe | undefined {
    if (this.#keeper !== undefined) return this.#keeper;
    const feed = feedOf(this.#handle);
    if (feed === undefined) return undefined;
    const keeper = LogKeeper.of(feed.cacheId);
    if (keeper !== undefined) return keeper;
    this.#remote ??= new RemoteScribe(feed);
    return this.#remote;
  }
}
