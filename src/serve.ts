/** serve(): a cache for memcached clients. */
import { Cache, handleOf } from './cache.ts';
import { clockOf } from './clock.ts';
import { notACache } from './copies.ts';
import { feedOf } from './native.ts';
import type { ServeOptions } from './options.ts';
import { LOG_METRICS } from './scribe/index.ts';
import { MemcachedServer } from './server/index.ts';
import { writeBackStatNames } from './write-back/index.ts';

/**
 * Serves a cache to memcached clients, over sockets of the calling thread. Resolves when the server listens, by default
 * on loopback, port 11211. The server has a handle to the cache; when the cache is closed, the server ends.
 *
 * Rejects with `ERR_INVALID_ARGUMENT` for a wrong option, `ERR_CLOSED` for a closed cache, and `ERR_LISTEN`, with the
 * system's error as `cause`, if it cannot listen on an address.
 */
export async function serve<V>(cache: Cache<V>, options?: ServeOptions): Promise<MemcachedServer> {
  if (!(cache instanceof Cache)) throw notACache('cache', cache);
  const handle = handleOf(cache as Cache<never>);
  const { ack, store, stores = {} } = cache.options;
  const highestAck = feedOf(handle) === undefined ? 'memory' : store === undefined ? 'logged' : 'stored';
  const logMetrics = store === undefined ? LOG_METRICS : [...LOG_METRICS, ...writeBackStatNames(Object.keys(stores))];
  return MemcachedServer.start(handle, options, { ack, highestAck, logMetrics, tick: clockOf(handle) });
}
