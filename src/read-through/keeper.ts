/**
 * The opening thread's side of read-through: starts the loader, and another one if it dies or does not answer. It runs
 * in a separate thread, `cairn loader`, if the database is an address or a module. A database that is an object of the
 * program is used in the thread that passed it. The loader ends with the cache.
 */
import { CairnError } from '../errors.ts';
import { type LoadHandle, native } from '../native.ts';
import type { StoreTarget } from '../options.ts';
import type { Rule } from '../rules/index.ts';
import { errorFrom } from '../scribe/index.ts';
import { newPulse, ServiceThread, type Supervised, Supervisor } from '../supervisor.ts';
import type { LoadLimits } from '../write-back/index.ts';
import type { ReaderData, ReaderReport } from './message.ts';
import { ReadThroughService } from './service.ts';

/** How long opening a cache waits for the database's first answer. A database that is away does not keep it closed. */
const OPENING_MS = 5000;

export interface ReadThroughOptions {
  readonly cacheId: number;
  readonly store: StoreTarget;
  readonly rules: readonly Rule[];
  readonly loads: LoadLimits;
}

export class ReadThroughKeeper {
  readonly #options: ReadThroughOptions;
  readonly #pulse = newPulse();
  readonly #supervisor: Supervisor<Supervised>;
  #onOpened: { resolve(): void; reject(error: Error): void } | undefined;

  /**
   * Starts to answer the misses of a cache from its database. Resolves when the database can be read, or does not
   * answer. Rejects if it is unfit, as with what its module throws.
   */
  static async open(options: ReadThroughOptions): Promise<void> {
    await new ReadThroughKeeper(options).#open();
  }

  private constructor(options: ReadThroughOptions) {
    this.#options = options;
    this.#supervisor = new Supervisor({
      start: (died) => this.#start(died),
      onStarted: () => {},
      onDeath: () => {},
      pulse: this.#pulse,
      task: 'reads from the database',
    });
  }

  async #open(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const opened = new Promise<void>((resolve, reject) => {
      this.#onOpened = { resolve, reject };
      timer = setTimeout(resolve, OPENING_MS);
    });
    this.#supervisor.begin();
    try {
      await this.#supervisor.holdWhile(opened);
    } catch (error) {
      this.#supervisor.end();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#onOpened = undefined;
    }
  }

  #start(died: (cause: Error) => void): Supervised {
    const { cacheId, store, rules, loads } = this.#options;
    const report = (report: ReaderReport): void => this.#onReport(report);
    if (store.kind !== 'object') {
      const data: ReaderData = { cacheId, store, rules, loads, pulse: this.#pulse };
      return new ServiceThread(WORKER_FILE, 'cairn loader', data, { report, died });
    }
    const handle = native.attachById(cacheId);
    if (typeof handle === 'number') throw new CairnError('ERR_CLOSED', 'The cache was closed');
    const service = new ReadThroughService({
      ...{ handle: handle as LoadHandle, rules, loads, pulse: this.#pulse, say: report },
      connect: async () => store.backend,
    });
    let holder: NodeJS.Timeout | undefined;
    return {
      hold(yes) {
        clearInterval(holder);
        if (yes) holder = setInterval(() => {}, 1000);
      },
      kill() {
        clearInterval(holder);
        service.end();
      },
    };
  }

  // Later on, a module may have been taken away: requests do not wait for a loader that does not come.
  #refuse(error: Error): void {
    if (this.#onOpened !== undefined) {
      this.#onOpened.reject(error);
      return;
    }
    const handle = native.attachById(this.#options.cacheId);
    if (typeof handle === 'number') return;
    (handle as LoadHandle).failLoads(error.message);
    handle.close();
  }

  #onReport(report: ReaderReport): void {
    switch (report.kind) {
      case 'opened':
        this.#onOpened?.resolve();
        break;
      case 'refused':
        this.#refuse(errorFrom(report.error));
        break;
      case 'closed':
        this.#supervisor.end();
        break;
    }
  }
}

// Node 20 does not run TypeScript: from sources (in tests), the thread is the built one.
const WORKER_FILE: URL = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/read-through/worker.js' : './worker.js',
  import.meta.url,
);
