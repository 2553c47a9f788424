/** A loaded value on its way into the cache and to the callers: stored once, decoded anew for each. */
import { show } from '../errors.ts';
import { Code } from '../native.ts';
import { bytesOf, Codec, decode, type Encoded, encode, encodeDoubtfulText } from '../request/codec.ts';
import type { Call } from './call.ts';
import type { FetchCache, Key } from './flight-binding.ts';
import { type Life, lifeOf, TTL_NOTHING } from './life.ts';

/** A value as bytes or text, from which each caller gets its copy. */
export interface Filled {
  readonly payload: string | Uint8Array;
  readonly codec: number;
}

/** What loads of one handle store. */
export class Filling {
  readonly #cache: FetchCache;
  #hasToldTooLarge = false;

  constructor(cache: FetchCache) {
    this.#cache = cache;
  }

  /**
   * Stores the value as the call wants, and answers the flight's waiters in other threads; for a flight that is not
   * shared (id 0) it only encodes. Throws if the value cannot be stored in any cache, or its `ttl` is wrong; the flight
   * is then as it was. Otherwise the value was loaded, and callers get it even if the cache does not keep it.
   */
  fill(flightId: number, call: Call, value: unknown): Filled {
    const life = lifeOf(this.#cache, call.wants, call.key, value);
    encode(value, encoded);
    const { payload, codec } = encoded;
    if (flightId === 0) return { payload, codec };
    this.#cache.tick?.();
    const code = this.#store(flightId, payload, codec, life);
    if (code === Code.valueMaybeIllFormed) {
      encodeDoubtfulText(payload as string, encoded);
      const again = { payload: encoded.payload, codec: encoded.codec };
      if (this.#store(flightId, again.payload, again.codec, life) === Code.tooLarge) {
        this.#tellTooLarge(call.key, bytesOf(again.payload));
      }
      return again;
    }
    if (code === Code.tooLarge) this.#tellTooLarge(call.key, bytesOf(payload));
    return { payload, codec };
  }

  /** A copy of the value, as this handle reads it. */
  copyOf({ payload, codec }: Filled): unknown {
    if (codec === Codec.json && typeof payload === 'string') return JSON.parse(payload);
    const bytes =
      typeof payload === 'string'
        ? Buffer.from(payload, 'utf8')
        : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
    return decode(codec, bytes, 0, bytes.length, this.#cache.raw, 0);
  }

  #store(flightId: number, payload: string | Uint8Array, codec: number, { ttlMs, freshMs }: Life): number {
    return this.#cache.handle.fillFlight(flightId, payload, codec, ttlMs, ttlMs !== TTL_NOTHING, freshMs);
  }

  // Once only, because a program that fetches such values would be warned of each of them.
  #tellTooLarge(key: Key, bytes: number): void {
    if (this.#hasToldTooLarge) return;
    this.#hasToldTooLarge = true;
    process.emitWarning(
      `fetch() loads ${show(key)} each time: its value of ${bytes} bytes is larger than maxValueBytes (${this.#cache.handle.valueBytesNow()}) and is not kept. This is told once for a handle; stats().tooLarge counts`,
      { type: 'CairnWarning', code: 'CAIRN_VALUE_NOT_KEPT' },
    );
  }
}

// Filled by encode() and used up before anything else runs.
const encoded: Encoded = { payload: '', codec: 0 };
