/** The options of a call. */
import type { AckLevel } from './log.ts';
import type { Duration } from './units.ts';

/** The options of verbs that store. */
export interface SetOptions {
  /**
   * Time to live from now. 0 or `Infinity`: the entry does not expire. `'keep'`: keeps the expiry of the entry that is
   * replaced; if there is none, or it has expired, the cache's `ttl` is used. Default: the cache's `ttl`.
   */
  ttl?: Duration | 'keep';
}

/** The options of `setMany`. */
export interface SetManyOptions extends SetOptions {
  /** All entries are stored at one moment, or none. Not with `ttl: 'keep'`. Default: false. */
  atomic?: boolean;
}

/** The options of promised verbs. */
export interface CallOptions {
  /**
   * What the answer waits for. `'memory'`: nothing. `'logged'`: the log has the change, so a crash does not take it
   * back; a read waits for the log to have the value that it read. `'stored'`: the database behind has the change; a
   * read waits as at `'logged'`. Default: the cache's `ack`, which is `'logged'` with a log and `'memory'`, the only
   * level, without.
   */
  ack?: AckLevel;
  /** Rejects with `ERR_TIMEOUT` if there is no answer within this time. Default (and 0): waits forever. */
  timeout?: Duration;
  /** Rejects with the signal's reason when it is aborted. */
  signal?: AbortSignal;
}

/** The order and the number of a walk's entries. */
export interface WalkOptions {
  /** By last use; exact within a shard, and over all with `shards: 1`. Default `'newest'`. */
  order?: 'newest' | 'oldest';
  /** The most entries to return. Default: all. */
  limit?: number;
}
