// Histories through the API of the package: promised verbs, and synchronous ones that count once sync() has resolved.
// The package is passed in, because these files run where it was built.

import type * as Cairn from '../../../src/index.ts';
import type { Answer, Operation } from '../../support/history.ts';
import { spell, unspell } from './workload.ts';

type Cache = Cairn.Cache<unknown>;

/** Asks by the promised form of its verb. Rejects where the outcome is unknown. */
export async function askPromised({ promises }: Cache, operation: Operation): Promise<Answer> {
  const { verb, key, value, delta = 1n, token, ttlMs = 0 } = operation;
  const options = { ttl: ttlMs };
  try {
    switch (verb) {
      case 'get':
        return hit(await promises.getWithCas(key));
      case 'gat':
        throw new Error('The API has no gat');
      case 'take':
        return taken(await promises.take(key));
      case 'set':
      case 'add':
      case 'replace':
        return await promises[verb](key, spell(value!), options);
      case 'append':
      case 'prepend':
        return await promises[verb](key, value!);
      case 'cas':
        return await promises.cas(key, spell(value!), token!, options);
      case 'incr':
      case 'decr':
        return counted(await promises[verb](key, delta));
      case 'delete':
        return deleted(await promises.delete(key));
      case 'touch':
        return (await promises.touch(key, ttlMs)) ? 'found' : 'not-found';
      case 'clear':
        await promises.clear();
        return 'done';
    }
  } catch (error) {
    if (hasCode(error, REFUSALS)) return 'refused';
    throw error;
  }
}

/** Asks by the verb itself. What it returns is in memory only. */
export function askNow(cache: Cache, operation: Operation): Answer {
  const { verb, key, value, delta = 1n, token, ttlMs = 0 } = operation;
  const options = { ttl: ttlMs };
  try {
    switch (verb) {
      case 'get':
        return hit(cache.getWithCas(key));
      case 'gat':
        throw new Error('The API has no gat');
      case 'take':
        return taken(cache.take(key));
      case 'set':
      case 'add':
      case 'replace':
        return cache[verb](key, spell(value!), options);
      case 'append':
      case 'prepend':
        return cache[verb](key, value!);
      case 'cas':
        return cache.cas(key, spell(value!), token!, options);
      case 'incr':
      case 'decr':
        return counted(cache[verb](key, delta));
      case 'delete':
        return deleted(cache.delete(key));
      case 'touch':
        return cache.touch(key, ttlMs) ? 'found' : 'not-found';
      case 'clear':
        cache.clear();
        return 'done';
    }
  } catch (error) {
    if (hasCode(error, REFUSALS_NOW)) return 'refused';
    throw error;
  }
}

/** Asks all at once by `getMany`, `setMany` or `deleteMany`: operations of one verb, for keys that differ. */
export async function askManyPromised({ promises }: Cache, operations: readonly Operation[]): Promise<Answer[]> {
  const keys = operations.map(({ key }) => key);
  switch (operations[0]?.verb) {
    case 'get':
      return (await promises.getMany(keys)).map(taken);
    case 'set':
      return promises.setMany(entriesOf(operations));
    case 'delete':
      return (await promises.deleteMany(keys)).map(deleted);
    default:
      throw new Error('Expected operations of one verb that has a form for many');
  }
}

export function askManyNow(cache: Cache, operations: readonly Operation[]): Answer[] {
  const keys = operations.map(({ key }) => key);
  switch (operations[0]?.verb) {
    case 'get':
      return cache.getMany(keys).map(taken);
    case 'set':
      return cache.setMany(entriesOf(operations));
    case 'delete':
      return cache.deleteMany(keys).map(deleted);
    default:
      throw new Error('Expected operations of one verb that has a form for many');
  }
}

function entriesOf(operations: readonly Operation[]): [string, string][] {
  return operations.map(({ key, value }) => [key, spell(value!)]);
}

const REFUSALS: readonly string[] = ['ERR_LOG_FULL', 'ERR_QUEUE_FULL'];
/**
 * What a verb that runs at once says of a log that is not written any more: it has done nothing. A promise may have.
 */
const REFUSALS_NOW: readonly string[] = [...REFUSALS, 'ERR_LOG_IO'];

/** Whether it is an error with one of the codes. */
export function hasCode(error: unknown, codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(error.code as string);
}

function hit(found: { value: unknown; cas: bigint } | undefined): Answer {
  return found === undefined ? 'miss' : { value: unspell(String(found.value)), version: found.cas };
}

function taken(value: unknown): Answer {
  return value === undefined ? 'miss' : { value: unspell(String(value)) };
}

function deleted(wasThere: boolean): Answer {
  return wasThere ? 'found' : 'not-found';
}

function counted(number: bigint | number | 'not-stored' | undefined): Answer {
  if (number === undefined) return 'not-found';
  return number === 'not-stored' ? number : { value: String(number) };
}
