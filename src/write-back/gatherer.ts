/**
 * Reads the log into batches, ahead of what is written, as long as the batch has room. An error of the log, or records
 * that it has lost, are told and tried again: nothing is passed over.
 *
 * Reading begins at the log's own cursor, which is at or before that of the database. Of the entries between the two
 * only the versions count: see passed.ts.
 */
import { asError, CairnError } from '../errors.ts';
import type { LogEntry, Position } from '../log/index.ts';
import { retryDelayMs } from './backoff.ts';
import type { Batcher } from './batcher.ts';
import type { Changed } from './changed.ts';
import { sleep, type WriterClock } from './clock.ts';
import type { WriterLog } from './writer-log.ts';

/** The longest time for which entries are read in one go. */
const SLICE_MS = 10;

export interface GathererOptions {
  readonly log: WriterLog;
  /** Gets the entries. */
  readonly batcher: Batcher;
  /** Told of each entry. When the batcher has room again, or a crossing has been added, it tells. */
  readonly changed: Changed;
  readonly clock: WriterClock;
  /** Entries before this are gathered; undefined: all. */
  readonly until: Position | undefined;
  /** In [0, 1). */
  readonly random: () => number;
  /** The log cannot be read; it is tried again. */
  readonly onFailed: (error: Error) => void;
  /** It can be read again. */
  readonly onRecovered: () => void;
}

export class Gatherer {
  readonly #options: GathererOptions;
  #isFailing = false;

  constructor(options: GathererOptions) {
    this.#options = options;
  }

  /** The log cannot be read. */
  get isFailing(): boolean {
    return this.#isFailing;
  }

  /** Gathers entries until it is told to stop, or the log is closed. */
  async run(from: Position, signal: AbortSignal): Promise<void> {
    const { log, batcher, changed, clock, random, until, onFailed } = this.#options;
    let sliceEndMs = clock.steadyMs() + SLICE_MS;
    let position = from;
    for (let failures = 0; !signal.aborted; ) {
      try {
        for await (const entry of log.read(position, signal, until)) {
          while (batcher.isFull && !signal.aborted) await changed.wait();
          if (signal.aborted) return;
          if (until !== undefined && entry.position >= until) return;
          if (entry.end <= batcher.position) batcher.pass(entry);
          else if (entry.kind === 'lost') throw lost(log.directory, entry);
          else if (!batcher.add(entry, clock.steadyMs())) {
            changed.notify();
            while (batcher.crossing !== undefined && !signal.aborted) await changed.wait();
            if (signal.aborted) return;
          }
          position = entry.end;
          failures = 0;
          this.#succeeded();
          changed.notify();
          // A long log leaves room for the database's answers.
          if (clock.steadyMs() < sliceEndMs) continue;
          await clock.yield();
          sliceEndMs = clock.steadyMs() + SLICE_MS;
        }
        // The log was closed.
        if (!signal.aborted) return;
      } catch (error) {
        this.#isFailing = true;
        onFailed(asError(error));
        await sleep(clock, retryDelayMs(++failures, true, random), signal);
      }
    }
  }

  #succeeded(): void {
    if (!this.#isFailing) return;
    this.#isFailing = false;
    this.#options.onRecovered();
  }
}

function lost(directory: string, { recordCount, position }: LogEntry): CairnError {
  return new CairnError(
    'ERR_WRITE_BACK',
    `${recordCount} records of the log in ${directory} behind position ${position} are lost: the database does not get them`,
  );
}
