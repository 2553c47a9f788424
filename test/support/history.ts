// A history: what clients asked of a cache and what they were told, with the times of both, over several lives of the
// cache. history-check.ts says whether a correct cache can have given it.

/** What is asked. `gat` is a `get` that gives a new expiry too; `clear` concerns every key. */
export type Verb =
  | 'get'
  | 'gat'
  | 'take'
  | 'set'
  | 'add'
  | 'replace'
  | 'append'
  | 'prepend'
  | 'cas'
  | 'incr'
  | 'decr'
  | 'delete'
  | 'touch'
  | 'clear';

/** A value that was told: to a read, or by `incr` and `decr` the new number. */
export interface Hit {
  readonly value: string;
  readonly version?: bigint;
}

/**
 * What was told. `found` and `not-found` answer `delete` and `touch`; `not-found` is also `cas`, `incr` and `decr` of a
 * key that is not there; `not-stored` is also `incr` of what is no number; `dropped`: the value did not fit, and the
 * entry that was there is gone; `refused`: nothing was done.
 */
export type Answer =
  | Hit
  | 'miss'
  | 'stored'
  | 'not-stored'
  | 'exists'
  | 'found'
  | 'not-found'
  | 'done'
  | 'dropped'
  | 'refused';

/**
 * One request. Without an answer its outcome is unknown: it has an effect once, until its life ends, or never.
 */
export interface Operation {
  /** Who asked: what one session asks of one key is done in the order in which it was asked. */
  readonly session: number;
  /** The life of the cache that it was sent to, an index of `History.lives`. */
  readonly life: number;
  readonly verb: Verb;
  /** Empty for `clear`. */
  readonly key: string;
  /** What is stored, or put to the end or the front. */
  readonly value?: string;
  readonly delta?: bigint;
  /** What `cas` compares with. */
  readonly token?: bigint;
  /** From its execution on; for writes, `touch` and `gat`. None: no expiry. */
  readonly ttlMs?: number;
  /** No answer is wanted, so that it stays unknown. */
  readonly isQuiet?: boolean;
  readonly askedAt: number;
  answeredAt?: number;
  answer?: Answer;
}

/** From the start of a cache to its end. What was sent to it and not done by then is not done. */
export interface Life {
  readonly startedAt: number;
  endedAt?: number;
  /** How it ended, for messages. */
  end?: string;
}

export interface History {
  readonly lives: readonly Life[];
  /** In any order, but those of one session in the order in which they were asked. */
  readonly operations: readonly Operation[];
}

export type Question = Omit<Operation, 'session' | 'life' | 'askedAt' | 'answeredAt' | 'answer'>;

/** Milliseconds since some moment before all processes of this machine began; the same for all of them. */
export function timeNow(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Writes a history while it happens. */
export class Recorder implements History {
  readonly lives: Life[] = [];
  readonly operations: Operation[] = [];
  readonly #now: () => number;

  constructor(now: () => number = timeNow) {
    this.#now = now;
  }

  /** The cache begins to answer; returns the number of this life. */
  startLife(): number {
    this.lives.push({ startedAt: this.#now() });
    return this.lives.length - 1;
  }

  /** Nothing of the cache runs any more. */
  endLife(end: string): void {
    Object.assign(this.lives.at(-1)!, { endedAt: this.#now(), end });
  }

  /** Before it is sent. */
  ask(session: number, question: Question): Operation {
    const operation: Operation = { ...question, session, life: this.lives.length - 1, askedAt: this.#now() };
    this.operations.push(operation);
    return operation;
  }

  /** After its answer has come. */
  answer(operation: Operation, answer: Answer): void {
    operation.answeredAt = this.#now();
    operation.answer = answer;
  }
}

/** One line for a message. */
export function describeOperation(operation: Operation): string {
  const { session, life, verb, key, value, delta, token, ttlMs, isQuiet, askedAt, answeredAt, answer } = operation;
  const details = [
    key,
    value === undefined ? '' : shorten(value),
    delta === undefined ? '' : `by ${delta}`,
    token === undefined ? '' : `token ${token}`,
    ttlMs === undefined ? '' : `ttl ${ttlMs} ms`,
    isQuiet ? 'noreply' : '',
  ];
  const from = `${askedAt.toFixed(3)} ${answeredAt === undefined ? '...' : answeredAt.toFixed(3)}`;
  return `${from} life ${life} session ${session}: ${verb} ${details.filter(Boolean).join(' ')} -> ${describeAnswer(answer)}`;
}

function describeAnswer(answer: Answer | undefined): string {
  if (answer === undefined) return 'unknown';
  if (typeof answer === 'string') return answer;
  return `${shorten(answer.value)}${answer.version === undefined ? '' : ` (version ${answer.version})`}`;
}

function shorten(value: string): string {
  return value.length <= 40 ? JSON.stringify(value) : `${JSON.stringify(value.slice(0, 30))}... of ${value.length}`;
}
