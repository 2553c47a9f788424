/**
 * Recovery: brings what a log and its snapshots hold into a cache that is not ready. If memory has no room for the keys
 * that the database behind the cache does not have, that gets them first: first-writes.ts.
 */
import { CairnError } from '../errors.ts';
import {
  eraOf,
  FORMAT_VERSION,
  type LogClock,
  type LogPort,
  type Position,
  type RecordsFrom,
  type Recovery,
  recover,
} from '../log/index.ts';
import type { FeedHandle } from '../native.ts';
import { RecordKind, RecordReader } from '../request/record.ts';
import { FirstWrites } from './first-writes.ts';
import type { LogFiles, OpeningAnswer, OpeningQuestion, RecoveredByThread, Report } from './message.ts';
import type { Metrics } from './metrics.ts';
import { summaryOf } from './snapshot-runner.ts';

/** What an opening works with. */
export interface Run {
  readonly handle: FeedHandle;
  readonly log: LogPort;
  /** Undefined: it is no log of files, and has no database. */
  readonly files: Pick<LogFiles, 'logId' | 'takeover'> | undefined;
  readonly clock: LogClock;
  readonly metrics: Metrics;
  readonly say: (report: Report) => void;
  /** Asks the keeper; throws what it answers instead. */
  readonly ask: (question: OpeningQuestion) => OpeningAnswer;
  /** Makes durable what was read. */
  readonly makeSafe: () => void;
  /** Records of the log from here on are owed to the database; undefined: there is none. */
  readonly owedFrom: Position | undefined;
}

export interface Recovered {
  readonly summary: RecoveredByThread;
  /** Bytes of the log behind the snapshot. */
  readonly logBytes: number;
}

/** What `applyRecords` answers instead of a count. */
const ENDED = -2;
const NO_ROOM = -3;

export function bringBack({ handle, log, files, clock, metrics, say, ask, makeSafe, owedFrom }: Run): Recovered {
  let applied = 0;
  let bytes = 0;
  let owed = 0;
  let era: string | undefined;
  // What the cache has by then is older than what comes; also than records of an older era, which come again if
  // it is half of a snapshot that turned out to be damaged.
  const turnTo = (next: string): void => {
    if (era !== undefined && era !== next) handle.renumber(log.epoch);
    era = next;
  };
  const check = (from: Position): void => checkFrom(log, from);
  const writes = new FirstWrites({ log, files, confirmed: owedFrom ?? 0n, ask, check, makeSafe });
  const recovery: Recovery = recover({
    log,
    clock,
    owedFrom,
    apply(records, from) {
      turnTo(eraOf(from.formatVersion, from.epoch));
      const { isOwed, position, end } = from;
      if (isOwed) owed += countChanges(records);
      let count = isOwed ? handle.applyRecords(records, position, end) : handle.applyRecords(records);
      if (count === NO_ROOM) {
        writes.upTo(end, position);
        handle.settleRecovered();
        // A part of the group may be there; versions tell. The database has all of it.
        count = handle.applyRecords(records);
      }
      if (count === ENDED) throw new CairnError('ERR_CLOSED', 'The cache has ended');
      if (count < 0) throw malformed(log, from, records);
      applied += count;
      bytes += records.length;
    },
    onProgress: (progress) => say({ kind: 'progress', progress }),
  });
  turnTo(eraOf(FORMAT_VERSION, log.epoch));
  // After all of it was read: a log that is refused stays as it was.
  if (!writes.hasTakenOver) log.takeOver();
  const { snapshot, unusable, records, logBytes, lost, elapsedMs } = recovery;
  metrics.set('recoveryMs', elapsedMs);
  metrics.set('recoveryRecords', records);
  metrics.set('recoveryBytes', bytes);
  const summary: RecoveredByThread = {
    from: 'log',
    snapshot: snapshot === undefined ? undefined : summaryOf(snapshot),
    unusable,
    records,
    applied,
    bytes,
    owed,
    isFull: false,
    lost,
    elapsedMs,
  };
  return { summary, logBytes };
}

// Reads the log from a position on as applying it would.
function checkFrom(log: LogPort, from: Position): void {
  for (const entry of log.entries(from)) {
    if (entry.kind !== 'records') continue;
    const { records, recordCount, position, end, epoch, formatVersion } = entry;
    const reader = new RecordReader(records);
    while (reader.next());
    if (reader.status === 'ok') continue;
    throw malformed(log, { source: 'log', recordCount, position, end, epoch, formatVersion, isOwed: true }, records);
  }
}

/** A database is not told of clears. */
export function countChanges(records: Buffer): number {
  let count = 0;
  const reader = new RecordReader(records);
  while (reader.next()) if (reader.kind !== RecordKind.clear && reader.kind !== RecordKind.clearAt) count++;
  return count;
}

function malformed({ name: directory }: LogPort, { source, position }: RecordsFrom, records: Buffer): CairnError {
  const reader = new RecordReader(records);
  while (reader.next());
  const place = `in the ${source} at position ${position}`;
  if (reader.status === 'unknown-field') {
    return new CairnError(
      'ERR_LOG_VERSION',
      `The log in ${directory} was written by a newer version of cairn-cache: a record ${place} ${reader.fault}. Nothing was changed`,
    );
  }
  return new CairnError(
    'ERR_LOG_CORRUPT',
    `The log in ${directory} has records that are none, ${place}. To see all of it: npx cairn-cache log verify ${directory}`,
  );
}
