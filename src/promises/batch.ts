/** The atomic batch whose commit is promised. */
import { OpenBatch } from '../atomic.ts';
import type { CallOptions } from '../options.ts';
import type { Calls } from './calls.ts';

/** The sets and deletes of `cache.promises.batch()`. */
export class PromisedAtomicBatch<V = unknown> extends OpenBatch<V> {
  readonly #calls: Calls;

  /** @internal */
  constructor(calls: Calls) {
    super();
    this.#calls = calls;
  }

  /**
   * Does all sets and deletes, in their order, at one moment. If it rejects with `ERR_BATCH_TOO_LARGE`,
   * `ERR_VALUE_TOO_LARGE`, `ERR_LOG_FULL`, `ERR_OUT_OF_MEMORY` or `ERR_QUEUE_FULL`, nothing was done, and the batch can
   * be committed again. With `timeout` or `signal`, a batch that has not been done by then is not done.
   */
  async commit(options?: CallOptions): Promise<void> {
    const parts = this.partsFor('commit');
    this.isOpen = false;
    let isDone = false;
    try {
      await this.#calls.commit(parts, options, () => {
        isDone = true;
      });
    } finally {
      this.isOpen = !isDone;
    }
  }
}
