/**
 * Looks through a log's directory without changing anything, and reports its content and every problem, where opening
 * stops at the first. A quick survey reads headers; a deep one reads and checks every byte, every record
 * included.
 *
 * A process may have the log open and go on meanwhile, so the order of reading matters: snapshots and cursors,
 * which say how far the log is, come before the log, and headers from front to back. Segments that are begun meanwhile
 * are left out. If a segment is removed meanwhile, the survey begins again.
 */
import { basename, join } from 'node:path';
import { brokenBatch, RecordReader } from '../request/record.ts';
import { type Problem, readChain } from './chain.ts';
import { claimProblems, cursorProblems } from './checks.ts';
import { CURSORS_FILE, CURSORS_FILE_OLD, type CursorTable, readCursors } from './cursors.ts';
import { versionEpochMax, versionParts } from './epoch.ts';
import { FENCE_START, type FenceState } from './fence.ts';
import { type Files, nodeFiles, systemCode } from './files.ts';
import { type SegmentHeader, segmentName, segmentNumbers, snapshotNumbers } from './format.ts';
import { SnapshotDamaged } from './log-port.ts';
import type { Position } from './request-log.ts';
import { type Batch, type SegmentScan, scanSegment } from './segment.ts';
import { listSnapshots, readSnapshotFile, type SnapshotFile } from './snapshot.ts';
import { readableFiles } from './unreadable-files.ts';

/** Behind every position. */
const END_UNKNOWN: bigint = 2n ** 64n;

export interface SegmentSurvey {
  readonly name: string;
  readonly header: SegmentHeader;
  readonly fileBytes: number;
  readonly scan: SegmentScan;
}

export interface Survey {
  readonly directory: string;
  readonly logId: bigint | undefined;
  /** Those with a sound header. */
  readonly segments: readonly SegmentSurvey[];
  readonly snapshots: readonly SnapshotFile[];
  readonly cursors: CursorTable;
  /** Where the first entry begins, and the last one ends. */
  readonly oldest: Position;
  readonly end: Position;
  /** Where a reader is at the end. */
  readonly fence: FenceState;
  readonly problems: readonly Problem[];
}

export interface SurveyOptions {
  readonly files?: Files;
  /** Read everything. */
  readonly isDeep: boolean;
}

/** Whether any file of a log is in a directory. */
export function hasLog(directory: string, files: Files = nodeFiles): boolean {
  const names = files.list(directory);
  const numbered = segmentNumbers(names).length + snapshotNumbers(names).length;
  return numbered > 0 || names.includes(CURSORS_FILE) || names.includes(CURSORS_FILE_OLD);
}

/** How often a survey begins again because all segments that it knew were removed meanwhile. */
const TURNS_MAX = 16;

export function survey(directory: string, { files = nodeFiles, isDeep }: SurveyOptions): Survey {
  for (let turn = 1; ; turn++) {
    try {
      return surveyOnce(directory, files, isDeep);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || turn === TURNS_MAX) throw error;
    }
  }
}

function surveyOnce(directory: string, allFiles: Files, isDeep: boolean): Survey {
  const unreadable = new Map<string, Problem>();
  const files = readableFiles(allFiles, ({ path, offset, bytes }) => {
    const place = { file: basename(path), offset };
    unreadable.set(`${path} ${offset}`, { kind: 'damage', ...place, text: `${bytes} bytes cannot be read` });
  });
  const snapshots = listSnapshots(files, directory);
  const found = readCursors(files, directory);
  const { links, problems: chainProblems } = readChain(files, directory);
  const problems: Problem[] = [...chainProblems, ...cursorProblems(found)];
  if (found.isOld && found.fault !== undefined) {
    problems.push({ kind: 'note', file: 'cursors', text: `the header ${found.fault.why}; cursors.old is used` });
  }
  const segments: SegmentSurvey[] = [];
  links.forEach((link, i) => {
    const name = segmentName(link.number);
    const next = links[i + 1];
    const isLast = next === undefined;
    const end = next?.number === link.number + 1 ? next.header.predecessorEnd : undefined;
    const file = files.open(join(directory, name), 'read');
    try {
      const visit = isDeep ? (batch: Batch): void => checkRecords(batch, link.header, name, problems) : undefined;
      const isFollowed = (): boolean => segmentNumbers(files.list(directory)).some((number) => number > link.number);
      const options = { withPayload: isDeep || isLast, visit, ...(isLast ? { isFollowed } : {}) };
      const scan = scanSegment(file, link.header, end, options);
      segments.push({ name, header: link.header, fileBytes: link.fileBytes, scan });
      report(scan, name, isLast, problems);
    } finally {
      file.close();
    }
  });
  segments.forEach(({ header, name }, i) => {
    const previous = segments[i - 1];
    if (previous === undefined || previous.scan.damage !== undefined) return;
    if (previous.header.number === header.number - 1) checkSeam(previous.scan.fence, header, name, problems);
  });

  const last = segments.at(-1);
  const logId = last?.header.logId;
  const end = last?.scan.end ?? 0n;
  // Where a damaged last segment ends is not known.
  const endMost = last?.scan.damage === undefined ? end : END_UNKNOWN;
  problems.push(...claimProblems(logId === undefined ? undefined : { logId, end: endMost }, found, snapshots));
  for (const snapshot of snapshots) {
    const isReported = logId === undefined && 'fault' in snapshot;
    if (!isReported) problems.push(...snapshotProblems(files, directory, snapshot, isDeep));
  }
  return {
    directory,
    logId,
    segments,
    snapshots,
    cursors: found.cursors,
    oldest: segments[0]?.header.base ?? 0n,
    end,
    fence: last?.scan.fence ?? FENCE_START,
    // Snapshots that are new since the first look have let go of segments that were there then.
    problems: [
      ...problems,
      ...startProblems(segments[0]?.header, [...snapshots, ...listSnapshots(files, directory)]),
      ...unreadable.values(),
    ],
  };
}

function report(scan: SegmentScan, file: string, isLast: boolean, problems: Problem[]): void {
  const { damage, torn, end, mark, timeMs } = scan;
  if (damage !== undefined) {
    const { why: text, position, offset } = damage;
    problems.push({ kind: 'damage', file, position, offset, text });
    return;
  }
  if (!isLast) return;
  const note = (text: string): void => void problems.push({ kind: 'note', file, position: end, text });
  if (torn !== undefined) {
    const { bytes, recordCount } = torn;
    const records = recordCount === 0 ? 'no whole header' : `the headers of batches with ${recordCount} records`;
    note(
      `${bytes} bytes follow that are no whole batch, with ${records}: as a crash leaves them. They will be cut off`,
    );
  }
  if (mark?.kind === 'closed') return;
  note('the log is in use, or was not closed');
  const time = timeMs <= 8.64e15 ? new Date(timeMs).toISOString() : `${timeMs} ms`;
  note(`its last batch is of ${time}; nothing here would tell if there had been more behind it`);
}

// A reader that comes from one segment has to find in the next what it has been told.
function checkSeam(fence: FenceState, { before, recordsLost }: SegmentHeader, file: string, problems: Problem[]): void {
  const isContinued =
    fence.recordsBefore + recordsLost === before.recordsBefore &&
    (recordsLost > 0n || (fence.epoch === before.epoch && fence.writer === before.writer));
  if (!isContinued) problems.push({ kind: 'damage', file, text: 'it does not continue the segment before it' });
  if (recordsLost > 0n) problems.push({ kind: 'note', file, text: `${recordsLost} records before it are lost` });
}

// Records are encoded by the store and never looked at by the log: what is wrong here was wrong before it was written.
function checkRecords(
  { header, payload, offset }: Batch,
  { formatVersion }: SegmentHeader,
  file: string,
  problems: Problem[],
): void {
  const place = { file, position: header.position, offset };
  if (header.kind === 'lost') {
    problems.push({ kind: 'note', ...place, text: `${header.recordCount} records are lost here` });
  }
  if (header.kind !== 'records') return;
  const fault = recordFault(payload, header.recordCount, header.epoch, formatVersion);
  if (fault !== undefined) problems.push({ ...place, ...fault });
}

/** What is wrong with the records of a batch or chunk; undefined: nothing. */
function recordFault(
  records: Buffer,
  recordCount: number,
  epoch: number,
  formatVersion: number,
): { kind: 'damage' | 'newer'; text: string } | undefined {
  const epochMax = versionEpochMax(formatVersion, epoch);
  const reader = new RecordReader(records);
  let count = 0;
  while (reader.next()) {
    count++;
    if (versionParts(formatVersion, reader.version).epoch > epochMax)
      return { kind: 'damage', text: `record ${count} is of a later epoch than what it is in` };
  }
  if (reader.status !== 'ok') {
    const kind = reader.status === 'unknown-field' ? 'newer' : 'damage';
    return { kind, text: `record ${count + 1} ${reader.fault}` };
  }
  if (count !== recordCount) return { kind: 'damage', text: `it should have ${recordCount} records and has ${count}` };
  const batch = brokenBatch(records);
  if (batch === undefined) return undefined;
  return { kind: 'damage', text: `it does not have each part of the atomic batch ${batch.toString(16)} once` };
}

function snapshotProblems(files: Files, directory: string, found: SnapshotFile, isDeep: boolean): Problem[] {
  const damage = (text: string): Problem[] => [{ kind: 'damage', file: found.name, text }];
  if ('fault' in found) return found.fault.newerVersion === undefined ? damage(found.fault.why) : [];
  if (!isDeep) return [];
  try {
    for (const { records, recordCount } of readSnapshotFile(files, directory, found.info)) {
      const fault = recordFault(records, recordCount, found.info.epochMax, found.info.formatVersion);
      if (fault !== undefined) return [{ file: found.name, ...fault }];
    }
    return [];
  } catch (error) {
    if (error instanceof SnapshotDamaged) return damage(error.why);
    throw error;
  }
}

// Recovery needs the log from its first position on, or a snapshot from whose beginning it is there.
function startProblems(first: SegmentHeader | undefined, snapshots: readonly SnapshotFile[]): Problem[] {
  if (first === undefined || first.predecessorEnd === 0n) return [];
  const isCovered = snapshots.some((found) => 'info' in found && found.info.position >= first.predecessorEnd);
  if (isCovered) return [];
  const text = `the log begins at position ${first.base}, and there is no snapshot of what was before`;
  return [{ kind: 'damage', file: segmentName(first.number), text }];
}
