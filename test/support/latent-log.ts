// A log that answers late, for the port: a stream in memory behind a network that has latency, delivers answers in any
// order, loses requests and answers, and is full when it is told to. What a caller is not told it settles by reading:
// a batch that is submitted again at its position is looked for there before it is appended.
//
// A sync takes some steps, too.
//
// Time is the number of calls of poll() and syncStep(): each moves the network by one step. All of it comes from a
// seed.

import { CairnError, outOfRange } from '../../src/errors.ts';
import type {
  AppendResult,
  LogBatch,
  LogEntry,
  LogPort,
  LogUsage,
  PortCursor,
  Position,
  ReadLevel,
  ReadOptions,
  Settled,
  SnapshotStore,
} from '../../src/log/index.ts';
import { Snapshots } from '../../src/log/snapshot.ts';
import { FaultyDisk } from './faulty-files.ts';
import { MemoryLog, type MemoryStream } from './memory-log.ts';
import { Random } from './random.ts';

export interface LatentOptions {
  readonly windowMax: number;
  /** Steps between a request and its arrival, and between that and its answer: from 0 up to this. */
  readonly latencyMax: number;
  /** One of this many requests, and of this many answers, is lost; 0: none. */
  readonly lossOneIn: number;
}

interface Request {
  readonly ticket: number;
  readonly batch: LogBatch;
  arrivesIn: number;
  answer: { result: AppendResult; comesIn: number } | undefined;
}

/** Steps after which an answer that does not come counts as lost. */
const TIMEOUT_STEPS = 40;

export class LatentLog implements LogPort {
  readonly name = 'a log across a network';
  readonly windowMax: number;
  readonly segmentCount = 1;
  readonly lastTimeMs = 0;
  readonly lost = { recordCount: 0, end: 0n };
  readonly snapshots: SnapshotStore;
  /** What the stream answers everything with, instead of taking it. */
  isFull = false;
  readonly #stream: MemoryStream;
  readonly #writer: bigint;
  readonly #random: Random;
  readonly #options: LatentOptions;
  #log: MemoryLog | undefined;
  #inFlight: Request[] = [];
  #epoch = 0;
  #end: Position = 0n;
  #recordsBefore = 0n;
  #durable: Position = 0n;
  /** A sync is under way: after `steps` more steps it makes durable what is before its target. */
  #sync: { readonly target: Position; steps: number } | undefined;
  #isClosed = false;

  constructor(stream: MemoryStream, writer: bigint, seed: number, options: Partial<LatentOptions> = {}) {
    this.#stream = stream;
    this.#writer = writer;
    this.#random = new Random(seed);
    this.#options = { windowMax: 8, latencyMax: 6, lossOneIn: 0, ...options };
    this.windowMax = this.#options.windowMax;
    const disk = new FaultyDisk(new Random(seed));
    const files = disk.files();
    files.makeDirectory('/snapshots');
    this.snapshots = new Snapshots({
      files,
      directory: '/snapshots',
      logId: 1n,
      wallMs: () => 0,
      random: () => 7n,
    });
  }

  get epoch(): number {
    return this.#epoch;
  }
  get end(): Position {
    return this.#end;
  }
  get committed(): Position {
    return this.#end;
  }
  get durable(): Position {
    return this.#durable;
  }
  get recordsBefore(): bigint {
    return this.#recordsBefore;
  }
  get oldestReadable(): Position {
    return this.#stream.oldest;
  }

  takeOver(): void {
    this.#log = new MemoryLog(this.#stream, this.#writer);
    this.#epoch = this.#log.epoch;
    this.#learn(this.#log.end);
    this.#durable = this.#end;
  }

  bytesFrom(position: Position): number {
    return Number(this.#end - position);
  }

  usage(): LogUsage {
    return { ...this.#open().usage(), end: this.#end };
  }

  // ---- appending ----

  endAfter(position: Position): Position {
    return position + 1n;
  }

  submit(ticket: number, batch: LogBatch): void {
    if (this.#isClosed) throw new CairnError('ERR_CLOSED', 'The log is closed');
    if (this.#inFlight.length >= this.windowMax) throw new Error('More batches in flight than the window has room for');
    if (batch.epoch < this.#epoch) throw outOfRange('epoch', 'no lower one', batch.epoch);
    const bytes = batch.records.reduce((sum, piece) => sum + piece.length, 0);
    if (bytes === 0 || bytes % 8 !== 0 || batch.recordCount < 1) throw outOfRange('records', 'whole records', bytes);
    this.#inFlight.push({ ticket, batch, arrivesIn: this.#latency(), answer: undefined });
  }

  poll(): readonly Settled[] {
    const settled: Settled[] = [];
    // In any order: what was sent later may arrive earlier.
    for (const request of this.#inFlight) {
      if (request.answer === undefined && request.arrivesIn-- <= 0) this.#arrive(request);
    }
    for (const request of [...this.#inFlight]) {
      if (request.answer === undefined || request.answer.comesIn-- > 0) continue;
      this.#inFlight.splice(this.#inFlight.indexOf(request), 1);
      settled.push({ ticket: request.ticket, result: request.answer.result });
    }
    if (this.#random.below(2) === 0) settled.reverse();
    for (const { result } of settled) if (result.kind === 'committed') this.#learn(result.end);
    return settled;
  }

  #arrive(request: Request): void {
    const isLost = this.#isLost();
    const result: AppendResult = isLost ? this.#unknown() : this.#take(request.batch);
    // An answer that is lost says nothing: the batch may be there.
    const isAnswerLost = !isLost && this.#isLost();
    request.answer =
      isLost || isAnswerLost
        ? { result: this.#unknown(), comesIn: TIMEOUT_STEPS }
        : { result, comesIn: this.#latency() };
  }

  #take(batch: LogBatch): AppendResult {
    if (this.isFull && this.#stream.at(batch.expectPosition) === undefined) return { kind: 'full', reason: 'limit' };
    return this.#open().append(batch);
  }

  #unknown(): AppendResult {
    return { kind: 'unknown', cause: new CairnError('ERR_LOG_IO', 'No answer has come') };
  }

  #isLost(): boolean {
    const { lossOneIn } = this.#options;
    return lossOneIn > 0 && this.#random.below(lossOneIn) === 0;
  }

  #latency(): number {
    return this.#random.below(this.#options.latencyMax + 1);
  }

  // What the caller knows of the log: answers, not the stream itself.
  #learn(end: Position): void {
    for (let entry = this.#stream.at(this.#end); entry !== undefined && entry.end <= end; ) {
      this.#end = entry.end;
      this.#epoch = Math.max(this.#epoch, entry.epoch);
      this.#recordsBefore = entry.recordsBefore + BigInt(entry.recordCount);
      entry = this.#stream.at(this.#end);
    }
    this.#stream.wake();
  }

  syncStep(upTo: Position): boolean {
    if (this.#isClosed) throw new CairnError('ERR_CLOSED', 'The log is closed');
    if (this.#durable >= upTo) return true;
    this.#sync ??= { target: this.#end, steps: this.#latency() };
    if (this.#sync.steps-- === 0) {
      this.#durable = this.#sync.target;
      this.#sync = undefined;
      this.#stream.wake();
    }
    return this.#durable >= upTo;
  }
  syncIfDue(): void {}
  syncDueInMs(): number {
    return Number.POSITIVE_INFINITY;
  }

  // ---- reading ----

  read(from: Position, { level, signal }: ReadOptions = {}): AsyncIterable<LogEntry> {
    return this.#stream.follow(from, { end: () => this.#readable(level), isOver: () => this.#isClosed }, signal);
  }

  entries(from: Position, level?: ReadLevel): Generator<LogEntry, undefined> {
    return this.#stream.entries(from, this.#readable(level));
  }

  entryAt(position: Position, level?: ReadLevel): LogEntry | undefined {
    if (position >= this.#readable(level) || position < this.oldestReadable) return undefined;
    const [entry] = this.#stream.entries(position, position + 1n);
    return entry;
  }

  #readable(level: ReadLevel | undefined): Position {
    return level === 'durable' ? this.#durable : this.#end;
  }

  cursor(name: string): PortCursor {
    const cursor = this.#open().cursor(name);
    return {
      ...cursor,
      advance: (position) => {
        cursor.advance(position);
        while (!this.syncStep(position));
      },
      place: (position) => {
        cursor.place(position);
        while (!this.syncStep(position));
      },
    };
  }
  cursors(): ReadonlyMap<string, Position> {
    return this.#stream.cursors;
  }

  // ---- room ----

  truncate(before: Position): Position {
    if (before > this.#end) throw outOfRange('before', 'what is committed', before);
    return this.#open().truncate(before);
  }
  reclaim(): boolean {
    return false;
  }
  makesRoom(): boolean {
    return false;
  }
  exceedLimit(): void {}

  close(): void {
    if (this.#log !== undefined) this.#durable = this.#end;
    this.#isClosed = true;
    this.#log?.close();
  }

  #open(): MemoryLog {
    if (this.#log === undefined) throw new Error('The log was not taken over');
    return this.#log;
  }
}
