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
 * - `store`: it is discarded like that, and the cache begins with the rows of its database. Another thread reads them
 *   before anything is changed here; then the cursor of the database is moved to this log.
 * - `resume`: it is in the cache. The thread that wrote it has died. Records that it had drained and not committed are
 *   drained again, and may be in the log twice; versions tell.
 */
import { CairnError } from '../errors.ts';
import type { LogClock, LogNotice, LogPort } from '../log/index.ts';
import { type FeedHandle, feedOf, native } from '../native.ts';
import type { RecoveryProgress } from '../options/types.ts';
import { Asking } from './asking.ts';
import { bringBack, type Recovered, type Run } from './bring-back.ts';
import { ScribeClock } from './clock.ts';
import { discard } from './discard.ts';
import {
  type LogFiles,
  type OpeningAnswer,
  plainNotice,
  type RecoveredByThread,
  type Report,
  type ScribeData,
  type Told,
} from './message.ts';
import { Metrics } from './metrics.ts';
import { OpeningCursors } from './opening-cursors.ts';
import { Scribe } from './scribe.ts';

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
  readonly files: Pick<LogFiles, 'directory' | 'logId' | 'takeover'> | undefined;
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
    const { start: from } = options.data;
    if ((from !== 'none' && from !== 'store') || !(error instanceof CairnError) || error.code !== 'ERR_LOG_CORRUPT')
      throw error;
    const { directory } = options.data;
    throw new CairnError(
      'ERR_LOG_CORRUPT',
      `${error.message}. recover: '${from}' discards only a sound log; to discard this one as it is, remove ${directory}`,
      { cause: error.cause },
    );
  }
}

/**
 * A handle of the cache for the thread that calls, which gives it back when it ends. `store`: the number of the
 * database that the thread has.
 */
export function attachScribe(cacheId: number, store = 0): FeedHandle {
  const attached = native.attachForScribe(cacheId);
  const handle = typeof attached === 'number' ? undefined : feedOf(attached);
  if (handle === undefined) throw new CairnError('ERR_CLOSED', 'The cache has ended');
  if (store > 0) handle.useBackend(store);
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
    const cursors = new OpeningCursors(log, data);
    cursors.refuseOwed(data.start, files?.logId);
    clock.raise(log.lastTimeMs);
    const epoch = Math.max(log.epoch, data.epochMin ?? 0);
    if (data.start !== 'resume') handle.startFeed(epoch, clock.wallMs());
    const asking = new Asking(hear, say, sleep);
    const run: Run = {
      ...{ handle, log, clock, metrics, say },
      owedFrom: data.start === 'log' ? cursors.owedFrom : undefined,
      files,
      ask: (question) => asking.ask(question),
      makeSafe: () => makeSafe(log),
    };
    const recovery = begin(data.start, run, epoch);
    if (recovery === undefined) log.takeOver();
    // Before another thread can attach: the log keeps what the reader needs from the first record on.
    const cursorsBefore = cursors.place(data.start);
    if (recovery === undefined) handle.rewindDrained();
    else {
      if (data.sync === 'always' || data.start === 'store') makeSafe(log);
      // The database follows this log from here on: before, another one may have written to it.
      if (data.start === 'store') {
        const { logId, takeover } = files!;
        asking.ask({ kind: 'adopt', logId, takeover, position: log.committed });
      }
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
      hear: asking.hear,
      say,
      sleep,
    });
    say({
      kind: 'ready',
      recovery: recovery?.summary,
      files: files === undefined ? undefined : { ...files, openedAt: log.end },
      cursorsBefore,
    });
    return scribe;
  } catch (error) {
    giveBack(log);
    throw error;
  }
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

function begin(start: ScribeData['start'], run: Run, epoch: number): Recovered | undefined {
  switch (start) {
    case 'log':
      return bringBack(run);
    case 'none':
      return beginAnew(run);
    case 'store':
      return beginAnew(run, () => run.ask({ kind: 'fill', epoch }));
    case 'resume':
      return undefined;
  }
}

// Memory begins empty, or with what fills it.
function beginAnew({ handle, log, clock, say }: Run, fill?: () => OpeningAnswer): Recovered {
  const begunMs = clock.steadyMs();
  const onProgress = (progress: RecoveryProgress): void => say({ kind: 'progress', progress });
  const filled = discard({ handle, log, clock, sleep, onProgress, fill });
  const summary: RecoveredByThread = {
    from: filled === undefined ? 'none' : 'store',
    snapshot: undefined,
    unusable: [],
    records: filled?.rows ?? 0,
    applied: filled?.rows ?? 0,
    bytes: filled?.bytes ?? 0,
    owed: 0,
    isFull: filled?.isFull ?? false,
    lost: 0,
    elapsedMs: clock.steadyMs() - begunMs,
  };
  return { summary, logBytes: 0 };
}
