/** serve(): `cache.listen` as a function. */
import { Cache } from './cache.ts';
import { notACache } from './copies.ts';
import type { ServeOptions } from './options.ts';
import type { MemcachedServer } from './server/index.ts';

/** The same as `cache.listen(options)`. Rejects with `ERR_INVALID_ARGUMENT` if `cache` is not a Cache, too. */
export async function serve<V>(cache: Cache<V>, options?: ServeOptions): Promise<MemcachedServer> {
  if (!(cache instanceof Cache)) throw notACache('cache', cache);
  return cache.listen(options);
}
