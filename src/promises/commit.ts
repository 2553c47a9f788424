/**
 * The promised commit of an atomic batch. It has its place in the queue behind all calls that were made before it, as a
 * clear has, and is then executed on this thread. If the log has no room, it is tried again for a while.
 */
import type { Commits } from '../commits.ts';
import { CairnError, errorKind } from '../errors.ts';
import { ATOMIC_RETRY_MS, ATOMIC_TRIES_MAX } from '../limits.ts';
import { type Patience, wait } from '../patience.ts';
import type { Failure } from '../router/index.ts';
import { failureError, maybeLost } from './call.ts';

export interface CommitParts {
  /** What the caller has called. */
  readonly name: string;
  readonly patience: Patience | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  /** All or nothing: the error if nothing was done. */
  readonly execute: () => Error | undefined;
  /** It was done. */
  readonly done: () => void;
  /** Undefined: there is no log. */
  readonly commits: Commits | undefined;
  /** The answer waits for the log. */
  readonly isHeld: boolean;
  /** Resolves after the time for which changes are slowed; undefined: they are not. */
  readonly slowed: () => Promise<void> | undefined;
}

export class Commit {
  readonly #parts: CommitParts;
  readonly #stopWaiting: (() => void) | undefined;
  #isSettled = false;
  #isDone = false;
  #triesLeft = ATOMIC_TRIES_MAX;

  constructor(parts: CommitParts) {
    this.#parts = parts;
    const { patience, name } = parts;
    if (patience === undefined) return;
    this.#stopWaiting = wait(patience, 'caller', {
      late: (timeoutMs) => {
        const outcome = this.#isDone ? 'it was done, but may be lost in a crash' : 'nothing was done';
        this.#end(new CairnError('ERR_TIMEOUT', `No answer to ${name} within ${timeoutMs} ms: ${outcome}`));
      },
      aborted: (reason) => this.#end(reason),
    });
  }

  /** All calls made before have been executed. */
  pass(failure: Failure | undefined): void {
    if (failure === undefined) this.#try();
    else this.#end(failureError(failure, this.#parts.name));
  }

  #try(): void {
    if (this.#isSettled) return;
    const { execute, done, commits, isHeld, slowed, name } = this.#parts;
    const error = execute();
    if (error !== undefined) {
      if (this.#mayTryAgain(error)) setTimeout(() => this.#try(), ATOMIC_RETRY_MS);
      else this.#end(error);
      return;
    }
    this.#isDone = true;
    done();
    const logged = isHeld ? commits?.all((why) => maybeLost(name, why)) : undefined;
    const waits = [logged, slowed()].filter((wait) => wait !== undefined);
    if (waits.length === 0) this.#end(undefined);
    else {
      Promise.all(waits).then(
        () => this.#end(undefined),
        (why) => this.#end(why),
      );
    }
  }

  // The log, or the database, may make room; a disk that is full may not, and the caller is told.
  #mayTryAgain(error: Error): boolean {
    const isFull = errorKind(error) === 'refused' && (error as CairnError).code === 'ERR_LOG_FULL';
    return isFull && this.#parts.commits?.isRunning === true && --this.#triesLeft > 0;
  }

  #end(error: unknown): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#stopWaiting?.();
    if (error === undefined) this.#parts.resolve();
    else this.#parts.reject(error);
  }
}
