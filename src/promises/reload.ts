/**
 * Promised requests whose value is not in memory but may be in the database: each waits for the load of its key, keeps
 * its place in the queue meanwhile, and is sent again when the load has ended.
 */
import { type Loads, type LoadWaiter, loadError } from '../loads.ts';
import type { Key } from '../request/arguments.ts';
import { type RequestFields, Verb } from '../request/batch.ts';
import { bytesOf, type Encoded } from '../request/codec.ts';
import type { Router } from '../router/index.ts';
import type { AnyCall } from './call.ts';

/** The request of a call, to be sent again. A call of many keys has one for all of them, without a value. */
export interface Repeat {
  readonly loads: Loads;
  readonly router: Router;
  readonly verb: Verb;
  readonly value: Encoded | undefined;
  readonly fields: RequestFields | undefined;
}

/** What of a value is needed to send it again: the caller may change its bytes. */
export function keptValue({ payload, codec }: Encoded): Encoded {
  return { payload: typeof payload === 'string' ? payload : Uint8Array.from(payload), codec };
}

/** Verbs that change nothing: they may be misses. */
const READS: ReadonlySet<Verb> = new Set([Verb.get, Verb.peek, Verb.has]);

/** One request that waits for loads of its key. */
export class Reload implements LoadWaiter {
  readonly key: Key;
  /** Loads for which it has waited, this one included. */
  tries = 0;
  isWaiting = false;
  readonly #call: AnyCall;
  readonly #position: number;
  readonly #repeat: Repeat;
  readonly #bytes: number;

  constructor(call: AnyCall, position: number, repeat: Repeat) {
    this.key = call.key(position);
    this.#call = call;
    this.#position = position;
    this.#repeat = repeat;
    this.#bytes = repeat.value === undefined ? 0 : bytesOf(repeat.value.payload);
  }

  wait(): void {
    this.tries++;
    this.isWaiting = true;
    this.#repeat.router.stay(this.#bytes);
    this.#repeat.loads.wait(this);
  }

  /** Its call has ended. */
  leave(): void {
    if (!this.isWaiting || !this.#repeat.loads.leave(this)) return;
    this.isWaiting = false;
    this.#repeat.router.left(1, this.#bytes);
  }

  loaded(): void {
    this.isWaiting = false;
    const { router, verb, value, fields } = this.#repeat;
    try {
      router.stage(this.key);
      if (value === undefined) router.append(this.#call, this.#position, verb, fields);
      else router.appendValue(this.#call, this.#position, verb, value, fields);
    } catch {
      this.failed('there is no memory for the request', false);
      return;
    }
    // The place is that of the request again.
    router.left(0, this.#bytes);
  }

  failed(why: string, isUnknown: boolean): void {
    this.isWaiting = false;
    if (isUnknown && READS.has(this.#repeat.verb)) {
      this.#call.missed(this.#position);
      this.#repeat.router.left(1, this.#bytes);
      return;
    }
    const error = loadError(`Cannot ${this.#call.describe(this.#position)}`, this.key, why);
    this.#call.notLoaded(this.#position, error);
    this.#repeat.router.left(1, this.#bytes);
  }
}
