/**
 * The segments of a directory as one stream: their headers, and whether they continue one another. A segment's own
 * batches are not looked at here.
 */
import { join } from 'node:path';
import { CairnError } from '../errors.ts';
import { type Files, systemCode } from './files.ts';
import { Fault, offsetOf, type SegmentHeader, segmentName, segmentNumbers } from './format.ts';
import { PlaceLost } from './place.ts';
import type { Position } from './request-log.ts';
import { readSegmentHeader } from './segment.ts';

/** One segment whose header is sound. */
export interface Link {
  readonly number: number;
  readonly header: SegmentHeader;
  readonly fileBytes: number;
}

/** Something that is not as it should be in a log's directory. */
export interface Problem {
  /**
   * `damage`: the log is refused. `newer`: by this version of the program. `note`: it is dealt with at the next
   * opening.
   */
  readonly kind: 'damage' | 'newer' | 'note';
  readonly file: string;
  readonly position?: Position | undefined;
  readonly offset?: number | undefined;
  readonly text: string;
}

export interface Chain {
  /** Ascending; those with a sound header. */
  readonly links: readonly Link[];
  readonly problems: readonly Problem[];
}

export function readChain(files: Files, directory: string): Chain {
  const links: Link[] = [];
  const problems: Problem[] = [];
  let previousNumber: number | undefined;
  for (const number of segmentNumbers(files.list(directory))) {
    const name = segmentName(number);
    const damage = (text: string): void => void problems.push({ kind: 'damage', file: name, text });
    if (previousNumber !== undefined && number !== previousNumber + 1) {
      const missing = segmentName(previousNumber + 1);
      damage(number === previousNumber + 2 ? `${missing} is missing` : `${missing} and those up to here are missing`);
    }
    previousNumber = number;
    const file = files.open(join(directory, name), 'read');
    try {
      const header = readSegmentHeader(file);
      if (header instanceof Fault) {
        if (header.newerVersion !== undefined) problems.push({ kind: 'newer', file: name, text: header.why });
        else damage(`the header ${header.why}`);
        continue;
      }
      if (header.number !== number) {
        damage(`this is the file of segment ${header.number}`);
        continue;
      }
      const previous = links.at(-1);
      if (previous?.number === number - 1) {
        for (const text of disagreements(previous, header)) damage(text);
      }
      links.push({ number, header, fileBytes: file.size() });
    } finally {
      file.close();
    }
  }
  return { links, problems };
}

/** Why a segment cannot be the one behind another. */
function disagreements({ header: before, number, fileBytes }: Link, header: SegmentHeader): string[] {
  const name = segmentName(number);
  const end = header.predecessorEnd;
  if (before.logId !== header.logId) return ['it belongs to another log'];
  if (end < before.base || end > before.base + BigInt(before.capacity) || end > header.base) {
    return [`it says that ${name} ends at ${end}, which cannot be`];
  }
  if (fileBytes < offsetOf(before, end)) {
    return [`it says that ${name} ends at ${end}, and that file is shorter than that`];
  }
  return [];
}

/** The error for a log that is refused. */
export function refused(directory: string, problem: Problem): CairnError {
  if (problem.kind === 'newer') {
    return new CairnError(
      'ERR_LOG_VERSION',
      `The log in ${directory} was written by a newer version of cairn-cache: ${problem.file} ${problem.text}. Nothing was changed`,
    );
  }
  const place = problem.position === undefined ? '' : ` at position ${problem.position} (offset ${problem.offset})`;
  return new CairnError(
    'ERR_LOG_CORRUPT',
    `The log in ${directory} is damaged: ${problem.file}${place}: ${problem.text}. Nothing was changed. To see all of it: npx cairn-cache log verify ${directory}; to keep everything that is sound: npx cairn-cache log repair ${directory}`,
  );
}

/** The error for a file call that failed. */
export function ioError(what: string, cause: unknown): CairnError {
  const code = systemCode(cause) ?? systemCode((cause as Error | undefined)?.cause);
  const why = cause instanceof PlaceLost ? cause.message : code;
  return new CairnError('ERR_LOG_IO', `Cannot ${what}${why === undefined ? '' : `: ${why}`}`, { cause });
}

/** The error for records that were in the log, not on the disk, and cannot be read back. */
export function recordsLost(directory: string, count: number): CairnError {
  const records = count === 1 ? '1 record' : `${count} records`;
  return new CairnError(
    'ERR_LOG_IO',
    `${records} of the log in ${directory} are lost: they were not synced yet, and could not be read back after a sync had failed`,
  );
}
