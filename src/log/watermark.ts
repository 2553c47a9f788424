/**
 * How far a log is, in memory that all threads share: the thread that has the log publishes, readers anywhere wait for
 * more. Hand `shared` to another thread to read there.
 */
import type { Position, ReadLevel } from './request-log.ts';

// Missing from the library of es2023, present in every Node that we support.
type WaitAsync = (
  cells: Int32Array,
  index: number,
  value: number,
) => { async: false; value: string } | { async: true; value: Promise<string> };
const { waitAsync } = Atomics as unknown as { waitAsync: WaitAsync };

const COMMITTED = 0;
const DURABLE = 1;
const END = 2;
const SEGMENT = 3;

const CHANGES = 0;
const CLOSED = 1;

/** Bytes of `shared`. */
export const PROGRESS_BYTES = 64;

export class Watermark {
  readonly shared: SharedArrayBuffer;
  readonly #positions: BigInt64Array;
  readonly #words: Int32Array;

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(PROGRESS_BYTES)) {
    this.shared = shared;
    this.#positions = new BigInt64Array(shared, 0, 4);
    this.#words = new Int32Array(shared, 32, 2);
  }

  /** What readers of a level may read: everything before this position. */
  at(level: ReadLevel): Position {
    return Atomics.load(this.#positions, level === 'durable' ? DURABLE : COMMITTED);
  }

  get end(): Position {
    return Atomics.load(this.#positions, END);
  }

  /** The number of the segment that is written. Not less than any that `at()` has said before needs. */
  get segment(): number {
    return Number(Atomics.load(this.#positions, SEGMENT));
  }

  get isClosed(): boolean {
    return Atomics.load(this.#words, CLOSED) !== 0;
  }

  publish(state: { committed: Position; durable: Position; end: Position; segment: number }): void {
    // The segment first: a reader that sees a position must find its segment.
    Atomics.store(this.#positions, SEGMENT, BigInt(state.segment));
    Atomics.store(this.#positions, END, state.end);
    Atomics.store(this.#positions, COMMITTED, state.committed);
    Atomics.store(this.#positions, DURABLE, state.durable);
    this.#wakeAll();
  }

  close(): void {
    Atomics.store(this.#words, CLOSED, 1);
    this.#wakeAll();
  }

  /** Resolves when there is more than `position` to be read, the log is closed, or the signal is raised. */
  async wait(level: ReadLevel, position: Position, signal?: AbortSignal): Promise<void> {
    let stop: () => void = () => {};
    const stopped = new Promise<void>((resolve) => {
      stop = resolve;
    });
    signal?.addEventListener('abort', stop, { once: true });
    try {
      for (;;) {
        // Before the look at the position: a change that comes after the look ends the wait at once.
        const changes = Atomics.load(this.#words, CHANGES);
        if (this.at(level) > position || this.isClosed || signal?.aborted) return;
        const waiting = waitAsync(this.#words, CHANGES, changes);
        if (waiting.async) await Promise.race([waiting.value, stopped]);
      }
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  #wakeAll(): void {
    Atomics.add(this.#words, CHANGES, 1);
    Atomics.notify(this.#words, CHANGES);
  }
}
