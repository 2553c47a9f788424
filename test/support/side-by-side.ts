// Work that waits more than it computes, some of it at a time.

/** Returns a function that calls what it is given, in order, at most `count` calls at a time. */
export function limited(count: number): <T>(call: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (call) => {
    if (running === count) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await call();
    } finally {
      // The place goes to the one that has waited longest.
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    }
  };
}
