/** The terms of a promised call: what its options make of it. */
import {
  type AckLevel,
  type CallOptions,
  checkAck,
  checkBoolean,
  checkNames,
  type Duration,
  parseDuration,
} from '../options.ts';
import { checkPatience, type Patience } from '../patience.ts';
import { type ArithmeticOptions, checkAmount } from '../request/arguments.ts';
import { KEEP_EXPIRY, type RequestFields } from '../request/batch.ts';

/** Options of the promised `set`, `add`, `replace`, `cas`, `setMany` and `update`. */
export interface PromisedSetOptions extends CallOptions {
  /** As for the synchronous verbs. */
  ttl?: Duration | 'keep';
}

/** Options of the promised `setMany`. */
export interface PromisedSetManyOptions extends PromisedSetOptions {
  /** As for the synchronous `setMany`. */
  atomic?: boolean;
}

/** Options of the promised `incr` and `decr`. */
export interface PromisedArithmeticOptions extends ArithmeticOptions, CallOptions {}

const CALL_NAMES: readonly (keyof CallOptions)[] = ['signal', 'timeout', 'ack'];
const SET_NAMES: readonly (keyof PromisedSetOptions)[] = [...CALL_NAMES, 'ttl'];
const SET_MANY_NAMES: readonly (keyof PromisedSetManyOptions)[] = [...SET_NAMES, 'atomic'];
const ARITHMETIC_NAMES: readonly (keyof PromisedArithmeticOptions)[] = [...CALL_NAMES, 'initial', 'ttl'];

/** How long the caller of a call waits, and what its answer waits for. */
export interface Terms {
  readonly patience: Patience | undefined;
  /** What the answer waits for. */
  readonly ack: AckLevel;
}

/** The terms of a call, with the fields of its request that come from its options too. */
export interface FieldTerms {
  readonly terms: Terms;
  readonly fields: RequestFields | undefined;
}

/** Checks the options of the calls of one handle. Throws `ERR_INVALID_ARGUMENT`. */
export class TermsOfCalls {
  readonly #highest: AckLevel;
  /** Without options. */
  readonly usual: Terms;
  readonly #usualOfSet: FieldTerms;

  /** `highest`: the highest level that there is. `ack`: the level of the cache. */
  constructor(highest: AckLevel, ack: AckLevel) {
    this.#highest = highest;
    this.usual = { patience: undefined, ack: highest === 'memory' ? 'memory' : ack };
    this.#usualOfSet = { terms: this.usual, fields: undefined };
  }

  of(options: CallOptions | undefined): Terms {
    if (options === undefined) return this.usual;
    return this.#ofChecked(checkNames<CallOptions>('options', options, CALL_NAMES));
  }

  ofSet(options: PromisedSetOptions | undefined): FieldTerms {
    if (options === undefined) return this.#usualOfSet;
    const given = checkNames<PromisedSetOptions>('options', options, SET_NAMES);
    const terms = this.#ofChecked(given);
    const { ttl } = given;
    if (ttl === undefined) return { terms, fields: undefined };
    return { terms, fields: { ttl: ttl === 'keep' ? KEEP_EXPIRY : parseDuration('ttl', ttl, 0) } };
  }

  ofSetMany(options: PromisedSetManyOptions | undefined): FieldTerms & { readonly isAtomic: boolean } {
    if (options === undefined) return { ...this.#usualOfSet, isAtomic: false };
    const { atomic, ...set } = checkNames<PromisedSetManyOptions>('options', options, SET_MANY_NAMES);
    return { ...this.ofSet(set), isAtomic: checkBoolean('atomic', atomic, false) };
  }

  ofCount(delta: number | bigint, options: PromisedArithmeticOptions | undefined): FieldTerms {
    const given = checkNames<PromisedArithmeticOptions>('options', options, ARITHMETIC_NAMES);
    const terms = this.#ofChecked(given);
    const fields: RequestFields = {
      delta: BigInt(delta),
      initial: given.initial === undefined ? undefined : BigInt(checkAmount('initial', given.initial)),
      initialIsBigInt: typeof given.initial === 'bigint',
      ttl: given.ttl === undefined ? undefined : parseDuration('ttl', given.ttl, 0),
    };
    return { terms, fields };
  }

  /** The given level, or that of the cache. */
  ackOf(ack: unknown): AckLevel {
    return checkAck(ack, this.#highest, this.usual.ack);
  }

  #ofChecked(given: CallOptions): Terms {
    return { patience: checkPatience(given), ack: this.ackOf(given.ack) };
  }
}
