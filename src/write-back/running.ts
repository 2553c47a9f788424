/**
 * A writer at work, as its keeper sees it. It runs in a separate thread, `cairn writer`, if the database is an address
 * or a module, which any thread can load. A database that is an object of the program is used in the thread that
 * passed it, and so the writer runs there too.
 */
import type { Backend } from '../backend/index.ts';
import { asError } from '../errors.ts';
import { LogReader } from '../log/index.ts';
import type { BackedHandle, LoadHandle } from '../native.ts';
import { type LogKeeper, RecordFinder } from '../scribe/index.ts';
import { ServiceHere, ServiceThread, type Supervised, type ThreadEvents } from '../supervisor.ts';
import { quietClock } from './clock.ts';
import { FilesLog } from './files-log.ts';
import { cursorOf, type WriterData, type WriterReport, type WriterTold } from './message.ts';
import { WriterService } from './service.ts';
import { storedMarks } from './stored-marks.ts';

/** A writer that the keeper's thread talks to, wherever it runs. */
export interface RunningWriter extends Supervised {
  post(told: WriterTold): void;
}

/** What it tells the keeper. */
export type RunningEvents = ThreadEvents<WriterReport>;

/** In a separate thread. */
export class WriterThread extends ServiceThread<WriterReport> implements RunningWriter {
  constructor(data: WriterData, on: RunningEvents) {
    super(WORKER_FILE, 'cairn writer', data, on);
  }

  post(told: WriterTold): void {
    this.worker.postMessage(told);
  }
}

/** What one in the keeper's thread is made with. */
export interface WriterHereOptions extends Omit<WriterData, 'cacheId' | 'store'> {
  readonly backend: Backend;
  readonly log: LogKeeper;
  readonly handle: LoadHandle & BackedHandle;
}

/** In the keeper's thread. */
export class WriterHere extends ServiceHere implements RunningWriter {
  readonly #service: Promise<WriterService>;
  #isOver = false;

  constructor(options: WriterHereOptions, on: RunningEvents) {
    super();
    const die = (cause: unknown): void => {
      if (!this.#isOver) on.died(asError(cause));
    };
    this.#service = this.#start(options, on);
    this.#service.then((service) => service.ended).catch(die);
  }

  async #start(
    { backend, log, files, seat, options, ...given }: WriterHereOptions,
    on: RunningEvents,
  ): Promise<WriterService> {
    const confirmed = (await log.cursor(cursorOf(seat.name)).position()) ?? 0n;
    return new WriterService({
      ...given,
      log: new FilesLog({ files, scribe: log, store: seat.name, confirmed, syncs: options.syncsLog }),
      marksOf: storedMarks(files, given.handle, options.dropsRefused, seat.name),
      finder: new RecordFinder(given.handle, new LogReader(files)),
      connect: async () => backend,
      seat,
      options,
      clock: quietClock,
      random: Math.random,
      say: (report) => {
        if (!this.#isOver) on.report(report);
      },
    });
  }

  post(told: WriterTold): void {
    void this.#service.then((service) => service.obey(told)).catch(() => {});
  }

  protected end(): void {
    this.#isOver = true;
    this.post({ kind: 'close', id: 0, timeoutMs: 1, finishes: false });
  }
}

// Node 20 does not run TypeScript: from sources (in tests), the thread is the built one.
const WORKER_FILE: URL = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/write-back/worker.js' : './worker.js',
  import.meta.url,
);
