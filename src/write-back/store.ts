/** Which database a cache has: what the option `store` leads to, in the thread that writes. */
import type { Backend } from '../backend/index.ts';
import { CairnError, show } from '../errors.ts';
import { missingOfBackend, type StoreTarget } from '../options.ts';

/** A database that any thread can open. */
export type SharedStore = Exclude<StoreTarget, { kind: 'object' }>;

/** Makes the backend. Throws what the module throws, and `ERR_INVALID_ARGUMENT` if it makes no backend. */
export async function connectStore({ url, name }: SharedStore): Promise<Backend> {
  const { default: make } = (await import(url)) as { default?: unknown };
  if (typeof make !== 'function') {
    throw new CairnError(
      'ERR_INVALID_ARGUMENT',
      `Expected the module ${name} to have a function as its default export, got ${show(make)}`,
    );
  }
  const backend: unknown = await make();
  const missing = missingOfBackend(backend);
  if (missing !== undefined) {
    throw new CairnError(
      'ERR_INVALID_ARGUMENT',
      `Expected the default export of ${name} to return a Backend: what it returned has no ${missing}`,
    );
  }
  return backend as Backend;
}
