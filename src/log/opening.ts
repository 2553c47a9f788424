/**
 * What a directory has of a log, read when the log is opened. Nothing is changed. A directory with damage, with a newer
 * format, or with cursors and snapshots that know of more log than there is, is refused.
 */
import { join } from 'node:path';
import { CairnError } from '../errors.ts';
import { type Link, type Problem, readChain, refused } from './chain.ts';
import { claimProblems, cursorProblems } from './checks.ts';
import { type FoundCursors, readCursors } from './cursors.ts';
import { epochAfter } from './epoch.ts';
import { FENCE_START, type Point } from './fence.ts';
import type { Files } from './files.ts';
import { segmentName } from './format.ts';
import type { HeadOptions } from './head.ts';
import type { LogNotice } from './log-options.ts';
import type { SnapshotInfo } from './log-port.ts';
import { later, type Position } from './request-log.ts';
import { fenceAt, type SegmentScan, scanSegment } from './segment.ts';
import type { SnapshotFile } from './snapshot.ts';

/** The end of the last segment. */
export interface Tail {
  /** Everything before it is known to be on the disk. */
  readonly durable: Point;
  readonly end: Point;
  /** Behind every position that readers may have seen. */
  readonly resume: Position;
  /** Wall time of the last entry. */
  readonly timeMs: number;
}

export interface Opening {
  /** The segments; none in a new directory. */
  readonly links: readonly Link[];
  readonly tail: Tail;
  readonly cursors: FoundCursors;
  /** What the user is told. */
  readonly notices: readonly LogNotice[];
}

const START: Point = { position: 0n, fence: FENCE_START };

/** Throws `ERR_LOG_CORRUPT` and `ERR_LOG_VERSION`, and what the system says. */
export function readOpening(files: Files, directory: string): Opening {
  const { links, problems } = readChain(files, directory);
  const cursors = readCursors(files, directory);
  refuse(directory, [...problems, ...cursorProblems(cursors)]);
  const notices: LogNotice[] = [];
  if (cursors.isOld && cursors.fault !== undefined) notices.push({ kind: 'cursors-old', why: cursors.fault.why });
  const last = links.at(-1);
  if (last === undefined) {
    return { links, tail: { durable: START, end: START, resume: 0n, timeMs: 0 }, cursors, notices };
  }
  const { scan, durable } = scanLast(files, directory, last);
  const file = segmentName(last.number);
  if (scan.torn !== undefined) notices.push({ kind: 'torn', file, position: scan.end, ...scan.torn });
  if (scan.mark === undefined) notices.push({ kind: 'unclosed', file, position: scan.end, writtenMs: scan.timeMs });
  // Without a mark, readers may have seen batches that a power cut has taken: their positions are not used again.
  const capacityEnd = last.header.base + BigInt(last.header.capacity);
  const resume = scan.mark === undefined ? later(capacityEnd, scan.end) : scan.end;
  const end = { position: scan.end, fence: scan.fence };
  return { links, tail: { durable, end, resume, timeMs: scan.timeMs }, cursors, notices };
}

/** Refuses cursors and snapshots that the segments do not bear out. Throws as readOpening(). */
export function refuseClaims(directory: string, opening: Opening, snapshots: readonly SnapshotFile[]): void {
  const last = opening.links.at(-1);
  const stream = last && { logId: last.header.logId, end: opening.tail.end.position };
  refuse(directory, claimProblems(stream, opening.cursors, snapshots));
}

/** Where the head of the log is then, in an epoch that is new. Throws `ERR_LOG_FULL` after too many openings. */
export function openedAt(
  directory: string,
  { links, tail }: Opening,
  snapshots: readonly SnapshotInfo[],
): Pick<HeadOptions, 'epoch' | 'lastTimeMs' | 'segment' | 'committed' | 'durable'> {
  const epoch = epochAfter(Math.max(tail.end.fence.epoch, ...snapshots.map(({ epochMax }) => epochMax)));
  if (epoch === undefined) throw epochsUsedUp(directory);
  return {
    epoch,
    lastTimeMs: Math.max(tail.timeMs, ...snapshots.map(({ finishedMs }) => finishedMs)),
    segment: links.at(-1)?.number ?? 0,
    committed: tail.end,
    durable: tail.durable,
  };
}

/** Whether a file is one of ours that was not finished. */
export function isLeftover(name: string): boolean {
  return /^(\d{12}\.(log|snapshot)|cursors)\.tmp$/.test(name);
}

function scanLast(files: Files, directory: string, { number, header }: Link): { scan: SegmentScan; durable: Point } {
  const name = segmentName(number);
  const file = files.open(join(directory, name), 'read');
  try {
    const scan = scanSegment(file, header, undefined);
    if (scan.damage === undefined) return { scan, durable: fenceAt(file, header, scan.durableEnd) };
    const { why: text, position, offset } = scan.damage;
    throw refused(directory, { kind: 'damage', file: name, position, offset, text });
  } finally {
    file.close();
  }
}

function epochsUsedUp(directory: string): CairnError {
  return new CairnError(
    'ERR_LOG_FULL',
    `The log in ${directory} was opened as often as versions can count. Dump the cache and load it with a new directory`,
  );
}

function refuse(directory: string, problems: readonly Problem[]): void {
  // A newer version's files may look damaged to this one.
  const problem = problems.find(({ kind }) => kind === 'newer') ?? problems.find(({ kind }) => kind === 'damage');
  if (problem !== undefined) throw refused(directory, problem);
}
