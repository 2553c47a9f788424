/**
 * Every error that Cairn raises. Match on `code`, which never changes; the text may change.
 *
 * Each code has a kind, which says what happened and what the caller may do:
 *
 * | kind      | the caller learns                                    | may                                          |
 * |-----------|------------------------------------------------------|----------------------------------------------|
 * | `misuse`  | the call is wrong and always will be                 | fix the program                              |
 * | `refused` | nothing was done                                     | try again later, or do without               |
 * | `unknown` | it may or may not have been done                     | look, or repeat if that does no harm         |
 * | `damaged` | something that was promised or stored is late or lost | see the docs of the code: what still works  |
 */
import { inspect } from 'node:util';

/** What an error means to its caller; {@link errorKind} returns it. */
export type ErrorKind = 'misuse' | 'refused' | 'unknown' | 'damaged';

/** The codes of all errors of Cairn; docs/api.md says what each means. */
export type ErrorCode =
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_VALUE_TOO_LARGE'
  | 'ERR_BATCH_TOO_LARGE'
  | 'ERR_VALUE_NOT_STORABLE'
  | 'ERR_NAME_TAKEN'
  | 'ERR_FETCH_CIRCLE'
  | 'ERR_NO_SUCH_CACHE'
  | 'ERR_NOT_READY'
  | 'ERR_CLOSED'
  | 'ERR_QUEUE_FULL'
  | 'ERR_LOG_FULL'
  | 'ERR_NOT_RESIDENT'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_LISTEN'
  | 'ERR_TIMEOUT'
  | 'ERR_WORKER_EXITED'
  | 'ERR_VALUE_MALFORMED'
  | 'ERR_DUMP_MALFORMED'
  | 'ERR_LOG_IO'
  | 'ERR_LOG_CORRUPT'
  | 'ERR_LOG_VERSION'
  | 'ERR_LOG_LOCKED'
  | 'ERR_STORE_REFUSED'
  | 'ERR_STORE_AWAY'
  | 'ERR_DEAD_LETTER'
  | 'ERR_WRITE_BACK'
  | 'ERR_BACKEND_FULL'
  | 'ERR_BACKEND_UNFIT'
  | 'ERR_DRIVER_MISSING'
  | 'ERR_NATIVE_MISSING'
  | 'ERR_NATIVE_MISMATCH';

/** Every code with its kind. */
export const ERROR_KINDS: Readonly<Record<ErrorCode, ErrorKind>> = {
  /** An argument or option has the wrong type or is out of range. A `TypeError` or `RangeError`. */
  ERR_INVALID_ARGUMENT: 'misuse',
  /** The value is larger than `maxValueBytes`, or does not fit a shard. A `RangeError`. */
  ERR_VALUE_TOO_LARGE: 'misuse',
  /** An atomic batch is larger than the bound that the message names. A `RangeError`. */
  ERR_BATCH_TOO_LARGE: 'misuse',
  /**
   * The value cannot be stored: a function, a symbol, a promise, a value that contains one or is nested too deep, or a
   * transferred buffer. A `TypeError`.
   */
  ERR_VALUE_NOT_STORABLE: 'misuse',
  /** An open cache has that name: any, for `new Cache`; one with other options, for `Cache.open`. */
  ERR_NAME_TAKEN: 'misuse',
  /** A loader fetches its own key, or a key whose loader waits for it, and would wait forever. */
  ERR_FETCH_CIRCLE: 'misuse',
  /** No cache of that name is open in this process. */
  ERR_NO_SUCH_CACHE: 'refused',
  /** The cache exists but is still recovering. */
  ERR_NOT_READY: 'refused',
  /** The handle was closed, or its last owner closed the cache. */
  ERR_CLOSED: 'refused',
  /** The queue of promised verbs is full: retry after `'drain'`. */
  ERR_QUEUE_FULL: 'refused',
  /** The log does not keep up, or has no room: retry later, or use the promised verb, which waits. */
  ERR_LOG_FULL: 'refused',
  /**
   * A synchronous verb depends on a value that is not in memory: use the promised verb, which loads it first. Nothing
   * was changed.
   */
  ERR_NOT_RESIDENT: 'refused',
  /** The process has no memory for the answer, or no address space for the cache. */
  ERR_OUT_OF_MEMORY: 'refused',
  /** Another process has the log's directory. */
  ERR_LOG_LOCKED: 'refused',
  /** A newer version wrote the log's files. */
  ERR_LOG_VERSION: 'refused',
  /** The database behind the cache is not the one of its log, or not any more: nothing was written to it. */
  ERR_STORE_REFUSED: 'refused',
  /**
   * The database confirms nothing, and the change was to wait for it: the change was not made. Of `Cache.open`: memory
   * has no room for the keys that the database lacks.
   */
  ERR_STORE_AWAY: 'refused',
  /** A server cannot listen on an address: it is in use, not permitted, or not of this machine. */
  ERR_LISTEN: 'refused',
  /** The database has reached its limit: raise it, or let it evict. */
  ERR_BACKEND_FULL: 'refused',
  /** The database lacks something, or its tables are not as they have to be: the message lists what to change. */
  ERR_BACKEND_UNFIT: 'refused',
  /** No answer within the given time, or from a log that has been full for ten seconds. */
  ERR_TIMEOUT: 'unknown',
  /**
   * The thread that ran the request ended before it answered, or the cache was closed before the log had the change.
   */
  ERR_WORKER_EXITED: 'unknown',
  /**
   * A value cannot be decoded: `raw: 'json'` met other bytes, or a dump was edited. `keys` has the keys.
   */
  ERR_VALUE_MALFORMED: 'damaged',
  /** The bytes are not a dump, or a damaged one. */
  ERR_DUMP_MALFORMED: 'damaged',
  /** The log cannot be written: acknowledgements stop, reads go on. */
  ERR_LOG_IO: 'damaged',
  /** The log is damaged: `cairn log verify`, `cairn log repair`. */
  ERR_LOG_CORRUPT: 'damaged',
  /** What the log has does not get into the database: records of it are lost, or its writer has stopped. */
  ERR_WRITE_BACK: 'damaged',
  /** The database has refused the change for good: the row stays as it was. */
  ERR_DEAD_LETTER: 'damaged',
  /** The package that talks to the database is not installed: the message has the command that installs it. */
  ERR_DRIVER_MISSING: 'misuse',
  /** There is no addon for this platform, or it does not load: `npx cairn-cache build` builds one. */
  ERR_NATIVE_MISSING: 'misuse',
  /** The loaded addon belongs to another version of the package: rebuild or reinstall it. */
  ERR_NATIVE_MISMATCH: 'misuse',
};

/**
 * An error of Cairn, with its code. Misuse is a {@link CairnTypeError} or {@link CairnRangeError}, everything else is
 * this.
 */
export class CairnError extends Error {
  override name = 'CairnError';
  readonly code: ErrorCode;
  /** Of `ERR_VALUE_MALFORMED`: the keys whose values cannot be decoded. */
  declare readonly keys?: readonly (string | Uint8Array)[];
  /** Of `setMany` and `deleteMany`: see {@link ManyResult}. */
  declare readonly results?: readonly ManyResult[];

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Misuse: a wrong type. */
export class CairnTypeError extends TypeError {
  override name = 'TypeError';
  readonly code: ErrorCode;
  /** Of `setMany` and `deleteMany`: see {@link ManyResult}. */
  declare readonly results?: readonly ManyResult[];

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Misuse: the right type, but out of range. */
export class CairnRangeError extends RangeError {
  override name = 'RangeError';
  readonly code: ErrorCode;
  /** Of `setMany` and `deleteMany`: see {@link ManyResult}. */
  declare readonly results?: readonly ManyResult[];

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The kind of an error of Cairn; undefined for any other value. */
export function errorKind(error: unknown): ErrorKind | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && Object.hasOwn(ERROR_KINDS, code) ? ERROR_KINDS[code as ErrorCode] : undefined;
}

/** A value as messages show it: short, on one line. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === 'function') return value.name === '' ? 'a function' : `the function ${value.name}`;
  if (typeof value === 'bigint') return `${value}n`;
  const text = inspect(value, {
    depth: 0,
    breakLength: Number.POSITIVE_INFINITY,
    maxArrayLength: 3,
    maxStringLength: 40,
  });
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** A key as a line of text says it: whole, as text if it is text. */
export function keyText(key: string | Buffer): string {
  const text = key.toString('utf8');
  const isText = typeof key === 'string' || Buffer.from(text, 'utf8').equals(key);
  return isText ? JSON.stringify(text) : `0x${key.toString('hex')}`;
}

/** The message of what was thrown, which may be no error. */
export function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Some values cannot be decoded, and why the first of them cannot. Others of the same call may be sound. */
export function malformedValues(keys: readonly (string | Uint8Array)[], error: CairnError): CairnError {
  const more = keys.length === 1 ? '' : `, and ${keys.length - 1} more`;
  const cause = error.cause === undefined ? undefined : { cause: error.cause };
  return Object.assign(
    new CairnError('ERR_VALUE_MALFORMED', `The value of ${show(keys[0])} is malformed${more}: ${error.message}`, cause),
    { keys },
  );
}

/**
 * The result of one entry of `setMany`, or one key of `deleteMany`: the answer of `set` or `delete`, or its error.
 */
export type ManyResult = 'stored' | 'not-stored' | boolean | Error;

/** The first error among the results of many, which it carries. */
export function firstError(results: readonly ManyResult[]): Error | undefined {
  const error = results.find((result) => result instanceof Error);
  if (!(error instanceof Error)) return undefined;
  // Hidden: the error is itself one of the results.
  return Object.defineProperty(error, 'results', { value: results, configurable: true });
}

/** Whether it is what decoding a value throws, and not an error of a function of the user's. */
export function isMalformed(error: unknown): error is CairnError {
  return error instanceof CairnError && error.code === 'ERR_VALUE_MALFORMED' && error.keys === undefined;
}

/** What an option is called: its name in the API, or a flag of the command line. */
export type Naming = (option: string) => string;

/** What was expected. A function, if that names other options. */
export type Expectation = string | ((say: Naming) => string);

const IN_WORDS = Symbol('in words');
const asItIs: Naming = (option) => option;

/** An error whose message names options: {@link messageIn} tells it to those who know them by other names. */
export function namingOptions<E extends Error>(make: (message: string) => E, sentence: (say: Naming) => string): E {
  return Object.defineProperty(make(sentence(asItIs)), IN_WORDS, { value: sentence });
}

/** The message of an error, with other names for the options in it. */
export function messageIn(error: Error, say: Naming): string {
  const sentence = (error as { [IN_WORDS]?: (say: Naming) => string })[IN_WORDS];
  return sentence === undefined ? error.message : sentence(say);
}

function expected(name: string, what: Expectation, value: unknown): (say: Naming) => string {
  const got = show(value);
  return (say) => `Expected ${say(name)} to be ${typeof what === 'string' ? what : what(say)}, got ${got}`;
}

/** `Expected <name> to be <expected>, got <value>`: a `TypeError`. */
export function wrongType(name: string, what: Expectation, value: unknown): CairnTypeError {
  return namingOptions((text) => new CairnTypeError('ERR_INVALID_ARGUMENT', text), expected(name, what, value));
}

/** Something of the right kind in the wrong place: the sentence says where it belongs. A `RangeError`. */
export function misplaced(message: string): CairnRangeError {
  return new CairnRangeError('ERR_INVALID_ARGUMENT', message);
}

/** `Expected <name> to be <expected>, got <value>`: a `RangeError`. */
export function outOfRange(name: string, what: Expectation, value: unknown): CairnRangeError {
  return namingOptions((text) => new CairnRangeError('ERR_INVALID_ARGUMENT', text), expected(name, what, value));
}

/** What was thrown, as an error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
