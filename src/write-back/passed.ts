/**
 * Which records of a log have been passed. A scribe that is started again appends the records once more that the one
 * before had not committed, though the log may have them: then a record lies in the log twice, the older copy behind
 * newer records of its key. The second copy must not be written.
 *
 * The records of one shard lie in the log in the order of their versions, and only second copies break it. Which shard
 * a record came from, the log does not say. But every number of shards divides the keys by the top bits of the routing
 * hash: whatever the number was, the keys of one slot of the finest division were in one shard.
 *
 * A writer knows what has been passed since the place where the log's own cursor was when it began. Of records before
 * that, whose copies come behind it, it writes the copies too, the last of which is the newest of its key.
 */
import { eraOf, type LogEntry } from '../log/index.ts';
import { routingHashOfBytes } from '../request/hash.ts';
import { RecordKind, RecordReader } from '../request/record.ts';
import type { Share } from './share.ts';

/** As many as there can be shards. */
const SLOT_BITS = 8;

export class PassedVersions {
  readonly #share: Share | undefined;
  /** The highest version of each slot. */
  readonly #highest = new BigUint64Array(2 ** SLOT_BITS);
  #era: string | undefined;

  /** `share`: of which keys; undefined: of all. */
  constructor(share?: Share) {
    this.#share = share;
  }

  /** Forgets them all. */
  clear(): void {
    this.#highest.fill(0n);
  }

  /** Comes to an entry: versions of different eras cannot be compared. */
  enter({ formatVersion, epoch }: LogEntry): void {
    const era = eraOf(formatVersion, epoch);
    if (era !== this.#era) this.clear();
    this.#era = era;
  }

  /** Passes all records of an entry. */
  passAll(entry: LogEntry): void {
    this.enter(entry);
    const reader = new RecordReader(entry.records);
    while (reader.next()) if (reader.kind !== RecordKind.clear && reader.kind !== RecordKind.clearAt) this.pass(reader);
  }

  /** Passes a record with a key. False: it has been passed before, or another lane has its key. */
  pass({ key, version }: RecordReader): boolean {
    const slot = routingHashOfBytes(key) >>> (32 - SLOT_BITS);
    if (this.#share?.hasSlot(slot, SLOT_BITS) === false) return false;
    if (version <= this.#highest[slot]!) return false;
    this.#highest[slot] = version;
    return true;
  }
}
