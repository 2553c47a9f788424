/**
 * A lane: one thread (a Piscina of one) and the batches that wait for it. One batch is in flight while the next
 * collects, so that calls made close together share a batch. Batches are executed in the order in which they began to
 * collect, and requests in the order in which they came, which keeps the order per key.
 *
 * The thread is started when the first batch is due, and again after its death, by the next batch that is due.
 *
 * | the lane is | thread      | a batch that is due    | the thread dies                                       |
 * |-------------|-------------|------------------------|-------------------------------------------------------|
 * | idle        | none        | starts one, waits      |                                                       |
 * | starting    | no answer   | waits                  | started again, LANE_STARTS_MAX times; then all that   |
 * |             | to HELLO    |                        | waits is refused, and the lane is idle                |
 * | ready       | waits       | is sent                | idle                                                  |
 * | busy        | has a batch | waits                  | the calls of that batch fail, ERR_WORKER_EXITED: what |
 * |             |             |                        | they asked may be done; the lane is idle              |
 * | destroyed   | ending      | there is none any more | expected                                              |
 *
 * Why a Piscina of one and not one pool: a pool has one queue, in which a busy shard would delay the others; and the
 * death of a thread affects one lane only. Piscina's `atomics: 'sync'` is its fastest mode: an idle thread sleeps in
 * Atomics.wait and runs nothing else, and a lane's thread has nothing else to run.
 */
import { SHARE_ENV, type Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { type ErrorCode, reasonOf } from '../errors.ts';
import { LANE_BLOCKS_KEPT, LANE_STARTS_MAX } from '../limits.ts';
import { Code } from '../native.ts';
import { Fifo } from '../queue/index.ts';
import { BATCH_ROWS_MAX, Block } from '../request/batch.ts';
import {
  type BatchAnswer,
  type BatchMessage,
  CLOSED,
  CONTINUE,
  DONE,
  HELLO,
  type LaneData,
  MORE,
  OUT_OF_MEMORY,
} from './message.ts';

/** A call that waits for answers. One of its methods is called once for each of its requests, and must not throw. */
export interface Call {
  /**
   * The batches with its requests, which the router adds, if the call may withdraw them (Router.withdraw). undefined:
   * it never will.
   */
  readonly batches: Batch[] | undefined;
  /** The answer is in this row. `position` is that of the appended request. Valid during the call only. */
  answer(block: Block, row: number, position: number, pieces: readonly Buffer[]): void;
  /** There will be no answer. */
  fail(failure: Failure): void;
}

/** Why there is no answer to a request. */
export interface Failure {
  readonly code: ErrorCode;
  /** A sentence without its full stop, which says what happened to the request. */
  readonly reason: string;
  readonly cause?: unknown;
}

const BEFORE_SENT = 0;
const SENT = 1;

/** Requests that travel together, and the call that waits for each. */
export class Batch {
  readonly block = new Block();
  /** The number by which the thread knows the block; -1: it does not know it. */
  readonly slot: number;
  readonly calls: (Call | undefined)[] = new Array<Call | undefined>(BATCH_ROWS_MAX).fill(undefined);
  readonly positions: number[] = new Array<number>(BATCH_ROWS_MAX).fill(0);
  state = BEFORE_SENT;

  constructor(slot: number) {
    this.slot = slot;
  }

  /** Withdraws the requests of a call, if they were not sent yet. False: they were. */
  withdraw(call: Call): boolean {
    const rows: number[] = [];
    for (let row = 0; row < this.block.rowCount; row++) {
      if (this.calls[row] === call) rows.push(row);
    }
    if (rows.length === 0) return true;
    if (this.state === SENT) return false;
    for (const row of rows) this.calls[row] = undefined;
    this.block.withdraw(rows);
    return true;
  }
}

/** A point that every lane must reach before any continues: a clear of all shards runs between batches. */
export class Barrier {
  readonly #lanes: readonly Lane[];
  readonly #action: (failure: undefined) => void;
  #missing: number;
  /** Batches that it cut short: each takes a whole block, even for few requests. */
  readonly cutCount: number;

  /** `action` runs when all lanes are there. It must not throw. */
  constructor(lanes: readonly Lane[], action: (failure: undefined) => void) {
    this.#lanes = lanes;
    this.#action = action;
    this.#missing = lanes.length;
    let cutCount = 0;
    for (const lane of lanes) if (lane.append(this)) cutCount++;
    this.cutCount = cutCount;
  }

  arrive(): void {
    this.#missing--;
    if (this.#missing > 0) return;
    this.#action(undefined);
    for (const lane of this.#lanes) lane.pass();
  }
}

/** What a lane reports to its router. */
export interface LaneOwner {
  readonly cacheId: number;
  /** The requests of a batch, with their bytes, are answered or have failed. */
  left(requestCount: number, bytes: number): void;
  /** Call pump() in the next turn. */
  due(lane: Lane): void;
  /** The cache has ended for all handles. */
  closed(): void;
}

export class Lane {
  readonly #owner: LaneOwner;
  readonly #index: number;
  #pool: Piscina | undefined;
  #isStarting = false;
  #failedStarts = 0;
  #isDestroyed = false;
  readonly #waiting = new Fifo<Batch | Barrier>();
  #collecting: Batch | undefined;
  #inFlight: Batch | undefined;
  #isAtBarrier = false;
  readonly #free: Batch[] = [];
  #slotCount = 0;
  // Slots whose block the present thread knows.
  #seen: boolean[] = [];
  /** True if the router will call pump(). */
  isDue = false;
  /** Batches that were sent. */
  batchCount = 0;
  /** Threads that were started. */
  startCount = 0;

  constructor(owner: LaneOwner, index: number) {
    this.#owner = owner;
    this.#index = index;
  }

  /** The thread, if it runs. */
  get threads(): Worker[] {
    return this.#pool?.threads ?? [];
  }

  /** The collecting batch, with room for one more request of this size. */
  batchFor(keyBytes: number, valueBytesMax: number): Batch {
    let batch = this.#collecting;
    if (batch === undefined || !batch.block.hasRoom(keyBytes, valueBytesMax)) {
      const next = this.#free.pop() ?? this.#newBatch(); // throws if there is no memory
      if (batch !== undefined) this.#waiting.push(batch);
      batch = next;
      this.#collecting = batch;
    }
    if (!this.#isBusy()) this.#owner.due(this);
    return batch;
  }

  /**
   * Requests before the barrier are executed before it, requests after it afterwards. True if a collecting batch must
   * be sent as it is.
   */
  append(barrier: Barrier): boolean {
    const cuts = this.#collecting !== undefined;
    if (this.#collecting !== undefined) {
      this.#waiting.push(this.#collecting);
      this.#collecting = undefined;
    }
    this.#waiting.push(barrier);
    if (!this.#isBusy()) this.#owner.due(this);
    return cuts;
  }

  /** All lanes have reached the barrier at which this lane waits. */
  pass(): void {
    this.#waiting.shift();
    this.#isAtBarrier = false;
    this.pump();
  }

  /** Sends the next batch, if the thread is free and there is one. */
  pump(): void {
    if (this.#isBusy()) return;
    const next = this.#waiting.peek() ?? this.#collecting;
    if (next === undefined) return;
    if (next instanceof Barrier) {
      if (this.#isAtBarrier) return;
      this.#isAtBarrier = true;
      next.arrive();
      return;
    }
    if (this.#pool === undefined) {
      this.#start();
      return;
    }
    if (this.#waiting.shift() === undefined) this.#collecting = undefined;
    this.#send(this.#pool, next);
  }

  /** Stops at once. Requests that were not sent are not done; those that were sent may be done. */
  async destroy(): Promise<void> {
    this.#isDestroyed = true;
    this.#refuseWaiting(DESTROYED);
    const pool = this.#pool;
    this.#pool = undefined;
    await pool?.destroy();
  }

  #isBusy(): boolean {
    return this.#inFlight !== undefined || this.#isStarting;
  }

  #newBatch(): Batch {
    const batch = new Batch(this.#slotCount < LANE_BLOCKS_KEPT ? this.#slotCount : -1);
    if (batch.slot >= 0) this.#slotCount++;
    return batch;
  }

  // ---- the thread ----

  #start(): void {
    this.#isStarting = true;
    this.#seen = [];
    this.startCount++;
    const pool = new Piscina({
      filename: WORKER_FILE,
      name: 'runBatch',
      // Started by the first message, kept while idle. It is then unref'd, so that a script which reaches its end
      // exits.
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'sync',
      recordTiming: false,
      workerData: { cacheId: this.#owner.cacheId } satisfies LaneData,
      env: SHARE_ENV,
      // Not the program's options: its loaders and instrumentation must not run here.
      execArgv: [],
    });
    this.#pool = pool;
    // The pool ends with its thread, so that a new thread has a new pool and begins with HELLO. (And a thread that dies
    // before it is ready would otherwise leave Piscina's task waiting forever.)
    pool.on('workerDestroy', () => queueMicrotask(() => this.#onThreadGone(pool)));
    let startError: unknown;
    pool.on('error', (error) => {
      startError = error;
    });
    let hello: Promise<number>;
    try {
      hello = pool.run(HELLO);
    } catch (error) {
      // No thread can be started. The pool keeps a task whose promise is lost: destroy() would reject it unhandled.
      this.#pool = undefined;
      this.#onNoThread(error);
      return;
    }
    hello.then(
      (outcome: number) => {
        this.#isStarting = false;
        this.#failedStarts = 0;
        if (outcome === CLOSED) this.#owner.closed();
        this.pump();
      },
      (error: unknown) => this.#onStartFailed(pool, startError ?? error),
    );
  }

  #onStartFailed(pool: Piscina, error: unknown): void {
    this.#forget(pool);
    this.#onNoThread(error);
  }

  #onNoThread(error: unknown): void {
    this.#isStarting = false;
    if (this.#isDestroyed) return;
    this.#failedStarts++;
    if (this.#failedStarts >= LANE_STARTS_MAX) {
      this.#failedStarts = 0;
      this.#refuseWaiting({
        code: 'ERR_WORKER_EXITED',
        reason: `was not done: the thread of lane ${this.#index} did not start: ${firstLine(error)}`,
        cause: error,
      });
    }
    this.pump();
  }

  // Its pending requests are about to fail, or have failed.
  #onThreadGone(pool: Piscina): void {
    if (this.#isBusy()) void pool.destroy();
    else this.#forget(pool);
  }

  #forget(pool: Piscina): void {
    if (this.#pool === pool) this.#pool = undefined;
    void pool.destroy();
  }

  // ---- a batch ----

  #send(pool: Piscina, batch: Batch): void {
    const { block, slot } = batch;
    this.#inFlight = batch;
    this.batchCount++;
    batch.state = SENT;
    block.seal();
    const isSeen = slot >= 0 && this.#seen[slot] === true;
    if (isSeen && block.pieces.length === 0) {
      this.#run(pool, slot, undefined);
      return;
    }
    if (slot >= 0) this.#seen[slot] = true;
    const message: BatchMessage = { slot, memory: isSeen ? undefined : block.memory, pieces: block.pieces };
    this.#run(pool, message, { transferList: block.pieces.map(({ buffer }) => buffer) });
  }

  #run(pool: Piscina, message: number | BatchMessage, options: { transferList: ArrayBuffer[] } | undefined): void {
    pool.run(message, options).then(
      (answer: number | BatchAnswer) => this.#onAnswer(pool, answer),
      (error: unknown) => this.#onDeath(pool, error),
    );
  }

  #onAnswer(pool: Piscina, answer: number | BatchAnswer): void {
    const batch = this.#inFlight!;
    const outcome = typeof answer === 'number' ? answer : answer.outcome;
    const pieces = typeof answer === 'number' ? NO_PIECES : answer.pieces.map(bufferOf);
    if (outcome === MORE) {
      // Read first: the thread writes to the block when it continues.
      this.#settle(batch, pieces);
      this.#run(pool, CONTINUE, undefined);
      return;
    }
    this.#inFlight = undefined;
    // A full batch gains nothing by waiting; a collecting one gains the calls that follow from these answers.
    if (this.#waiting.peek() instanceof Batch) this.pump();
    this.#settle(batch, pieces);
    if (outcome !== DONE) this.#failRest(batch, outcome === OUT_OF_MEMORY ? NO_MEMORY : CACHE_CLOSED);
    this.#release(batch, true);
    if (outcome === CLOSED) this.#owner.closed();
  }

  #onDeath(pool: Piscina, error: unknown): void {
    const batch = this.#inFlight!;
    this.#inFlight = undefined;
    this.#forget(pool);
    this.#failRest(batch, {
      code: 'ERR_WORKER_EXITED',
      reason: `may or may not have been done: the thread of lane ${this.#index} exited before it answered`,
      cause: error,
    });
    this.#release(batch, false);
  }

  // Delivers the answers in the block.
  #settle(batch: Batch, pieces: readonly Buffer[]): void {
    const { block, calls, positions } = batch;
    const end = block.rowsDone;
    for (let row = 0; row < end; row++) {
      const call = calls[row];
      if (call === undefined || block.status(row) === Code.needsRoom) continue;
      calls[row] = undefined;
      call.answer(block, row, positions[row]!, pieces);
    }
  }

  #failRest(batch: Batch, failure: Failure): void {
    for (let row = 0; row < batch.block.rowCount; row++) {
      const call = batch.calls[row];
      batch.calls[row] = undefined;
      call?.fail(failure);
    }
  }

  // The batch has ended. Its memory is reused, unless a thread that died may still write to it.
  #release(batch: Batch, isReusable: boolean): void {
    const { block } = batch;
    const { rowCount, requestBytes } = block;
    block.reset();
    batch.state = BEFORE_SENT;
    if (batch.slot >= 0) {
      if (isReusable) this.#free.push(batch);
      else this.#free.push(new Batch(batch.slot));
    }
    this.#owner.left(rowCount, requestBytes);
    if (!this.#isBusy() && (this.#waiting.length > 0 || this.#collecting !== undefined)) this.#owner.due(this);
  }

  #refuseWaiting(failure: Failure): void {
    const refused: Batch[] = [];
    const barriers: Barrier[] = [];
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      if (next instanceof Batch) refused.push(next);
      else barriers.push(next);
    }
    if (this.#collecting !== undefined) refused.push(this.#collecting);
    this.#collecting = undefined;
    // They are still in their places, with nothing between them.
    for (const barrier of barriers) this.#waiting.push(barrier);
    for (const batch of refused) {
      this.#failRest(batch, failure);
      this.#release(batch, true);
    }
  }
}

function firstLine(error: unknown): string {
  return reasonOf(error).split('\n')[0]!;
}

/** The failure of requests that were not sent when the lanes were destroyed. */
export const DESTROYED: Failure = {
  code: 'ERR_CLOSED',
  reason: 'was not done: the cache was destroyed before it was sent',
};
const NO_PIECES: readonly Buffer[] = [];
const CACHE_CLOSED: Failure = { code: 'ERR_CLOSED', reason: 'was not done: the cache is closed' };
const NO_MEMORY: Failure = { code: 'ERR_OUT_OF_MEMORY', reason: 'was not done: there is no memory for the answer' };

function bufferOf(piece: Uint8Array): Buffer {
  return Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
}

// Node 20 does not run TypeScript: from sources (in tests), the thread is the built one.
const WORKER_FILE: string = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/router/worker.js' : './worker.js',
  import.meta.url,
).href;
