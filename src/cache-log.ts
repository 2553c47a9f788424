/**
 * The log of a cache, for a handle: through the keeper if this thread has opened the cache, otherwise through messages
 * to the scribe. Syncs, snapshots and notices.
 */
import { answerError } from './answers.ts';
import { CairnTypeError } from './errors.ts';
import { Code, feedOf, type NativeHandle } from './native.ts';
import { NoticeListeners } from './notices.ts';
import { report } from './reports.ts';
import {
  LogKeeper,
  type RecoverySummary,
  RemoteScribe,
  type ScribeNotice,
  type SnapshotSummary,
} from './scribe/index.ts';

/** Cache has the documentation of what is public here. */
export class CacheLog {
  /** To notices of the log. */
  readonly listeners = new NoticeListeners<ScribeNotice>(() => this.#keeperHere());
  readonly #handle: NativeHandle;
  readonly #keeper: LogKeeper | undefined;
  #remote: RemoteScribe | undefined;

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

  /** The handle is about to be closed. */
  close(): void {
    this.listeners.close();
    this.#remote?.close();
  }

  /** Closes an owner's share of the log, within the time (0: no limit). */
  async release(timeoutMs: number, withSnapshot: boolean): Promise<void> {
    await this.#keeper?.release(timeoutMs, withSnapshot);
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
