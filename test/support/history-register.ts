// What one key of a correct cache does, one operation after the other: the sequential specification that the checker
// holds a history against.

import type { Answer, Operation, Verb } from './history.ts';

/** A state of a key: 0 is absent, others are numbers of (value, what gave it its expiry). */
export type State = number;

export const ABSENT: State = 0;

/** An operation cannot happen in that state with that answer. */
export const IMPOSSIBLE = -1;

/** Stands for all values that no operation ever sees. */
export const UNSEEN = '\u0000unseen';

/** An operation as the checker sees it: `answer` may have been concluded, times are those of its possible effect. */
export interface Step {
  readonly operation: Operation;
  readonly verb: Verb;
  readonly value: string;
  readonly answer: Answer | undefined;
  /** What `cas` expects to find; undefined if the value that its token belonged to is unknown. */
  readonly expected: string | undefined;
  /** It takes effect not before and not after. */
  readonly from: number;
  readonly until: number;
}

export interface RegisterOptions {
  /** An entry may be gone at any time, as if evicted, and be back later; but what was deleted or replaced may not. */
  readonly missesAllowed: boolean;
  /** How far the clock that expires entries may be from the one that wrote the times down. */
  readonly clockSlackMs: number;
  /** Whether anybody may ever learn of this value, or of one made from it. */
  readonly isSeen: (value: string) => boolean;
}

/** Counters that got shorter are padded with blanks, which mean nothing. */
export function normalValue(value: string): string {
  return value.endsWith(' ') ? value.trimEnd() : value;
}

export class Register {
  readonly #options: RegisterOptions;
  readonly #values: (string | undefined)[] = [undefined];
  readonly #expiries: (Step | undefined)[] = [undefined];
  readonly #plain = new Map<string, State>();
  readonly #expiring = new Map<Step, Map<string, State>>();

  constructor(options: RegisterOptions) {
    this.#options = options;
  }

  valueOf(state: State): string | undefined {
    return this.#values[state];
  }

  /** Whether an operation may find the key absent although this state is none. */
  mayBeGone(state: State, step: Step): boolean {
    if (state === ABSENT) return false;
    if (this.#options.missesAllowed) return true;
    const cause = this.#expiries[state];
    return cause !== undefined && step.until >= cause.from + cause.operation.ttlMs! - this.#options.clockSlackMs;
  }

  /** Whether an operation with its answer changes nothing in any state. */
  isRead({ verb, answer }: Step): boolean {
    if (verb === 'get') return true;
    if (verb === 'delete' && this.#options.missesAllowed) return false;
    return answer === 'miss' || answer === 'not-stored' || answer === 'exists' || answer === 'not-found';
  }

  /**
   * The state after an operation; IMPOSSIBLE if it cannot happen in this one with its answer, or, of an operation
   * without an answer, if it would have no effect. `seenAs`: what the operation finds, `absent` only where
   * `mayBeGone()`.
   */
  next(state: State, step: Step, seenAs: 'as-is' | 'absent'): State {
    const { verb, answer, value } = step;
    const isThere = state !== ABSENT && seenAs === 'as-is';
    if (isThere && this.#isOver(state, step)) return IMPOSSIBLE;
    const found = isThere ? this.#values[state]! : undefined;
    // What an operation leaves that finds nothing and stores nothing.
    const stillGone = this.#options.missesAllowed ? state : ABSENT;
    const isUnknown = answer === undefined;
    switch (verb) {
      case 'get':
        if (isUnknown) return IMPOSSIBLE;
        return isHit(answer) ? (found === answer.value ? state : IMPOSSIBLE) : isThere ? IMPOSSIBLE : stillGone;
      case 'gat':
        if (answer === 'miss') return isThere ? IMPOSSIBLE : stillGone;
        if (found === undefined || (isHit(answer) && found !== answer.value)) return IMPOSSIBLE;
        return this.#stored(found, step);
      case 'take':
        if (isUnknown) return isThere ? ABSENT : IMPOSSIBLE;
        return isHit(answer) ? (found === answer.value ? ABSENT : IMPOSSIBLE) : isThere ? IMPOSSIBLE : stillGone;
      case 'set':
        if (answer === 'dropped') return ABSENT;
        return isUnknown || answer === 'stored' ? this.#stored(value, step) : IMPOSSIBLE;
      case 'add':
        if (answer === 'dropped') return isThere ? IMPOSSIBLE : stillGone;
        if (isUnknown || answer === 'stored') return isThere ? IMPOSSIBLE : this.#stored(value, step);
        return answer === 'not-stored' && isThere ? state : IMPOSSIBLE;
      case 'replace':
        if (answer === 'dropped') return isThere ? ABSENT : IMPOSSIBLE;
        if (isUnknown || answer === 'stored') return isThere ? this.#stored(value, step) : IMPOSSIBLE;
        return answer === 'not-stored' && !isThere ? stillGone : IMPOSSIBLE;
      case 'append':
      case 'prepend': {
        if (answer === 'dropped') return isThere ? ABSENT : IMPOSSIBLE;
        if (answer === 'not-stored') return isThere ? IMPOSSIBLE : stillGone;
        if (found === undefined || (!isUnknown && answer !== 'stored')) return IMPOSSIBLE;
        if (found === UNSEEN || value === UNSEEN) return this.#kept(UNSEEN, state);
        return this.#kept(verb === 'append' ? found + value : value + found, state);
      }
      case 'cas':
        if (answer === 'not-found') return isThere ? IMPOSSIBLE : stillGone;
        if (found === undefined) return IMPOSSIBLE;
        if (answer === 'exists') return found === step.expected ? IMPOSSIBLE : state;
        if (step.expected !== undefined && found !== step.expected) return IMPOSSIBLE;
        if (answer === 'dropped') return ABSENT;
        return isUnknown || answer === 'stored' ? this.#stored(value, step) : IMPOSSIBLE;
      case 'incr':
      case 'decr': {
        if (answer === 'not-found') return isThere ? IMPOSSIBLE : stillGone;
        if (found === undefined) return IMPOSSIBLE;
        const isNumber = /^\d+$/.test(found);
        if (answer === 'not-stored') return isNumber ? IMPOSSIBLE : state;
        if (!isNumber) return IMPOSSIBLE;
        const number = count(BigInt(found), verb, step.operation.delta ?? 1n);
        if (!isUnknown && !(isHit(answer) && answer.value === number)) return IMPOSSIBLE;
        return this.#kept(number, state);
      }
      case 'delete':
        if (isUnknown || answer === 'found') return isThere ? ABSENT : IMPOSSIBLE;
        // A delete that finds nothing in memory deletes what may be elsewhere.
        return answer === 'not-found' && !isThere ? ABSENT : IMPOSSIBLE;
      case 'touch':
        if (answer === 'not-found') return isThere ? IMPOSSIBLE : stillGone;
        return found === undefined ? IMPOSSIBLE : this.#stored(found, step);
      case 'clear':
        return ABSENT;
    }
  }

  // Whether an entry has certainly expired when this operation happens.
  #isOver(state: State, step: Step): boolean {
    const cause = this.#expiries[state];
    return cause !== undefined && step.from > cause.until + cause.operation.ttlMs! + this.#options.clockSlackMs;
  }

  #stored(value: string, step: Step): State {
    return this.#stateOf(value, step.operation.ttlMs === undefined ? undefined : step);
  }

  #kept(value: string, state: State): State {
    return this.#stateOf(this.#options.isSeen(value) ? value : UNSEEN, this.#expiries[state]);
  }

  #stateOf(value: string, expiry: Step | undefined): State {
    let states = this.#plain;
    if (expiry !== undefined) {
      states = this.#expiring.get(expiry) ?? new Map();
      this.#expiring.set(expiry, states);
    }
    let state = states.get(value);
    if (state === undefined) {
      state = this.#values.length;
      this.#values.push(value);
      this.#expiries.push(expiry);
      states.set(value, state);
    }
    return state;
  }
}

export function isHit(answer: Answer | undefined): answer is Exclude<Answer, string> {
  return typeof answer === 'object';
}

function count(before: bigint, verb: Verb, delta: bigint): string {
  if (verb === 'incr') return String(BigInt.asUintN(64, before + delta));
  return String(before > delta ? before - delta : 0n);
}
