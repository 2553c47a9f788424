/**
 * Other copies of this package in the thread: that of a dependency, or a second version. Each copy has its own addon
 * and its own caches; a cache that one has opened does not exist for the other.
 */
import { fileURLToPath } from 'node:url';
import { CairnTypeError, show } from './errors.ts';

interface Copy {
  readonly folder: string;
  names(): string[];
}

const folder: string = fileURLToPath(new URL('..', import.meta.url));
const COPIES: unique symbol = Symbol.for('cairn-cache.copies');
const shared = globalThis as typeof globalThis & { [COPIES]?: Copy[] };
if (shared[COPIES] === undefined) Object.defineProperty(globalThis, COPIES, { value: [], configurable: true });

/** Makes this copy known to the others. */
export function register(names: () => string[]): void {
  shared[COPIES]!.push({ folder, names });
}

function others(): Copy[] {
  return shared[COPIES]!.filter((copy) => copy.folder !== folder);
}

/** The other copy in which a cache of that name is open, for the end of a message; `''`: none is known. */
export function elsewhere(name: string): string {
  const copy = others().find((each) => each.names().includes(name));
  return copy === undefined
    ? ''
    : `. The copy of cairn-cache in ${copy.folder} has it, this is the one in ${folder}: the caches of two copies are not shared`;
}

/** The error for something that should be a Cache of this copy. */
export function notACache(name: string, value: unknown): CairnTypeError {
  const isForeign =
    typeof value === 'object' && value !== null && value.constructor?.name === 'Cache' && others().length > 0;
  const hint = isForeign
    ? `, a Cache of another copy of cairn-cache (${others()
        .map((copy) => copy.folder)
        .join(', ')})`
    : '';
  return new CairnTypeError('ERR_INVALID_ARGUMENT', `Expected ${name} to be a Cache, got ${show(value)}${hint}`);
}
