/**
 * Discards what a log has: memory begins with something else. The content is read first, since damage is refused. A
 * record that clears everything goes into the log for its readers, and a snapshot of memory is taken, which frees the
 * disk. If a step fails, the directory is as it was, or as it is to be.
 */
import { CairnError } from '../errors.ts';
import { type AppendResult, type LogBatch, type LogClock, type LogPort, recover } from '../log/index.ts';
import { type FeedHandle, numberWord, Word } from '../native.ts';
import type { RecoveryProgress } from '../options/types.ts';
import { BUFFER_BYTES } from './appending.ts';
import type { OpeningAnswer } from './message.ts';
import { SnapshotTask, STEP_BYTES } from './snapshot-task.ts';

export interface DiscardOptions {
  readonly handle: FeedHandle;
  /** Taken over on return. */
  readonly log: LogPort;
  readonly clock: LogClock;
  readonly onProgress: (progress: RecoveryProgress) => void;
  readonly sleep: (ms: number) => void;
  /** Puts into memory what it begins with. What it throws leaves the log as it was. Undefined: memory is empty. */
  readonly fill: (() => OpeningAnswer) | undefined;
}

export function discard({ handle, log, clock, onProgress, sleep, fill }: DiscardOptions): OpeningAnswer | undefined {
  // A directory without records needs none of it.
  const hasContent = log.recordsBefore > 0n || log.snapshots.found.length > 0;
  if (hasContent) recover({ log, clock, apply() {}, onProgress });
  const isLoggedAnyway = hasContent || fill !== undefined;
  // Before memory is filled: it is of what was there.
  if (isLoggedAnyway) handle.clear();
  const filled = fill?.();
  log.takeOver();
  if (!isLoggedAnyway) return undefined;
  let isLogged = appendGroup(handle, log, sleep);
  if (hasContent) {
    takeWhole(handle, log);
    // Without a snapshot before this one nothing of what was before is kept for the case that it is lost.
    if (log.snapshots.sound.length > 1) log.reclaim();
    else log.truncate(log.snapshots.newestVerified!.position);
  }
  // It was full of what is gone now.
  if (!isLogged) isLogged = appendGroup(handle, log, sleep);
  if (!isLogged) {
    throw new CairnError('ERR_LOG_FULL', `The log in ${log.name} has no room for the record that discards it`);
  }
  return filled;
}

// What is in the rings: the record of the clear. False: there is no room for it, and it is there still.
function appendGroup(handle: FeedHandle, log: LogPort, sleep: (ms: number) => void): boolean {
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  const bytes = handle.drain(buffer, 0);
  if (bytes <= 0) throw new Error('Clearing the cache has left no record');
  const turn = numberWord(Word.place);
  const batch = {
    records: [buffer.subarray(0, bytes)],
    recordCount: numberWord(Word.number),
    epoch: Math.max(numberWord(Word.version), log.epoch),
    expectPosition: log.end,
  };
  for (let attempt = 0; ; attempt++) {
    const result = appendNow(log, batch, sleep);
    if (result.kind === 'committed') {
      handle.commitDrained(turn, result.position, result.end);
      return true;
    }
    if (result.kind === 'unknown' && attempt < 3) continue;
    handle.rewindDrained();
    if (result.kind === 'full') return false;
    throw result.kind === 'unknown' ? result.cause : new Error(`The log answers ${result.kind}`);
  }
}

// With nothing else in flight.
function appendNow(log: LogPort, batch: LogBatch, sleep: (ms: number) => void): AppendResult {
  log.submit(0, batch);
  for (;;) {
    const [settled] = log.poll();
    if (settled !== undefined) return settled.result;
    sleep(1);
  }
}

function takeWhole(handle: FeedHandle, log: LogPort): void {
  const task = new SnapshotTask({ handle, log });
  while (task.step(STEP_BYTES) === undefined);
}
