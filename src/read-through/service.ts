/**
 * A loader at work for a cache that only reads its database, in whichever thread: opens the database, answers loads,
 * and ends with the cache.
 */
import type { Backend } from '../backend/index.ts';
import { type Looker, lookers } from '../native/wake.ts';
import type { LoadHandle } from '../native.ts';
import { type Rule, RuleSet } from '../rules/index.ts';
import { plainError } from '../scribe/index.ts';
import { beat, PULSE_MS } from '../supervisor.ts';
import {
  CALL_TIMEOUT_MS,
  Connection,
  isUnfit,
  LoaderService,
  type LoadLimits,
  type LoadSource,
  quietClock,
  WarmUp,
  type WarmUpData,
} from '../write-back/index.ts';
import type { ReaderReport } from './message.ts';

export interface ReadThroughServiceOptions {
  /** Of the cache. The service closes it at its end. */
  readonly handle: LoadHandle;
  readonly connect: () => Promise<Backend>;
  readonly rules: readonly Rule[];
  readonly loads: LoadLimits;
  readonly warmUp: WarmUpData | undefined;
  readonly pulse: SharedArrayBuffer;
  readonly say: (report: ReaderReport) => void;
}

export class ReadThroughService implements LoadSource, Looker {
  readonly #options: ReadThroughServiceOptions;
  readonly #connection: Connection;
  readonly #loader: LoaderService;
  readonly #warmUp: WarmUp | undefined;
  readonly #ending = new AbortController();
  readonly #beating: NodeJS.Timeout;
  /** The cache writes nothing: no state of the database is behind another. */
  readonly reached = [];

  constructor(options: ReadThroughServiceOptions) {
    const { handle, connect, rules, loads, warmUp, pulse } = options;
    this.#options = options;
    this.#connection = new Connection({ connect, callTimeoutMs: CALL_TIMEOUT_MS, clock: quietClock });
    this.#loader = new LoaderService({
      ...{ handle, source: this },
      stubs: undefined,
      rules: RuleSet.from(rules),
      ...{ limits: loads, clock: quietClock, random: Math.random },
      on: { asked: () => {}, failed: () => {}, opened: () => {} },
    });
    if (warmUp !== undefined) {
      this.#warmUp = new WarmUp({
        ...{ cacheId: handle.cacheId, ...warmUp, use: (run) => this.use(run), rules: RuleSet.from(rules) },
        ...{ clock: quietClock, random: Math.random },
      });
    }
    this.#beating = setInterval(() => beat(pulse), PULSE_MS).unref();
    lookers.add(this);
    void this.#open();
    this.look();
  }

  /** Ends with the cache. */
  look(): void {
    if (this.#options.handle.isClosed()) this.end();
  }

  end(): void {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    lookers.delete(this);
    this.#warmUp?.close();
    this.#loader.close();
    this.#options.handle.close();
    void this.#connection.disconnect().then(() => {
      clearInterval(this.#beating);
      this.#options.say({ kind: 'closed' });
    });
  }

  doubt(): void {
    // Any of its states is as good as another.
  }

  use<T>(run: (backend: Backend) => Promise<T>): Promise<T> {
    return this.#connection.use(run);
  }

  // A database that is away does not keep the cache closed; one that is unfit does.
  async #open(): Promise<void> {
    const outcome = await this.#connection.once(async () => {});
    if ('error' in outcome && isUnfit(outcome.error))
      this.#options.say({ kind: 'refused', error: plainError(outcome.error) });
    else this.#options.say({ kind: 'opened' });
  }
}
