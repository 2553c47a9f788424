/**
 * One client's share of the keys. No other client writes them, so that this one knows what each key must be: the last
 * acknowledged value, or, of a request whose reply did not come, one of two.
 */

import type { Client } from './client.ts';
import type { TortureRow } from './database.ts';
import type { Random } from './random.ts';
import { sleep } from './sleep.ts';

/** What an entry should be. Undefined: there is none. */
export interface Entry {
  readonly value: string;
  readonly clientFlags: number;
  /** Unix seconds; 0: never. */
  readonly expires: number;
}

interface Key {
  readonly name: string;
  /** What it was when the last reply came. */
  known: Entry | undefined;
  /** What it is instead, if the request without a reply was executed. */
  perhaps?: { readonly entry: Entry | undefined };
}

/** More than the smallest cache has room for. */
const KEYS = 80;
/** Values of all sizes around that of the ring's references, and of the port's large blocks. */
const SIZES = [0, 1, 20, 200, 4000, 16_000, 17_000, 70_000, 70_000, 90_000];
/** A reply that depends on the value that the cache has. */
const DECIDED = /^(CLIENT_ERROR cannot increment .*|STORED|NOT_STORED|DELETED|NOT_FOUND|TOUCHED|\d+)$/;
const DAY_S = 86_400;

export class Session {
  readonly #keys: Key[];
  readonly #number: number;
  #writes = 0;
  acknowledged = 0;
  unknown = 0;
  refused = 0;
  /** Values that were read in place of the last acknowledged one. */
  readonly stale: string[] = [];

  constructor(number: number) {
    this.#number = number;
    this.#keys = Array.from({ length: KEYS }, (_, i) => ({ name: `s${number}:k${i}`, known: undefined }));
  }

  get keyCount(): number {
    return this.#keys.length;
  }

  /** Writes and reads until the connection ends, or the signal comes. */
  async load(client: Client, random: Random, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const key = random.pick(this.#keys);
      if (key.perhaps === undefined && random.below(3) === 0) {
        if (!(await this.#read(key, client))) return;
        continue;
      }
      const { command, after, expected } = key.perhaps === undefined ? this.#draw(key, random) : this.#set(key, random);
      key.perhaps = { entry: after };
      const reply = await client.ask(command);
      if (reply === undefined) {
        this.unknown++;
        return;
      }
      delete key.perhaps;
      if (reply.startsWith('SERVER_ERROR')) {
        this.refused++;
        continue;
      }
      if (!expected.test(reply)) {
        const seen = `${command.slice(0, 60)}: expected ${expected}, got "${reply}"`;
        if (!DECIDED.test(reply)) throw new Error(seen);
        this.stale.push(seen);
        continue;
      }
      key.known = after;
      this.acknowledged++;
    }
  }

  // False: the connection has ended.
  async #read({ name, known }: Key, client: Client): Promise<boolean> {
    const found = await client.get(name);
    if (found === 'refused') this.refused++;
    else if (found !== undefined && !matches(known, found === 'miss' ? undefined : found)) {
      this.stale.push(`${name}: read ${describe(found)} instead of ${describe(known)}`);
    }
    return found !== undefined;
  }

  #draw(key: Key, random: Random): { command: string; after: Entry | undefined; expected: RegExp } {
    const { name, known } = key;
    const expires = random.below(3) === 0 ? Math.floor(Date.now() / 1000) + DAY_S + random.below(DAY_S) : 0;
    const kind = random.below(10);
    // Of a key that is not in memory, only the database knows whether it was there.
    if (kind === 0)
      return { command: `delete ${name}`, after: undefined, expected: known ? /^DELETED$/ : /^(DELETED|NOT_FOUND)$/ };
    if (kind === 1) {
      const after = known === undefined ? undefined : { ...known, expires };
      return { command: `touch ${name} ${expires}`, after, expected: known ? /^TOUCHED$/ : /^NOT_FOUND$/ };
    }
    if (known !== undefined && kind < 4 && /^\d{1,15}$/.test(known.value)) {
      const value = String(Number(known.value) + 7);
      return { command: `incr ${name} 7`, after: { ...known, value }, expected: new RegExp(`^${value}$`) };
    }
    if (known !== undefined && kind === 4 && known.value.length < 100_000) {
      const piece = `+${++this.#writes}`;
      const after = { ...known, value: known.value + piece };
      return { command: `append ${name} 0 0 ${piece.length}\r\n${piece}`, after, expected: /^STORED$/ };
    }
    return this.#set(key, random, expires);
  }

  // Of a key whose expiry is not known, too: everything about it is known afterwards.
  #set({ name }: Key, random: Random, expires = 0): { command: string; after: Entry; expected: RegExp } {
    const clientFlags = random.below(2) * random.below(65_536);
    const unique = `${this.#number}.${++this.#writes}`;
    const value = random.below(2) === 0 ? String(this.#writes) : unique + 'x'.repeat(random.pick(SIZES));
    const after = { value, clientFlags, expires };
    return {
      command: `set ${name} ${clientFlags} ${expires} ${value.length}\r\n${value}`,
      after,
      expected: /^STORED$/,
    };
  }

  /** Finds out what has become of requests without a reply. Returns what is neither of the two. */
  async settle(client: Client): Promise<string[]> {
    const lost: string[] = [];
    for (const key of this.#keys) {
      let found = await client.get(key.name);
      while (found === 'refused') {
        await sleep(50);
        found = await client.get(key.name);
      }
      if (found === undefined) throw new Error('The server does not answer any more');
      const candidates = [key.known, ...(key.perhaps === undefined ? [] : [key.perhaps.entry])];
      const matching = candidates.filter((each) => matches(each, found === 'miss' ? undefined : found));
      if (matching.length === 0) lost.push(`${key.name}: ${describe(found)} instead of ${candidates.map(describe)}`);
      // Of two that differ in their expiry only, a reply does not tell which it is: the row may be either.
      else if (matching.every((each) => each?.expires === matching[0]?.expires)) {
        key.known = matching[0];
        delete key.perhaps;
      }
    }
    return lost;
  }

  /** Compares the rows of a database that has everything. */
  compare(rows: ReadonlyMap<string, TortureRow>): string[] {
    return this.#keys.flatMap((key) => {
      const row = rows.get(key.name);
      const candidates = [key.known, ...(key.perhaps === undefined ? [] : [key.perhaps.entry])];
      const isRight = candidates.some((each) => matches(each, row) && expiresAt(each, row));
      return isRight ? [] : [`row ${key.name}: ${describe(row)} instead of ${candidates.map(describe)}`];
    });
  }
}

function matches(entry: Entry | undefined, found: { value: string; clientFlags: number } | undefined): boolean {
  if (entry === undefined || found === undefined) return entry === found;
  return entry.value === found.value && entry.clientFlags === found.clientFlags;
}

// The clock of the cache and the wall clock may be apart by a few milliseconds, and the former may be set again.
function expiresAt(entry: Entry | undefined, row: TortureRow | undefined): boolean {
  if (entry === undefined || row === undefined) return true;
  if (entry.expires === 0 || row.expiresWallMs === 0) return entry.expires === row.expiresWallMs;
  return Math.abs(row.expiresWallMs - 1000 * entry.expires) <= 2000;
}

function describe(entry: unknown): string {
  if (entry === undefined || entry === 'miss') return 'none';
  const { value, ...rest } = entry as { value: string };
  return `${value.slice(0, 20)}[${value.length}] ${JSON.stringify(rest)}`;
}
