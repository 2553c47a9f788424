/** The servers of one handle: `cache.listen()` makes them, and they end with the handle. */
import { clockOf } from './clock.ts';
import { CairnError } from './errors.ts';
import { feedOf, type NativeHandle } from './native.ts';
import type { EffectiveOptions, ServeOptions } from './options.ts';
import { LOG_METRICS } from './scribe/index.ts';
import { MemcachedServer } from './server/index.ts';
import { writeBackStatNames } from './write-back/index.ts';

/** The longest time that the end of a cache gives its clients to take their replies. */
const CLOSE_MS = 5_000;

export class CacheServers {
  readonly #handle: NativeHandle;
  readonly #servers = new Set<MemcachedServer>();

  constructor(handle: NativeHandle) {
    this.#handle = handle;
  }

  get isEmpty(): boolean {
    return this.#servers.size === 0;
  }

  /** Cache.listen() has the documentation. */
  async listen(options: ServeOptions | undefined, cache: EffectiveOptions): Promise<MemcachedServer> {
    const handle = this.#handle;
    const { ack, store, stores = {}, maxMemory: memoryBytes } = cache;
    const highestAck = feedOf(handle) === undefined ? 'memory' : store === undefined ? 'logged' : 'stored';
    const logMetrics = store === undefined ? LOG_METRICS : [...LOG_METRICS, ...writeBackStatNames(Object.keys(stores))];
    const server = await MemcachedServer.start(handle, options, {
      ...{ ack, highestAck, memoryBytes, logMetrics },
      tick: clockOf(handle),
    });
    // The handle was closed between the start of the server and this turn.
    if (handle.isClosed()) {
      server.destroy();
      throw new CairnError('ERR_CLOSED', 'Expected an open cache to serve, got one that was closed meanwhile');
    }
    this.#servers.add(server);
    server.once('close', () => this.#servers.delete(server));
    return server;
  }

  /** Closes them in half of this time, at most 5 s; 0: no limit is given. The rest of the time is for the log. */
  async close(timeoutMs: number): Promise<void> {
    const timeout = timeoutMs === 0 ? CLOSE_MS : Math.min(CLOSE_MS, Math.ceil(timeoutMs / 2));
    await Promise.all([...this.#servers].map((server) => server.close({ timeout })));
  }

  destroy(): void {
    for (const server of this.#servers) server.destroy();
  }
}
