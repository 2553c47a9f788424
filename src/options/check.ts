/** The vocabulary of checks: names, numbers, words, yes and no. All of them throw `ERR_INVALID_ARGUMENT`. */
import { CairnTypeError, outOfRange, show, wrongType } from '../errors.ts';
import { ELSEWHERE, FOREIGN_NAMES } from './hints.ts';

/** Refuses options that do not exist, and says which one was probably meant. */
export function checkNames<T extends object>(what: string, given: T | undefined, names: readonly (keyof T)[]): T {
  if (given === undefined) return {} as T;
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw wrongType(what, 'an object', given);
  for (const key of Object.keys(given)) {
    if ((names as readonly string[]).includes(key)) continue;
    throw new CairnTypeError(
      'ERR_INVALID_ARGUMENT',
      `Unknown option ${show(key)} in ${what}${suggestion(key, names as readonly string[])}`,
    );
  }
  return given;
}

/** `: did you mean maxEntries?`, or which names there are. */
export function suggestion(key: string, names: readonly string[]): string {
  const foreign = Object.hasOwn(FOREIGN_NAMES, key) ? FOREIGN_NAMES[key] : undefined;
  if (foreign !== undefined && names.includes(foreign)) return `: did you mean ${foreign}?`;
  const elsewhere = Object.hasOwn(ELSEWHERE, key) ? ELSEWHERE[key] : undefined;
  if (elsewhere !== undefined) return `: use ${elsewhere}`;
  let nearest: string | undefined;
  let nearestDistance = Math.max(2, Math.floor(key.length / 3)) + 1;
  for (const name of names) {
    const distance = editDistance(key.toLowerCase(), name.toLowerCase());
    if (distance < nearestDistance) {
      nearest = name;
      nearestDistance = distance;
    }
  }
  return nearest === undefined ? `: expected one of ${names.join(', ')}` : `: did you mean ${nearest}?`;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}

/** A whole number within bounds. */
export function checkInteger(name: string, value: unknown, min: number, max: number, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (typeof value !== 'number') throw wrongType(name, `an integer of at least ${min}`, value);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(
      name,
      max === Number.MAX_SAFE_INTEGER ? `an integer of at least ${min}` : `an integer between ${min} and ${max}`,
      value,
    );
  }
  return value;
}

/** One of a few words. */
export function checkChoice<T extends string>(name: string, value: unknown, choices: readonly T[], otherwise: T): T {
  if (value === undefined) return otherwise;
  if ((choices as readonly unknown[]).includes(value)) return value as T;
  throw (typeof value === 'string' ? outOfRange : wrongType)(
    name,
    choices.map((choice) => `'${choice}'`).join(' or '),
    value,
  );
}

/** true or false. */
export function checkBoolean(name: string, value: unknown, otherwise: boolean): boolean {
  if (value === undefined) return otherwise;
  if (typeof value !== 'boolean') throw wrongType(name, 'true or false', value);
  return value;
}
