/** The error for a value that cannot be stored, and the name of the offending part. */
import { CairnTypeError, show } from '../errors.ts';

/** The error for a value that cannot be stored. */
export function notStorable(message: string, cause?: unknown): CairnTypeError {
  return new CairnTypeError('ERR_VALUE_NOT_STORABLE', message, cause === undefined ? undefined : { cause });
}

/** The kind of a value in words, for {@link notStorable}. */
export function describe(value: unknown): string {
  if (typeof value === 'function') return value.name === '' ? 'a function' : `a function (${value.name})`;
  if (typeof value === 'symbol') return `a symbol (${String(value)})`;
  const name = Object.getPrototypeOf(value)?.constructor?.name;
  return typeof name === 'string' && name !== '' ? `an instance of ${name}` : show(value);
}
