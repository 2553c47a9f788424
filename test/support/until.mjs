// Waiting for a condition that something else brings about.

const PATIENCE_MS = 60_000;
const PAUSE_MS = 20;

/** Asks until the answer is neither undefined nor an error, and resolves to it. `what`: is expected, for the error. */
export async function until(ask, what) {
  const end = performance.now() + PATIENCE_MS;
  let cause;
  while (performance.now() < end) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      cause = error;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  throw new Error(`Expected ${what} within ${PATIENCE_MS / 1000} s`, { cause });
}
