/** The log of a cache for its writer: files that this thread reads itself, and a cursor that the scribe moves. */
import { type LogEntry, LogReader, type Position, type Takeover, Watermark } from '../log/index.ts';
import type { LogFiles, ScribeCommands } from '../scribe/index.ts';
import { heldAs } from './holder.ts';
import { cursorOf, historyOf } from './message.ts';
import { notTakenOver, type WriterLog } from './writer-log.ts';

/** How long written records wait for others before they are synced, where the writer syncs. */
const SYNC_MS = 20;

export interface FilesLogOptions {
  readonly files: LogFiles;
  readonly scribe: ScribeCommands;
  /** The name of the database. */
  readonly store: string;
  /** Where the log's own cursor for it is. */
  readonly confirmed: Position;
  /** Whether the writer syncs the log, because its policy does not. */
  readonly syncs: boolean;
}

export class FilesLog implements WriterLog {
  readonly directory: string;
  readonly logId: bigint;
  readonly confirmed: Position;
  readonly #store: string;
  #takeover: Takeover;
  #isInLog = false;
  readonly #scribe: ScribeCommands;
  readonly #cursor: string;
  readonly #reader: LogReader;
  readonly #watermark: Watermark;
  readonly #syncs: boolean;
  /** How many read, for whom it is synced. */
  #readers = 0;
  #stopSyncing = new AbortController();

  constructor({ files, scribe, store, confirmed, syncs }: FilesLogOptions) {
    this.directory = files.directory;
    this.logId = files.logId;
    this.confirmed = confirmed;
    this.#takeover = files.takeover;
    this.#store = store;
    this.#scribe = scribe;
    this.#cursor = cursorOf(store);
    this.#reader = new LogReader(files);
    this.#watermark = new Watermark(files.progress);
    this.#syncs = syncs;
  }

  /**
   * The entry that the log has: where the one of the opening was never written, because the disk was full and the
   * thread that was to write it has died, the next thread of this process has written its own in that place.
   */
  get takeover(): Takeover {
    const { epoch, end } = this.#takeover;
    if (!this.#isInLog && this.end() >= end) {
      const found = this.stateAt(end);
      if (found?.epoch === epoch) this.#takeover = { ...this.#takeover, writer: found.writer };
      this.#isInLog = true;
    }
    return heldAs(this.#store, this.#takeover);
  }

  async takenOver(): Promise<void> {
    const hasEntry = (): boolean => this.end() >= this.takeover.end;
    // It was there before the cache was ready, unless the disk was full. With room by now, a sync writes it.
    if (!hasEntry()) await this.#scribe.sync();
    if (!hasEntry()) throw notTakenOver(this.directory);
  }

  mayHaveHad(takeover: Pick<Takeover, 'epoch' | 'writer'>): boolean {
    return this.#reader.mayHaveHad(heldAs(this.#store, takeover));
  }

  oldest(): Position {
    return this.#reader.oldestReadable;
  }

  end(): Position {
    return this.#watermark.at('durable');
  }

  settled(): Promise<Position> {
    return this.#scribe.committedUpTo('durable');
  }

  bytesFrom(position: Position): number {
    return this.#reader.bytesFrom(position, 'durable');
  }

  timeFrom(position: Position): number | undefined {
    for (const entry of this.#reader.entries(position, 'durable')) if (entry.kind === 'records') return entry.timeMs;
    return undefined;
  }

  stateAt(position: Position): ReturnType<WriterLog['stateAt']> {
    return this.#reader.stateAt(position);
  }

  async *read(from: Position, signal: AbortSignal): AsyncGenerator<LogEntry> {
    if (this.#syncs && this.#readers++ === 0) {
      this.#stopSyncing = new AbortController();
      void this.#keepSynced(this.#stopSyncing.signal);
    }
    try {
      yield* this.#reader.read(from, { signal, level: 'durable' });
    } finally {
      if (this.#syncs && --this.#readers === 0) this.#stopSyncing.abort();
    }
  }

  advance(position: Position): Promise<void> {
    return this.#scribe.cursor(this.#cursor).advance(position);
  }

  goBack(position: Position): Promise<void> {
    return this.#scribe.cursor(this.#cursor).place(position);
  }

  historyFrom(): Promise<Position | undefined> {
    return this.#scribe.cursor(historyOf(this.#cursor)).position();
  }

  keepHistory(position: Position | undefined): Promise<void> {
    const cursor = this.#scribe.cursor(historyOf(this.#cursor));
    return position === undefined ? cursor.drop() : cursor.place(position);
  }

  // A database must not have what a power cut takes from the log, so records become readable when they are synced.
  async #keepSynced(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#watermark.isClosed) {
      await this.#watermark.wait('committed', this.end(), signal);
      await new Promise((resolve) => setTimeout(resolve, SYNC_MS).unref());
      try {
        if (this.#watermark.at('committed') > this.end()) await this.#scribe.sync();
      } catch {
        // The log says itself that it cannot be synced.
        await new Promise((resolve) => setTimeout(resolve, 1000).unref());
      }
    }
  }
}
