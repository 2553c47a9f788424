/**
 * The log of a cache that is not open yet, for its writer: files that this thread reads itself, up to where recovery
 * wants them written. Its cursors stay where they are. The scribe has synced the log before it says how far.
 */
import { type LogEntry, LogReader, later, type Position, type Takeover } from '../log/index.ts';
import type { LogFiles } from '../scribe/index.ts';
import { Changed } from './changed.ts';
import { heldAs } from './holder.ts';
import { notTakenOver, type WriterLog } from './writer-log.ts';

export class OpeningLog implements WriterLog {
  readonly directory: string;
  readonly logId: bigint;
  readonly confirmed: Position;
  readonly takeover: Takeover;
  /** The writer has nothing left to do before the log is taken over. */
  readonly reached: Promise<void>;
  #onReached: () => void = () => {};
  readonly #store: string;
  readonly #reader: LogReader;
  readonly #watermark: () => Position;
  readonly #changed = new Changed();
  #upTo: Position = 0n;

  /** `store`: the database's name. `confirmed`: where the log's own cursor for it is. `end`: of what is committed. */
  constructor(files: Omit<LogFiles, 'openedAt'>, store: string, confirmed: Position, end: () => Position) {
    this.directory = files.directory;
    this.logId = files.logId;
    this.confirmed = confirmed;
    this.takeover = heldAs(store, files.takeover);
    this.#store = store;
    this.reached = new Promise((resolve) => {
      this.#onReached = resolve;
    });
    this.#reader = new LogReader(files);
    this.#watermark = end;
  }

  /** Entries before this position may be written. */
  allow(position: Position): void {
    this.#upTo = position;
    this.#changed.notify();
  }

  async takenOver(signal: AbortSignal): Promise<void> {
    this.#onReached();
    const wake = (): void => this.#changed.notify();
    signal.addEventListener('abort', wake, { once: true });
    // Nothing is allowed before.
    while (this.#upTo === 0n && !signal.aborted) await this.#changed.wait();
    signal.removeEventListener('abort', wake);
    if (!signal.aborted && this.end() < this.takeover.end) throw notTakenOver(this.directory);
  }

  mayHaveHad(takeover: Pick<Takeover, 'epoch' | 'writer'>): boolean {
    return this.#reader.mayHaveHad(heldAs(this.#store, takeover));
  }

  oldest(): Position {
    return this.#reader.oldestReadable;
  }

  end(): Position {
    return this.#watermark();
  }

  async settled(): Promise<Position> {
    return this.#upTo;
  }

  bytesFrom(position: Position): number {
    return this.#reader.bytesFrom(position);
  }

  timeFrom(): undefined {
    return undefined;
  }

  stateAt(position: Position): ReturnType<WriterLog['stateAt']> {
    return this.#reader.stateAt(position);
  }

  async *read(from: Position, signal: AbortSignal, until = 0n): AsyncGenerator<LogEntry> {
    const wake = (): void => this.#changed.notify();
    signal.addEventListener('abort', wake, { once: true });
    let position = from;
    while (!signal.aborted) {
      for (const entry of this.#reader.entries(position)) {
        if (entry.position >= later(this.#upTo, until) || signal.aborted) break;
        yield entry;
        position = entry.end;
      }
      if (!signal.aborted) await this.#changed.wait();
    }
  }

  async advance(): Promise<void> {
    // The writer of the open cache does.
  }

  async goBack(): Promise<void> {
    // The same: it finds by itself where the database is.
  }

  async historyFrom(): Promise<undefined> {
    return undefined;
  }

  async keepHistory(): Promise<void> {
    // The log removes nothing while it is opened.
  }
}
