/**
 * A snapshot of the running cache, taken in small steps between the turns of the scribe: a walk over all
 * entries, oldest first, whose records go to a file.
 *
 *     walking      an entry may be walked over before its record is in the log
 *     covering     so the walk is over, and the log gets everything that was done up to its end: a snapshot must not
 *                  know more than the log, because readers of the log would never get that
 *     finishing    footer, read back, named
 *     done
 *
 * Recency is the order of the file: recovery puts one entry after the other in front.
 */
import { CairnError } from '../errors.ts';
import type { LogPort, Position, SnapshotInfo, SnapshotSink } from '../log/index.ts';
import { type FeedHandle, lowWord, type NativeWalk, numberWord, Word } from '../native.ts';

/** What one step takes of the walk, or reads back: a fraction of a millisecond's work. */
export const STEP_BYTES: number = 64 * 1024;

export interface SnapshotTaskOptions {
  readonly handle: FeedHandle;
  readonly log: LogPort;
}

export class SnapshotTask {
  readonly #handle: FeedHandle;
  readonly #log: LogPort;
  readonly #writer: SnapshotSink;
  readonly #walk: NativeWalk;
  readonly #targets: BigUint64Array;
  #buffer = Buffer.allocUnsafeSlow(STEP_BYTES);
  #phase: 'walking' | 'covering' | 'finishing' | 'done' = 'walking';
  /** The log has everything before it that the walk may have seen. */
  #coveredEnd: Position | undefined;
  #finish: Generator<void, SnapshotInfo> | undefined;
  #isSyncing = false;
  #mayExceedLimit = false;
  /** Where the log stood when it was begun. */
  readonly #position: Position;

  /** Begins one. Throws `ERR_LOG_IO`; and `ERR_CLOSED`, if the cache has ended. */
  constructor({ handle, log }: SnapshotTaskOptions) {
    this.#handle = handle;
    this.#log = log;
    this.#targets = new BigUint64Array(handle.shardCount);
    // The log first, as it stands before the walk.
    this.#position = log.committed;
    this.#writer = log.snapshots.begin({
      position: this.#position,
      recordsBefore: log.recordsBefore,
      epoch: log.epoch,
    });
    const walk = handle.openWalk(false, true);
    if (typeof walk === 'number') {
      this.#writer.abort();
      throw cacheEnded();
    }
    this.#walk = walk;
  }

  /** The walk is over, and only the log keeps it from being finished. */
  get isWaitingForLog(): boolean {
    return this.#phase === 'covering' && !this.#handle.covered(this.#targets);
  }

  /**
   * Whether the log may exceed its limit for the records that this waits for, since this makes room then. If it may, it
   * may until this has all of them, though they are behind what this frees.
   */
  mayExceedLimit(): boolean {
    if (!this.isWaitingForLog) return false;
    this.#mayExceedLimit ||= this.#log.makesRoom(this.#position);
    return this.#mayExceedLimit;
  }

  /** The log is being made durable, which a log across a network does while this thread does other things. */
  get isSyncing(): boolean {
    return this.#isSyncing;
  }

  /**
   * Does about `bytes` more. Returns the snapshot once it is complete. Throws as the constructor, having aborted.
   */
  step(bytes: number): SnapshotInfo | undefined {
    try {
      for (let done = 0; done < bytes && this.#phase !== 'done'; done += STEP_BYTES) {
        if (this.#phase === 'walking') this.#walkOn();
        else if (this.#phase === 'finishing') {
          const { done: isDone, value } = this.#finish!.next();
          if (isDone) {
            this.#phase = 'done';
            return value as SnapshotInfo;
          }
        } else {
          if (this.isWaitingForLog) return undefined;
          this.#coveredEnd ??= this.#log.committed;
          this.#isSyncing = !this.#log.syncStep(this.#coveredEnd);
          if (this.#isSyncing) return undefined;
          const epochMax = Math.max(this.#handle.epoch(), this.#log.epoch);
          this.#finish = this.#writer.finish(this.#log.durable, epochMax);
          this.#phase = 'finishing';
        }
      }
      return undefined;
    } catch (error) {
      this.abort();
      throw error;
    }
  }

  /** Discards it. Does nothing when it is complete or was aborted. */
  abort(): void {
    if (this.#phase === 'done') return;
    this.#phase = 'done';
    this.#handle.closeWalk(this.#walk);
    this.#writer.abort();
  }

  #walkOn(): void {
    const bytes = this.#handle.dumpStep(this.#walk, this.#buffer, true);
    if (bytes === false) throw cacheEnded(lowWord(Word.code));
    if (bytes > 0) {
      const records = this.#buffer.subarray(0, bytes);
      this.#writer.add(records, countRecords(records));
      // Only a large entry needs a large buffer.
      if (this.#buffer.length > STEP_BYTES) this.#buffer = Buffer.allocUnsafeSlow(STEP_BYTES);
      return;
    }
    const needed = numberWord(Word.number);
    if (needed > 0) {
      this.#buffer = Buffer.allocUnsafeSlow(needed);
      return;
    }
    this.#handle.closeWalk(this.#walk);
    // It is no entry, and was perhaps recorded before the log that belongs to this snapshot.
    const clearBytes = this.#handle.dumpPendingClear(this.#buffer);
    if (clearBytes > 0) this.#writer.add(this.#buffer.subarray(0, clearBytes), 1);
    this.#handle.readTargets(this.#targets);
    this.#phase = 'covering';
  }
}

function countRecords(records: Buffer): number {
  let count = 0;
  for (let at = 0; at < records.length; at += records.readUInt32LE(at)) count++;
  return count;
}

function cacheEnded(code?: number): CairnError {
  return new CairnError('ERR_CLOSED', `The cache has ended${code === undefined ? '' : ` (${code})`}`);
}
