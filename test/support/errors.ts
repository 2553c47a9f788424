// What tests expect of an error: its code, and where it matters its text.
import { expect } from 'vitest';
import type { ErrorCode } from '../../src/index.ts';

/** For `toThrow(...)` and `rejects.toThrow(...)`. */
export function withCode(code: ErrorCode, message?: RegExp): Error {
  const shape: Record<string, unknown> = { code };
  if (message !== undefined) shape['message'] = expect.stringMatching(message);
  return expect.objectContaining(shape);
}
