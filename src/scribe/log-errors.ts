/** Errors for requests that wait for the log, by what the log does. */
import { CairnError } from '../errors.ts';
import type { AppendResult, LogPort } from '../log/index.ts';
import { FeedState } from '../native.ts';

/** The doors refuse because the log has no room. */
export function isFull(state: FeedState): boolean {
  return state === FeedState.full || state === FeedState.stuck;
}

/** Why the log takes nothing in this state; undefined: it does, or may soon. */
export function whyRefusing(log: LogPort, state: FeedState): CairnError | undefined {
  if (isFull(state)) return fullLog(log);
  return state === FeedState.failed ? brokenLog(log) : undefined;
}

export function fullLog(log: LogPort): CairnError {
  const { bytes, limitBytes } = log.usage();
  return new CairnError(
    'ERR_LOG_FULL',
    `The log in ${log.name} has no room, on the disk or within its limit: it takes ${bytes} of ${limitBytes} bytes`,
  );
}

export function brokenLog({ name: directory }: LogPort): CairnError {
  return new CairnError('ERR_LOG_IO', `The log in ${directory} cannot be written. It is tried again`);
}

export function lostLog(
  { name: directory }: LogPort,
  result: Extract<AppendResult, { kind: 'conflict' | 'fenced' }>,
): CairnError {
  const why = result.kind === 'fenced' ? `in epoch ${result.epoch}` : `which ends at position ${result.end}`;
  return new CairnError(
    'ERR_LOG_IO',
    `Another process writes the log in ${directory}, ${why}: nothing more is written to it`,
  );
}

export function notWritten({ name: directory }: LogPort, records: number, state: FeedState): CairnError {
  const code = isFull(state) ? 'ERR_LOG_FULL' : state === FeedState.failed ? 'ERR_LOG_IO' : 'ERR_TIMEOUT';
  const why = { ERR_LOG_FULL: 'it has no room', ERR_LOG_IO: 'it cannot be written', ERR_TIMEOUT: 'the time was over' };
  const count = records === 1 ? '1 record' : `${records} records`;
  return new CairnError(code, `${count} did not get into the log in ${directory}: ${why[code]}`);
}
