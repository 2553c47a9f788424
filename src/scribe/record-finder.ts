/**
 * Finds the record of a key by its version, in any thread: in the rings, until the log has it, and then in the log. For
 * values that left memory before the database behind the cache had them.
 *
 *     rings -> places -> log        a record is in the places before it leaves the rings
 */
import { CairnError } from '../errors.ts';
import { type FoundRecord, type LogRange, type RecordSource, recordOf } from '../log/index.ts';
import { type FeedHandle, numberWord, Word } from '../native.ts';

/** Room for a record of a usual size, so that one copy is enough. */
const RECORD_BYTES = 4096;
/** Ranges that are asked for at first; more of them only of a log that had another number of shards. */
const RANGES = 4;
/** Each try waits a millisecond for the threads that read the same value. */
const BUSY_TRIES_MAX = 10_000;

export class RecordFinder {
  readonly #feed: FeedHandle;
  readonly #log: RecordSource;
  #room: Buffer = Buffer.allocUnsafeSlow(RECORD_BYTES);
  #numbers = new BigUint64Array(2 * RANGES);

  /** `feed`: of this thread. `log`: a LogReader of this thread. */
  constructor(feed: FeedHandle, log: RecordSource) {
    this.#feed = feed;
    this.#log = log;
  }

  /**
   * The record, or `gone`: then the database has the change, or a later one, and the caller looks the key up again. A
   * key that is still known by the same version then has lost its record, with the part of the log that had it. Blocks
   * for a read of the log's files. Throws `ERR_LOG_IO` and `ERR_LOG_CORRUPT`.
   */
  find(key: Uint8Array, version: bigint): FoundRecord {
    const record = this.#inRing(key, version);
    if (record !== undefined) return { kind: 'found', record };
    return recordOf(this.#log, this.#ranges(key, version), key, version);
  }

  #inRing(key: Uint8Array, version: bigint): Buffer | undefined {
    for (let tries = 0; ; ) {
      const bytes = this.#feed.findInRing(key, version, this.#room);
      if (bytes > 0) {
        const record = Buffer.from(this.#room.subarray(0, bytes));
        if (this.#room.length > RECORD_BYTES) this.#room = Buffer.allocUnsafeSlow(RECORD_BYTES);
        return record;
      }
      if (bytes === 0) return undefined;
      if (bytes === -1) {
        this.#room = Buffer.allocUnsafeSlow(numberWord(Word.valueBytes));
        continue;
      }
      if (++tries === BUSY_TRIES_MAX)
        throw new CairnError('ERR_TIMEOUT', 'The record of a value is read by too many threads');
      Atomics.wait(never, 0, 0, 1);
    }
  }

  #ranges(key: Uint8Array, version: bigint): LogRange[] {
    let count = this.#feed.placesOf(key, version, this.#numbers);
    while (2 * count > this.#numbers.length) {
      this.#numbers = new BigUint64Array(2 * count);
      count = this.#feed.placesOf(key, version, this.#numbers);
    }
    return Array.from({ length: count }, (_, i) => ({
      position: this.#numbers[2 * i]!,
      end: this.#numbers[2 * i + 1]!,
    }));
  }
}

const never = new Int32Array(new SharedArrayBuffer(4));
