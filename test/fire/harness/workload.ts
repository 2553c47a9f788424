// What clients under fire ask: every verb, on keys of their own for registers, counters and texts, a few of them hot,
// with values of every size. A value tells in its first bytes which one it is and how long, and the rest follows from
// that, so that one which is mixed, torn or cut is recognised; histories hold only those first bytes.

import type { Operation, Question } from '../../support/history.ts';
import type { Random } from '../../support/random.ts';

export interface WorkloadOptions {
  /** Registers; counters and texts are a quarter as many each. */
  readonly registers: number;
  /** The largest values: one in fifty is between a tenth of it and all of it. */
  readonly valueBytesMax: number;
  /** One in this many requests clears everything; 0: none does. */
  readonly clearEvery: number;
  /** Some entries expire. */
  readonly expires: boolean;
}

/** How many bytes the texts that append and prepend make may have. */
const TEXT_BYTES_MAX = 400;

export class Workload {
  readonly #random: Random;
  readonly #name: string;
  readonly #options: WorkloadOptions;
  /** Versions that this session was told, to swap with. */
  readonly #tokens = new Map<string, bigint>();
  readonly #textBytes = new Map<string, number>();
  #written = 0;

  /** `name` is in every value, so that no two workloads write the same. */
  constructor(random: Random, name: string, options: WorkloadOptions) {
    this.#random = random;
    this.#name = name;
    this.#options = options;
  }

  /** Every key that there can be. */
  static keys({ registers, expires }: WorkloadOptions): string[] {
    const quarter = Math.ceil(registers / 4);
    const number = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, i) => prefix + i);
    return [
      ...number('register:', registers),
      ...number('counter:', quarter),
      ...number('text:', quarter),
      ...(expires ? number('expiring:', quarter) : []),
    ];
  }

  next(): Question {
    const random = this.#random;
    const { registers, clearEvery, expires } = this.#options;
    if (clearEvery > 0 && random.below(clearEvery) === 0) return { verb: 'clear', key: '' };
    const choice = random.below(100);
    const quarter = Math.ceil(registers / 4);
    if (choice < 15) return this.#counter(`counter:${this.#place(quarter)}`);
    if (choice < 30) return this.#text(`text:${this.#place(quarter)}`);
    if (choice < 35 && expires) return this.#expiring(`expiring:${this.#place(quarter)}`);
    return this.#register(`register:${this.#place(registers)}`);
  }

  /** Several of one verb, for keys that differ. */
  many(count: number): Question[] {
    const verb = this.#random.pick(['get', 'set', 'delete'] as const);
    const keys = new Set(Array.from({ length: count }, () => `register:${this.#place(this.#options.registers)}`));
    return [...keys].map((key) => (verb === 'set' ? { verb, key, value: this.#value() } : { verb, key }));
  }

  /** Learns from an answer what can be asked next. */
  learn({ verb, key, answer }: Operation): void {
    if ((verb !== 'get' && verb !== 'gat') || typeof answer !== 'object') return;
    if (answer.version !== undefined) this.#tokens.set(key, answer.version);
    if (key.startsWith('text:')) this.#textBytes.set(key, answer.value.length);
  }

  // One in three is one of the first tenth.
  #place(count: number): number {
    return this.#random.below(this.#random.below(3) === 0 ? Math.ceil(count / 10) : count);
  }

  #register(key: string): Question {
    const verb = this.#random.pick([
      ...(['get', 'get', 'get', 'get', 'get', 'get', 'set', 'set', 'set', 'set', 'set'] as const),
      ...(['cas', 'cas', 'add', 'add', 'replace', 'delete', 'delete', 'take', 'touch', 'gat'] as const),
    ]);
    switch (verb) {
      case 'set':
      case 'add':
      case 'replace':
        return { verb, key, value: this.#value() };
      case 'cas': {
        const token = this.#tokens.get(key);
        return token === undefined ? { verb: 'get', key } : { verb, key, token, value: this.#value() };
      }
      default:
        return { verb, key };
    }
  }

  #counter(key: string): Question {
    const verb = this.#random.pick(['get', 'incr', 'incr', 'decr', 'add', 'set'] as const);
    if (verb === 'add' || verb === 'set') return { verb, key, value: String(this.#random.below(1000)) };
    return verb === 'get' ? { verb, key } : { verb, key, delta: BigInt(1 + this.#random.below(9)) };
  }

  #text(key: string): Question {
    if ((this.#textBytes.get(key) ?? 0) > TEXT_BYTES_MAX) {
      this.#textBytes.delete(key);
      return { verb: 'set', key, value: `<${this.#name}${this.#written++}>` };
    }
    const verb = this.#random.pick(['get', 'get', 'append', 'prepend', 'add', 'delete'] as const);
    if (verb === 'get' || verb === 'delete') return { verb: this.#random.below(8) === 0 ? verb : 'get', key };
    return { verb, key, value: `[${this.#name}${this.#written++}]` };
  }

  #expiring(key: string): Question {
    const verb = this.#random.pick(['get', 'get', 'get', 'set', 'add', 'touch', 'gat'] as const);
    const ttlMs = 1000 * (1 + this.#random.below(3));
    if (verb === 'get') return { verb, key };
    return verb === 'set' || verb === 'add' ? { verb, key, ttlMs, value: this.#value() } : { verb, key, ttlMs };
  }

  #value(): string {
    const random = this.#random;
    const { valueBytesMax } = this.#options;
    const kind = random.below(50);
    const bytes =
      kind === 0 ? Math.floor((valueBytesMax * (1 + random.below(10))) / 10) : random.below(kind < 5 ? 20_000 : 200);
    return `${this.#name}${this.#written++}-${Math.min(bytes, valueBytesMax)}`;
  }
}

/** Tells values with a length in their name. */
const NAMED = /^[\w]+-(\d+)$/;

/** The bytes, as text of one byte a character, that a value of a history stands for. */
export function spell(value: string): string {
  const bytes = Number(NAMED.exec(value)?.[1] ?? 0);
  const head = `${value}|`;
  return bytes <= head.length ? value : head + fill(value, bytes - head.length);
}

/** The value of a history that these bytes stand for; damaged bytes give a value that no session wrote. */
export function unspell(text: string): string {
  const end = text.indexOf('|');
  if (end < 0) return text;
  const value = text.slice(0, end);
  return spell(value) === text ? value : `damaged ${text.length} bytes of ${value}`;
}

function fill(value: string, bytes: number): string {
  return `${value}/`.repeat(Math.ceil(bytes / (value.length + 1))).slice(0, bytes);
}
