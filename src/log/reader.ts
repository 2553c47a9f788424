/**
 * Reads an embedded log by its files, in the thread that writes it or in any other: the thread that has the log shares
 * how far it is (watermark.ts), and no byte behind that is looked at.
 *
 * A reader keeps the headers of the segments that it knows; each read has its own open file. A reader does not keep the
 * log from being truncated: a read of a segment that is gone ends with an error.
 */
import { join } from 'node:path';
import { CairnRangeError, outOfRange } from '../errors.ts';
import { ioError, type Link, refused } from './chain.ts';
import { Fence, type FenceState, type Takeover } from './fence.ts';
import { type Files, nodeFiles, type OpenFile, openIfThere, systemCode } from './files.ts';
import { Fault, positionAt, type SegmentHeader, segmentName, segmentNumbers } from './format.ts';
import { earlier, type LogEntry, later, type Position, type ReadLevel, type ReadOptions } from './request-log.ts';
import { type Batch, entryOf, readSegmentHeader, SegmentReader } from './segment.ts';
import { Watermark } from './watermark.ts';

export interface LogReaderOptions {
  readonly directory: string;
  /** What `EmbeddedLog.progress` is. */
  readonly progress: SharedArrayBuffer;
  readonly files?: Files;
}

type KnownSegment = Pick<Link, 'number' | 'header'>;

/** Where a read is: its segment, and how it continues. */
interface Place {
  segment: KnownSegment;
  file: OpenFile;
  reader: SegmentReader;
  fence: Fence | undefined;
}

export class LogReader {
  readonly #directory: string;
  readonly #files: Files;
  readonly #watermark: Watermark;
  #segments: KnownSegment[] = [];
  #knownUpTo = 0;

  constructor({ directory, progress, files = nodeFiles }: LogReaderOptions) {
    this.#directory = directory;
    this.#files = files;
    this.#watermark = new Watermark(progress);
  }

  /** As `RequestLog.read`. */
  async *read(from: Position, { signal, level = 'committed' }: ReadOptions = {}): AsyncGenerator<LogEntry, undefined> {
    let position = from;
    for (;;) {
      // Before reading: entries that were committed before the log was closed are still read.
      const isClosed = this.#watermark.isClosed;
      for (const entry of this.entries(position, level)) {
        if (signal?.aborted) return;
        yield entry;
        position = entry.end;
      }
      if (isClosed || signal?.aborted) return;
      await this.#watermark.wait(level, position, signal);
    }
  }

  /** Behind the last entry, whether it can be read yet or not. */
  get end(): Position {
    return this.#watermark.end;
  }

  /** Reading may begin here and later: the log is truncated up to this position. */
  get oldestReadable(): Position {
    try {
      this.#learn(this.#watermark.segment);
    } catch (error) {
      throw this.#readError(error);
    }
    const first = this.#segments[0]?.header;
    return first === undefined ? this.#watermark.end : first.predecessorEnd;
  }

  /** The entries from a position on that can be read now, as `read` gives them. */
  *entries(from: Position, level: ReadLevel = 'committed'): Generator<LogEntry, undefined> {
    if (from < 0n || from > this.#watermark.end) {
      throw outOfRange('the position to read from', `at most the end of the log, ${this.#watermark.end}`, from);
    }
    let place: Place | undefined;
    let position = from;
    try {
      for (;;) {
        const limit = this.#watermark.at(level);
        if (position >= limit) return;
        const { segment, end } = this.#find(position);
        if (segment.header.base >= limit) return;
        if (place?.segment.number !== segment.number) {
          place?.file.close();
          const fence = this.#enter(segment, position, place?.fence);
          place = this.#open(segment, position, fence);
          if (segment.header.recordsLost > 0n && position < segment.header.base) yield lossBefore(segment.header);
          if (position < segment.header.base) {
            position = segment.header.base;
            continue;
          }
        }
        const next = this.#next(place, position, end === undefined || end > limit ? limit : end);
        if (next === undefined) continue;
        if (typeof next === 'bigint') {
          position = next;
          continue;
        }
        const entry = entryOf(next, segment.header);
        place.fence ??= new Fence(stateBefore(entry));
        if (!place.fence.admit(entry)) throw this.#damage(place, 'the batch does not continue the one before it', next);
        position = entry.end;
        yield entry;
      }
    } catch (error) {
      throw this.#readError(error);
    } finally {
      place?.file.close();
    }
  }

  /**
   * The entry that begins at a position. Undefined: none does, it cannot be read yet, or it was truncated, also during
   * the call.
   */
  entryAt(position: Position, level: ReadLevel = 'committed'): LogEntry | undefined {
    try {
      return this.#entryAt(position, level);
    } catch (error) {
      if (error instanceof CairnRangeError) return undefined;
      throw this.#readError(error);
    }
  }

  /** Bytes of the entries from a position on: positions that were left out between segments do not count. */
  bytesFrom(position: Position, level: ReadLevel = 'committed'): number {
    const limit = this.#watermark.at(level);
    if (this.#watermark.segment !== this.#knownUpTo) this.#learn(this.#watermark.segment);
    let bytes = 0;
    for (const [i, { header }] of this.#segments.entries()) {
      const end = this.#segments[i + 1]?.header.predecessorEnd ?? limit;
      const from = later(position, header.base);
      const to = earlier(end, limit);
      if (to > from) bytes += Number(to - from);
    }
    return bytes;
  }

  /** Epoch and writer of the entry that ends at a position. Undefined: none does, or it was truncated. */
  stateAt(position: Position): Pick<FenceState, 'epoch' | 'writer'> | undefined {
    try {
      return this.#stateAt(position);
    } catch (error) {
      if (error instanceof CairnRangeError) return undefined;
      throw this.#readError(error);
    }
  }

  /**
   * Whether the log had an opening: the segments that there are have its writer, or they all are of a later epoch, so
   * that nothing is known of it.
   */
  mayHaveHad({ epoch, writer }: Pick<Takeover, 'epoch' | 'writer'>): boolean {
    try {
      if (this.#watermark.segment !== this.#knownUpTo) this.#learn(this.#watermark.segment);
    } catch (error) {
      throw this.#readError(error);
    }
    const [first] = this.#segments;
    if (first === undefined || epoch <= first.header.before.epoch) return true;
    return this.#segments.some(({ header }) => header.writer === writer || header.before.writer === writer);
  }

  // Only headers are read, and at most those of one segment.
  #stateAt(position: Position): Pick<FenceState, 'epoch' | 'writer'> | undefined {
    const committed = this.#watermark.at('committed');
    if (position <= 0n || position > committed) return undefined;
    const { header: next } = this.#find(position).segment;
    if (position === next.base || (position === next.predecessorEnd && next.recordsLost === 0n)) return next.before;
    const { segment, end } = this.#find(position - 1n);
    if (position <= segment.header.base) return undefined;
    const file = openIfThere(this.#files, join(this.#directory, segmentName(segment.number)));
    if (file === undefined) return undefined;
    try {
      const walk = new SegmentReader(file, segment.header, { withPayload: false });
      const limit = end === undefined || end > committed ? committed : end;
      for (let batch = walk.next(limit); batch.kind === 'batch'; batch = walk.next(limit)) {
        if (walk.position === position) return { epoch: batch.header.epoch, writer: batch.header.writer };
        if (walk.position > position) return undefined;
      }
      return undefined;
    } finally {
      file.close();
    }
  }

  #entryAt(position: Position, level: ReadLevel): LogEntry | undefined {
    const limit = this.#watermark.at(level);
    if (position >= limit) return undefined;
    const { segment, end } = this.#find(position);
    if (position < segment.header.base) return undefined;
    const { file, reader } = this.#open(segment, position, undefined);
    try {
      const next = reader.next(end === undefined || end > limit ? limit : end);
      return next.kind === 'batch' ? entryOf(next, segment.header) : undefined;
    } finally {
      file.close();
    }
  }

  // The batch at a position below the limit; or the position of the next one, if none begins there; or undefined, if
  // the log goes on in another segment meanwhile.
  #next(place: Place, position: Position, limit: Position): Batch | Position | undefined {
    if (place.reader.position !== position) place.reader.seek(position);
    const next = place.reader.next(limit);
    if (next.kind === 'batch') return next;
    if (this.#watermark.segment !== this.#knownUpTo) return undefined;
    const why = next.kind === 'mark' ? 'is a mark' : (next.fault?.why ?? 'is missing');
    const first = this.#firstFrom(place, position, limit);
    if (first === undefined) throw this.#damage(place, `the batch ${why}`, next);
    return first;
  }

  // The position of the first batch behind one where none begins; undefined if one should begin there, or before it.
  #firstFrom({ file, segment: { header } }: Place, position: Position, limit: Position): Position | undefined {
    const walk = new SegmentReader(file, header, { withPayload: false });
    while (walk.position < position) if (walk.next(limit).kind !== 'batch') return undefined;
    return walk.position === position ? undefined : walk.position;
  }

  #open(segment: KnownSegment, position: Position, fence: Fence | undefined): Place {
    const file = openIfThere(this.#files, join(this.#directory, segmentName(segment.number)));
    if (file === undefined) throw truncated(position);
    const reader = new SegmentReader(file, segment.header);
    if (position > segment.header.base) reader.seek(position);
    return { segment, file, reader, fence };
  }

  // How a reader goes on that comes to a segment: by the header's word where records are lost, otherwise as it was.
  #enter({ header }: KnownSegment, position: Position, fence: Fence | undefined): Fence | undefined {
    if (position > header.base) return fence;
    if (header.recordsLost > 0n || fence === undefined) return new Fence(header.before);
    return fence;
  }

  // The segment that a position is in, or the next one if it is in none; and where that segment ends, if it does.
  #find(position: Position): { segment: KnownSegment; end: Position | undefined } {
    const known = this.#watermark.segment;
    if (known !== this.#knownUpTo) this.#learn(known);
    let i = this.#segments.length - 1;
    while (i >= 0 && this.#segments[i]!.header.base > position) i--;
    if (i < 0) {
      const first = this.#segments[0];
      if (first === undefined || first.header.predecessorEnd > position) throw truncated(position);
      i = 0;
    }
    const next = this.#segments[i + 1];
    if (next !== undefined && position >= next.header.predecessorEnd) i++;
    return { segment: this.#segments[i]!, end: this.#segments[i + 1]?.header.predecessorEnd };
  }

  // Reads the headers of the segments that are new, and forgets those that are gone.
  #learn(upTo: number): void {
    const numbers = segmentNumbers(this.#files.list(this.#directory)).filter((number) => number <= upTo);
    const known = new Map(this.#segments.map((segment) => [segment.number, segment]));
    this.#segments = numbers.flatMap((number) => {
      const segment = known.get(number) ?? this.#readHeader(number);
      return segment === undefined ? [] : [segment];
    });
    this.#knownUpTo = upTo;
  }

  #readHeader(number: number): KnownSegment | undefined {
    const name = segmentName(number);
    const file = openIfThere(this.#files, join(this.#directory, name));
    // Removed since the directory was listed.
    if (file === undefined) return undefined;
    try {
      const header = readSegmentHeader(file);
      if (!(header instanceof Fault)) return { number, header };
      throw refused(this.#directory, { kind: 'damage', file: name, text: `the header ${header.why}` });
    } finally {
      file.close();
    }
  }

  #readError(error: unknown): unknown {
    return systemCode(error) === undefined ? error : ioError(`read the log in ${this.#directory}`, error);
  }

  #damage({ segment }: Place, text: string, { offset }: { offset: number }): Error {
    const position = positionAt(segment.header, offset);
    return refused(this.#directory, { kind: 'damage', file: segmentName(segment.number), position, offset, text });
  }
}

/** What stands for the records that are lost before a segment. */
function lossBefore(header: SegmentHeader): LogEntry {
  return {
    kind: 'lost',
    position: header.predecessorEnd,
    end: header.base,
    epoch: header.before.epoch,
    formatVersion: header.formatVersion,
    writer: header.before.writer,
    recordsBefore: header.before.recordsBefore - header.recordsLost,
    recordCount: Number(header.recordsLost),
    timeMs: header.createdMs,
    records: Buffer.alloc(0),
  };
}

/** Where a reader must have been for this entry to be the next. */
function stateBefore(entry: LogEntry): FenceState {
  const { writer, recordsBefore } = entry;
  return { epoch: entry.kind === 'takeover' ? entry.epoch - 1 : entry.epoch, writer, recordsBefore };
}

function truncated(position: Position): Error {
  return outOfRange('the position to read from', 'one that the log still has', position);
}
