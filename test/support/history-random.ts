// Histories as a correct cache gives them, and as one with a planted mistake does: a small world in which sessions ask,
// a register per key does what is asked at some moment, answers come later, and the whole dies now and then. No value
// is stored twice. A mistake is planted once, where it can be seen for certain.

import { type Answer, type History, type Operation, type Question, Recorder, type Verb } from './history.ts';
import type { Random } from './random.ts';

export type Mistake = 'lost' | 'stale' | 'taken-back' | 'resurrected' | 'version-repeated' | 'version-back' | 'miss';

export interface WorldOptions {
  operations: number;
  sessions?: number;
  keys?: number;
  /** Requests of a session that may be unanswered. */
  depth?: number;
  /** One in this many moments is a crash; 0: none. */
  crashEvery?: number;
  /** Entries vanish from memory, until the next crash brings them back. */
  evicts?: boolean;
  verbs?: readonly Verb[];
  mistake?: Mistake;
}

interface Entry {
  value: string;
  version: bigint;
}

interface Pending {
  readonly operation: Operation;
  answer?: Answer;
}

/** Frequent ones several times. */
const VERBS: readonly Verb[] = [
  ...([
    'get',
    'get',
    'get',
    'get',
    'set',
    'set',
    'set',
    'delete',
    'add',
    'replace',
    'append',
    'prepend',
    'cas',
  ] as const),
  ...(['cas', 'incr', 'decr', 'take', 'touch', 'gat'] as const),
];

export class HistoryWorld {
  readonly #random: Random;
  readonly #options: Required<Omit<WorldOptions, 'mistake'>> & { mistake: Mistake | undefined };
  readonly #recorder: Recorder;
  readonly #sessions: Pending[][];
  readonly #entries = new Map<string, Entry>();
  /** Versions that some session has read, to swap with. */
  readonly #tokens = new Map<string, bigint>();
  #clock = 0;
  #version = 0n;
  #counter = 0;
  #isPlanted = false;

  constructor(random: Random, options: WorldOptions) {
    this.#random = random;
    this.#options = {
      sessions: 6,
      keys: 8,
      depth: 3,
      crashEvery: 0,
      evicts: false,
      verbs: VERBS,
      mistake: undefined,
      ...options,
    };
    this.#recorder = new Recorder(() => this.#clock);
    this.#sessions = Array.from({ length: this.#options.sessions }, () => []);
  }

  run(): History {
    const { operations, crashEvery, mistake } = this.#options;
    this.#recorder.startLife();
    let asked = 0;
    while (asked < operations || (mistake !== undefined && !this.#isPlanted)) {
      this.#clock += this.#random.below(3);
      if (crashEvery > 0 && this.#random.below(crashEvery) === 0) this.#crash();
      const session = this.#random.below(this.#sessions.length);
      const queue = this.#sessions[session]!;
      const undone = queue.find(({ answer }) => answer === undefined);
      const choice = this.#random.below(3);
      if (choice === 0 && queue.length < this.#options.depth) {
        this.#ask(session, this.#question());
        asked++;
      } else if (choice === 1 && undone !== undefined) undone.answer = this.#execute(undone.operation);
      else if (queue[0]?.answer !== undefined) {
        const { operation, answer } = queue.shift()!;
        this.#recorder.answer(operation, answer!);
      }
      if (mistake !== undefined && !this.#isPlanted && asked > operations / 2) this.#plant(mistake);
    }
    return this.#recorder;
  }

  #key(): string {
    return `key${this.#random.below(this.#options.keys)}`;
  }

  #question(): Question {
    const verb = this.#random.pick(this.#options.verbs);
    const key = this.#key();
    const counts = verb === 'incr' || verb === 'decr';
    // Keys of their own: a number may be two writers'.
    if (counts) return { verb, key: `${key}.count`, delta: BigInt(1 + this.#random.below(3)) };
    if (verb === 'set' && this.#random.below(5) === 0) return { verb, key: `${key}.count`, value: '10' };
    if (verb === 'append' || verb === 'prepend') return { verb, key: `${key}.text`, value: `[${this.#counter++}]` };
    if (verb === 'set' && this.#random.below(5) === 0)
      return { verb, key: `${key}.text`, value: `<${this.#counter++}>` };
    if (verb === 'get' && this.#random.below(3) === 0)
      return { verb, key: key + this.#random.pick(['.count', '.text']) };
    if (verb === 'clear') return this.#random.below(20) === 0 ? { verb, key: '' } : { verb: 'get', key };
    const token = this.#tokens.get(key);
    if (verb === 'cas') return token === undefined ? { verb: 'get', key } : { verb, key, token, value: this.#value() };
    return verb === 'set' || verb === 'add' || verb === 'replace' ? { verb, key, value: this.#value() } : { verb, key };
  }

  #value(): string {
    return `value ${this.#counter++}`;
  }

  #ask(session: number, question: Question): void {
    this.#sessions[session]!.push({ operation: this.#recorder.ask(session, question) });
  }

  // All at once, with its answer.
  #now(session: number, question: Question, answer?: Answer): Answer {
    this.#clock++;
    const operation = this.#recorder.ask(session, question);
    const told = answer ?? this.#execute(operation, false);
    this.#clock++;
    this.#recorder.answer(operation, told);
    // What comes next is not asked at the same moment, where it might explain the answer.
    this.#clock++;
    return told;
  }

  #execute({ verb, key, value, delta, token }: Operation, mayEvict = this.#options.evicts): Answer {
    if (mayEvict && this.#random.below(10) === 0 && (verb === 'get' || verb === 'touch')) {
      return verb === 'get' ? 'miss' : 'not-found';
    }
    const entry = this.#entries.get(key);
    const store = (text: string): Answer => {
      this.#entries.set(key, { value: text, version: ++this.#version });
      return 'stored';
    };
    switch (verb) {
      case 'get':
      case 'gat':
        if (entry === undefined) return 'miss';
        this.#tokens.set(key, entry.version);
        return { ...entry };
      case 'take':
        this.#entries.delete(key);
        return entry === undefined ? 'miss' : { ...entry };
      case 'set':
        return store(value!);
      case 'add':
        return entry === undefined ? store(value!) : 'not-stored';
      case 'replace':
        return entry === undefined ? 'not-stored' : store(value!);
      case 'append':
        return entry === undefined ? 'not-stored' : store(entry.value + value!);
      case 'prepend':
        return entry === undefined ? 'not-stored' : store(value! + entry.value);
      case 'cas':
        if (entry === undefined) return 'not-found';
        return entry.version === token ? store(value!) : 'exists';
      case 'incr':
      case 'decr': {
        if (entry === undefined) return 'not-found';
        const before = BigInt(entry.value);
        const after = verb === 'incr' ? before + delta! : before > delta! ? before - delta! : 0n;
        store(String(after));
        return { value: String(after) };
      }
      case 'delete':
        return this.#entries.delete(key) ? 'found' : 'not-found';
      case 'touch':
        return entry === undefined ? 'not-found' : 'found';
      case 'clear':
        this.#entries.clear();
        return 'done';
    }
  }

  // What was not done is not done any more, what was done without an answer stays unknown.
  #crash(): void {
    this.#clock++;
    this.#recorder.endLife('crash');
    for (const queue of this.#sessions) queue.length = 0;
    this.#clock++;
    this.#recorder.startLife();
  }

  #plant(mistake: Mistake): void {
    const key = `key${this.#random.below(this.#options.keys)}`;
    // A session that does nothing else, so that no other request of it explains what is to be seen.
    const session = this.#sessions.length;
    if (this.#sessions.some((queue) => queue.some(({ operation }) => operation.key === key || operation.key === '')))
      return;
    this.#isPlanted = true;
    const old = this.#value();
    const read: Question = { verb: 'get', key };
    this.#now(session, { verb: 'set', key, value: old });
    const first = { ...this.#entries.get(key)! };
    if (mistake !== 'stale' && mistake !== 'miss') this.#now(session, read);
    switch (mistake) {
      case 'lost':
        this.#now(session, { verb: 'set', key, value: this.#value() });
        this.#crash();
        this.#entries.set(key, first);
        this.#now(session, read);
        break;
      case 'stale':
        this.#now(session, { verb: 'set', key, value: this.#value() });
        this.#now(session, read, { value: old });
        break;
      case 'taken-back': {
        const value = this.#value();
        this.#clock++;
        this.#recorder.ask(session, { verb: 'set', key, value });
        this.#now(session + 1, read, { value });
        this.#crash();
        this.#now(session, read);
        break;
      }
      case 'resurrected':
        this.#now(session, { verb: 'delete', key });
        this.#crash();
        this.#entries.set(key, first);
        this.#now(session, read);
        break;
      case 'version-repeated':
        this.#now(session, { verb: 'set', key, value: this.#value() });
        this.#entries.get(key)!.version = first.version;
        this.#now(session, read);
        break;
      case 'version-back':
        this.#now(session, { verb: 'set', key, value: this.#value() });
        this.#entries.get(key)!.version = first.version - 1_000_000n;
        this.#now(session, read);
        break;
      case 'miss':
        this.#now(session, read, 'miss');
        break;
    }
  }
}
