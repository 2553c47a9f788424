/**
 * The opening thread's side of read-through from one database: starts the loader, and another one if it dies or does
 * not answer. It runs
 * in a separate thread, `cairn loader`, if the database is an address or a module. A database that is an object of the
 * program is used in the thread that passed it. The loader ends with the cache.
 */
import { CairnError } from '../errors.ts';
import { type LoadHandle, native } from '../native.ts';
import type { ResolvedWarmUpOptions, StoreTarget } from '../options.ts';
import type { Rule } from '../rules/index.ts';
import { errorFrom } from '../scribe/index.ts';
import { newPulse, ServiceHere, ServiceThread, type Supervised, Supervisor } from '../supervisor.ts';
import { forgetWarmUp, type LoadLimits, newWarmUp, type WarmUpData } from '../write-back/index.ts';
import type { ReaderData, ReaderReport } from './message.ts';
import { ReadThroughService, type ReadThroughServiceOptions } from './service.ts';

export interface ReadThroughOptions {
  readonly cacheId: number;
  readonly store: StoreTarget;
  /** Its number among the databases of the cache. */
  readonly number: number;
  readonly rules: readonly Rule[];
  readonly loads: LoadLimits;
  readonly warmUp: ResolvedWarmUpOptions | undefined;
}

export class ReadThroughKeeper {
  readonly #options: ReadThroughOptions;
  readonly #pulse = newPulse();
  readonly #warmUp: WarmUpData | undefined;
  readonly #supervisor: Supervisor<Supervised>;

  /**
   * Starts to answer the misses of a cache from its database. Resolves when the database can be read, or does not
   * answer. Rejects if it is unfit, as with what its module throws.
   */
  static async open(options: ReadThroughOptions): Promise<void> {
    await new ReadThroughKeeper(options).#open();
  }

  private constructor(options: ReadThroughOptions) {
    this.#options = options;
    const { cacheId, warmUp } = options;
    this.#warmUp = warmUp === undefined ? undefined : { options: warmUp, numbers: newWarmUp(cacheId) };
    this.#supervisor = new Supervisor({
      start: (died) => this.#start(died),
      onStarted: () => {},
      onDeath: () => {},
      pulse: this.#pulse,
      task: 'reads from the database',
    });
  }

  async #open(): Promise<void> {
    try {
      await this.#supervisor.open();
    } catch (error) {
      this.#supervisor.end();
      throw error;
    }
  }

  #start(died: (cause: Error) => void): Supervised {
    const { cacheId, store, number, rules, loads } = this.#options;
    const warmUp = this.#warmUp;
    const report = (report: ReaderReport): void => this.#onReport(report);
    if (store.kind !== 'object') {
      const data: ReaderData = { cacheId, store, number, rules, loads, warmUp, pulse: this.#pulse };
      return new ServiceThread(WORKER_FILE, 'cairn loader', data, { report, died });
    }
    const handle = native.attachById(cacheId);
    if (typeof handle === 'number') throw new CairnError('ERR_CLOSED', 'The cache was closed');
    handle.useBackend(number);
    return new LoaderHere({
      ...{ handle: handle as LoadHandle, rules, loads, warmUp, pulse: this.#pulse, say: report },
      connect: async () => store.backend,
    });
  }

  // Later on, a module may have been taken away: requests do not wait for a loader that does not come.
  #refuse(error: Error): void {
    if (this.#supervisor.isUnfit(error)) return;
    const handle = native.attachById(this.#options.cacheId);
    if (typeof handle === 'number') return;
    handle.useBackend(this.#options.number);
    (handle as LoadHandle).failLoads(error.message);
    handle.close();
  }

  #onReport(report: ReaderReport): void {
    switch (report.kind) {
      case 'opened':
        this.#supervisor.isFit();
        break;
      case 'refused':
        this.#refuse(errorFrom(report.error));
        break;
      case 'closed':
        forgetWarmUp(this.#options.cacheId);
        this.#supervisor.end();
        break;
    }
  }
}

/** In the keeper's thread. */
class LoaderHere extends ServiceHere {
  readonly #service: ReadThroughService;

  constructor(options: ReadThroughServiceOptions) {
    super();
    this.#service = new ReadThroughService(options);
  }

  protected end(): void {
    this.#service.end();
  }
}

// Node 20 does not run TypeScript: from sources (in tests), the thread is the built one.
const WORKER_FILE: URL = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/read-through/worker.js' : './worker.js',
  import.meta.url,
);
