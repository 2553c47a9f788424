// A second log that is held to the words of request-log.ts: one stream in memory that several handles append to without
// asking, as a stream of messages on the network is one. Nothing is refused at the door; which entries count is decided
// by the fence alone, when they are read. What a handle has appended is looked for behind its expected position, so
// that appending again is safe.

import { CairnError, outOfRange } from '../../src/errors.ts';
import { FORMAT_VERSION } from '../../src/log/format.ts';
import {
  type AppendResult,
  Fence,
  type LogBatch,
  type LogEntry,
  type LogUsage,
  type PortCursor,
  type Position,
  type ReadOptions,
  type RequestLog,
} from '../../src/log/index.ts';

/** The stream itself: what is on the other side of the network. */
export class MemoryStream {
  readonly messages: LogEntry[] = [];
  readonly cursors = new Map<string, Position>();
  /** The lowest position that is still there; truncating raises it. */
  oldest = 0n;
  #waiting: (() => void)[] = [];

  get end(): Position {
    return this.oldest + BigInt(this.messages.length);
  }

  push(message: Omit<LogEntry, 'position' | 'end'>): Position {
    const position = this.end;
    this.messages.push({ ...message, records: Buffer.from(message.records), position, end: position + 1n });
    this.wake();
    return position;
  }

  at(position: Position): LogEntry | undefined {
    return this.messages[Number(position - this.oldest)];
  }

  /** The entries of [from, end) that count, which depends on all that were before. */
  *entries(from: Position, end: Position = this.end): Generator<LogEntry, undefined> {
    if (from < this.oldest || from > this.end) throw outOfRange('from', 'in the log', from);
    const [first] = this.messages;
    const fence = new Fence(first && stateBefore(first));
    for (const entry of [...this.messages]) {
      if (entry.position >= end) return;
      if (fence.admit(entry) && entry.position >= from) yield { ...entry, records: Buffer.from(entry.records) };
    }
  }

  /** Gives entries out as they come, until `isOver`; `end` says how far may be read. */
  async *follow(from: Position, options: { end(): Position; isOver(): boolean }, signal?: AbortSignal) {
    let position = from;
    const stop = (): void => this.wake();
    signal?.addEventListener('abort', stop);
    try {
      for (;;) {
        const end = options.end();
        for (const entry of this.entries(position, end)) {
          if (signal?.aborted) return;
          position = entry.end;
          yield entry;
        }
        // More may have come, and the log may have ended, while the reader had an entry.
        if (options.end() > end) continue;
        if (options.isOver() || signal?.aborted) return;
        await this.changed();
      }
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

export class MemoryLog implements RequestLog {
  readonly #stream: MemoryStream;
  readonly #writer: bigint;
  readonly #limitMessages: number;
  /** What this handle has read. */
  #fence = new Fence();
  #end: Position = 0n;
  #isOurs = false;
  #isClosed = false;

  constructor(stream: MemoryStream, writer: bigint, limitMessages = Number.POSITIVE_INFINITY) {
    this.#stream = stream;
    this.#writer = writer;
    this.#limitMessages = limitMessages;
    this.#catchUp();
    const { epoch, recordsBefore } = this.#fence.state;
    this.#stream.push({
      kind: 'takeover',
      epoch: epoch + 1,
      formatVersion: FORMAT_VERSION,
      writer,
      recordsBefore,
      recordCount: 0,
      timeMs: 0,
      records: Buffer.alloc(0),
    });
    this.#catchUp();
  }

  get epoch(): number {
    return this.#fence.state.epoch;
  }

  get end(): Position {
    return this.#end;
  }

  get committed(): Position {
    return this.#end;
  }

  get durable(): Position {
    return this.#end;
  }

  append(batch: LogBatch): AppendResult {
    if (this.#isClosed) throw new CairnError('ERR_CLOSED', 'The log is closed');
    const records = Buffer.concat(batch.records);
    if (records.length === 0 || records.length % 8 !== 0) throw outOfRange('records', 'whole records', records.length);
    if (!Number.isInteger(batch.recordCount) || batch.recordCount < 1) {
      throw outOfRange('recordCount', 'the number of records', batch.recordCount);
    }
    if (batch.epoch < (this.#isOurs ? this.epoch : 0)) throw outOfRange('epoch', 'no lower one', batch.epoch);
    this.#catchUp();
    if (!this.#isOurs) return { kind: 'fenced', epoch: this.epoch };
    if (batch.expectPosition !== this.#end) {
      const there = this.#stream.at(batch.expectPosition);
      return there?.kind === 'records' && there.records.equals(records)
        ? { kind: 'committed', position: there.position, end: there.end }
        : { kind: 'conflict', end: this.#end };
    }
    if (this.#stream.messages.length >= this.#limitMessages) return { kind: 'full', reason: 'limit' };
    const position = this.#stream.push({
      kind: 'records',
      epoch: batch.epoch,
      formatVersion: FORMAT_VERSION,
      writer: this.#writer,
      recordsBefore: this.#fence.state.recordsBefore,
      recordCount: batch.recordCount,
      timeMs: 0,
      records,
    });
    this.#catchUp();
    return { kind: 'committed', position, end: position + 1n };
  }

  sync(): void {
    if (this.#isClosed) throw new CairnError('ERR_CLOSED', 'The log is closed');
  }

  read(from: Position, { signal }: ReadOptions = {}): AsyncIterable<LogEntry> {
    return this.#stream.follow(from, { end: () => this.#stream.end, isOver: () => this.#isClosed }, signal);
  }

  cursor(name: string): PortCursor {
    const { cursors } = this.#stream;
    return {
      name,
      position: () => cursors.get(name),
      advance: (position) => {
        const least = cursors.get(name) ?? this.#stream.oldest;
        if (position < least || position > this.#end) throw outOfRange('position', '', position);
        cursors.set(name, position);
      },
      place: (position) => {
        if (position < this.#stream.oldest || position > this.#end) throw outOfRange('position', '', position);
        cursors.set(name, position);
      },
      drop: () => void cursors.delete(name),
    };
  }

  cursors(): ReadonlyMap<string, Position> {
    return this.#stream.cursors;
  }

  truncate(before: Position): Position {
    let floor = before;
    for (const position of this.#stream.cursors.values()) if (position < floor) floor = position;
    while (this.#stream.messages.length > 1 && this.#stream.oldest < floor) {
      this.#stream.messages.shift();
      this.#stream.oldest++;
    }
    return this.#stream.oldest;
  }

  usage(): LogUsage {
    const bytes = this.#stream.messages.length;
    return { bytes, limitBytes: this.#limitMessages, level: 'ok', oldest: this.#stream.oldest, end: this.#end };
  }

  close(): void {
    this.#isClosed = true;
    this.#stream.wake();
  }

  #catchUp(): void {
    if (this.#end < this.#stream.oldest) {
      this.#end = this.#stream.oldest;
      const [first] = this.#stream.messages;
      if (first !== undefined) this.#fence = new Fence(stateBefore(first));
    }
    for (let entry = this.#stream.at(this.#end); entry !== undefined; entry = this.#stream.at(this.#end)) {
      this.#end = entry.end;
      if (this.#fence.admit(entry)) this.#isOurs = entry.writer === this.#writer;
    }
  }
}

function stateBefore({ kind, epoch, writer, recordsBefore }: LogEntry) {
  return { epoch: kind === 'takeover' ? epoch - 1 : epoch, writer, recordsBefore };
}
