/**
 * The end of a handle: `close()` finishes accepted calls, `destroy()` does not. The first of the two decides, except
 * for promised calls, which a later `destroy()` rejects.
 */
import type { CacheLog } from './cache-log.ts';
import type { CacheServers } from './cache-servers.ts';
import { feedOf, type NativeHandle } from './native.ts';
import { checkNames, type Duration, parseDuration } from './options.ts';
import { longTimeout } from './patience.ts';
import type { CachePromises } from './promises/index.ts';

/** The options of `close`. */
export interface CloseOptions {
  /** Default 10 s; 0: no limit. */
  timeout?: Duration;
}

/** The default time for close() to write the remaining records to the log. */
const CLOSE_TIMEOUT_MS = 10_000;

/** The parts of a cache that ending needs. */
export interface EndingCache {
  readonly handle: NativeHandle;
  readonly log: CacheLog;
  readonly servers: CacheServers;
  /** Undefined: promised verbs were not used. */
  promises(): CachePromises<never> | undefined;
  /** Closes the handle and its parts in this thread, now. */
  closeNow(): void;
}

/** The end of one handle. Cache has the documentation. */
export class Ending {
  readonly #cache: EndingCache;
  #end: Promise<void> | undefined;

  constructor(cache: EndingCache) {
    this.#cache = cache;
  }

  close(options: CloseOptions | undefined): Promise<void> {
    if (this.#end === undefined) {
      const given = checkNames<CloseOptions>('options', options, ['timeout']);
      this.#end = this.#finish(parseDuration('timeout', given.timeout, CLOSE_TIMEOUT_MS));
    }
    return this.#end;
  }

  destroy(): Promise<void> {
    const threads = this.#cache.promises()?.destroy();
    this.#cache.closeNow();
    this.#end ??= Promise.all([threads, this.#cache.log.release(CLOSE_TIMEOUT_MS, false)]).then(() => {});
    return this.#end;
  }

  async #finish(timeoutMs: number): Promise<void> {
    const { handle, log, servers } = this.#cache;
    const begunMs = performance.now();
    // Before anything else ends: their clients get answers that wait for the log or a load.
    if (!servers.isEmpty) await servers.close(timeoutMs);
    const promises = this.#cache.promises();
    // Calls that wait for a log which takes no records would wait forever.
    if (promises !== undefined) await finishCalls(promises, feedOf(handle) === undefined ? 0 : timeoutMs);
    this.#cache.closeNow();
    const leftMs = timeoutMs === 0 ? 0 : Math.max(1, timeoutMs - (performance.now() - begunMs));
    await log.release(leftMs, true);
  }
}

// 0: no limit.
async function finishCalls(promises: CachePromises<never>, timeoutMs: number): Promise<void> {
  const finished = promises.close().then(() => true);
  if (timeoutMs === 0) {
    await finished;
    return;
  }
  let timer: { stop(): void } | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = longTimeout(timeoutMs, 'timer', () => resolve(false));
  });
  const isFinished = await Promise.race([finished, late]);
  timer?.stop();
  if (!isFinished) await promises.destroy();
}
