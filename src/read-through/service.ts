/**
 * A loader at work for a cache that only reads its database, in whichever thread: opens the database, answers loads,
 * and ends with the cache.
 */
import type { Backend } from '../backend/index.ts';
import { errorKind } from '../errors.ts';
import { type Looker, lookers } from '../native/wake.ts';
import type { LoadHandle } from '../native.ts';
import { type Rule, RuleSet } from '../rules/index.ts';
import { plainError } from '../scribe/index.ts';
import { beat, PULSE_MS } from '../supervisor.ts';
import { Calls, LoaderService, type LoadLimits, type LoadSource, quietClock } from '../write-back/index.ts';
import type { ReaderReport } from './message.ts';

/** A call of the database that takes longer counts as failed. Its own limits are shorter, and say more. */
const CALL_TIMEOUT_MS = 120_000;

export interface ReadThroughServiceOptions {
  /** Of the cache. The service closes it at its end. */
  readonly handle: LoadHandle;
  readonly connect: () => Promise<Backend>;
  readonly rules: readonly Rule[];
  readonly loads: LoadLimits;
  readonly pulse: SharedArrayBuffer;
  readonly say: (report: ReaderReport) => void;
}

export class ReadThroughService implements LoadSource, Looker {
  readonly #options: ReadThroughServiceOptions;
  readonly #calls: Calls;
  readonly #loader: LoaderService;
  readonly #ending = new AbortController();
  readonly #beating: NodeJS.Timeout;
  /** The cache writes nothing: no state of the database is behind another. */
  readonly reached = 0n;

  constructor(options: ReadThroughServiceOptions) {
    const { handle, connect, rules, loads, pulse } = options;
    this.#options = options;
    this.#calls = new Calls({
      ...{ connect, callTimeoutMs: CALL_TIMEOUT_MS, clock: quietClock, random: Math.random },
      ending: this.#ending.signal,
      onFailed: () => {},
    });
    this.#loader = new LoaderService({
      ...{ handle, source: this },
      stubs: undefined,
      rules: rules.length === 0 ? undefined : new RuleSet(rules),
      ...{ limits: loads, clock: quietClock, random: Math.random },
      on: { asked: () => {}, failed: () => {}, opened: () => {} },
    });
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
    this.#loader.close();
    this.#options.handle.close();
    void this.#calls.disconnect().then(() => {
      clearInterval(this.#beating);
      this.#options.say({ kind: 'closed' });
    });
  }

  doubt(): void {
    // Any of its states is as good as another.
  }

  async use<T>(run: (backend: Backend) => Promise<T>): Promise<T> {
    const outcome = await this.#calls.once(run);
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }

  // A database that is away does not keep the cache closed; one that is unfit does.
  async #open(): Promise<void> {
    const outcome = await this.#calls.once(async () => {});
    const kind = 'error' in outcome ? errorKind(outcome.error) : undefined;
    const isUnfit = kind === 'misuse' || kind === 'refused';
    if (isUnfit && 'error' in outcome) this.#options.say({ kind: 'refused', error: plainError(outcome.error) });
    else this.#options.say({ kind: 'opened' });
  }
}
