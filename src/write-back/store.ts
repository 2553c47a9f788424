/** Which database a cache has: what the option `store` leads to, in the thread that uses it. */
import { type Backend, type MakeBackendOptions, makeBackend } from '../backend/index.ts';
import { errorKind } from '../errors.ts';
import type { StoreTarget } from '../options.ts';
import { type Rule, RuleSet } from '../rules/index.ts';
import { Restore } from './restore.ts';

/** Looks at the database that a cache is to begin with, in this thread. */
export async function restoreFrom(
  name: string,
  store: StoreTarget,
  directory: string,
  rules: readonly Rule[],
  memoryBytes: number,
): Promise<Restore> {
  const isObject = store.kind === 'object';
  return Restore.open({
    store: name,
    backend: isObject ? store.backend : await connectStore(store, { directory, rules }),
    ownsBackend: !isObject,
    rules: RuleSet.from(rules),
    memoryBytes,
  });
}

/** A database that any thread can open. */
export type SharedStore = Exclude<StoreTarget, { kind: 'object' }>;

/**
 * Makes the backend now, and rejects if the address or the module makes none: that is no database that is away. Returns
 * how to connect: with this backend first, and with another one each time after.
 */
export async function connector(...given: Parameters<typeof connectStore>): Promise<() => Promise<Backend>> {
  let first: Backend | undefined = await connectStore(...given);
  return async () => {
    const backend = first ?? (await connectStore(...given));
    first = undefined;
    return backend;
  };
}

/**
 * The same for a database of any kind, in this thread. One that is an object of the program is not closed: it stays the
 * program's.
 */
export async function storeConnector(
  store: StoreTarget,
  directory: string,
  rules: readonly Rule[],
  lanes: number,
): Promise<() => Promise<Backend>> {
  if (store.kind !== 'object') return connector(store, { directory, rules, lanes });
  const backend = withoutClose(store.backend);
  return async () => backend;
}

// Methods are called on the object itself, which may have private fields.
function withoutClose(backend: Backend): Backend {
  return new Proxy(backend, {
    get(target, name) {
      if (name === 'close') return async () => {};
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Whether an error says that a database is unfit for a cache, which no later try changes. */
export function isUnfit(error: unknown): boolean {
  const kind = errorKind(error);
  return kind === 'misuse' || kind === 'refused';
}

/**
 * Makes the backend, which is not opened yet. Throws for an address or a module that makes none. A database in a file
 * without a path is in the `directory` of the log.
 */
function connectStore({ address }: SharedStore, options: MakeBackendOptions): Promise<Backend> {
  return makeBackend(address, options);
}
