/**
 * The bounds that users meet, each with its reason. native/base/limits.h has the same numbers; native.ts compares them
 * when it loads the addon.
 */

/** The longest key, in bytes of UTF-8. Keys above 250 bytes cannot be used through the memcached port. */
export const KEY_BYTES_MAX: number = 64 * 1024;

/** The largest value of any cache, in bytes: sizes are 32-bit, and one copy must not hold a thread for seconds. */
export const VALUE_BYTES_MAX: number = 2 ** 30;

/** The smallest memory limit of a cache, in bytes: below it index and reserves leave no room for values. */
export const MEMORY_BYTES_MIN: number = 4 * 2 ** 20;

/** The memory limit of a cache that was given none, in bytes. */
export const MEMORY_BYTES_DEFAULT: number = 64 * 2 ** 20;

/** The most shards that a cache can have. */
export const SHARD_COUNT_MAX = 256;

/** The least memory, in bytes, and the least entries of a shard, unless the number of shards is given. */
export const SHARD_BYTES_MIN: number = 4 * 2 ** 20;
export const SHARD_ENTRIES_MIN = 1024;

/** The most databases behind one cache: each has its thread. */
export const STORES_MAX = 8;

/** The most lanes that write to a database: each has a connection, and reads the log by itself. */
export const LANES_MAX = 16;

/** The longest time to live, in milliseconds: about 285,000 years, so that adding it to a clock stays exact. */
export const TTL_MS_MAX: number = Number.MAX_SAFE_INTEGER;

/** The longest name of a cache, in UTF-16 units. */
export const NAME_LENGTH_MAX = 200;

/** The most sets and deletes of an atomic batch: its shards are locked while they are done. */
export const ATOMIC_PARTS_MAX = 4096;

/** The most bytes of an atomic batch, keys, values and what stands beside them: the log writes it as a whole. */
export const ATOMIC_BYTES_MAX: number = 64 * 2 ** 20;

/**
 * A promised batch for which the log has no room is tried again after ATOMIC_RETRY_MS. It is refused after
 * ATOMIC_TRIES_MAX tries, ten seconds.
 */
export const ATOMIC_RETRY_MS = 100;
export const ATOMIC_TRIES_MAX = 100;

/** Tries of `update()` before it throws because other writers keep changing the entry. */
export const UPDATE_TRIES_MAX = 1000;

/** Keys and values nested deeper than this are stored as structured clones, which allow cycles. */
export const JSON_DEPTH_MAX = 100;

/**
 * The deepest nesting of a structured clone. With the stack that Node gives by default V8 writes 1,923 levels of the
 * costliest kind (a sparse array) and reads 1,864: half of the stack is the caller's.
 */
export const CLONE_DEPTH_MAX = 1000;

/** The most keys that one call of a loader gets by default: databases limit the parameters of a query. */
export const LOADER_KEYS_DEFAULT = 1000;
/** The most keys that it gets with any option: as many as a cache can have loads in flight. */
export const LOADER_KEYS_MAX: number = 64 * 1024;

/** Bytes of a block of a dump: it is built, checked and loaded as a whole. An entry that is larger gets its own. */
export const DUMP_BLOCK_BYTES: number = 256 * 1024;

/**
 * Requests that one cache's `promises` of one thread accepts before earlier ones are answered: 100 bytes or so each.
 */
export const QUEUE_REQUESTS_MAX = 65_536;

/** Bytes of keys and values that one cache's `promises` of one thread holds for requests that are not answered. */
export const QUEUE_BYTES_MAX: number = 64 * 2 ** 20;

/** The most lanes, hence threads, of one cache's `promises` of one thread. */
export const LANE_COUNT_MAX = 64;

/** Blocks that a lane keeps for its next batches: one in flight, one that collects, and two for bursts. */
export const LANE_BLOCKS_KEPT = 4;

/** Starts of a lane's thread that may fail in a row before the calls that wait for it are refused. */
export const LANE_STARTS_MAX = 3;

/** Bytes of values in one answer of a lane; what is left comes with the next. A larger single value is an answer. */
export const ANSWER_BYTES_MAX: number = 16 * 2 ** 20;

/** The largest value of a cache with a log: what is drained to it holds whole records. */
export const LOGGED_VALUE_BYTES_MAX: number = 64 * 2 ** 20;

/**
 * Memory for what the log has still to take: of the whole, at most and unless told otherwise, and the most by default.
 */
export const RING_SHARE_MAX = 4;
export const RING_SHARE_DEFAULT = 16;
export const RING_BYTES_DEFAULT_MAX: number = 16 * 2 ** 20;

/**
 * The default disk space of a log: enough for a database that is down for an hour at 2,000 writes per second.
 */
export const LOG_LIMIT_BYTES_DEFAULT: number = 4 * 2 ** 30;

/** A file of the log. */
export const LOG_SEGMENT_BYTES_DEFAULT: number = 64 * 2 ** 20;
export const LOG_SEGMENT_BYTES_MIN = 4096;
export const LOG_SEGMENT_BYTES_MAX: number = 2 ** 30;
/**
 * The least number of segments in a log's limit: one is written, one is being removed, and there is room between the
 * levels.
 */
export const LOG_SEGMENTS_MIN = 4;
/** A log's limit is at least this many values of the largest size: a larger value could never be written. */
export const LOG_VALUES_MIN = 4;
/** The longest interval between two syncs of a log, in milliseconds. */
export const LOG_SYNC_MS_MAX = 3_600_000;

/** Loads of its key, one after the other, for which a request waits; native/base/limits.h has the same. */
export const LOAD_TRIES_MAX = 4;

/** The longest time that setTimeout counts, in milliseconds. */
export const TIMER_MS_MAX: number = 2 ** 31 - 1;
/** Groups of records that are on their way to the log at once. */
export const LOG_TURNS_MAX = 16;

/** The port that memcached clients try first. */
export const PORT_DEFAULT = 11211;
/** Connections of a server: more could not be told apart in the tables of most systems. */
export const CONNECTIONS_MAX: number = 1_000_000;
/** Threads of a server that serve its connections. */
export const THREADS_MAX = 64;
/** memcached's bounds of its item size, in bytes. */
export const ITEM_BYTES_MIN = 1024;
export const ITEM_BYTES_MAX: number = 2 ** 30;
export const ITEM_BYTES_DEFAULT: number = 2 ** 20;
/** The accounts of a file of passwords, and the bytes of a name with its password. */
export const ACCOUNTS_MAX = 256;
export const ACCOUNT_BYTES_MAX = 512;
/** The least memory for replies that clients have not taken, and the least that is chosen without an option. */
export const OUTPUT_BYTES_MIN: number = 2 ** 20;
export const OUTPUT_BYTES_CHOSEN_MIN: number = 16 * 2 ** 20;

/** Rows a second that the sweep of expired rows looks at by default: one short statement each second. */
export const SWEEP_ROWS_DEFAULT = 1000;

/** Rows and bytes of one transaction of write-back: two of them are in memory, and one in the database's. */
export const WRITE_BACK_ROWS_MAX = 100_000;
/** The longest time by which changes are slowed. */
export const SLOWDOWN_MS_MAX = 60_000;
export const WRITE_BACK_BYTES_MAX: number = 256 * 2 ** 20;
