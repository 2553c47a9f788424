/**
 * Admission to the queue: counts the accepted requests that are not answered yet, and their bytes; refuses when there
 * are too many, and says when to retry.
 *
 * A call enters as a whole or not at all. It is refused if its requests would exceed `requestsMax`, or if `bytesMax`
 * has been reached. Two exceptions keep every call possible: a call of any size may enter an empty queue, and a call
 * that starts below `bytesMax` may pass it. So the limits are these two and one call more.
 *
 * After a refusal the queue drains: `onDrain` is called once, when at most half of both limits is in use and every
 * refused call would be admitted by itself. Half, because a busy queue may never be empty, and a queue with one free
 * place is full again before a refused call can retry.
 */
export interface AdmissionBounds {
  readonly requestsMax: number;
  readonly bytesMax: number;
}

export class Admission {
  readonly bounds: AdmissionBounds;
  #requestCount = 0;
  #bytes = 0;
  #refused = false;
  // The queue has room while it has at most this many requests.
  #roomAt: number;
  #drained: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;
  readonly #onDrain: () => void;

  /** `onDrain` is called from leave(): it must not throw. */
  constructor(bounds: AdmissionBounds, onDrain: () => void) {
    this.bounds = bounds;
    this.#roomAt = Math.floor(bounds.requestsMax / 2);
    this.#onDrain = onDrain;
  }

  /** Requests that have entered and not left. */
  get requestCount(): number {
    return this.#requestCount;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Admits the requests of one call, all of them or none. False: none. */
  enter(requestCount: number): boolean {
    const { requestsMax, bytesMax } = this.bounds;
    const fits = this.#requestCount + requestCount <= requestsMax && this.#bytes < bytesMax;
    if (!fits && this.#requestCount !== 0) {
      this.#refused = true;
      this.#roomAt = Math.max(0, Math.min(this.#roomAt, requestsMax - requestCount));
      return false;
    }
    this.#requestCount += requestCount;
    return true;
  }

  /** Adds the bytes of requests that have entered, once they are known. */
  addBytes(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Counts requests that are about to leave once more, because their answers wait for the log. */
  stay(requestCount: number, bytes: number): void {
    this.#requestCount += requestCount;
    this.#bytes += bytes;
  }

  leave(requestCount: number, bytes: number): void {
    this.#requestCount -= requestCount;
    this.#bytes -= bytes;
    if (!this.#hasRoom()) return;
    this.#roomAt = Math.floor(this.bounds.requestsMax / 2);
    if (this.#drained !== undefined) {
      this.#drained.resolve();
      this.#drained = undefined;
    }
    if (this.#refused) {
      this.#refused = false;
      this.#onDrain();
    }
  }

  /** Resolves when there is room (see above), at once if there is. All waiters share one promise. */
  drained(): Promise<void> {
    if (this.#hasRoom()) return Promise.resolve();
    if (this.#drained === undefined) {
      let resolve: () => void = () => {};
      const promise = new Promise<void>((settle) => {
        resolve = settle;
      });
      this.#drained = { promise, resolve };
    }
    return this.#drained.promise;
  }

  #hasRoom(): boolean {
    return this.#requestCount <= this.#roomAt && this.#bytes * 2 <= this.bounds.bytesMax;
  }
}
