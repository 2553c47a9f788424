/** The time of the writer, which tests move by hand. */

export interface WriterClock {
  /** Never goes back. */
  steadyMs(): number;
  wallMs(): number;
  /** Calls back once, after `ms` milliseconds, unless it is stopped before. */
  after(ms: number, callback: () => void): { stop(): void };
  /** Resolves after other work of the thread's event loop has had its turn. */
  yield(): Promise<void>;
}

/** The machine's time. */
export const systemClock: WriterClock = {
  steadyMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    return { stop: () => clearTimeout(timer) };
  },
  yield: () => new Promise((resolve) => setImmediate(resolve)),
};

/** The same for a thread of the program, which it does not keep alive. */
export const quietClock: WriterClock = {
  ...systemClock,
  after(ms, callback) {
    const timer = setTimeout(callback, ms).unref();
    return { stop: () => clearTimeout(timer) };
  },
};
