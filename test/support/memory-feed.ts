// A cache's side of the log without the cache: records that a test writes, drained and committed as the addon does it,
// and a walk over what they say. Only what the scribe uses is there.

import { LOG_TURNS_MAX } from '../../src/limits.ts';
import { Code, type FeedHandle, FeedStat, FeedState, Word, words } from '../../src/native.ts';
import { RecordKind, RecordReader } from '../../src/request/record.ts';
import { makeRecord } from './records.ts';

/** Commits, waits and states, in the order in which they came. */
export type FeedEvent =
  | { kind: 'commit'; count: number }
  | { kind: 'wait'; ms: number }
  | { kind: 'state'; state: number };

export class MemoryFeed {
  readonly events: FeedEvent[] = [];
  readonly shardCount = 1;
  /** Called in a drain that finds nothing and would wait. */
  onWait: (ms: number) => void = () => {};
  metrics = new Float64Array(0);
  state: number = FeedState.opening;
  isEnded = false;
  #epoch: number;
  #counter = 0n;
  #committed = 0n;
  /** Not committed; the first of them are drained. */
  #records: { bytes: Buffer; version: bigint }[] = [];
  #drained = 0;
  /** Turns in flight, with how many records each took, in order. */
  #turns: { number: number; count: number; isCommitted: boolean }[] = [];
  #lastTurn = 0;
  /** What the cache holds, oldest first. */
  readonly entries = new Map<string, Buffer>();
  #walks = new Set<{ left: Buffer[] }>();

  constructor(epoch = 1) {
    this.#epoch = epoch;
  }

  get handle(): FeedHandle {
    return this as unknown as FeedHandle;
  }

  get uncommitted(): number {
    return this.#records.length;
  }

  get turnsInFlight(): number {
    return this.#turns.length;
  }

  set(key: string, value: string | Buffer): bigint {
    this.#counter++;
    const version = (BigInt(this.#epoch) << 32n) + this.#counter;
    const bytes = makeRecord({ kind: 'set', key, value, epoch: this.#epoch, counter: Number(this.#counter) });
    this.#records.push({ bytes, version });
    this.entries.delete(key);
    this.entries.set(key, bytes);
    return version;
  }

  // ---- as the addon ----

  drain(target: Uint8Array, timeoutMs: number): number {
    words[Word.number] = 0n;
    words[Word.version] = BigInt(this.#epoch);
    words[Word.valueBytes] = 0n;
    words[Word.place] = 0n;
    if (this.isEnded) return -1;
    if (this.#turns.length === LOG_TURNS_MAX) throw new Error('More turns than there may be');
    const drainedBefore = this.#drained;
    if (this.#drained === this.#records.length && timeoutMs > 0) {
      this.events.push({ kind: 'wait', ms: timeoutMs });
      this.onWait(timeoutMs);
    }
    let bytes = 0;
    for (; this.#drained < this.#records.length; this.#drained++) {
      const next = this.#records[this.#drained]!.bytes;
      if (bytes + next.length > target.length) {
        if (bytes === 0) words[Word.valueBytes] = BigInt(next.length);
        break;
      }
      target.set(next, bytes);
      bytes += next.length;
      words[Word.number]! += 1n;
    }
    if (bytes > 0) {
      const number = ++this.#lastTurn;
      this.#turns.push({ number, count: this.#drained - drainedBefore, isCommitted: false });
      words[Word.place] = BigInt(number);
    }
    return bytes;
  }

  /** Where turns are in the log, as the scribe has said. */
  readonly places: { turn: number; begin: bigint; end: bigint }[] = [];
  placesBefore = 0n;

  dropPlaces(before: bigint): void {
    this.placesBefore = before;
  }

  commitDrained(turn: number, begin: bigint, end: bigint): void {
    this.places.push({ turn, begin, end });
    const flight = this.#turns.find(({ number }) => number === turn);
    if (flight === undefined || flight.isCommitted) throw new Error(`Turn ${turn} is not in flight`);
    flight.isCommitted = true;
    let count = 0;
    while (this.#turns[0]?.isCommitted) count += this.#turns.shift()!.count;
    if (count === 0) return;
    const committed = this.#records.splice(0, count);
    this.#drained -= count;
    this.#committed = committed.at(-1)?.version ?? this.#committed;
    this.events.push({ kind: 'commit', count: committed.length });
  }

  rewindDrained(): void {
    this.#drained = 0;
    this.#turns = [];
  }

  poke(): void {}

  setFeedState(state: number): void {
    this.state = state;
    this.events.push({ kind: 'state', state });
  }

  setLogMetrics(numbers: Float64Array): void {
    this.metrics = numbers.slice();
  }

  logMetrics(numbers: Float64Array): void {
    numbers.set(this.metrics);
  }

  feedStats(numbers: Float64Array): void {
    numbers.fill(0);
    numbers[FeedStat.state] = this.state;
    numbers[FeedStat.records] = this.#records.length;
  }

  readTargets(versions: BigUint64Array): void {
    versions[0] = this.#counter === 0n ? 0n : (BigInt(this.#epoch) << 32n) + this.#counter;
  }

  covered(versions: BigUint64Array): boolean {
    return versions[0]! <= this.#committed;
  }

  epoch(): number {
    return this.#epoch;
  }

  stats(): number {
    return Code.stored;
  }

  openWalk(): unknown {
    const walk = { left: [...this.entries.values()] };
    this.#walks.add(walk);
    return walk;
  }

  get openWalks(): number {
    return this.#walks.size;
  }

  dumpStep(walk: { left: Buffer[] }, target: Uint8Array): number | false {
    words[Word.number] = 0n;
    let bytes = 0;
    for (let next = walk.left[0]; next !== undefined; next = walk.left[0]) {
      if (bytes + next.length > target.length) {
        if (bytes === 0) words[Word.number] = BigInt(next.length);
        break;
      }
      target.set(next, bytes);
      bytes += next.length;
      walk.left.shift();
    }
    return bytes;
  }

  dumpPendingClear(): number {
    return 0;
  }

  closeWalk(walk: { left: Buffer[] }): void {
    this.#walks.delete(walk);
  }
}

/** The values that records leave, by key. */
export function replay(into: Map<string, string>, records: Buffer): void {
  const reader = new RecordReader(records);
  while (reader.next()) {
    if (reader.kind === RecordKind.clear) into.clear();
    else if (reader.kind === RecordKind.set) into.set(reader.key.toString(), reader.value.toString());
    else if (reader.kind === RecordKind.delete) into.delete(reader.key.toString());
  }
}
