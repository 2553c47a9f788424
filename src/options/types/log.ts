/** The options of the log and of its snapshots. */
import type { Duration, Size } from './units.ts';

/** What an answer waits for: nothing, or that the log has what the answer reveals. */
export type AckLevel = 'memory' | 'logged' | 'stored';

/** When the log is synced to the disk; an interval is from 1 ms to an hour. */
export type SyncOption = 'always' | 'none' | `${number}ms` | `${number}s` | `${number}m` | `${number}h`;

/** What a cache with a log begins with. */
export type RecoverSource = 'log' | 'store' | 'none';

/** The progress of recovery. */
export interface RecoveryProgress {
  /**
   * What is being read: of the directory a snapshot comes first, if there is one; or the rows of the database.
   * `write-back`: changes are written to the database, because memory has no room for all keys that it lacks.
   */
  readonly source: 'snapshot' | 'log' | 'store' | 'write-back';
  /** Bytes read or written so far, and bytes in all; of the database's, how many memory has room for. */
  readonly bytes: number;
  readonly bytesTotal: number;
  /** Records read or written so far. */
  readonly records: number;
  /** Milliseconds since recovery began. */
  readonly elapsedMs: number;
  /** The mean rates since recovery, or writing, began. */
  readonly bytesPerSecond: number;
  readonly recordsPerSecond: number;
  /** Of `write-back`: why the database cannot be written. It is tried again. */
  readonly problem?: string;
}

/** When snapshots of a cache with a log are taken. Snapshots make opening faster and the log shorter. */
export interface SnapshotOptions {
  /** This time after the last one, if anything was written since. Default `'1h'`; 0: never by time. */
  every?: Duration;
  /** When the log since the last one has grown to this size. Default twice the last snapshot, at least 64 MiB. */
  logBytes?: Size;
  /** When the cache is closed, if the time suffices. Default true. */
  atClose?: boolean;
}

/** Options of a cache's log after checking. */
export interface ResolvedLogOptions {
  /** The whole path. */
  readonly data: string;
  readonly sync: SyncPolicy;
  readonly recover: RecoverSource;
  readonly logLimit: number;
  readonly segmentSize: number;
  readonly ringSize: number;
  readonly snapshot: {
    /** 0: never. */
    readonly every: number;
    /** 0: chosen. */
    readonly logBytes: number;
    readonly atClose: boolean;
  };
}

/** An interval is in milliseconds. */
export type SyncPolicy = 'always' | 'none' | `${number}ms`;
