// Deep equality for values that hold large buffers: vitest's own compares them element by element, for seconds.
import { isDeepStrictEqual } from 'node:util';
import { expect } from 'vitest';

/** Expects the two to be deeply and strictly equal; `what` names them in the failure. */
export function expectSame(actual: unknown, expected: unknown, what?: string): void {
  if (isDeepStrictEqual(actual, expected)) return;
  // Unequal: slow, but it says where.
  expect(actual, what).toStrictEqual(expected);
  expect.fail(`${what ?? 'The values'} differ`);
}
