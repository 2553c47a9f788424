/** Errors of loaders between threads: name, message and code travel; the rest stays in the loader's thread. */
import { inspect } from 'node:util';
import { CairnError, CairnRangeError, CairnTypeError, ERROR_KINDS, type ErrorCode } from '../errors.ts';

/** The most characters of an error's message in other threads. */
const MESSAGE_LENGTH_MAX = 8 * 1024;

/** The parts of an error that are sent. */
export function describeError(error: unknown): { message: string; name: string; code: string } {
  try {
    if (typeof error === 'object' && error !== null && 'message' in error) {
      const { message, name, code } = error as { message: unknown; name?: unknown; code?: unknown };
      return {
        message: String(message).slice(0, MESSAGE_LENGTH_MAX),
        name: typeof name === 'string' ? name.slice(0, 100) : 'Error',
        code: typeof code === 'string' || typeof code === 'number' ? JSON.stringify(code).slice(0, 200) : '',
      };
    }
    const message = typeof error === 'string' ? error : inspect(error, { depth: 1 });
    return { message: message.slice(0, MESSAGE_LENGTH_MAX), name: 'Error', code: '' };
  } catch {
    // A getter that throws, or an object that cannot be shown.
    return { message: 'The loader failed with something that cannot be described', name: 'Error', code: '' };
  }
}

const BUILT_IN_ERRORS: Readonly<Record<string, ErrorConstructor>> = {
  TypeError,
  RangeError,
  SyntaxError,
  ReferenceError,
  URIError,
  EvalError,
};

/** The error that another thread sent. */
export function reviveError(message: string, name: string, code: string): Error {
  let known: string | number | undefined;
  try {
    known = code === '' ? undefined : (JSON.parse(code) as string | number);
  } catch {
    known = code; // It was too long and is cut off.
  }
  if (typeof known === 'string' && Object.hasOwn(ERROR_KINDS, known)) {
    if (name === 'TypeError') return new CairnTypeError(known as ErrorCode, message);
    if (name === 'RangeError') return new CairnRangeError(known as ErrorCode, message);
    if (name === 'CairnError') return new CairnError(known as ErrorCode, message);
  }
  const error: Error & { code?: string | number } = new (BUILT_IN_ERRORS[name] ?? Error)(message);
  if (error.name !== name) Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  if (known !== undefined) error.code = known;
  return error;
}
