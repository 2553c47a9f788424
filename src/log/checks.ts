/**
 * What the files of a log's directory say of one another: claims of cursors and snapshots on the stream of segments.
 */

import type { Problem } from './chain.ts';
import { CURSORS_FILE, type FoundCursors } from './cursors.ts';
import type { Position } from './request-log.ts';
import type { SnapshotFile } from './snapshot.ts';

/** What the segments of a log come to; undefined: there are none. */
export interface StreamEnd {
  readonly logId: bigint;
  readonly end: Position;
}

/** What keeps the cursors' file from being used. */
export function cursorProblems({ fault, isOld }: FoundCursors): Problem[] {
  if (fault === undefined || isOld) return [];
  const kind = fault.newerVersion === undefined ? 'damage' : 'newer';
  return [{ kind, file: CURSORS_FILE, text: `the header ${fault.why}` }];
}

/**
 * Cursors and snapshots that know of more log than there is, or of another one. Both are only written when the log is
 * synced up to what they say, so that this is proof of a loss. So is a snapshot that cannot be read where there are no
 * segments; where there are, it claims nothing, and recovery does without it.
 */
export function claimProblems(
  stream: StreamEnd | undefined,
  { cursors, logId: cursorsLogId }: FoundCursors,
  snapshots: readonly SnapshotFile[],
): Problem[] {
  const problems: Problem[] = [];
  const claim = (file: string, logId: bigint, position: Position, what: string): void => {
    const text =
      stream === undefined
        ? 'it belongs to a log of which there are no segments'
        : logId !== stream.logId
          ? 'it belongs to another log'
          : position > stream.end
            ? `${what} ${position}, and the log ends at ${stream.end}`
            : undefined;
    if (text !== undefined) problems.push({ kind: 'damage', file, text });
  };
  if (cursorsLogId !== undefined) {
    // A table that is empty is one of a log, too.
    if (stream === undefined) claim(CURSORS_FILE, cursorsLogId, 0n, '');
    else for (const [name, position] of cursors) claim(CURSORS_FILE, cursorsLogId, position, `cursor "${name}" is at`);
  }
  for (const found of snapshots) {
    if ('info' in found) claim(found.name, found.info.logId, found.info.end, 'the log was synced up to');
    else if (found.fault.newerVersion !== undefined) {
      problems.push({ kind: 'newer', file: found.name, text: found.fault.why });
    } else if (stream === undefined) {
      problems.push({ kind: 'damage', file: found.name, text: `${found.fault.why}, and there are no segments` });
    }
  }
  return problems;
}
