// One client's share of the effects: it counts in its own counters, and writes to its own keys that keep every write.
// No other client of the cache does, so that it knows what the log has of a request without a reply: the requests of a
// key take effect in their order, and the value of the key says which did.

import type { Random } from '../../../../src/torture/random.ts';
import type { Pipe } from './pipe.ts';

/** What the other writer adds at a time. The sums of a client stay below it, so a value tells the two apart. */
export const FOREIGN = 2n ** 32n;

export const COUNTER_PREFIX = 'n:';
export const HISTORY_PREFIX = 'h:';

const COUNTERS = 100;
const HISTORY_KEYS = 40;
/** Requests on their way. */
const WINDOW = 64;
/** One in this many windows begins with nothing in memory: values come from rows, with what others have added. */
const FLUSH_EVERY = 40;
/** Keys of one request. */
const KEYS_ASKED = 50;

/** A request on its way. */
type Request =
  | { readonly kind: 'count'; readonly index: number; readonly delta: number }
  | { readonly kind: 'write'; readonly index: number; readonly number: number };

/** What is wrong: effects that are not there, or that are there more often than they should be. */
export interface Wrong {
  readonly lost: number;
  readonly doubled: number;
  readonly what: string;
}

export class EffectsClient {
  readonly #id: number;
  readonly #seesRows: boolean;
  /** By counter: the sum that was acknowledged, and the least one, if what is on its way subtracts and adds nothing. */
  readonly #sums = new Array<number>(COUNTERS).fill(0);
  #least: number[] = [];
  /** By key: the number that was written last, and acknowledged. */
  readonly #last = new Array<number>(HISTORY_KEYS).fill(0);
  /** Numbers of writes that never took effect. */
  readonly #never = new Set<number>();
  #written = 0;
  #hasBegun = false;
  #pending: Request[] = [];
  readonly wrong: Wrong[] = [];
  acknowledged = 0;
  /** Requests without a reply: of those, the ones that took effect. */
  unknown = 0;
  recovered = 0;
  refused = 0;

  /** `seesRows`: values come from rows at times, so that wrong rows would be found by replies. */
  constructor(id: number, seesRows: boolean) {
    this.#id = id;
    this.#seesRows = seesRows;
  }

  /** Effects that are known to be in the log. */
  get effects(): number {
    return this.acknowledged + this.recovered;
  }

  get counters(): readonly string[] {
    return this.#sums.map((_, index) => this.#counter(index));
  }

  #counter(index: number): string {
    return `${COUNTER_PREFIX}${this.#id}:${index}`;
  }

  #key(index: number): string {
    return `${HISTORY_PREFIX}${this.#id}:${index}`;
  }

  /** Makes the counters. */
  async begin(pipe: Pipe): Promise<void> {
    pipe.send(this.counters.map((name) => `set ${name} 0 0 1\r\n0\r\n`).join(''));
    for (let left = COUNTERS; left > 0; ) {
      const replies = await pipe.lines();
      if (replies === undefined || replies.some((reply) => reply !== 'STORED'))
        throw new Error(`No counters: ${replies}`);
      left -= replies.length;
    }
  }

  /** Sends requests until the connection ends, the signal comes, or `mayGoOn` says no. */
  async load(pipe: Pipe, random: Random, signal: AbortSignal, mayGoOn: () => boolean): Promise<void> {
    while (!signal.aborted && mayGoOn()) {
      if (this.#seesRows && random.below(FLUSH_EVERY) === 0 && !(await this.#flush(pipe))) return;
      this.#least = [...this.#sums];
      const requests = Array.from({ length: WINDOW }, () => this.#draw(random));
      this.#pending = requests.map(([request]) => request);
      pipe.send(requests.map(([, text]) => text).join(''));
      while (this.#pending.length > 0) {
        const replies = await pipe.lines();
        if (replies === undefined) {
          this.unknown += this.#pending.length;
          return;
        }
        const answered = this.#pending.splice(0, replies.length);
        for (const [i, request] of answered.entries()) this.#take(request, replies[i]!);
      }
    }
  }

  // False: the connection has ended.
  async #flush(pipe: Pipe): Promise<boolean> {
    pipe.send('flush_all\r\n');
    const replies = await pipe.lines();
    if (replies !== undefined && replies.join() !== 'OK') throw new Error(`flush_all: "${replies}"`);
    return replies !== undefined;
  }

  #draw(random: Random): [Request, string] {
    if (random.below(2) === 0) {
      const number = ++this.#written;
      const index = number % HISTORY_KEYS;
      const value = String(number);
      return [{ kind: 'write', index, number }, `set ${this.#key(index)} 0 0 ${value.length}\r\n${value}\r\n`];
    }
    // Each counts in the first one, whose key a planted mistake has.
    const index = this.#hasBegun ? random.below(COUNTERS) : 0;
    this.#hasBegun = true;
    const amount = 1 + random.below(9);
    // The cache subtracts as much as it is told: no sum comes below 0.
    const delta = random.below(4) === 0 && amount <= this.#least[index]! ? -amount : amount;
    if (delta < 0) this.#least[index]! += delta;
    return [{ kind: 'count', index, delta }, `${delta < 0 ? 'decr' : 'incr'} ${this.#counter(index)} ${amount}\r\n`];
  }

  #take(request: Request, reply: string): void {
    const { kind, index } = request;
    if (reply.startsWith('SERVER_ERROR')) {
      this.refused++;
      if (kind === 'write') this.#never.add(request.number);
      return;
    }
    this.acknowledged++;
    if (kind === 'write') {
      if (reply !== 'STORED') throw new Error(`set ${this.#key(index)}: "${reply}"`);
      this.#last[index] = request.number;
      return;
    }
    if (!/^\d+$/.test(reply)) throw new Error(`${request.delta} to ${this.#counter(index)}: "${reply}"`);
    const sum = this.#sums[index]! + request.delta;
    this.#compare(`the reply for ${this.#counter(index)}`, Number(BigInt(reply) % FOREIGN), sum);
    this.#sums[index] = sum;
  }

  #compare(what: string, found: number, expected: number): void {
    const difference = found - expected;
    if (difference === 0) return;
    const text = `${what}: ${found} instead of ${expected}`;
    this.wrong.push({ lost: Math.max(0, -difference), doubled: Math.max(0, difference), what: text });
  }

  /** Finds out, of a server that was started again, which of the requests without a reply took effect. */
  async settle(pipe: Pipe): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    const values = await this.#read(pipe, this.counters);
    for (const [index, value] of values.entries()) {
      const found = Number(BigInt(value ?? 0) % FOREIGN);
      const own = pending.filter((each) => each.kind === 'count' && each.index === index) as { delta: number }[];
      const count = countOf(
        found - this.#sums[index]!,
        own.map(({ delta }) => delta),
      );
      if (count === undefined) this.#compare(`${this.#counter(index)} after a kill`, found, this.#sums[index]!);
      else this.recovered += count;
      this.#sums[index] = found;
    }
    const written = await this.#read(
      pipe,
      this.#last.map((_, index) => this.#key(index)),
    );
    for (const [index, value] of written.entries()) {
      const found = Number(value ?? 0);
      const own = pending.flatMap((each) => (each.kind === 'write' && each.index === index ? [each.number] : []));
      const possible = [this.#last[index]!, ...own];
      const count = possible.indexOf(found);
      if (count < 0) {
        this.wrong.push({
          lost: 1,
          doubled: 0,
          what: `${this.#key(index)} after a kill: ${found}, not one of ${possible}`,
        });
      }
      for (const number of own.slice(Math.max(0, count))) this.#never.add(number);
      this.recovered += Math.max(0, count);
      this.#last[index] = found;
    }
  }

  async #read(pipe: Pipe, keys: readonly string[]): Promise<(string | undefined)[]> {
    const values: (string | undefined)[] = [];
    for (let start = 0; start < keys.length; start += KEYS_ASKED) {
      values.push(...(await pipe.get(keys.slice(start, start + KEYS_ASKED))));
    }
    return values;
  }

  /** What is wrong with the numbers of the rows. `foreign`: how often the other writer has added, by counter. */
  judgeCounters(rows: ReadonlyMap<string, bigint>, foreign: ReadonlyMap<string, number>): Wrong[] {
    return this.counters.flatMap((name, index) => {
      const row = rows.get(name) ?? 0n;
      const pairs = [
        [Number(row % FOREIGN), this.#sums[index]!],
        [Number(row / FOREIGN), foreign.get(name) ?? 0],
      ] as const;
      return pairs.flatMap(([found, expected], i): Wrong[] => {
        if (found === expected) return [];
        const difference = found - expected;
        const what = `row ${name}, ${i === 0 ? 'of the cache' : 'of the other writer'}: ${found} instead of ${expected}`;
        return [{ lost: Math.max(0, -difference), doubled: Math.max(0, difference), what }];
      });
    });
  }

  /** What is wrong with the rows of history. `rows`: how often each number is there. */
  judgeHistory(rows: ReadonlyMap<number, number>): Wrong[] {
    const wrong: Wrong[] = [];
    for (let number = 1; number <= this.#written; number++) {
      const expected = this.#never.has(number) ? 0 : 1;
      const found = rows.get(number) ?? 0;
      if (found === expected) continue;
      const what = `row of history ${this.#id}:${number} is there ${found} times`;
      wrong.push({ lost: Math.max(0, expected - found), doubled: Math.max(0, found - expected), what });
    }
    return wrong;
  }

  get id(): number {
    return this.#id;
  }
}

/**
 * How many of the numbers, at least, have this sum. The first ones in a row come before others: the requests of a key
 * take effect in their order, except those that are refused because the row cannot be loaded.
 */
function countOf(sum: number, numbers: readonly number[]): number | undefined {
  let total = 0;
  for (const [count, number] of [0, ...numbers].entries()) {
    total += number;
    if (total === sum) return count;
  }
  let sums = new Map([[0, 0]]);
  for (const number of numbers) {
    const more = new Map(sums);
    for (const [each, count] of sums)
      more.set(each + number, Math.min(count + 1, more.get(each + number) ?? count + 1));
    sums = more;
  }
  return sums.get(sum);
}
