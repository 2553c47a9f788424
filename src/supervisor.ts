/**
 * Keeps a service running beside this thread, usually in another one: starts it again if it dies, or if its event
 * loop stands still. Threads that die young are started again less and less often.
 */

import { SHARE_ENV, Worker } from 'node:worker_threads';
import { asError } from './errors.ts';

/** A thread whose event loop stands still for this time is ended, and another one started. */
const SILENCE_MS = 10_000;
/** The wait before a thread is started again, doubled while threads die young. */
const RESTART_MS_FIRST = 100;
const RESTART_MS_MAX = 30_000;
/** A thread that has lived this long did not die young. */
const OLD_MS = 60_000;
/** How long the first service may take to say that it is fit. One that does not answer counts as fit. */
const OPENING_MS = 5000;

/** How often a service shows that its event loop turns. */
export const PULSE_MS = 250;

/** The memory of a pulse. */
export function newPulse(): SharedArrayBuffer {
  return new SharedArrayBuffer(4);
}

/** The service's event loop turns. */
export function beat(pulse: SharedArrayBuffer): void {
  Atomics.add(new Int32Array(pulse), 0, 1);
}

/** A service that runs. */
export interface Supervised {
  /** Whether it keeps the process alive. */
  hold(yes: boolean): void;
  /** Ends it as it is. */
  kill(): void;
}

export interface SupervisorOptions<S extends Supervised> {
  /** Starts it; again after each death. It calls `died` when it has ended by itself. */
  readonly start: (died: (cause: Error) => void) => S;
  /** It runs: called after each start. */
  readonly onStarted: (running: S) => void;
  /** It has died. `isLast`: no other will be started. */
  readonly onDeath: (cause: Error, isLast: boolean) => void;
  /** Of newPulse(): the service beats it. */
  readonly pulse: SharedArrayBuffer;
  /** What the thread does, as messages say it. */
  readonly task: string;
}

export class Supervisor<S extends Supervised> {
  readonly #options: SupervisorOptions<S>;
  #running: S | undefined;
  #startedMs = 0;
  #youngDeaths = 0;
  #restart: NodeJS.Timeout | undefined;
  #watch: NodeJS.Timeout | undefined;
  #holders = 0;
  #isLast = false;
  /** Until the service has been opened. */
  #opening: { resolve(): void; reject(error: Error): void } | undefined;

  constructor(options: SupervisorOptions<S>) {
    this.#options = options;
  }

  /** The service; undefined: it has died, and another one may come. */
  get running(): S | undefined {
    return this.#running;
  }

  /** It runs, or another one will. */
  get isThere(): boolean {
    return this.#running !== undefined || this.#restart !== undefined;
  }

  /** Starts the service. Resolves when it is fit, or does not say so in time. Rejects with why it is not. */
  async open(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const opened = new Promise<void>((resolve, reject) => {
      this.#opening = { resolve, reject };
      timer = setTimeout(resolve, OPENING_MS);
    });
    this.#start();
    this.#watchPulse();
    try {
      await this.holdWhile(opened);
    } finally {
      clearTimeout(timer);
      this.#opening = undefined;
    }
  }

  /** The service is fit. */
  isFit(): void {
    this.#opening?.resolve();
  }

  /** It is not. False: it has been opened by then. */
  isUnfit(error: Error): boolean {
    this.#opening?.reject(error);
    return this.#opening !== undefined;
  }

  /** The service keeps the process alive while the promise is open. */
  async holdWhile<T>(promise: Promise<T>): Promise<T> {
    if (++this.#holders === 1) {
      this.#running?.hold(true);
      this.#restart?.ref();
    }
    try {
      return await promise;
    } finally {
      if (--this.#holders === 0) {
        this.#running?.hold(false);
        this.#restart?.unref();
      }
    }
  }

  /** After its death no other is started. */
  isLast(): void {
    this.#isLast = true;
  }

  end(): void {
    this.#isLast = true;
    clearTimeout(this.#restart);
    clearInterval(this.#watch);
    this.#running?.kill();
  }

  #start(): void {
    this.#startedMs = performance.now();
    this.#restart = undefined;
    let running: S | undefined;
    running = this.#options.start((cause) => {
      if (this.#running === running) this.#onDeath(cause);
    });
    this.#running = running;
    if (this.#holders > 0) running.hold(true);
    this.#options.onStarted(running);
  }

  #onDeath(cause: Error): void {
    this.#running?.kill();
    this.#running = undefined;
    this.#options.onDeath(cause, this.#isLast);
    if (this.#isLast) return;
    this.#youngDeaths = performance.now() - this.#startedMs < OLD_MS ? this.#youngDeaths + 1 : 1;
    const waitMs = Math.min(RESTART_MS_MAX, RESTART_MS_FIRST * 2 ** (this.#youngDeaths - 1));
    this.#restart = setTimeout(() => this.#start(), waitMs);
    if (this.#holders === 0) this.#restart.unref();
  }

  // Counts the looks at which the pulse has not grown: this thread may have been busy itself between two of them.
  #watchPulse(): void {
    const words = new Int32Array(this.#options.pulse);
    let beats = 0;
    let silentMs = 0;
    this.#watch = setInterval(() => {
      const now = Atomics.load(words, 0);
      silentMs = now === beats ? silentMs + PULSE_MS : 0;
      beats = now;
      // Between two threads there is none that could answer.
      if (this.#running === undefined) silentMs = 0;
      if (silentMs < SILENCE_MS) return;
      silentMs = 0;
      this.#onDeath(new Error(`The thread that ${this.#options.task} has not answered for ${SILENCE_MS} ms`));
    }, PULSE_MS).unref();
  }
}

/** A service in the thread that starts it, which it keeps alive by a timer. */
export abstract class ServiceHere implements Supervised {
  #holder: NodeJS.Timeout | undefined;

  hold(yes: boolean): void {
    clearInterval(this.#holder);
    if (yes) this.#holder = setInterval(() => {}, 1000);
  }

  kill(): void {
    this.hold(false);
    this.end();
  }

  protected abstract end(): void;
}

/** What a thread tells. */
export interface ThreadEvents<R> {
  report(report: R): void;
  died(cause: Error): void;
}

/** A service in a separate thread, which reports by messages to its parent. */
export class ServiceThread<R> implements Supervised {
  readonly worker: Worker;

  /** `data`: its workerData. */
  constructor(file: URL, name: string, data: unknown, on: ThreadEvents<R>) {
    let cause: Error | undefined;
    // Not the program's options: its loaders and instrumentation have nothing to do there.
    this.worker = new Worker(file, { workerData: data, env: SHARE_ENV, execArgv: [], name });
    this.worker.unref();
    this.worker.on('message', on.report);
    this.worker.on('error', (error) => {
      cause = asError(error);
    });
    this.worker.on('exit', (code) => on.died(cause ?? new Error(`The thread has ended with code ${code}`)));
  }

  hold(yes: boolean): void {
    if (yes) this.worker.ref();
    else this.worker.unref();
  }

  kill(): void {
    void this.worker.terminate();
  }
}
