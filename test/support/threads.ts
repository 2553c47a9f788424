// Threads and processes for tests that need more than one: they use the built package (dist/), because Node cannot run
// TypeScript, and the same addon as the test itself.

import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type * as Cairn from '../../src/index.ts';

const library = new URL('../../dist/index.js', import.meta.url).href;

/** What the program of a thread has to work with, beside what Node has. */
export interface ThreadTools<D> {
  cairn: typeof Cairn;
  data: D;
  /** Sends something to the test. */
  say(message: unknown): void;
  /** The next thing that the test sends. */
  hear(): Promise<unknown>;
  /** Imports a module of the built package, such as 'loads.js'. */
  load(file: string): Promise<Record<string, never>>;
}

/**
 * A worker thread that runs `program`, of which only the text is taken: it can use its argument and nothing else around
 * it. An error that it throws is one of `messages()`'s and `exit`'s.
 */
export class Thread {
  readonly worker: Worker;
  /** Resolves with the exit code; rejects if the program failed. */
  readonly exit: Promise<number>;
  /** Rejects if the program failed. Otherwise it stays as it is: for a race with what the test waits for. */
  readonly failure: Promise<never>;
  #heard: unknown[] = [];
  #listeners: (() => void)[] = [];

  constructor(worker: Worker) {
    this.worker = worker;
    worker.on('message', (message) => {
      this.#heard.push(message);
      for (const wake of this.#listeners.splice(0)) wake();
    });
    this.exit = once(worker, 'exit').then(([code]) => code as number);
    this.failure = new Promise((_, reject) => this.exit.catch(reject));
    // Of a test that does not look at them.
    this.failure.catch(() => {});
  }

  /** The next thing that the program says; rejects if it ends without. */
  async next(): Promise<unknown> {
    while (this.#heard.length === 0) {
      const said = new Promise<'said'>((resolve) => this.#listeners.push(() => resolve('said')));
      const ended = this.exit.then(() => 'ended');
      if ((await Promise.race([said, ended])) === 'ended' && this.#heard.length === 0) {
        throw new Error('The thread ended and has nothing more to say');
      }
    }
    return this.#heard.shift();
  }

  tell(message: unknown): void {
    this.worker.postMessage(message);
  }
}

/** Starts a thread. */
export function startThread<D>(program: (tools: ThreadTools<D>) => unknown, data: D): Thread {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const say = (message) => parentPort.postMessage(message);
    const heard = [];
    const waiting = [];
    parentPort.on('message', (message) => waiting.length > 0 ? waiting.shift()(message) : heard.push(message));
    parentPort.unref();
    const hear = () => heard.length > 0 ? heard.shift() : new Promise((resolve) => {
      parentPort.ref();
      waiting.push((message) => { parentPort.unref(); resolve(message); });
    });
    const load = (file) => import(new URL(file, ${JSON.stringify(library)}).href);
    import(${JSON.stringify(library)}).then((cairn) => (${program})({ cairn, data: workerData, say, hear, load }));
  `;
  return new Thread(new Worker(code, { eval: true, workerData: data }));
}

/**
 * Runs a program in a new process to its end, and fails if that takes too long: it should have ended by itself. It has
 * `Cache`, and `startWorker(code)`, whose code has `Cache` too.
 */
export function runProgram(code: string): SpawnSyncReturns<string> {
  const from = JSON.stringify(library);
  const program = `
    import { Cache } from ${from};
    import { Worker } from 'node:worker_threads';
    const startWorker = (code) => new Worker('import(' + ${JSON.stringify(from)} + ').then(({ Cache }) => {' + code + '})', { eval: true });
    ${code}`;
  const result = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    encoding: 'utf8',
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  if (result.signal !== null)
    throw new Error(`The program did not end by itself. It said: ${result.stdout}${result.stderr}`);
  return result;
}

/** Resolves once the condition holds. A condition that never does is the test's time limit's business. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** A promise with its two ends. */
export interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export function deferred<T = void>(): Deferred<T> {
  let ends: Omit<Deferred<T>, 'promise'> | undefined;
  const promise = new Promise<T>((resolve, reject) => {
    ends = { resolve, reject };
  });
  return { promise, ...ends! };
}
