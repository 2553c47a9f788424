/** The atomic batch whose commit is promised. */
import { AtomicParts, atomicTtlOf, type BatchSetOptions, committedBefore } from '../atomic.ts';
import type { CallOptions } from '../options.ts';
import type { Key } from '../request/arguments.ts';
import type { Calls } from './calls.ts';

/** The sets and deletes of `cache.promises.batch()`. */
export class PromisedAtomicBatch<V = unknown> {
  readonly #calls: Calls;
  readonly #parts = new AtomicParts();
  #isOpen = true;

  /** @internal */
  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** The number of sets and deletes so far. */
  get size(): number {
    return this.#parts.count;
  }

  /** Adds a set, as the synchronous batch does. */
  set(key: Key, value: V, options?: BatchSetOptions): this {
    this.#partsOf('set').set(key, value, atomicTtlOf(options));
    return this;
  }

  /** Adds a delete. */
  delete(key: Key): this {
    this.#partsOf('delete').delete(key);
    return this;
  }

  /**
   * Does all sets and deletes, in their order, at one moment. If it rejects with `ERR_BATCH_TOO_LARGE`,
   * `ERR_VALUE_TOO_LARGE`, `ERR_LOG_FULL`, `ERR_OUT_OF_MEMORY` or `ERR_QUEUE_FULL`, nothing was done, and the batch can
   * be committed again. With `timeout` or `signal`, a batch that has not been done by then is not done.
   */
  async commit(options?: CallOptions): Promise<void> {
    const parts = this.#partsOf('commit');
    this.#isOpen = false;
    let isDone = false;
    try {
      await this.#calls.commit(parts, options, () => {
        isDone = true;
      });
    } finally {
      this.#isOpen = !isDone;
    }
  }

  #partsOf(verb: string): AtomicParts {
    if (!this.#isOpen) throw committedBefore(verb);
    return this.#parts;
  }
}
