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

/** Waits the whole time, unless the signal comes before. */
export async function sleep(clock: WriterClock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      timer.stop();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = clock.after(ms, end);
    signal.addEventListener('abort', end);
  });
}

/** Waits for work, but only for this time; `Infinity`: however long it takes. */
export async function within(clock: WriterClock, ms: number, work: Promise<unknown>): Promise<void> {
  if (ms === Number.POSITIVE_INFINITY) {
    await work;
    return;
  }
  let timer: { stop(): void } | undefined;
  const late = new Promise<void>((resolve) => {
    timer = clock.after(ms, resolve);
  });
  try {
    await Promise.race([late, work]);
  } finally {
    timer?.stop();
  }
}
