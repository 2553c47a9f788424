/**
 * Structured clones: V8's format, with the properties that V8 leaves out.
 *
 * V8 keeps only the message, the stack and the cause of an error, and no property of a Map, Set, Date or RegExp. The
 * other properties are written behind the value, in the same stream, so that they refer to its objects:
 *
 * ```
 *   V8 header | value | [[object, shown properties, hidden properties], ...] | "CXT1"
 * ```
 *
 * The second value and the mark are present only if V8 left something out. A reader that does not know them gets the
 * value without those properties.
 */
import { types } from 'node:util';
import { DefaultDeserializer, DefaultSerializer, serialize } from 'node:v8';
import { reasonOf, show } from '../errors.ts';
import { CLONE_DEPTH_MAX } from '../limits.ts';
import { isReadable, unreadable } from './bytes.ts';
import { describe, notStorable } from './not-storable.ts';

const MARK = Buffer.from('CXT1', 'latin1');

type Properties = Record<string, unknown>;
/** An object, and the properties that V8 does not write: enumerable ones and others. */
type LeftOut = [object, Properties | undefined, Properties | undefined];

/**
 * The bytes of a structured clone. Throws `ERR_VALUE_NOT_STORABLE`, with the place in the value, for a part that
 * structured clone would refuse or lose, and for a value nested so deep that a reader might lack the stack for it.
 */
export function serializeClone(value: object): Buffer {
  const leftOut = new Survey().of(value);
  try {
    if (leftOut.length === 0) return serialize(value);
    const serializer = new DefaultSerializer();
    serializer.writeHeader();
    serializer.writeValue(value);
    serializer.writeValue(leftOut);
    serializer.writeRawBytes(MARK);
    return serializer.releaseBuffer();
  } catch (error) {
    throw notStorable(`Expected value to be data that structuredClone takes: ${reasonOf(error)}`, error);
  }
}

/** The value of such bytes, which become part of it: V8 makes typed arrays over the memory that it reads. */
export function deserializeClone(bytes: Buffer): unknown {
  const deserializer = new DefaultDeserializer(bytes);
  deserializer.readHeader();
  const value: unknown = deserializer.readValue();
  if (bytes.length >= MARK.length && bytes.subarray(-MARK.length).equals(MARK)) {
    for (const [object, shown, hidden] of readLeftOut(deserializer)) putBack(object, shown, hidden);
  }
  return value;
}

// A value may end with the bytes of the mark by chance: then no second value can be read.
function readLeftOut(deserializer: DefaultDeserializer): LeftOut[] {
  try {
    const found: unknown = deserializer.readValue();
    return Array.isArray(found) ? (found as LeftOut[]) : [];
  } catch (error) {
    if (error instanceof RangeError) throw error; // out of stack
    return [];
  }
}

function putBack(object: object, shown: Properties | undefined, hidden: Properties | undefined): void {
  const isAggregate = hidden?.['name'] === 'AggregateError' && Object.hasOwn(hidden, 'errors');
  if (isAggregate) Object.setPrototypeOf(object, AggregateError.prototype);
  for (const [key, value] of Object.entries(hidden ?? {})) {
    if (!isAggregate || key !== 'name') define(object, key, value, false);
  }
  for (const [key, value] of Object.entries(shown ?? {})) define(object, key, value, true);
}

function define(object: object, key: string, value: unknown, enumerable: boolean): void {
  Object.defineProperty(object, key, { value, enumerable, writable: true, configurable: true });
}

/** The names of errors that V8 restores by itself. */
const ERROR_NAMES = new Set([
  'Error',
  'EvalError',
  'RangeError',
  'ReferenceError',
  'SyntaxError',
  'TypeError',
  'URIError',
]);

// The properties of an object that V8 does not write.
function leftOutOf(value: object): LeftOut | undefined {
  if (types.isNativeError(value)) return leftOutOfError(value);
  if (!hasOnlyItsContent(value)) return undefined;
  const keys = Object.keys(value);
  if (keys.length === 0) return undefined;
  return [value, Object.fromEntries(keys.map((key) => [key, (value as Properties)[key]])), undefined];
}

// V8 writes the content of these and none of their properties. The properties of views and of boxed text are their
// elements.
function hasOnlyItsContent(value: object): boolean {
  return (
    types.isMap(value) ||
    types.isSet(value) ||
    types.isDate(value) ||
    types.isRegExp(value) ||
    types.isAnyArrayBuffer(value) ||
    (types.isBoxedPrimitive(value) && !types.isStringObject(value))
  );
}

function leftOutOfError(error: Error): LeftOut | undefined {
  const shown: Properties = {};
  const hidden: Properties = {};
  for (const key of Object.keys(error)) {
    if (key !== 'message' && key !== 'stack') shown[key] = (error as unknown as Properties)[key];
  }
  const { name } = error;
  if (typeof name === 'string' && !ERROR_NAMES.has(name) && !Object.hasOwn(shown, 'name')) hidden['name'] = name;
  for (const key of ['cause', 'errors'] as const) {
    if (Object.hasOwn(error, key) && !Object.hasOwn(shown, key)) hidden[key] = (error as unknown as Properties)[key];
  }
  const hasShown = Object.keys(shown).length > 0;
  const hasHidden = Object.keys(hidden).length > 0;
  return hasShown || hasHidden ? [error, hasShown ? shown : undefined, hasHidden ? hidden : undefined] : undefined;
}

/**
 * Walks a value in the order in which V8 writes it, so that the depth of each object is the depth of V8's recursion.
 * Class instances are stored as plain objects with their own properties, as by structuredClone. An instance without own
 * properties (such as a URL) keeps its data where no program can read it, so it is refused.
 */
class Survey {
  readonly #seen = new Set<object>();
  readonly #leftOut: LeftOut[] = [];
  readonly #open: { value: object; path: string; depth: number }[] = [];
  #depth = 0;

  of(root: object): LeftOut[] {
    this.#walk(root, 'value', 1);
    // The list grows during the loop.
    for (const [object, shown, hidden] of this.#leftOut) {
      const path = this.#paths.get(object)!;
      for (const [key, member] of Object.entries({ ...hidden, ...shown })) {
        const child = this.#check(member, placeOf(path, key));
        if (child !== undefined) this.#walk(child, placeOf(path, key), 4);
      }
    }
    if (this.#depth > CLONE_DEPTH_MAX) {
      throw notStorable(
        `Expected value to be nested at most ${CLONE_DEPTH_MAX} deep, so that every thread has the stack to read it again, got ${this.#depth} levels`,
      );
    }
    return this.#leftOut;
  }

  readonly #paths = new Map<object, string>();

  #walk(root: object, rootPath: string, rootDepth: number): void {
    this.#open.push({ value: root, path: rootPath, depth: rootDepth });
    for (let next = this.#open.pop(); next !== undefined; next = this.#open.pop()) {
      const { value, path, depth } = next;
      if (this.#seen.has(value)) continue;
      this.#seen.add(value);
      if (depth > this.#depth) this.#depth = depth;
      if (types.isPromise(value)) {
        throw notStorable(`Expected ${path} to be data, got a promise: await it first, or use fetch(key, loader)`);
      }
      const leftOut = leftOutOf(value);
      if (leftOut !== undefined) {
        this.#leftOut.push(leftOut);
        this.#paths.set(value, path);
      }
      const children = this.#childrenOf(value, path);
      // Reversed: the last one pushed is walked first, and V8 writes members in their order.
      for (let i = children.length - 1; i >= 0; i--) {
        const [member, place] = children[i]!;
        this.#open.push({ value: member, path: place, depth: depth + 1 });
      }
    }
  }

  // The objects that V8 writes within a value.
  #childrenOf(value: object, path: string): [object, string][] {
    const children: [object, string][] = [];
    const add = (member: unknown, place: string): void => {
      const child = this.#check(member, place);
      if (child !== undefined) children.push([child, place]);
    };
    if (ArrayBuffer.isView(value)) {
      if (!isReadable(value)) throw unreadable(path);
    } else if (types.isNativeError(value)) {
      add(value.cause, `${path}.cause`);
    } else if (types.isMap(value)) {
      let index = 0;
      for (const [key, member] of value) {
        add(key, `${path}'s key number ${index++}`);
        add(member, typeof key === 'string' ? `${path}.get(${show(key)})` : `${path}'s value number ${index}`);
      }
    } else if (types.isSet(value)) {
      let index = 0;
      for (const member of value) add(member, `${path}'s element number ${index++}`);
    } else if (!types.isBoxedPrimitive(value) && !hasOnlyItsContent(value)) {
      this.#addProperties(value, path, add);
    }
    return children;
  }

  #addProperties(value: object, path: string, add: (member: unknown, place: string) => void): void {
    const isArray = Array.isArray(value);
    const keys = Object.keys(value);
    for (const key of keys) {
      add((value as Properties)[key], isArray ? `${path}[${key}]` : placeOf(path, key));
    }
    if (keys.length > 0 || isArray) return;
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
      throw notStorable(
        `Expected ${path} to be data, got ${describe(value)}, which has no own properties: store what it stands for, such as its text`,
      );
    }
  }

  // The value, if it is an object that was not seen before.
  #check(value: unknown, path: string): object | undefined {
    if (typeof value === 'function' || typeof value === 'symbol') {
      throw notStorable(`Expected ${path} to be data, got ${describe(value)}`);
    }
    return typeof value === 'object' && value !== null && !this.#seen.has(value) ? value : undefined;
  }
}

function placeOf(path: string, key: string): string {
  return /^[\p{L}_$][\w$]*$/u.test(key) ? `${path}.${key}` : `${path}[${show(key)}]`;
}
