/** What `cairn serve` prints of the database behind. Texts of what it is given; nothing is asked or written here. */
import { keyText, reasonOf } from '../errors.ts';
import type { WriteBackNotice, WriteBackStats } from '../index.ts';
import { countText, sizeText } from './serve-data.ts';

export function describeStore(store: string, { state }: WriteBackStats): string {
  if (state === 'writing') return `Writing to ${store}`;
  return `Writing to ${store} when it answers. Until then the log keeps every change`;
}

/** What the database did not have when the last run ended. */
export function describeOwed(changes: number): string {
  const are = changes === 1 ? 'is' : 'are';
  return `${countText(changes, 'change')} of the last run ${are} not known to be in the database, and ${are} written now`;
}

/** Soon after the beginning: what an earlier run has left. */
export function describeRest(behindBytes: number): string {
  return `${sizeText(behindBytes)} of the log are still on their way to the database`;
}

export function describeWriteBack(notice: WriteBackNotice): string {
  const text = textOf(notice);
  return notice.store === undefined ? text : `${notice.store}: ${text}`;
}

function textOf(notice: WriteBackNotice): string {
  switch (notice.kind) {
    case 'retrying':
      return `The database cannot be written, which is tried again: ${reasonOf(notice.cause)}`;
    case 'halted':
      return `The database cannot be written until that is mended: ${reasonOf(notice.cause)}`;
    case 'recovered':
      return 'The database is written again';
    case 'healing':
      return `The database has gone back to an earlier state, and gets ${sizeText(notice.bytes)} of the log again`;
    case 'healed':
      return 'The database has again what it had before it went back';
    case 'history-short':
      return `The log has no room for all that it should keep for a database that goes back: it keeps ${countText(Math.round(notice.keptMs / 1000), 'second')}`;
    case 'pressure':
      return describePressure(notice.of, notice.percent);
    case 'refused':
      return `The database is not written any more: ${reasonOf(notice.cause)}`;
    case 'restarted':
      return `The thread that writes to the database has ended, and another one goes on: ${reasonOf(notice.cause)}`;
    case 'dead-letter':
      return `The database refuses the ${notice.change} of ${keyText(notice.key)}: ${reasonOf(notice.cause)}`;
    case 'dead-letters':
      return `The database refuses ${countText(notice.count, 'more change')} of the same batch`;
  }
}

function describePressure(of: 'log' | 'reserve', percent: number): string {
  const what = of === 'log' ? 'The log' : 'The memory for keys that the database does not have';
  if (percent === 0) return `${what} has room again: the database has most changes`;
  return `${what} is ${percent} % full, because the database does not take the changes: when it is full, they are refused`;
}
