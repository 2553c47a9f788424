/** wrap(): a function whose results are kept in the cache. */
import { CairnTypeError, show, wrongType } from '../errors.ts';
import { checkNames } from '../options.ts';
import { checkOptions, type FetchOptions, OPTION_NAMES } from './fetch-options.ts';
import type { Fetcher } from './fetcher.ts';
import type { Key } from './flight-binding.ts';

/** Options of `wrap`: those of `fetch`, except `signal`, which is of one call, and the key. */
export interface WrapOptions<A extends unknown[], V = unknown> extends Omit<FetchOptions<V>, 'signal'> {
  /**
   * Makes the key of the arguments of a call. Give the keys of each wrapped function a prefix that no other keys have,
   * and put every argument that the result depends on into the key.
   */
  key: (...args: A) => string | Uint8Array;
}

/** A function with any arguments. */
export type AnyFunction = (...args: unknown[]) => unknown;

const WRAP_OPTION_NAMES: readonly string[] = ['key', ...OPTION_NAMES.filter((name) => name !== 'signal')];

/** Cache.wrap, which has the documentation. */
export function wrap(
  fetcher: Fetcher,
  fn: AnyFunction,
  options: WrapOptions<unknown[]>,
): (...args: unknown[]) => Promise<unknown> {
  if (typeof fn !== 'function') throw noFunction(fn);
  const { key: keyOf, ...rest } = checkNames<WrapOptions<unknown[]>>('options', options, WRAP_OPTION_NAMES as never);
  if (typeof keyOf !== 'function') throw wrongType('key', 'a function of the arguments that returns the key', keyOf);
  const wants = checkOptions(rest);
  const cached = (...args: unknown[]): Promise<unknown> => {
    let key: Key;
    try {
      key = keyOf(...args);
    } catch (error) {
      return Promise.reject(error);
    }
    return fetcher.fetchWrapped(key, () => fn(...args), wants);
  };
  return Object.defineProperty(cached, 'name', { value: fn.name, configurable: true });
}

// Other caches take the key first.
function noFunction(fn: unknown): Error {
  if (typeof fn !== 'string') return wrongType('fn', 'a function', fn);
  return new CairnTypeError(
    'ERR_INVALID_ARGUMENT',
    `Expected fn to be a function, got ${show(fn)}: write fetch(key, loader) for one key, or wrap(fn, { key }) for a function with arguments`,
  );
}
