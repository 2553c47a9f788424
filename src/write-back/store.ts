/** Which database a cache has: what the option `store` leads to, in the thread that writes. */
import { type Backend, makeBackend } from '../backend/index.ts';
import type { StoreTarget } from '../options.ts';
import type { Rule } from '../rules/index.ts';

/** A database that any thread can open. */
export type SharedStore = Exclude<StoreTarget, { kind: 'object' }>;

/**
 * Makes the backend, which is not opened yet. Throws for an address or a module that makes none. A database in a file
 * without a path is in the `directory` of the log.
 */
export function connectStore(
  { address }: SharedStore,
  directory: string | undefined,
  rules: readonly Rule[],
): Promise<Backend> {
  return makeBackend(address, { directory, rules });
}
