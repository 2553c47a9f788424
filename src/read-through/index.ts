/** Read-through: misses of a cache are answered by its database, in which the cache changes nothing. */
export { ReadThroughKeeper, type ReadThroughOptions } from './keeper.ts';
