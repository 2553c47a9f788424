/**
 * How the content of a cache comes back when it is opened: the newest snapshot that can be read, then the log from
 * where that snapshot begins. Records are handed to the store as they lie in the files, a chunk or a batch at a time,
 * so that memory does not grow with the log. The store applies a record if its version is higher than what it has; that
 * is why a snapshot may be taken while the cache goes on, and why one that turns out to be damaged half way does no
 * harm: the one before it, and more of the log, is applied over it.
 *
 * A reader's cursor may lie before the snapshot. Records behind the cursor are owed to that reader: for `owedFrom`, the
 * log is read from there on, so that the store knows which of its entries are owed and where their records are. What a
 * record before the snapshot changes, the snapshot has, unless the entry was evicted.
 */
import { CairnError } from '../errors.ts';
import type { RecoveryProgress } from '../options/types.ts';
import { eraOf } from './epoch.ts';
import { type LogClock, systemClock } from './log-options.ts';
import { type LogPort, SnapshotDamaged, type SnapshotInfo } from './log-port.ts';
import { earlier, later, type Position } from './request-log.ts';

/** Where records that are to be applied come from. */
export interface RecordsFrom {
  readonly source: 'snapshot' | 'log';
  readonly recordCount: number;
  /** Of the log: where the batch begins. Of a snapshot: where the log is to be read from behind it. */
  readonly position: Position;
  /** Of the log: where the batch ends. Of a snapshot: the same as `position`. */
  readonly end: Position;
  /** The epoch of the batch; the highest of the snapshot. */
  readonly epoch: number;
  /** The format that they were written in. */
  readonly formatVersion: number;
  /** They are of the log, and not before `owedFrom`. */
  readonly isOwed: boolean;
}

export interface RecoverOptions {
  readonly log: LogPort;
  /**
   * Applies whole records. They are not looked at again: the store may keep the buffer, and what it throws ends
   * recovery.
   */
  readonly apply: (records: Buffer, from: RecordsFrom) => void;
  /** Records of the log from here on are owed to a reader. Default: none are. */
  readonly owedFrom?: Position | undefined;
  /** Called about every `progressMs` (default 250), and at the end. */
  readonly onProgress?: (progress: RecoveryProgress) => void;
  readonly progressMs?: number;
  readonly clock?: LogClock;
}

export interface Recovery {
  /** What recovery began with; undefined: with the beginning of the log. */
  readonly snapshot: SnapshotInfo | undefined;
  /** Snapshots that could not be used, and why: newest first. */
  readonly unusable: readonly { readonly name: string; readonly why: string }[];
  /** Everything before this position is applied. */
  readonly end: Position;
  /** Records that were read from either. Some may be in both. */
  readonly records: number;
  /** Bytes of the records of the log behind the snapshot. */
  readonly logBytes: number;
  /** Records that the log says are lost in what was read of it, and entries that a repair found lost of a snapshot. */
  readonly lost: number;
  readonly elapsedMs: number;
}

/**
 * Applies what a log and its snapshots hold. The log was just opened; `log.lastTimeMs` is the time before which no
 * clock may be set, for what has expired must not come back. Throws `ERR_LOG_CORRUPT` if there is no way to a whole
 * state.
 */
export function recover({
  log,
  apply,
  owedFrom,
  onProgress = () => {},
  progressMs = 250,
  clock = systemClock,
}: RecoverOptions): Recovery {
  const meter = new Meter(clock, onProgress, progressMs);
  const end = log.committed;
  const unusable: { name: string; why: string }[] = [];
  const snapshot = applySnapshot(log, apply, meter, unusable);
  const behind = snapshot?.position ?? 0n;
  const from = owedFrom === undefined ? behind : earlier(behind, later(owedFrom, log.oldestReadable));
  const era = snapshot === undefined ? undefined : eraOf(snapshot.formatVersion, snapshot.epochMax);
  let lost = snapshot?.entriesLost ?? 0;
  let logBytes = 0;
  meter.begin('log', log.bytesFrom(from));
  for (const entry of log.entries(from)) {
    const isBehind = entry.position >= behind;
    if (isBehind) logBytes += entry.records.length;
    if (entry.kind === 'records') {
      const { recordCount, position, end, epoch, formatVersion } = entry;
      const isOwed = owedFrom !== undefined && position >= owedFrom;
      // Versions of an era before the snapshot's would outrank what the snapshot has.
      if (isBehind || eraOf(formatVersion, epoch) === era)
        apply(entry.records, { source: 'log', recordCount, position, end, epoch, formatVersion, isOwed });
    } else if (entry.kind === 'lost' && isBehind) lost += entry.recordCount;
    meter.add(Number(entry.end - entry.position), entry.kind === 'records' ? entry.recordCount : 0);
  }
  meter.report();
  return { snapshot, unusable, end, records: meter.records, logBytes, lost, elapsedMs: meter.elapsedMs };
}

// Applies the newest snapshot that can be read and from whose beginning the log is still there.
function applySnapshot(
  log: LogPort,
  apply: RecoverOptions['apply'],
  meter: Meter,
  unusable: { name: string; why: string }[],
): SnapshotInfo | undefined {
  for (const found of log.snapshots.found) {
    if ('fault' in found) {
      unusable.push({ name: found.name, why: found.fault.why });
      continue;
    }
    const { info } = found;
    if (info.position < log.oldestReadable) {
      unusable.push({
        name: info.name,
        why: `the log from position ${info.position} to ${log.oldestReadable} was removed`,
      });
      continue;
    }
    try {
      meter.begin('snapshot', info.fileBytes + log.bytesFrom(info.position));
      for (const { records, recordCount } of log.snapshots.read(info)) {
        const { position, epochMax: epoch, formatVersion } = info;
        apply(records, {
          source: 'snapshot',
          recordCount,
          position,
          end: position,
          epoch,
          formatVersion,
          isOwed: false,
        });
        meter.add(records.length, recordCount);
      }
      return info;
    } catch (error) {
      if (!(error instanceof SnapshotDamaged)) throw error;
      unusable.push({ name: info.name, why: error.why });
    }
  }
  // Without a snapshot the log has to be there from its first position on.
  if (log.oldestReadable === 0n) return undefined;
  const why = unusable.map(({ name, why }) => `${name}: ${why}`).join('; ');
  throw new CairnError(
    'ERR_LOG_CORRUPT',
    `The log in ${log.name} begins at position ${log.oldestReadable}, and there is no snapshot of what was before${why === '' ? '' : ` (${why})`}. To see all of it: npx cairn-cache log verify ${log.name}; to go on with what is left: npx cairn-cache log repair ${log.name}`,
  );
}

/** Counts, and says how it goes from time to time. */
class Meter {
  readonly #clock: LogClock;
  readonly #onProgress: (progress: RecoveryProgress) => void;
  readonly #everyMs: number;
  readonly #startMs: number;
  #reportedMs: number;
  #source: 'snapshot' | 'log' = 'log';
  #bytes = 0;
  #bytesTotal = 0;
  records = 0;

  constructor(clock: LogClock, onProgress: (progress: RecoveryProgress) => void, everyMs: number) {
    this.#clock = clock;
    this.#onProgress = onProgress;
    this.#everyMs = everyMs;
    this.#startMs = clock.steadyMs();
    this.#reportedMs = this.#startMs;
  }

  get elapsedMs(): number {
    return this.#clock.steadyMs() - this.#startMs;
  }

  /** `bytesLeft`: that are to be read from here on. */
  begin(source: 'snapshot' | 'log', bytesLeft: number): void {
    this.#source = source;
    this.#bytesTotal = this.#bytes + bytesLeft;
  }

  add(bytes: number, records: number): void {
    this.#bytes += bytes;
    this.records += records;
    if (this.#clock.steadyMs() - this.#reportedMs >= this.#everyMs) this.report();
  }

  report(): void {
    const elapsedMs = this.elapsedMs;
    this.#reportedMs = this.#startMs + elapsedMs;
    const perSecond = (count: number): number => (elapsedMs > 0 ? (count * 1000) / elapsedMs : 0);
    this.#onProgress({
      source: this.#source,
      bytes: this.#bytes,
      bytesTotal: Math.max(this.#bytes, this.#bytesTotal),
      records: this.records,
      elapsedMs,
      bytesPerSecond: perSecond(this.#bytes),
      recordsPerSecond: perSecond(this.records),
    });
  }
}
