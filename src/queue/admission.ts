/**
 * Who may enter the queue: counts the requests and bytes that were accepted and are not answered yet, refuses when
 * there are too many, and says when it is worth trying again.
 *
 * A call enters as a whole or not at all. It is refused when its requests would exceed `requestsMax`, or when
 * `bytesMax` has been reached. Two exceptions keep every call possible: into an empty queue a call of any size may
 * enter, and the bytes of the call that passes `bytesMax` are let in. So the bounds are those two and one call more.
 *
 * After a refusal the queue drains: `onDrain` is called once, as soon as at most half of both bounds is in use and
 * every call that was refused would be let in by itself. Half, because a queue that others keep busy may never be
 * empty, and one that has just one place is full again before the refused can try.
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

  /** Counts requests that are about to leave once more: they are answered, and the answer waits. */
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

  /** Resolves when there is room (see above): at once if there is. All who wait share one promise. */
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
