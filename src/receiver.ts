/**
 * Misuse of the Cache object: a method called without its cache, a cache behind a Proxy, a cache sent to another
 * thread. Each gets an error that says what to do.
 */
import { EventEmitter } from 'node:events';
import { types } from 'node:util';
import { CairnTypeError } from './errors.ts';

/** The error for a method that was called without its cache, or without its `cache.promises`. */
export function withoutCache(method: string, object: 'cache' | 'cache.promises' = 'cache'): CairnTypeError {
  return new CairnTypeError(
    'ERR_INVALID_ARGUMENT',
    `${object === 'cache' ? 'Cache' : 'CachePromises'}.${method} was called without its cache: write ${object}.${method}(...), or pass (...args) => ${object}.${method}(...args). ${OF_PROXIES}`,
  );
}

// The error for a property that was read from something else.
function notOfACache(property: string): CairnTypeError {
  return new CairnTypeError(
    'ERR_INVALID_ARGUMENT',
    `Cache.${property} was read from something that is no Cache: write cache.${property}. ${OF_PROXIES}`,
  );
}

const OF_PROXIES = 'A Proxy has to pass the object itself as this';

/** Where classes of this package end. */
const FOREIGN = new Set<object>([Object.prototype, EventEmitter.prototype]);

/** A method or an accessor, and the prototype that it is a property of. */
interface Member {
  readonly name: string;
  readonly property: PropertyDescriptor;
  readonly owner: object;
}

/** The methods and accessors of a prototype and of those that it inherits from, except those of Node and JavaScript. */
export function membersOf(prototype: object): Member[] {
  const members = new Map<string, Member>();
  for (let owner = prototype; !FOREIGN.has(owner); owner = Object.getPrototypeOf(owner)) {
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(owner))) {
      if (name !== 'constructor' && !members.has(name)) members.set(name, { name, property, owner });
    }
  }
  return [...members.values()];
}

/**
 * Wraps the methods and accessors of Cache, except those that check by themselves, so that each refuses a `this` that
 * is not an instance.
 */
export function guardReceivers(prototype: object, isInstance: (value: unknown) => boolean, except: string[]): void {
  const guarded = (method: (...args: unknown[]) => unknown, error: () => Error): typeof method => {
    const wrapper = function (this: unknown): unknown {
      if (!isInstance(this)) throw error();
      // biome-ignore lint/complexity/noArguments: passed on without making an array of them
      return method.apply(this, arguments as unknown as unknown[]);
    };
    return Object.defineProperties(wrapper, {
      name: { value: method.name, configurable: true },
      length: { value: method.length, configurable: true },
    });
  };
  for (const { name, property, owner } of membersOf(prototype)) {
    if (except.includes(name)) continue;
    if (typeof property.value === 'function') property.value = guarded(property.value, () => withoutCache(name));
    if (property.get !== undefined) property.get = guarded(property.get, () => notOfACache(name));
    Object.defineProperty(owner, name, property);
  }
}

/** Calls `tick` before each method of an object: they become its own. */
export function tickBefore(object: object, prototype: object, tick: () => void): void {
  for (const { name, property } of membersOf(prototype)) {
    const method: unknown = property.value;
    if (typeof method !== 'function') continue;
    const ticking = function (this: unknown): unknown {
      tick();
      // biome-ignore lint/complexity/noArguments: passed on without making an array of them
      const result = method.apply(this, arguments);
      return types.isGeneratorObject(result) ? tickingSteps(result as Generator<unknown>, tick) : result;
    };
    Object.defineProperty(object, name, { value: ticking, configurable: true, writable: true });
  }
}

// Time may pass between two steps of a walk.
function* tickingSteps(steps: Generator<unknown>, tick: () => void): Generator<unknown> {
  for (const step of steps) {
    yield step;
    tick();
  }
}

/**
 * A property that structured clone cannot copy: its error shows the first 100 characters of this function. It
 * is enumerable, because others are not looked at.
 */
export const NOT_CLONEABLE: PropertyDescriptor = {
  value: function aCacheIsNotSent() {
    return 'Cache.attach(name) in the other thread';
  },
  enumerable: true,
  configurable: true,
};
