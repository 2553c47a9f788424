/**
 * From a directory to a log that is written: opens the log, brings what it holds into the cache, and makes the scribe.
 *
 * `start` says what becomes of the directory's content:
 *
 * - `log`: it is the cache's. Snapshot and log are applied, then the cache is ready.
 * - `none`: it is discarded, if it is sound; damage is refused as by `log`, since it may be worth a repair. A record
 *   that clears everything goes into the log for its readers, and an empty snapshot is taken, which frees the disk;
 *   then the cache is ready. None of the content ever comes back. If a step fails, the directory is as it was, or is
 *   empty.
 * - `resume`: it is in the cache. The thread that wrote it has died. Records that it had drained and not committed are
 *   drained again, and may be in the log twice; versions tell.
 */
import { CairnError } from '../errors.ts';
import {
  type AppendResult,
  eraOf,
  FORMAT_VERSION,
  type LogBatch,
  type LogClock,
  type LogNotice,
  type LogPort,
  type Position,
  type RecordsFrom,
  type Recovery,
  recover,
} from '../log/index.ts';
import { type FeedHandle, feedOf, native, numberWord, Word } from '../native.ts';
import { RecordKind, RecordReader } from '../request/record.ts';
import { BUFFER_BYTES } from './appending.ts';
import { ScribeClock } from './clock.ts';
import {
  type LogFiles,
  type OpeningCursor,
  plainNotice,
  type RecoveredByThread,
  type Report,
  type ScribeData,
  type Told,
} from './message.ts';
import { Metrics } from './metrics.ts';
import { Scribe } from './scribe.ts';
import { summaryOf } from './snapshot-runner.ts';
import { SnapshotTask, STEP_BYTES } from './snapshot-task.ts';

/** What a log is opened with. */
export interface OpenLogOptions {
  readonly data: ScribeData;
  readonly clock: LogClock;
  /** How long each sync took. */
  readonly onSync: (ms: number) => void;
  readonly onNotice: (notice: LogNotice) => void;
}

/** A log that was opened. `files`: other threads read it with these; undefined if it is no log of files. */
export interface OpenedLog {
  readonly log: LogPort;
  readonly files: Pick<LogFiles, 'directory' | 'logId'> | undefined;
}

export interface StartOptions {
  readonly data: ScribeData;
  /** Of the cache; stays the caller's. */
  readonly handle: FeedHandle;
  /** Opens the log without changing anything (see `LogPort.takeOver`). Throws what keeps it from being opened. */
  readonly openLog: (options: OpenLogOptions) => OpenedLog;
  /** The machine's. */
  readonly clock: LogClock;
  readonly hear: () => Told | undefined;
  readonly say: (report: Report) => void;
}

/**
 * Opens the log, recovers, says `ready`. Throws what keeps the log from being opened; what cannot be recovered is left
 * as it was, every byte of it.
 */
export function startScribe(options: StartOptions): Scribe {
  try {
    return start(options);
  } catch (error) {
    if (options.data.start !== 'none' || !(error instanceof CairnError) || error.code !== 'ERR_LOG_CORRUPT')
      throw error;
    const { directory } = options.data;
    throw new CairnError(
      'ERR_LOG_CORRUPT',
      `${error.message}. recover: 'none' discards only a sound log; to discard this one as it is, remove ${directory}`,
      { cause: error.cause },
    );
  }
}

/** A handle of the cache for the thread that calls, which gives it back when it ends. */
export function attachScribe(cacheId: number): FeedHandle {
  const attached = native.attachForScribe(cacheId);
  const handle = typeof attached === 'number' ? undefined : feedOf(attached);
  if (handle === undefined) throw new CairnError('ERR_CLOSED', 'The cache has ended');
  return handle;
}

function start({ data, handle, openLog, clock: machine, hear, say }: StartOptions): Scribe {
  const clock = new ScribeClock(machine);
  const metrics = new Metrics();
  if (data.start === 'resume') handle.logMetrics(metrics.numbers);
  metrics.add('starts', 1);
  const { log, files } = openLog({
    data,
    clock,
    onSync: (ms) => {
      const mean = metrics.get('syncMeanMs');
      metrics.add('syncs', 1);
      metrics.set('syncLastMs', ms);
      metrics.add('syncMeanMs', (ms - mean) / metrics.get('syncs'));
      metrics.max('syncMaxMs', ms);
    },
    onNotice: (notice) => say({ kind: 'notice', notice: plainNotice(notice) }),
  });
  try {
    refuseOwed(log, data);
    clock.raise(log.lastTimeMs);
    if (data.start !== 'resume') handle.startFeed(log.epoch, clock.wallMs());
    const run: Run = { handle, log, clock, metrics, say, cursor: data.cursor };
    const recovery = data.start === 'log' ? bringBack(run) : data.start === 'none' ? discard(run) : undefined;
    if (recovery === undefined) log.takeOver();
    // Before another thread can attach: the log keeps what the reader needs from the first record on.
    if (data.cursor !== undefined) placeCursor(log, data.cursor);
    if (recovery === undefined) handle.rewindDrained();
    else {
      if (data.sync === 'always') makeSafe(log);
      handle.finishRecovery();
    }
    const [snapshot] = log.snapshots.sound;
    metrics.set('snapshotAtMs', snapshot?.finishedMs ?? 0);
    metrics.set('snapshotBytes', snapshot?.fileBytes ?? 0);
    metrics.set('snapshotEntries', snapshot?.recordCount ?? 0);
    const control = new Int32Array(data.control);
    const logBytes = recovery?.logBytes ?? Number(log.end - (snapshot?.position ?? log.oldestReadable));
    const scribe = new Scribe({
      handle,
      log,
      clock,
      metrics,
      snapshots: data.snapshots,
      logBytes,
      control,
      hear,
      say,
      sleep,
    });
    say({
      kind: 'ready',
      recovery: recovery?.summary,
      files: files === undefined ? undefined : { ...files, openedAt: log.end },
    });
    return scribe;
  } catch (error) {
    giveBack(log);
    throw error;
  }
}

// Before anything is changed: the database has to have the records behind its cursor, and gets them from a log that is
// opened with it and recovered.
function refuseOwed(log: LogPort, { start, refuseBehind, cursor }: ScribeData): void {
  if (start === 'resume') return;
  if (refuseBehind !== undefined) refuseBehindCursor(log, refuseBehind, 'open it with store');
  if (start === 'none' && cursor !== undefined) refuseBehindCursor(log, cursor.name, "open it with recover: 'log'");
}

function refuseBehindCursor(log: LogPort, name: string, how: string): void {
  const position = log.cursors().get(name);
  if (position === undefined) return;
  let records = 0;
  for (const entry of log.entries(position)) if (entry.kind === 'records') records += countChanges(entry.records);
  if (records === 0) return;
  const count = records === 1 ? '1 record' : `${records} records`;
  throw new CairnError(
    'ERR_STORE_REFUSED',
    `The log in ${log.name} has ${count} that its database does not have: ${how}. To leave them out of the database forever: npx cairn-cache log drop-cursor ${log.name} ${name}`,
  );
}

// A database is not told of clears.
function countChanges(records: Buffer): number {
  let count = 0;
  const reader = new RecordReader(records);
  while (reader.next()) if (reader.kind !== RecordKind.clear && reader.kind !== RecordKind.clearAt) count++;
  return count;
}

// A cursor that is there stays where it is.
function placeCursor(log: LogPort, opening: OpeningCursor): void {
  const cursor = log.cursor(opening.name);
  if (cursor.position() === undefined) cursor.advance(beginOf(log, opening));
}

function beginOf(log: LogPort, { name, position }: OpeningCursor): Position {
  return log.cursor(name).position() ?? position ?? log.oldestReadable;
}

// After an error that says more than that of closing would.
function giveBack(log: LogPort): void {
  try {
    log.close();
  } catch (error) {
    if (!(error instanceof CairnError)) throw error;
  }
}

const never = new Int32Array(new SharedArrayBuffer(4));

function sleep(ms: number): void {
  Atomics.wait(never, 0, 0, ms);
}

// What was read may be what the last process has written and not synced. From here on everybody may see it, and must
// not be shown what a power cut could still take. On a full disk there is no way: reads would be promises.
function makeSafe(log: LogPort): void {
  try {
    const upTo = log.committed;
    while (!log.syncStep(upTo)) sleep(1);
  } catch (error) {
    if (log.usage().level !== 'full') throw error;
    throw new CairnError(
      'ERR_LOG_FULL',
      `The log in ${log.name} cannot be opened: the disk is full, and what was not synced when it was last written has to be written again`,
      { cause: error },
    );
  }
}

interface Run {
  readonly handle: FeedHandle;
  readonly log: LogPort;
  readonly clock: LogClock;
  readonly metrics: Metrics;
  readonly say: (report: Report) => void;
  readonly cursor: OpeningCursor | undefined;
}

interface Recovered {
  readonly summary: RecoveredByThread;
  /** Bytes of the log behind the snapshot. */
  readonly logBytes: number;
}

function bringBack({ handle, log, clock, metrics, say, cursor }: Run): Recovered {
  let applied = 0;
  let bytes = 0;
  let era: string | undefined;
  // What the cache has by then is older than what comes; also than records of an older era, which come again if
  // it is half of a snapshot that turned out to be damaged.
  const turnTo = (next: string): void => {
    if (era !== undefined && era !== next) handle.renumber(log.epoch);
    era = next;
  };
  const recovery: Recovery = recover({
    log,
    clock,
    owedFrom: cursor === undefined ? undefined : beginOf(log, cursor),
    apply(records, from) {
      turnTo(eraOf(from.formatVersion, from.epoch));
      const { isOwed, position, end } = from;
      const count = isOwed ? handle.applyRecords(records, position, end) : handle.applyRecords(records);
      if (count === -2) throw new CairnError('ERR_CLOSED', 'The cache has ended');
      if (count === -3) throw tooMuchIsOwed(log);
      if (count < 0) throw malformed(log, from, records);
      applied += count;
      bytes += records.length;
    },
    onProgress: (progress) => say({ kind: 'progress', progress }),
  });
  turnTo(eraOf(FORMAT_VERSION, log.epoch));
  // After all of it was read: a log that is refused stays as it was.
  log.takeOver();
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
    lost,
    elapsedMs,
  };
  return { summary, logBytes };
}

function discard({ handle, log, clock, say }: Run): Recovered {
  const begunMs = clock.steadyMs();
  // A directory without records needs none of it.
  const hasContent = log.recordsBefore > 0n || log.snapshots.found.length > 0;
  if (hasContent) recover({ log, clock, apply() {}, onProgress: (progress) => say({ kind: 'progress', progress }) });
  log.takeOver();
  if (hasContent) {
    let isLogged = appendClear(handle, log);
    takeWhole(handle, log);
    // Without a snapshot before the empty one nothing of what was before is kept for the case that it is lost.
    if (log.snapshots.sound.length > 1) log.reclaim();
    else log.truncate(log.snapshots.newestVerified!.position);
    // It was full of what is gone now.
    if (!isLogged) isLogged = appendGroup(handle, log);
    if (!isLogged)
      throw new CairnError('ERR_LOG_FULL', `The log in ${log.name} has no room for the record that discards it`);
  }
  const elapsedMs = clock.steadyMs() - begunMs;
  const summary: RecoveredByThread = {
    from: 'none',
    snapshot: undefined,
    unusable: [],
    records: 0,
    applied: 0,
    bytes: 0,
    lost: 0,
    elapsedMs,
  };
  return { summary, logBytes: 0 };
}

function appendClear(handle: FeedHandle, log: LogPort): boolean {
  handle.clear();
  return appendGroup(handle, log);
}

// What is in the rings: the record of the clear. False: there is no room for it, and it is there still.
function appendGroup(handle: FeedHandle, log: LogPort): boolean {
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
    const result = appendNow(log, batch);
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
function appendNow(log: LogPort, batch: LogBatch): AppendResult {
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

function tooMuchIsOwed({ name: directory }: LogPort): CairnError {
  return new CairnError(
    'ERR_STORE_REFUSED',
    `The cache has too little memory for the keys of the log in ${directory} that the database does not have yet. Nothing was changed: open it with more memory`,
  );
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
