/**
 * What `cairn serve` prints of a cache that keeps its data: how recovery goes on, what it has brought, and what a crash
 * can take. Texts of what it is given; nothing is asked or written here.
 */
import { reasonOf } from '../errors.ts';
import type { AckLevel, LogNotice, RecoveryProgress, RecoverySummary } from '../index.ts';

const BAR_CHARACTERS = 24;
/** The interval of lines of progress without a terminal. */
const PLAIN_LINE_MS = 5_000;

/** Where recovery is shown. */
export interface ProgressOutput {
  /** A terminal: one line is drawn over and over. */
  readonly isTerminal: boolean;
  write(text: string): void;
}

/** Shows recovery as it goes on: a bar on a terminal, and a line every few seconds elsewhere. */
export class RecoveryDisplay {
  readonly #output: ProgressOutput;
  #drawn = false;
  #printedAtMs = 0;

  constructor(output: ProgressOutput) {
    this.#output = output;
  }

  show(progress: RecoveryProgress): void {
    if (this.#output.isTerminal) {
      this.#output.write(`\r${progressBar(progress)}\x1b[K`);
      this.#drawn = true;
    } else if (progress.elapsedMs - this.#printedAtMs >= PLAIN_LINE_MS) {
      this.#printedAtMs = progress.elapsedMs;
      this.#output.write(`Recovering ${progressText(progress)}\n`);
    }
  }

  /** Takes the bar away. */
  end(): void {
    if (this.#drawn) this.#output.write('\r\x1b[K');
    this.#drawn = false;
  }
}

export function progressBar(progress: RecoveryProgress): string {
  return `Recovering ${barOf(shareOf(progress))} ${progressText(progress)}`;
}

/** `share`: from 0 to 1. */
export function barOf(share: number): string {
  const filled = Math.round(Math.min(1, share) * BAR_CHARACTERS);
  return `[${'#'.repeat(filled)}${'-'.repeat(BAR_CHARACTERS - filled)}]`;
}

function progressText({ source, bytes, bytesTotal, records, bytesPerSecond, problem }: RecoveryProgress): string {
  if (source === 'store') {
    return `from the database: ${countText(records, 'row')}, ${sizeText(bytes)}, ${sizeText(bytesPerSecond)}/s`;
  }
  const share = `${Math.floor(shareOf({ bytes, bytesTotal }) * 100)} %`;
  const percent = source === 'write-back' ? `writing to the database first, ${share}` : `${share} of the ${source}`;
  const cause = problem === undefined ? '' : `: ${problem}`;
  return `${percent}: ${sizeText(bytes)} of ${sizeText(bytesTotal)}, ${countText(records, 'record')}, ${sizeText(bytesPerSecond)}/s${cause}`;
}

function shareOf({ bytes, bytesTotal }: Pick<RecoveryProgress, 'bytes' | 'bytesTotal'>): number {
  return bytesTotal > 0 ? Math.min(1, bytes / bytesTotal) : 1;
}

/** What recovery has brought. The first line is for standard output, warnings for the other. */
export function describeRecovery(
  directory: string,
  recovery: RecoverySummary,
  entries: number,
): { line: string; warnings: string[] } {
  const warnings = recovery.unusable.map(({ name, why }) => `Snapshot ${name} could not be used: ${why}`);
  if (recovery.lost > 0) {
    const records = countText(recovery.lost, 'record');
    warnings.push(`${records} of the log in ${directory} ${recovery.lost === 1 ? 'is' : 'are'} known to be lost`);
  }
  for (const notice of recovery.notices) {
    if (notice.kind !== 'torn' && notice.kind !== 'unclosed') warnings.push(describeNotice(notice));
  }
  return { line: recoveredText(directory, recovery, entries), warnings };
}

function recoveredText(directory: string, recovery: RecoverySummary, entries: number): string {
  const { from, snapshot, records, bytes, isFull, elapsedMs, notices } = recovery;
  if (from === 'none') return `Began empty: what ${directory} held is discarded`;
  if (from === 'store') {
    const read = `${countText(records, 'row')}, ${sizeText(bytes)}, in ${secondsText(elapsedMs)}`;
    const rest = isFull ? '. Memory is full: other rows are loaded when they are asked for' : '';
    return `Began with the rows of the database: ${read}${rest}; what ${directory} held is discarded`;
  }
  const torn = notices.find((notice) => notice.kind === 'torn');
  const unclosed = notices.find((notice) => notice.kind === 'unclosed');
  const left = torn === undefined ? '' : `; ${sizeText(torn.bytes)} of a write that was cut short are left out`;
  const cut = unclosed === undefined ? left : `; not closed, last written at ${timeText(unclosed.writtenMs)}${left}`;
  if (records === 0) return `${directory} holds no entries yet${cut}`;
  const read = `${countText(records, 'record')}, ${sizeText(bytes)}, in ${secondsText(elapsedMs)}`;
  const source = snapshot === undefined ? 'log' : 'snapshot and log';
  return `Recovered ${countText(entries, 'entry', 'entries')} from ${directory}: ${source}, ${read}${cut}`;
}

/** How a cache is kept. */
export interface Keeping {
  readonly directory: string;
  /** What replies wait for. */
  readonly ack: AckLevel;
  /** `always`, `none`, or an interval such as `10ms`. */
  readonly sync: string;
  /** What a sync takes on this disk; undefined: not measured. */
  readonly syncMs: number | undefined;
}

/** In one sentence, what a crash can take back. */
export function describeLoss({ directory, ack, sync, syncMs }: Keeping): string {
  const takes = syncMs === undefined ? '' : ` (a sync takes ${durationText(syncMs)} here)`;
  const kept = `Data is kept in ${directory}, and replies`;
  const machine = machineLoss(sync);
  if (ack === 'memory') {
    const process = 'a crash of this process can take back the last moments before it';
    const both = machine === undefined ? 'and so can one of the machine' : `one of the machine also ${machine}`;
    return `${kept} do not wait for that${takes}: ${process}, ${both}`;
  }
  if (ack === 'stored') {
    return `${kept} to changes wait until the database has them${takes}: no crash, of this process or of the machine, takes back a change that was answered`;
  }
  if (machine === undefined) {
    return `${kept} wait until it is on the disk${takes}: no crash, of this process or of the machine, takes back what was answered`;
  }
  const process = 'a crash of this process takes back nothing that was answered';
  return `${kept} wait until it is written${takes}: ${process}, one of the machine ${machine}`;
}

/** What the end of the machine takes of what was written; undefined: nothing. */
function machineLoss(sync: string): string | undefined {
  if (sync === 'always') return undefined;
  if (sync === 'none') return 'what the system had not yet put on the disk, often half a minute';
  return `up to the last ${sync.replace(/(?<=\d)(?=ms$)/, ' ')}`;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

/** What the log has to say while it is written. */
export function describeNotice(notice: LogNotice): string {
  switch (notice.kind) {
    case 'level': {
      const { bytes, limitBytes } = notice.usage;
      const taken = `${sizeText(bytes)} of ${sizeText(limitBytes)}`;
      if (notice.level === 'ok') return `The log has room: it takes ${taken}`;
      if (notice.level === 'high') return `The log takes ${taken}`;
      if (notice.level === 'critical') return `The log is nearly full: it takes ${taken}`;
      return `The log has no room, on the disk or within its limit: it takes ${taken}`;
    }
    case 'torn': {
      const held = `${sizeText(notice.bytes)}, with ${countText(notice.recordCount, 'record')} that can be told`;
      return `A crash has cut the last write short: what is behind position ${notice.position} in ${notice.file} is left out (${held})`;
    }
    case 'unclosed':
      return `The log was not closed: ${notice.file} ends at position ${notice.position}, written at ${timeText(notice.writtenMs)}`;
    case 'segment-failed':
      return `${notice.file} cannot be written, and the log goes on in a new file: ${reasonOf(notice.cause)}`;
    case 'lost':
      return `${countText(notice.recordCount, 'record')} of the log could not be read back after a failure of the disk`;
    case 'sync-failed':
      return `The log cannot be put on the disk, which is tried again: ${reasonOf(notice.cause)}`;
    case 'cursors-old':
      return `The file of cursors was damaged, and the one before it is used: ${notice.why}`;
    case 'cleanup-failed':
      return `${notice.file} could not be removed: ${reasonOf(notice.cause)}`;
    case 'snapshot': {
      const { entries, bytes, startedMs, finishedMs } = notice.snapshot;
      const took = secondsText(finishedMs - startedMs);
      return `Snapshot: ${countText(entries, 'entry', 'entries')}, ${sizeText(bytes)}, in ${took}`;
    }
    case 'snapshot-failed':
      return `A snapshot could not be taken, which is tried again: ${reasonOf(notice.cause)}`;
    case 'written-first': {
      const { records, elapsedMs, deadLetters } = notice;
      const refused = deadLetters === 0 ? '' : `, of which it refused ${countText(deadLetters, 'change')}`;
      return `Memory had no room for all keys that the database lacked: it got ${countText(records, 'record')} first, in ${secondsText(elapsedMs)}${refused}`;
    }
    case 'restarted':
      return `The thread that writes the log has died, and another one goes on: ${reasonOf(notice.cause)}`;
    case 'failed':
      return `The log is not written any more. What was not answered by now may be lost; reads go on: ${reasonOf(notice.cause)}`;
  }
}

/**
 * Which notices are said without -v. A log passes its first level in every round of its snapshots; that it becomes
 * nearly full is worth a line, and that it no longer is.
 */
export class NoticeFilter {
  #isAlarmed = false;

  isWorthSaying(notice: LogNotice): boolean {
    if (notice.kind !== 'level') return notice.kind !== 'snapshot' && notice.kind !== 'cleanup-failed';
    const wasAlarmed = this.#isAlarmed;
    this.#isAlarmed = notice.level === 'critical' || notice.level === 'full';
    return this.#isAlarmed || wasAlarmed;
  }
}

/** What ending has come to. */
export function describeEnd(directory: string, entries: number): string {
  return `Stopped: ${countText(entries, 'entry is', 'entries are')} kept in ${directory}`;
}

export function countText(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? one : many}`;
}

export function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let size = bytes;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${unit === 0 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

export function secondsText(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 0)} s`;
}

export function durationText(ms: number): string {
  if (ms >= 1000) return secondsText(ms);
  return `${ms >= 10 ? Math.round(ms) : ms.toFixed(ms >= 1 ? 1 : 2)} ms`;
}
