/**
 * Up to which versions the database has the changes of a cache, by shard: memory needs no more for those than for any
 * other entry. The writer raises the marks, before it lets the log forget the records: a value that has left memory is
 * looked for in the log until the mark says that the database has it.
 *
 * A record that an earlier process wrote has a version of that process's shards, of which there may have been another
 * number. Such records raise no mark one by one: when the database has all that was recovered, all marks are raised to
 * the epoch in which the cache was opened.
 *
 * Each lane raises the marks of the shards that it has: it has all their keys, and did so under every number of shards.
 */
import type { DeadLetter } from '../backend/index.ts';
import { reasonOf } from '../errors.ts';
import { type LogEntry, LogReader, later, nodeFiles, type Position } from '../log/index.ts';
import type { BackedHandle } from '../native.ts';
import type { LogFiles } from '../scribe/index.ts';
import { RefusedChanges } from './refused-changes.ts';
import type { Share } from './share.ts';

/** Bits of a version below its epoch. */
const VERSION_COUNTER_BITS = 32n;

/** The highest versions of some records, by shard. */
export type Versions = BigUint64Array;

/** The marks as a lane of the writer uses them. */
export interface WriterMarks {
  /** The end of the log when the cache was opened: everything before it was recovered. */
  readonly openedAt: Position;
  /** Raises versions to those of an entry; makes them first if there are none. Undefined: no mark is behind it. */
  collect(entry: LogEntry, versions: Versions | undefined): Versions | undefined;
  /** A caller waits for a change of the lane that the database does not have. */
  isWanted(): boolean;
  /**
   * The database has put this change aside. Called before its batch is told by `raise`. `ofSome`: it is of one of
   * several batches that are told together.
   */
  refuse(letter: DeadLetter, ofSome?: boolean): void;
  /** The database has everything up to these versions, except what it has put aside. */
  raise(versions: Versions): void;
  /** The database has everything between two positions, as its cursor says: another thread has written it. */
  raiseBetween(from: Position, to: Position): void;
  /** The database has everything that was recovered. */
  raiseRecovered(): void;
}

/** Of a lane that moves to where the lanes of another number begin: those raise the marks. */
export const NO_MARKS: WriterMarks = {
  openedAt: 0n,
  collect: () => undefined,
  isWanted: () => false,
  refuse() {},
  raise() {},
  raiseBetween() {},
  raiseRecovered() {},
};

export class StoredMarks implements WriterMarks {
  readonly openedAt: Position;
  readonly #reader: LogReader;
  readonly #handle: BackedHandle;
  readonly #share: Share;
  readonly #dropsRefused: boolean;
  /** Refused changes of batches that no mark tells of yet. */
  #refused: { readonly key: Buffer; readonly version: bigint }[];
  readonly #kept: RefusedChanges;
  #haveRecovered = false;

  /**
   * `kept`: of all lanes. `dropsRefused`: an entry whose change was refused leaves the cache, unless a newer one is
   * there.
   */
  constructor(files: LogFiles, handle: BackedHandle, share: Share, kept: RefusedChanges, dropsRefused: boolean) {
    this.#share = share;
    this.#dropsRefused = dropsRefused;
    this.openedAt = files.openedAt;
    this.#reader = new LogReader(files);
    this.#handle = handle;
    this.#kept = kept;
    this.#refused = kept.all.filter(({ key }) => share.has(key));
    // Those that are owed to the database by what the log knows leave memory once more when it has them.
    for (const { key, version } of this.#refused) handle.dropStored(key, version);
  }

  collect(entry: LogEntry, versions: Versions | undefined): Versions | undefined {
    if (entry.kind !== 'records' || entry.position < this.openedAt) return versions;
    const raised = versions ?? new BigUint64Array(this.#handle.shardCount);
    if (!this.#handle.collectVersions(entry.records, raised)) throw new Error('A record of the log is not well-formed');
    return raised;
  }

  isWanted(): boolean {
    return this.#handle.isWanted(...this.#share.shards(this.#handle.shardCount));
  }

  refuse(letter: DeadLetter, ofSome = false): void {
    const { change, error } = letter;
    this.#handle.refuseStored(change.key, change.version, error.message, ofSome);
    if (!this.#dropsRefused) return;
    const { key, version } = change;
    this.#refused.push({ key, version });
    this.#keep(key, version);
  }

  // A disk that is full costs this alone: after a crash the cache has the refused value until it is written anew.
  #keep(key: Buffer, version: bigint): void {
    try {
      this.#kept.add(key, version);
    } catch (error) {
      process.emitWarning(`A refused change may come back after a crash: ${reasonOf(error)}`, 'CairnWarning');
    }
  }

  raise(versions: Versions): void {
    const refused = this.#refused;
    this.#refused = [];
    // A version of 0 raises none.
    const [from, end] = this.#share.shards(versions.length);
    versions.fill(0n, 0, from).fill(0n, end);
    this.#handle.markStored(versions);
    // Behind the mark: before, they are owed to the database. And before callers are told.
    for (const { key, version } of refused) this.#handle.dropStored(key, version);
    this.#handle.tellStored();
  }

  raiseBetween(from: Position, to: Position): void {
    if (to <= this.openedAt) return;
    let versions: Versions | undefined;
    // What this process has written before a thread of the writer died that had it confirmed.
    for (const entry of this.#reader.entries(later(from, this.openedAt), 'durable')) {
      if (entry.end > to) break;
      versions = this.collect(entry, versions);
    }
    if (versions !== undefined) this.raise(versions);
  }

  raiseRecovered(): void {
    if (this.#haveRecovered) return;
    this.#haveRecovered = true;
    const epoch = this.#reader.stateAt(this.openedAt)?.epoch ?? 0;
    this.raise(new BigUint64Array(this.#handle.shardCount).fill(BigInt(epoch) << VERSION_COUNTER_BITS));
  }
}

/** The marks of each lane of the writer of a database. `handle`: of the cache; stays the caller's. */
export function storedMarks(
  files: LogFiles,
  handle: BackedHandle,
  dropsRefused: boolean,
  store: string,
): (share: Share) => StoredMarks {
  const kept = new RefusedChanges(files.directory, new LogReader(files), nodeFiles, store);
  return (share) => new StoredMarks(files, handle, share, kept, dropsRefused);
}
