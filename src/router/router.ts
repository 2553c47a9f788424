/**
 * The way of a promised request: key -> hash -> lane -> batch -> thread. A router belongs to one handle of a cache; it
 * makes its lanes at once, and their threads when they are needed.
 *
 * Order: requests for one key go to one lane, which executes them in the order in which they were appended. Between
 * different keys there is no order, except around a barrier (clear), which all lanes pass together.
 *
 * Requests are admitted by their number and their bytes (queue/admission.ts); a refused request leaves no trace.
 *
 * | the router is | enter() | close()                     | destroy()                       | its cache is closed |
 * |---------------|---------|-----------------------------|---------------------------------|---------------------|
 * | open          | counts  | finishes what was accepted, | refuses what was not sent, ends | fails what it meets |
 * |               |         | then ends the threads       | the threads; what was sent may  | with ERR_CLOSED,    |
 * |               |         |                             | be done (ERR_WORKER_EXITED)     | then as close()     |
 * | draining      | refuses | the same promise            | the same                        | the same            |
 * | closed        | refuses | the same promise            | the same promise                |                     |
 *
 * If a thread dies while draining, a new one is started for the remaining requests. Only unanswered calls keep the
 * process alive.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { KEY_BYTES_MAX, LANE_COUNT_MAX } from '../limits.ts';
import { Admission, type AdmissionBounds } from '../queue/index.ts';
import { BATCH_BLOCK_BYTES, payloadRoom, type RequestFields, StagedKey, type Verb } from '../request/batch.ts';
import type { Encoded } from '../request/codec.ts';
import { routingHashOfBytes } from '../request/hash.ts';
import { Barrier, type Batch, type Call, DESTROYED, type Failure, Lane, type LaneOwner } from './lane.ts';

export interface RouterOptions {
  /** The process-wide number of the cache, by which the lanes' threads find it. */
  readonly cacheId: number;
  readonly shardCount: number;
  /** At most the number of shards; undefined: chosen. */
  readonly laneCount: number | undefined;
  readonly bounds: AdmissionBounds;
  /** The queue has refused a call and has room again. Must not throw. */
  readonly onDrain: () => void;
}

/** The counters of a router. */
export interface RouterCounts {
  /** Accepted requests that are not answered. */
  readonly requests: number;
  /** Bytes of keys and values in these requests. */
  readonly bytes: number;
  readonly lanes: number;
  /** Batches sent so far. */
  readonly batches: number;
  /** Threads that were started to replace one that died. */
  readonly restarts: number;
}

export class Router implements LaneOwner {
  readonly cacheId: number;
  readonly #lanes: readonly Lane[];
  readonly #shardShift: number;
  readonly #admission: Admission;
  readonly #key = new StagedKey(KEY_BYTES_MAX);
  readonly #barriers = new Set<(failure: Failure | undefined) => void>();
  #due: Lane[] = [];
  #isDraining = false;
  #ending: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  constructor(options: RouterOptions) {
    this.cacheId = options.cacheId;
    this.#admission = new Admission(options.bounds, options.onDrain);
    const laneCount = laneCountOf(options.laneCount, options.shardCount);
    this.#shardShift = 32 - Math.log2(options.shardCount);
    this.#lanes = Array.from({ length: laneCount }, (_, index) => new Lane(this, index));
  }

  /** True if it refuses all calls: closed, or closing. */
  get isClosing(): boolean {
    return this.#isDraining;
  }

  /** Admits the requests of one call; false: the queue is full, and the call must not be appended. */
  enter(requestCount: number): boolean {
    return this.#admission.enter(requestCount);
  }

  /** Resolves when the queue has room: see Admission. */
  drained(): Promise<void> {
    return this.#admission.drained();
  }

  /** Stages the key of the next append. False: it is not a valid key. */
  stage(key: unknown): boolean {
    return this.#key.take(key);
  }

  /** Appends a request without a value for the staged key. REQUIRES: the request was entered. */
  append(call: Call, position: number, verb: Verb, fields: RequestFields | undefined): void {
    const batch = this.#lane().batchFor(this.#key.byteLength, 0);
    const before = batch.block.requestBytes;
    const row = batch.block.append(verb, this.#key, fields);
    this.#note(batch, row, call, position, before);
  }

  /** Appends a request with a value for the staged key. REQUIRES: the request was entered. */
  appendValue(call: Call, position: number, verb: Verb, value: Encoded, fields: RequestFields | undefined): void {
    const batch = this.#lane().batchFor(this.#key.byteLength, payloadRoom(value.payload));
    const before = batch.block.requestBytes;
    const row = batch.block.appendValue(verb, this.#key, value, fields);
    this.#note(batch, row, call, position, before);
  }

  /**
   * Withdraws the requests of a call that were not sent. True: none was sent, so the call will not be done at all. They
   * keep their places in the queue until their batch is answered.
   */
  withdraw(call: Call): boolean {
    let isNothingDone = true;
    for (const batch of call.batches ?? []) {
      if (!batch.withdraw(call)) isNothingDone = false;
    }
    return isNothingDone;
  }

  /** Keeps the place of a request whose answer, of `bytes` bytes, is held back. Followed by `left()`. */
  stay(bytes: number): void {
    this.#admission.stay(1, bytes);
  }

  /** Frees the places of requests that were entered and will not be appended. */
  leave(requestCount: number): void {
    this.left(requestCount, 0);
  }

  /**
   * Runs `action` on this thread after all requests appended before and before all requests appended later; or with a
   * failure, if that is impossible. REQUIRES: one request was entered. `action` must not throw.
   */
  barrier(action: (failure: Failure | undefined) => void): void {
    let bytes = 0;
    const pass = (failure: Failure | undefined): void => {
      if (!this.#barriers.delete(pass)) return;
      action(failure);
      this.left(1, bytes);
    };
    this.#barriers.add(pass);
    // No lane reaches it before the next turn.
    const { cutCount } = new Barrier(this.#lanes, pass);
    // Counted, because batches that are cut short again and again would otherwise take more memory than the queue may.
    bytes = cutCount * BATCH_BLOCK_BYTES;
    this.#admission.addBytes(bytes);
  }

  /** Finishes accepted requests, then ends the threads. */
  close(): Promise<void> {
    this.#isDraining = true;
    this.#ending ??= this.#end();
    return this.#ending;
  }

  /** Ends the threads now. Requests that were not sent are refused; those that were sent may be done. */
  destroy(): Promise<void> {
    this.#isDraining = true;
    for (const pass of [...this.#barriers]) pass(DESTROYED);
    const ended = Promise.all(this.#lanes.map((lane) => lane.destroy())).then(() => {});
    this.#ending ??= ended;
    return ended;
  }

  counts(): RouterCounts {
    let batches = 0;
    let restarts = 0;
    for (const lane of this.#lanes) {
      batches += lane.batchCount;
      restarts += Math.max(0, lane.startCount - 1);
    }
    return {
      requests: this.#admission.requestCount,
      bytes: this.#admission.bytes,
      lanes: this.#lanes.length,
      batches,
      restarts,
    };
  }

  /** The present threads of the lanes, for tests. */
  threads(): Worker[][] {
    return this.#lanes.map((lane) => lane.threads);
  }

  // ---- what lanes say ----

  left(requestCount: number, bytes: number): void {
    this.#admission.leave(requestCount, bytes);
    if (this.#onIdle !== undefined && this.#admission.requestCount === 0) this.#onIdle();
  }

  due(lane: Lane): void {
    if (lane.isDue) return;
    lane.isDue = true;
    this.#due.push(lane);
    if (this.#due.length === 1) nextTurn(() => this.#pump());
  }

  closed(): void {
    void this.close();
  }

  // ---- the rest ----

  #lane(): Lane {
    if (this.#lanes.length === 1) return this.#lanes[0]!;
    const shard = routingHashOfBytes(this.#key.bytes, this.#key.byteLength) >>> this.#shardShift;
    return this.#lanes[shard % this.#lanes.length]!;
  }

  #note(batch: Batch, row: number, call: Call, position: number, bytesBefore: number): void {
    batch.calls[row] = call;
    batch.positions[row] = position;
    this.#admission.addBytes(batch.block.requestBytes - bytesBefore);
    if (call.batches !== undefined && !call.batches.includes(batch)) call.batches.push(batch);
  }

  #pump(): void {
    const due = this.#due;
    this.#due = [];
    for (const lane of due) {
      lane.isDue = false;
      lane.pump();
    }
  }

  async #end(): Promise<void> {
    if (this.#admission.requestCount > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    await Promise.all(this.#lanes.map((lane) => lane.destroy()));
  }
}

/**
 * The number of lanes for a cache of `shardCount` shards, if the option `lanes` is `wanted`. The default is few: one
 * thread sends, and its work for a request costs more than the store's. With more lanes the batches only get smaller,
 * and a batch has a fixed cost (docs/threads.md).
 */
export function laneCountOf(wanted: number | undefined, shardCount: number): number {
  const lanes = wanted ?? Math.max(1, Math.min(Math.floor(availableParallelism() / 4), 4));
  return Math.min(lanes, shardCount, LANE_COUNT_MAX);
}

// Taken here, before a test runner can put fakes in their place.
const { nextTick } = process;
const microtask = queueMicrotask;
// Threads and batches belong to no single request: they must not keep the async context of the call that started them.
const inNobodysContext = AsyncLocalStorage.snapshot();

// After all effects of the promises settled by now, so that calls which follow from one answer share the next batch.
function nextTurn(action: () => void): void {
  microtask(() => nextTick(inNobodysContext, action));
}
