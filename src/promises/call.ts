/**
 * A promised call: its request, and how it is answered. Its caller may stop waiting, and its answer may be held back
 * until the log has the version that it reveals, or for a time.
 */
import type { Commits } from '../commits.ts';
import { CairnError, firstError, isMalformed, type ManyResult, malformedValues, show } from '../errors.ts';
import type { Waiter } from '../held.ts';
import { LOAD_TRIES_MAX } from '../limits.ts';
import { Code, type NativeHandle } from '../native.ts';
import type { RawOption } from '../options.ts';
import { type Patience, wait } from '../patience.ts';
import type { Key } from '../request/arguments.ts';
import type { Block } from '../request/batch.ts';
import { bytesOf } from '../request/codec.ts';
import type { Batch, Call, Failure, Router } from '../router/index.ts';
import type { StoredWaits } from '../stored-waits.ts';
import { missOf, type Read } from './answers.ts';
import { Reload, type Repeat } from './reload.ts';
import type { SlowAnswers } from './slow-answers.ts';

/** The parts of a call besides its keys. */
export interface CallParts {
  readonly name: string;
  readonly read: Read;
  readonly handle: NativeHandle;
  readonly raw: RawOption;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Holds answers back until the log, or the database, has the versions that they reveal. */
export interface Hold {
  readonly commits: Commits;
  /** Changes wait for the database. Undefined: for the log. */
  readonly stored: StoredWaits | undefined;
  readonly router: Router;
}

/** Holds answers to changes back for a time. */
export interface Slow {
  readonly answers: SlowAnswers;
  readonly router: Router;
}

/** The common base of the two kinds of call. */
export abstract class AnyCall implements Call, Waiter {
  batches: Batch[] | undefined;
  /** Answers wait for the log. */
  hold: Hold | undefined;
  /** Undefined: there is no database. */
  slow: Slow | undefined;
  /** The request, to be sent again when a value was loaded. undefined: there is no database. */
  repeat: Repeat | undefined;
  #reloads: Map<number, Reload> | undefined;
  #heldCount = 0;
  #isSlowed = false;
  #heldBytes = 0;
  #sizes: Map<number, number> | undefined;
  readonly handle: NativeHandle;
  readonly raw: RawOption;
  readonly name: string;
  protected readonly read: Read;
  readonly #reject: (error: unknown) => void;
  #stopWaiting: (() => void) | undefined;
  protected isSettled = false;

  constructor({ name, read, handle, raw, reject }: CallParts) {
    this.handle = handle;
    this.name = name;
    this.read = read;
    this.raw = raw;
    this.#reject = reject;
  }

  /** Keeps the size of a value that will be refused for its size, for the error. */
  noteSize(position: number, payload: string | Uint8Array): void {
    const most = payload.length * (typeof payload === 'string' ? 3 : 1);
    if (most <= this.handle.valueBytesMax) return;
    this.#sizes ??= new Map();
    this.#sizes.set(position, bytesOf(payload));
  }

  /** The sizes of large values to be stored. */
  sizeOf(position: number): number | undefined {
    return this.#sizes?.get(position);
  }

  abstract answer(block: Block, row: number, position: number, pieces: readonly Buffer[]): void;

  /** The request in words; with a position, the request of that position. */
  abstract describe(position?: number): string;

  /** The key of that position. */
  abstract key(position: number): Key;

  /**
   * Some of its requests are answered, but the call is not: others are not, or the log does not have their versions
   * yet.
   */
  protected get isPartlyDone(): boolean {
    return this.isHeld;
  }

  /**
   * Waits until the log has the version that this answer reveals, or the database the change that was made. If changes
   * are slowed, a call waits for that time too, once for all that it changes.
   */
  protected waitFor(block: Block, row: number, position: number): void {
    const slowedMs = this.slow === undefined || this.#isSlowed ? 0 : block.slowedMs(row);
    if (this.slow !== undefined && slowedMs > 0) {
      this.#isSlowed = true;
      this.#heldCount++;
      this.slow.router.stay(0);
      this.slow.answers.hold(slowedMs, () => this.committed());
    }
    if (this.hold === undefined) return;
    const version = block.commitVersion(row);
    if (version === 0n) return;
    const bytes = block.valueBytes(row);
    this.#heldCount++;
    this.#heldBytes += bytes;
    this.hold.router.stay(bytes);
    const { commits, stored } = this.hold;
    if (stored === undefined || !block.hasChanged(row)) {
      commits.hold(block.shard(row), version, this, !block.hasChanged(row));
    } else {
      const uncommitted = (why: CairnError): void => this.#unstored(position, why);
      stored.hold(block.shard(row), version, this.key(position), { committed: () => this.committed(), uncommitted });
    }
  }

  /** The answer is that the value is not in memory: waits for it, and asks again. False: the answer stands. */
  protected reloads(block: Block, row: number, position: number): boolean {
    if (this.repeat === undefined || block.status(row) !== Code.notResident) return false;
    this.#reloads ??= new Map();
    let reload = this.#reloads.get(position);
    if (reload === undefined) {
      reload = new Reload(this, position, this.repeat);
      this.#reloads.set(position, reload);
    }
    if (reload.tries === LOAD_TRIES_MAX) return false;
    reload.wait();
    return true;
  }

  /** The value that a request needs was not loaded: the request was not done. */
  abstract notLoaded(position: number, error: CairnError): void;

  /** The value that a read needs is unknown, and that is a miss. */
  abstract missed(position: number): void;

  /** Some of its versions are not in the log yet. */
  protected get isHeld(): boolean {
    return this.#heldCount > 0;
  }

  /** All answers have come, and none is held any more. */
  protected abstract finish(): void;

  committed(): void {
    this.#heldCount--;
    if (this.#heldCount === 0) this.finish();
    this.#release();
  }

  uncommitted(why: CairnError): void {
    this.#heldCount--;
    this.rejectWith(maybeLost(this.describe(), why));
    this.#release();
  }

  #unstored(position: number, why: CairnError): void {
    this.#heldCount--;
    this.notStored(position, notConfirmed(this.describe(position), why));
    if (this.#heldCount === 0) this.finish();
    this.#release();
  }

  /** The database does not have the change of a request, for all that is known. */
  protected abstract notStored(position: number, error: CairnError): void;

  // The bytes are freed with the last request: a call counts as a whole.
  #release(): void {
    const bytes = this.#heldCount === 0 ? this.#heldBytes : 0;
    this.#heldBytes -= bytes;
    (this.hold ?? this.slow)!.router.left(1, bytes);
  }

  fail(failure: Failure): void {
    this.rejectWith(failureError(failure, this.describe()));
  }

  /** Stops waiting when the time is over or the signal is aborted. REQUIRES: `batches` was set when it was appended. */
  wait(patience: Patience, router: Router): void {
    const giveUp = (error: (isNothingDone: boolean) => unknown): void => {
      if (!this.isSettled) this.rejectWith(error(router.withdraw(this) && !this.isPartlyDone));
    };
    this.#stopWaiting = wait(patience, 'caller', {
      late: (timeoutMs) => giveUp((isNothingDone) => this.#late(timeoutMs, isNothingDone)),
      aborted: (reason) => giveUp(() => reason),
    });
    if (this.isSettled) this.#stopWaiting();
  }

  protected rejectWith(error: unknown): void {
    if (this.isSettled) return;
    this.settled();
    this.#reject(error);
  }

  protected settled(): void {
    this.isSettled = true;
    this.#stopWaiting?.();
    if (this.#reloads !== undefined) for (const reload of this.#reloads.values()) reload.leave();
  }

  #late(timeoutMs: number, isNothingDone: boolean): CairnError {
    const isLoading = [...(this.#reloads?.values() ?? [])].some(({ isWaiting }) => isWaiting);
    const where = isLoading ? 'its value was still being loaded' : 'it was still in the queue';
    const outcome = isNothingDone ? `it was not done: ${where}` : 'it may or may not have been done';
    return new CairnError('ERR_TIMEOUT', `No answer to ${this.describe()} within ${timeoutMs} ms: ${outcome}`);
  }
}

export class OneCall extends AnyCall {
  readonly #key: Key;
  readonly #resolve: (value: unknown) => void;
  #value: unknown;
  #error: unknown;
  #hasFailed = false;

  constructor(key: Key, parts: CallParts) {
    super(parts);
    this.#key = key;
    this.#resolve = parts.resolve;
  }

  answer(block: Block, row: number, position: number, pieces: readonly Buffer[]): void {
    if (this.isSettled || this.reloads(block, row, position)) return;
    try {
      this.#value = this.read(block, row, pieces, this, position);
    } catch (error) {
      // The request may have changed something: a value that is too large removes the old entry.
      this.#error = isMalformed(error) ? malformedValues([this.#key], error) : error;
      this.#hasFailed = true;
    }
    this.waitFor(block, row, position);
    if (!this.isHeld) this.finish();
  }

  protected override finish(): void {
    if (this.isSettled) return;
    if (this.#hasFailed) {
      this.rejectWith(this.#error);
    } else {
      this.settled();
      this.#resolve(this.#value);
    }
  }

  override notLoaded(_position: number, error: CairnError): void {
    this.rejectWith(error);
  }

  override missed(): void {
    this.#value = missOf(this.read);
    this.finish();
  }

  protected override notStored(_position: number, error: CairnError): void {
    this.rejectWith(error);
  }

  override describe(): string {
    return `${this.name} ${show(this.#key)}`;
  }

  override key(): Key {
    return this.#key;
  }
}

export class ManyCall extends AnyCall {
  readonly #keys: readonly Key[];
  readonly #values: unknown[];
  readonly #resolve: (values: unknown) => void;
  #missing: number;
  #hasFailed = false;

  constructor(keys: readonly Key[], parts: CallParts) {
    super(parts);
    // The batches with its requests, because one of the keys may turn out to be invalid.
    this.batches = [];
    this.#keys = keys;
    this.#values = new Array(keys.length);
    this.#missing = keys.length;
    this.#resolve = parts.resolve;
  }

  /** An entry is refused before it is sent; the others are not affected. */
  refuse(position: number, error: Error): void {
    this.#values[position] = error;
    this.#hasFailed = true;
    this.#missing--;
    if (this.#missing === 0 && !this.isHeld) this.finish();
  }

  override notLoaded(position: number, error: CairnError): void {
    this.refuse(position, error);
  }

  override missed(position: number): void {
    this.#values[position] = missOf(this.read);
    this.#missing--;
    if (!this.isHeld) this.finish();
  }

  // The others go on: each entry counts by itself.
  protected override notStored(position: number, error: CairnError): void {
    this.#values[position] = error;
    this.#hasFailed = true;
  }

  answer(block: Block, row: number, position: number, pieces: readonly Buffer[]): void {
    if (this.isSettled || this.reloads(block, row, position)) return;
    try {
      this.#values[position] = this.read(block, row, pieces, this, position);
    } catch (error) {
      // The others are in progress: rejects when they are done.
      this.#values[position] = error;
      this.#hasFailed = true;
    }
    this.#missing--;
    this.waitFor(block, row, position);
    if (!this.isHeld) this.finish();
  }

  protected override finish(): void {
    if (this.#missing > 0 || this.isSettled) return;
    if (this.#hasFailed) {
      this.rejectWith(this.#failure());
    } else {
      this.settled();
      this.#resolve(this.#values);
    }
  }

  #failure(): unknown {
    const malformed = this.#values.flatMap((value, position) => (isMalformed(value) ? [position] : []));
    const [first] = malformed;
    if (first === undefined) return firstError(this.#values as ManyResult[]);
    const keys = malformed.map((position) => this.#keys[position]!);
    return malformedValues(keys, this.#values[first] as CairnError);
  }

  override describe(position?: number): string {
    if (position !== undefined) return `${this.name} ${show(this.#keys[position])}`;
    const more = this.#keys.length === 1 ? '' : ` and ${this.#keys.length - 1} more`;
    return `${this.name} ${show(this.#keys[0])}${more}`;
  }

  override key(position: number): Key {
    return this.#keys[position]!;
  }

  protected override get isPartlyDone(): boolean {
    return this.#missing < this.#keys.length;
  }
}

// For a request that was done, but is not in the log, for now or forever. Only a request that changed nothing is
// refused.
export function maybeLost(request: string, why: CairnError): CairnError {
  const what = why.code === 'ERR_LOG_FULL' ? 'cannot be answered' : 'may be lost';
  return new CairnError(why.code, `The request ${request} ${what}: ${why.message}`);
}

// For a request that was done, of which the database has not confirmed the change.
function notConfirmed(request: string, why: CairnError): CairnError {
  return new CairnError(why.code, `The request ${request} was done in memory: ${why.message}`);
}

/** The error of a request that was not answered. */
export function failureError({ code, reason, cause }: Failure, request: string): CairnError {
  return new CairnError(code, `The request ${request} ${reason}`, cause === undefined ? undefined : { cause });
}
