/**
 * Removal events: the entries that have left, each with the reason, in batches. The addon keeps them in a bounded ring
 * (native/process/removal_ring.h, which draws the layout of an event) and wakes this thread for new ones.
 */
import { isUtf8 } from 'node:buffer';
import { isMalformed, outOfRange, wrongType } from './errors.ts';
import { type Looker, lookAgain, lookers } from './native/wake.ts';
import { Code, type NativeHandle, numberWord, Word } from './native.ts';
import { checkBoolean, checkNames, type RawOption } from './options.ts';
import { decode, type FastBuffer } from './request/codec.ts';

/**
 * Why an entry has left: it was evicted; it expired; `delete` or `take` removed it; another value was stored under its
 * key. (`clear()` is a separate event.)
 */
export type RemovalReason = 'evicted' | 'expired' | 'deleted' | 'replaced';

/** An entry that has left. */
export interface RemovalEvent<V = unknown> {
  /** The key; a Buffer if it is not text. */
  key: string | Buffer;
  reason: RemovalReason;
  /** The value, if the listener asked for values and `valueOmitted` is not set. */
  value?: V;
  /**
   * Why there is no value although the listener asked for values: it has more than 4096 bytes, so copying it would
   * block other threads, or this handle cannot decode it.
   */
  valueOmitted?: 'too-large' | 'malformed';
}

/** Options of `on('removal', ...)`. */
export interface RemovalOptions {
  /** Only events with these reasons. Default: all four. */
  reasons?: Iterable<RemovalReason>;
  /**
   * Adds values to the events. Each is copied under the shard's lock, so values above 4096 bytes are left out, and the
   * event says so. Default false.
   */
  values?: boolean;
}

/** The events of a cache, with the arguments of their listeners. */
export interface CacheEvents<V = unknown> {
  /** Entries that have left; events of one key are in their order. */
  removal: (events: RemovalEvent<V>[]) => void;
  /** `clear()` removed `count` entries at once. */
  cleared: (count: number) => void;
  /** `count` events were lost, because this thread did not read them before the ring was full. */
  'removals-lost': (count: number) => void;
}

/** The functions that removal_binding.cc adds to a handle. */
export interface RemovalHandle extends NativeHandle {
  listenRemovals(reasons: number, values: boolean): Code;
  takeRemovals(target: Uint8Array): number;
}

/** The parts of a cache that listening needs. */
export interface RemovalCache {
  readonly handle: RemovalHandle;
  readonly raw: RawOption;
  error(code: number): Error;
}

// In the order of native/store/request.h.
const REASONS: readonly RemovalReason[] = ['evicted', 'expired', 'deleted', 'replaced'];
const CLEARED = 4;
const CLEARED_BIT = 1 << CLEARED;
const ALL_BITS = 0b1111;

const EVENT_NAMES: readonly (keyof CacheEvents)[] = ['removal', 'cleared', 'removals-lost'];

const HEADER_BYTES = 24;
/** The largest value in an event: kRemovalValueBytesMax of native/base/limits.h. */
const VALUE_BYTES_MAX = 4096;
/** More than the largest event. */
const BUFFER_BYTES = 128 * 1024;
/** The most buffers handled in one turn of the event loop. */
const TAKES_PER_TURN = 8;

interface Listener {
  readonly event: keyof CacheEvents;
  readonly call: CacheEvents[keyof CacheEvents];
  readonly bits: number;
  readonly values: boolean;
  readonly once: boolean;
}

/** The listeners of one handle. */
export class Removals implements Looker {
  readonly #cache: RemovalCache;
  #listeners: readonly Listener[] = [];
  #buffer: Buffer | undefined;
  #wantsValues = false;

  constructor(cache: RemovalCache) {
    this.#cache = cache;
  }

  /** Cache.on and Cache.once, which have the documentation. */
  add(event: unknown, call: unknown, options: RemovalOptions | undefined, once: boolean): void {
    if (!(EVENT_NAMES as readonly unknown[]).includes(event)) {
      const known = [...EVENT_NAMES, 'log'].map((name) => `'${name}'`).join(' or ');
      throw (typeof event === 'string' ? outOfRange : wrongType)('event', known, event);
    }
    if (typeof call !== 'function') throw wrongType('listener', 'a function', call);
    let bits = 0;
    let values = false;
    if (event === 'removal') {
      const given = checkNames<RemovalOptions>('options', options, ['reasons', 'values']);
      bits = given.reasons === undefined ? ALL_BITS : bitsOf(given.reasons);
      values = checkBoolean('values', given.values, false);
    } else {
      checkNames<object>('options', options, []);
      if (event === 'cleared') bits = CLEARED_BIT;
    }
    const listener = { event, call, bits, values, once } as Listener;
    this.#listen([...this.#listeners, listener]);
  }

  /** Removes the listener; if it was added twice, the later one. A no-op if there is none. */
  remove(event: unknown, call: unknown): void {
    const at = this.#listeners.findLastIndex((listener) => listener.event === event && listener.call === call);
    if (at >= 0) this.#listen(this.#listeners.filter((_, index) => index !== at));
  }

  /** Delivers the events so far, and then none. The handle is about to be closed. */
  close(): void {
    if (!lookers.has(this)) return;
    // Bounded, because other threads may add events meanwhile: the ring holds at most this many buffers.
    for (let takes = 0; takes < 2 * TAKES_PER_TURN && this.#take(); takes++);
    this.#listeners = [];
    lookers.delete(this);
  }

  look(): void {
    for (let takes = 0; takes < TAKES_PER_TURN; takes++) {
      if (!this.#take()) return;
    }
    lookAgain();
  }

  #listen(listeners: readonly Listener[]): void {
    let bits = 0;
    let values = false;
    for (const listener of listeners) {
      bits |= listener.bits;
      values ||= listener.values;
    }
    const code = this.#cache.handle.listenRemovals(bits, values);
    if (code === Code.closed && listeners.length < this.#listeners.length) return;
    if (code !== Code.stored) throw this.#cache.error(code);
    this.#listeners = listeners;
    this.#wantsValues = values;
    if (bits === 0) {
      lookers.delete(this);
      this.#buffer = undefined;
    } else {
      lookers.add(this);
      this.#buffer ??= Buffer.allocUnsafeSlow(BUFFER_BYTES);
    }
  }

  // Delivers a buffer of events. False: there was none.
  #take(): boolean {
    const buffer = this.#buffer;
    if (buffer === undefined) return false;
    const bytes = this.#cache.handle.takeRemovals(buffer);
    const lost = bytes < 0 ? 0 : numberWord(Word.number);
    if (bytes < 0) lookers.delete(this); // The cache was closed by its owner.
    if (lost > 0) this.#emit('removals-lost', lost);
    if (bytes <= 0) return lost > 0;

    // Reads all events before it calls a listener, because a listener that closes the cache uses this buffer again.
    let events: RemovalEvent[] = [];
    const batches: (RemovalEvent[] | number)[] = [events];
    for (let at = 0; at < bytes; at += buffer.readUInt32LE(at)) {
      if (buffer[at + 4] !== CLEARED) {
        events.push(this.#eventAt(buffer, at));
      } else {
        events = [];
        batches.push(buffer.readUInt32LE(at + 16) + buffer.readUInt32LE(at + 20) * 2 ** 32, events);
      }
    }
    for (const batch of batches) {
      if (typeof batch === 'number') this.#emit('cleared', batch);
      else if (batch.length > 0) this.#emitRemovals(batch);
    }
    return true;
  }

  #eventAt(buffer: Buffer, at: number): RemovalEvent {
    const keyStart = at + HEADER_BYTES;
    const keyEnd = keyStart + buffer.readUInt32LE(at + 8);
    const event: RemovalEvent = { key: keyOf(buffer, keyStart, keyEnd), reason: REASONS[buffer[at + 4]!]! };
    if (buffer[at + 6] !== 0) {
      const valueEnd = keyEnd + buffer.readUInt32LE(at + 12);
      const codec = buffer[at + 5]!;
      try {
        event.value = decode(codec, buffer, keyEnd, valueEnd, this.#cache.raw, buffer.readUInt32LE(at + 16));
      } catch (error) {
        // The event is delivered without the value. An error of the user's own `raw` function becomes an uncaught
        // exception.
        if (!isMalformed(error)) raise(error);
        event.valueOmitted = 'malformed';
      }
    } else if (this.#wantsValues && buffer.readUInt32LE(at + 12) > VALUE_BYTES_MAX) {
      event.valueOmitted = 'too-large';
    }
    return event;
  }

  #emitRemovals(events: RemovalEvent[]): void {
    for (const listener of this.#listeners) {
      if (listener.event !== 'removal') continue;
      // Other listeners may want more reasons than this one.
      const isWanted = (event: RemovalEvent) => (listener.bits & (1 << REASONS.indexOf(event.reason))) !== 0;
      const wanted = listener.bits === ALL_BITS ? events : events.filter(isWanted);
      if (wanted.length > 0) this.#call(listener, wanted);
    }
  }

  #emit(event: keyof CacheEvents, count: number): void {
    for (const listener of this.#listeners) {
      if (listener.event === event) this.#call(listener, count);
    }
  }

  // An error of a listener does not stop the others; it becomes an uncaught exception.
  #call(listener: Listener, argument: unknown): void {
    try {
      if (listener.once) this.#listen(this.#listeners.filter((other) => other !== listener));
      (listener.call as (argument: unknown) => void)(argument);
    } catch (error) {
      raise(error);
    }
  }
}

function raise(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}

function bitsOf(reasons: Iterable<RemovalReason>): number {
  const expected = `an array of ${REASONS.map((reason) => `'${reason}'`).join(', ')}`;
  if (typeof reasons === 'string' || typeof reasons?.[Symbol.iterator] !== 'function') {
    throw wrongType('reasons', expected, reasons);
  }
  let bits = 0;
  for (const reason of reasons) {
    const index = REASONS.indexOf(reason);
    if (index < 0) throw outOfRange('reasons', expected, reason);
    bits |= 1 << index;
  }
  if (bits === 0) throw outOfRange('reasons', `${expected}, at least one`, reasons);
  return bits;
}

function keyOf(buffer: Buffer, start: number, end: number): string | Buffer {
  const text = (buffer as FastBuffer).utf8Slice(start, end);
  if (!text.includes('\ufffd') || isUtf8(buffer.subarray(start, end))) return text;
  return Buffer.from(buffer.subarray(start, end));
}
