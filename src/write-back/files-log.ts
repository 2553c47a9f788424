/** The log of a cache for its writer: files that this thread reads itself, and a cursor that the scribe moves. */
import { type LogEntry, LogReader, later, type Position, Watermark } from '../log/index.ts';
import type { BackedHandle } from '../native.ts';
import type { LogFiles, ScribeCommands } from '../scribe/index.ts';
import { STORE_CURSOR } from './message.ts';
import type { WriterLog } from './writer.ts';

/** Bits of a version below its epoch. */
const VERSION_COUNTER_BITS = 32n;
/** How long written records wait for others before they are synced, where the writer syncs. */
const SYNC_MS = 20;

export interface FilesLogOptions {
  readonly files: LogFiles;
  readonly scribe: ScribeCommands;
  /** Where the log's own cursor is. */
  readonly confirmed: Position;
  /** Whether the writer syncs the log, because its policy does not. */
  readonly syncs: boolean;
  /** Of the cache; stays the caller's. */
  readonly handle: BackedHandle;
}

export class FilesLog implements WriterLog {
  readonly directory: string;
  readonly logId: bigint;
  readonly openedAt: Position;
  readonly confirmed: Position;
  readonly #scribe: ScribeCommands;
  readonly #reader: LogReader;
  readonly #watermark: Watermark;
  readonly #syncs: boolean;
  readonly #handle: BackedHandle;

  constructor({ files, scribe, confirmed, syncs, handle }: FilesLogOptions) {
    this.directory = files.directory;
    this.logId = files.logId;
    this.confirmed = confirmed;
    this.#scribe = scribe;
    this.#reader = new LogReader(files);
    this.#watermark = new Watermark(files.progress);
    this.#syncs = syncs;
    this.openedAt = files.openedAt;
    this.#handle = handle;
  }

  end(): Position {
    return this.#watermark.at('durable');
  }

  bytesFrom(position: Position): number {
    return this.#reader.bytesFrom(position, 'durable');
  }

  stateAt(position: Position): ReturnType<WriterLog['stateAt']> {
    return this.#reader.stateAt(position);
  }

  async *read(from: Position, signal: AbortSignal): AsyncGenerator<LogEntry> {
    if (this.#syncs) void this.#keepSynced(signal);
    yield* this.#reader.read(from, { signal, level: 'durable' });
  }

  collect(entry: LogEntry, versions: BigUint64Array | undefined): BigUint64Array | undefined {
    // Versions of earlier processes belong to their shards, of which there may have been another number.
    if (entry.kind !== 'records' || entry.position < this.openedAt) return versions;
    const raised = versions ?? new BigUint64Array(this.#handle.shardCount);
    if (!this.#handle.collectVersions(entry.records, raised)) throw new Error('A record of the log is not well-formed');
    return raised;
  }

  markStored(versions: BigUint64Array): void {
    this.#handle.markStored(versions);
  }

  markRecovered(): void {
    // What was recovered has versions of earlier epochs.
    const epoch = this.#reader.stateAt(this.openedAt)?.epoch ?? 0;
    this.#handle.markStored(new BigUint64Array(this.#handle.shardCount).fill(BigInt(epoch) << VERSION_COUNTER_BITS));
  }

  markStoredUpTo(position: Position): void {
    if (position <= this.openedAt) return;
    const versions = new BigUint64Array(this.#handle.shardCount);
    // What this process has written before a thread of the writer died that had it confirmed.
    const from = later(this.confirmed, this.openedAt);
    for (const entry of this.#reader.entries(from, 'durable')) {
      if (entry.end > position) break;
      if (entry.kind === 'records') this.#handle.collectVersions(entry.records, versions);
    }
    this.#handle.markStored(versions);
  }

  advance(position: Position): Promise<void> {
    return this.#scribe.cursor(STORE_CURSOR).advance(position);
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
