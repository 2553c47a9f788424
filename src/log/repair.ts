/**
 * Makes a damaged log one that opens, and keeps everything that is sound.
 *
 * - Bytes that are no sound batch, with sound ones behind them, get a header of kind `lost` in front: readers are told
 *   how many records were there, and go on.
 * - A segment that is missing, or of which nothing can be used, is replaced by an empty one; the next says what is
 *   lost.
 * - A segment whose header is damaged gets a new one, made from its batches and its neighbours.
 * - The sound chunks of a damaged snapshot become a new one.
 * - Where the beginning of the log has no snapshot any more, an empty one says so; recovery then begins with what is
 *   left.
 * - Where the end of the log is missing, which cursors and snapshots prove, a new segment goes on far behind.
 *
 * Every file that is changed or removed is copied to a folder `before-repair-<n>` first. A file is replaced by
 * renaming, so that a repair which is interrupted can be done again.
 */
import { basename, join } from 'node:path';
import { RecordReader } from '../request/record.ts';
import { ioError, refused } from './chain.ts';
import { CURSORS_FILE, CURSORS_FILE_OLD, readCursors } from './cursors.ts';
import { LOG_EPOCH_MAX, logEpochOf } from './epoch.ts';
import { FENCE_START, type FenceState } from './fence.ts';
import { type Files, nodeFiles, type OpenFile, systemCode } from './files.ts';
import {
  BATCH_HEADER_BYTES,
  batchEnd,
  encodeBatchHeader,
  encodeSegmentHeader,
  Fault,
  FILE_HEADER_BYTES,
  FORMAT_VERSION,
  isEntry,
  offsetOf,
  type SegmentHeader,
  segmentName,
  segmentNumbers,
} from './format.ts';
import type { LockDirectory } from './log-options.ts';
import { type SnapshotChunk, SnapshotDamaged, type SnapshotInfo, type SnapshotStart } from './log-port.ts';
import { PatchedFile } from './patched-file.ts';
import { earlier, later, type Position } from './request-log.ts';
import { fenceAt, findAnyHeaders, findHeaders, readSegmentHeader, SegmentReader, scanSegment } from './segment.ts';
import { footerRecordCount, readSnapshotFile, type SnapshotFile, Snapshots, salvageSnapshot } from './snapshot.ts';
import { type Survey, survey } from './survey.ts';
import { readableFiles } from './unreadable-files.ts';

/**
 * Beyond all positions and epochs that a log may have given out behind the last that is known: a tebibyte, and a
 * thousand openings.
 */
const UNKNOWN_BYTES: bigint = 2n ** 40n;
const UNKNOWN_EPOCHS = 1000;

export interface RepairOptions {
  readonly lockDirectory: LockDirectory;
  readonly files?: Files;
  /** Only say what would be done. */
  readonly isDryRun?: boolean;
  readonly wallMs?: () => number;
  readonly random: () => bigint;
}

/** One file, and what is done about it. */
export interface RepairAction {
  readonly file: string;
  readonly what: string;
}

export interface Repaired {
  /** What was wrong. */
  readonly before: Survey;
  readonly actions: readonly RepairAction[];
  /** Records that are known to be lost, at least. */
  readonly lostRecords: number;
  /**
   * Entries that a damaged snapshot had, that no log covers and that could not be saved, at least: some may have been
   * written anew in the log behind it.
   */
  readonly lostEntries: number;
  /** Where the files are as they were before; undefined: nothing was changed. */
  readonly backup: string | undefined;
  /** What is there now. */
  readonly after: Survey;
}

/**
 * Repairs the log in a directory. Throws `ERR_LOG_LOCKED`, `ERR_LOG_VERSION` (a newer version has to do it) and
 * `ERR_LOG_IO`.
 */
export function repair(directory: string, options: RepairOptions): Repaired {
  const { files = nodeFiles, lockDirectory, isDryRun = false } = options;
  const lock = lockDirectory(directory);
  try {
    const before = survey(directory, { files, isDeep: true });
    const newer = before.problems.find(({ kind }) => kind === 'newer');
    if (newer !== undefined) throw refused(directory, newer);
    if (!before.problems.some(({ kind }) => kind === 'damage')) {
      return { before, actions: [], lostRecords: 0, lostEntries: 0, backup: undefined, after: before };
    }
    const work = new Repair(directory, files, options);
    work.plan(before);
    const { actions, lostRecords, lostEntries } = work;
    const plan = { before, actions, lostRecords, lostEntries };
    if (isDryRun) return { ...plan, backup: undefined, after: before };
    const backup = work.carryOut();
    return { ...plan, backup, after: survey(directory, { files, isDeep: true }) };
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    throw ioError(`repair the log in ${directory}`, error);
  } finally {
    lock.release();
  }
}

/** A segment on its way to be sound. */
interface Draft {
  readonly number: number;
  header: SegmentHeader;
  readonly file: PatchedFile;
  /** Its header was damaged: what it says of the segment before it is a guess. */
  readonly isGuessed: boolean;
  /** What was done to it; empty: it is as it was. */
  readonly changes: string[];
}

/** Where a gap ends, and where a reader is behind it. */
interface GapEnd extends FenceState {
  readonly end: Position;
}

class Repair {
  readonly #directory: string;
  readonly #files: Files;
  readonly #wallMs: () => number;
  readonly #random: () => bigint;
  readonly #steps: ((backup: string) => void)[] = [];
  /** Files of which something cannot be read. */
  readonly #unreadable = new Set<string>();
  readonly actions: RepairAction[] = [];
  lostRecords = 0;
  lostEntries = 0;

  constructor(directory: string, files: Files, { wallMs = () => Date.now(), random }: RepairOptions) {
    this.#directory = directory;
    this.#files = readableFiles(files, ({ path }) => void this.#unreadable.add(basename(path)));
    this.#wallMs = wallMs;
    this.#random = random;
  }

  plan(found: Survey): void {
    const logId = this.#logIdOf(found);
    const snapshots = found.snapshots.flatMap((snapshot) => ('info' in snapshot ? [snapshot.info] : []));
    const mine = snapshots.filter((info) => info.logId === logId);
    const cursors = this.#planCursors(logId);
    // A snapshot without its footer still says where it begins.
    const begins = found.snapshots
      .map(({ name }) => salvageSnapshot(this.#files, this.#directory, name))
      .flatMap((salvaged) => (salvaged?.logId === logId ? [salvaged.start.position] : []));
    const claimed = [...cursors.values(), ...mine.map(({ end }) => end), ...begins].reduce(later, 0n);
    const start = this.#planSegments(logId, claimed, mine[0]);
    this.#planSnapshots(found, logId, start);
  }

  /** Does what was planned. Returns the folder with the files as they were. */
  carryOut(): string {
    const names = this.#files.list(this.#directory);
    let number = 1;
    while (names.includes(`before-repair-${number}`)) number++;
    const backup = join(this.#directory, `before-repair-${number}`);
    this.#files.makeDirectory(backup);
    for (const step of this.#steps) step(backup);
    return backup;
  }

  // Which log it is: what most of its files say.
  #logIdOf({ segments, snapshots }: Survey): bigint {
    const votes = new Map<bigint, number>();
    const vote = (logId: bigint): void => void votes.set(logId, (votes.get(logId) ?? 0) + 1);
    for (const { header } of segments) vote(header.logId);
    for (const snapshot of snapshots) if ('info' in snapshot) vote(snapshot.info.logId);
    const { logId } = readCursors(this.#files, this.#directory);
    if (logId !== undefined) vote(logId);
    const [winner] = [...votes].sort(([, a], [, b]) => b - a);
    return winner?.[0] ?? this.#random();
  }

  #planCursors(logId: bigint): ReadonlyMap<string, Position> {
    const found = readCursors(this.#files, this.#directory);
    const isOurs = found.logId === undefined || found.logId === logId;
    if (isOurs && (found.fault === undefined || found.isOld)) {
      if (this.#unreadable.has(CURSORS_FILE)) this.#remove(CURSORS_FILE, `${CURSORS_FILE_OLD} is used`);
      return found.cursors;
    }
    const names = this.#files.list(this.#directory);
    for (const name of [CURSORS_FILE, CURSORS_FILE_OLD]) {
      if (names.includes(name)) this.#remove(name, 'the cursors are lost: their readers begin with what the log has');
    }
    return new Map();
  }

  // ---- segments ----

  // Returns where the log begins then.
  #planSegments(
    logId: bigint,
    claimed: Position,
    newestSnapshot: SnapshotInfo | undefined,
  ): { position: Position; fence: FenceState } {
    const drafts = this.#drafts(logId);
    const first = drafts[0]?.header;
    let end = first?.predecessorEnd ?? newestSnapshot?.position ?? 0n;
    let fence = first?.before ?? { ...FENCE_START, recordsBefore: newestSnapshot?.recordsBefore ?? 0n };
    const start = { position: end, fence };
    let isCutOff = first === undefined;
    for (let i = 0; i < drafts.length; i++) {
      const draft = drafts[i]!;
      this.#join(draft, end, fence);
      let next = drafts[i + 1];
      const isKnown = next?.number === draft.number + 1 && !next.isGuessed;
      ({ end, fence, isCutOff } = this.#mend(draft, isKnown ? next?.header : undefined));
      this.#replaceIfChanged(draft);
      while (next?.isGuessed && next.header.base < end) {
        const place = fenceAt(draft.file, draft.header, next.header.base);
        if (next.header.base > draft.header.base && place.position === next.header.base) {
          // What this one has from there on was written again.
          ({ position: end, fence } = place);
          break;
        }
        this.#removeCopy(next);
        drafts.splice(i + 1, 1);
        next = drafts[i + 1];
      }
      const missingEnd = next?.number ?? 0;
      for (let number = draft.number + 1; number < missingEnd; number++) {
        const header = { ...draft.header, number, base: end, predecessorEnd: end, before: fence, recordsLost: 0n };
        this.#putEmpty(header, 'it is missing: an empty segment takes its place');
      }
    }
    if (!isCutOff && claimed <= end) return start;
    const number = (drafts.at(-1)?.number ?? 0) + 1;
    const epoch = Math.min(fence.epoch + UNKNOWN_EPOCHS, LOG_EPOCH_MAX - UNKNOWN_EPOCHS);
    this.#putEmpty(
      {
        ...(drafts.at(-1)?.header ?? { formatVersion: FORMAT_VERSION, writer: this.#random(), createdMs: 0 }),
        logId,
        number,
        epoch,
        predecessorEnd: end,
        base: later(end, claimed) + UNKNOWN_BYTES,
        before: { ...fence, epoch, recordsBefore: fence.recordsBefore + 1n },
        recordsLost: 1n,
      },
      'the end of the log is missing, how much is not known: the log goes on in a new segment',
    );
    this.lostRecords += 1;
    return start;
  }

  // The segments with a header that is sound or can be made anew; the others are taken away.
  #drafts(logId: bigint): Draft[] {
    const drafts: Draft[] = [];
    for (const number of segmentNumbers(this.#files.list(this.#directory))) {
      const name = segmentName(number);
      const file = new PatchedFile(this.#files, join(this.#directory, name));
      const header = readSegmentHeader(file);
      if (header instanceof Fault) {
        const made = headerFromBatches(file, number, logId, drafts.at(-1)?.header, this.#formatBehind(number));
        if (made === undefined) this.#remove(name, 'nothing in it can be used');
        else {
          const changes = ['it gets a header made from its batches'];
          drafts.push({ number, header: made, file, isGuessed: true, changes });
        }
      } else if (header.number === number && header.logId === logId) {
        drafts.push({ number, header, file, isGuessed: false, changes: [] });
      } else this.#remove(name, 'it is not what its name says');
    }
    // Without its header a copy of another segment is told by where it begins: here one of a later segment.
    return drafts.filter((draft, i) => {
      const next = drafts.find(({ isGuessed }, k) => k > i && !isGuessed);
      const isCopy = draft.isGuessed && next !== undefined && draft.header.base >= next.header.base;
      if (isCopy) this.#removeCopy(draft);
      return !isCopy;
    });
  }

  // Of the next segment that says its format: that of a segment in front of it is the same, or one before.
  #formatBehind(number: number): number {
    for (const later of segmentNumbers(this.#files.list(this.#directory)).filter((other) => other > number)) {
      const header = readSegmentHeader(new PatchedFile(this.#files, join(this.#directory, segmentName(later))));
      if (!(header instanceof Fault)) return header.formatVersion;
    }
    return FORMAT_VERSION;
  }

  #removeCopy({ number }: Draft): void {
    this.#remove(segmentName(number), 'what is in it is in another segment');
  }

  // Makes a segment's header say of the one before it what is so.
  #join(draft: Draft, end: Position, fence: FenceState): void {
    const { header } = draft;
    // Where the beginning of a segment is damaged like its header, what was there is missing in it and not before it.
    const isBeforeKnown = !draft.isGuessed || new SegmentReader(draft.file, header).next().kind === 'batch';
    const lost = isBeforeKnown ? header.before.recordsBefore - fence.recordsBefore : 0n;
    const isSame = fence.epoch === header.before.epoch && fence.writer === header.before.writer;
    const isJoined = header.predecessorEnd === end && lost === header.recordsLost && (lost > 0n || isSame);
    if (isJoined && isBeforeKnown) return;
    draft.header = {
      ...header,
      predecessorEnd: earlier(end, header.base),
      before: lost > 0n ? header.before : fence,
      recordsLost: lost > 0n ? lost : 0n,
    };
    if (lost > header.recordsLost) {
      draft.changes.push(`${lost} records before it are lost`);
      this.lostRecords += Number(lost);
    } else draft.changes.push('its header is joined to the segment before it');
  }

  // Puts a batch of kind `lost` over everything that is damaged. Says where the segment ends then, and whether there
  // was one behind it that is not known.
  #mend(draft: Draft, next: SegmentHeader | undefined): { end: Position; fence: FenceState; isCutOff: boolean } {
    for (;;) {
      const scan = scanSegment(draft.file, draft.header, next?.predecessorEnd);
      const isCutOff = next === undefined && scan.mark?.kind === 'sealed';
      if (scan.damage === undefined || isCutOff) return { end: scan.end, fence: scan.fence, isCutOff };
      const { end, fence } = scan;
      const gap = soundBehind(draft, end, fence, next?.predecessorEnd) ?? gapToEnd(draft, end, fence, next);
      this.#putLost(draft, scan.end, scan.fence, gap);
    }
  }

  #putLost(draft: Draft, position: Position, { recordsBefore }: FenceState, gap: GapEnd): void {
    const start = offsetOf(draft.header, position);
    const end = offsetOf(draft.header, gap.end);
    // An empty segment may have to be one with a gap, if it was put there by a repair that was interrupted.
    const { header } = draft;
    const capacity = Math.max(header.capacity, end - FILE_HEADER_BYTES);
    draft.header = { ...header, capacity };
    // What was cut off is zeros now: the batch has to be there in full.
    draft.file.grow(end);
    const recordCount = Number(gap.recordsBefore - recordsBefore);
    const batch = encodeBatchHeader({
      kind: 'lost',
      payloadBytes: end - start - BATCH_HEADER_BYTES,
      position,
      durableEnd: position,
      recordsBefore,
      writer: gap.writer,
      timeMs: draft.header.createdMs,
      recordCount,
      epoch: gap.epoch,
      payloadCrc: draft.file.crc(start + BATCH_HEADER_BYTES, end),
    });
    draft.file.write([batch], start);
    draft.changes.push(`${recordCount} records at position ${position} (${end - start} bytes) are lost`);
    this.lostRecords += recordCount;
  }

  #replaceIfChanged({ number, header, file, changes }: Draft): void {
    if (changes.length === 0 && this.#unreadable.has(segmentName(number))) {
      changes.push('what cannot be read of it is behind its end');
    }
    if (changes.length === 0) return;
    file.write([encodeSegmentHeader(header)], 0);
    this.#put(segmentName(number), (target) => file.copyTo(target), changes.join('; '));
  }

  // A segment without batches, which stands for what is missing.
  #putEmpty(header: Omit<SegmentHeader, 'bornEnd' | 'capacity'>, what: string): void {
    const createdMs = Math.max(header.createdMs, this.#wallMs());
    const empty: SegmentHeader = { ...header, createdMs, bornEnd: header.base, capacity: 0 };
    this.#put(segmentName(header.number), (target) => target.write([encodeSegmentHeader(empty)], 0), what);
  }

  // ---- snapshots ----

  // `start`: where a reader is at the beginning of the log; recovery needs a snapshot from there or later, unless the
  // log has everything.
  #planSnapshots({ snapshots }: Survey, logId: bigint, start: { position: Position; fence: FenceState }): void {
    const files = this.#files;
    const directory = this.#directory;
    const covers = (from: SnapshotStart): boolean => from.position >= start.position;
    const isSound = (found: SnapshotFile): boolean =>
      'info' in found && found.info.logId === logId && isWhole(files, directory, found.info);
    const sound = snapshots.filter(isSound);
    const others = snapshots.filter((found) => !sound.includes(found));
    const isCovered = sound.some((found) => 'info' in found && covers(found.info));
    if (!isCovered && start.position > 0n) {
      const salvaged = others
        .map(({ name }) => salvageSnapshot(files, directory, name))
        .find((found) => found?.logId === logId && covers(found.start));
      const { recordsBefore, epoch } = start.fence;
      const had = salvaged
        ? salvaged.recordCountWhole
        : others.map(({ name }) => footerRecordCount(files, directory, name)).find((count) => count !== undefined);
      // How many there were is not known: one at least.
      this.lostEntries = had === undefined ? 1 : had - (salvaged?.recordCount ?? 0);
      const begin = {
        ...(salvaged?.start ?? { position: start.position, recordsBefore, epoch }),
        entriesLost: (salvaged?.start.entriesLost ?? 0) + this.lostEntries,
      };
      const count = had === undefined ? 'not known how many' : `${this.lostEntries} of ${had} entries`;
      const what = salvaged
        ? `a new snapshot takes what is sound of the damaged one${this.lostEntries === 0 ? '' : `; the rest is lost, ${count}`}`
        : `the state before position ${start.position} is lost (${count}): an empty snapshot stands for it`;
      this.actions.push({ file: 'snapshot', what });
      this.#steps.push(() => this.#writeSnapshot(logId, begin, salvaged?.chunks() ?? []));
    }
    for (const { name } of others) this.#remove(name, 'it is damaged or belongs to another log');
  }

  #writeSnapshot(logId: bigint, start: SnapshotStart, chunks: Iterable<SnapshotChunk>): void {
    const [files, directory] = [this.#files, this.#directory];
    const [wallMs, random] = [this.#wallMs, this.#random];
    const writer = new Snapshots({ files, directory, logId, wallMs, random, isKeepingAll: true }).begin(start);
    const { formatVersion = FORMAT_VERSION } = start;
    let epochMax = start.epoch;
    for (const { records, recordCount } of chunks) {
      const reader = new RecordReader(records);
      while (reader.next()) {
        epochMax = Math.max(epochMax, logEpochOf(formatVersion, reader.version, start.epoch));
      }
      writer.add(records, recordCount);
    }
    const steps = writer.finish(start.position, epochMax);
    while (!steps.next().done);
  }

  // ---- files ----

  // Plans to put a file there, in the place of one that is kept in the backup.
  #put(name: string, fill: (target: OpenFile) => void, what: string): void {
    this.actions.push({ file: name, what });
    this.#steps.push((backup) => {
      const path = join(this.#directory, name);
      if (this.#files.list(this.#directory).includes(name)) {
        const original = new PatchedFile(this.#files, path);
        this.#write(join(backup, name), (target) => original.copyTo(target));
      }
      this.#write(`${path}.tmp`, fill);
      this.#files.syncDirectory(backup);
      this.#files.rename(`${path}.tmp`, path);
      this.#files.syncDirectory(this.#directory);
    });
  }

  #remove(name: string, what: string): void {
    this.actions.push({ file: name, what: `${what}: it is taken away` });
    this.#steps.push((backup) => {
      this.#files.rename(join(this.#directory, name), join(backup, name));
      this.#files.syncDirectory(backup);
      this.#files.syncDirectory(this.#directory);
    });
  }

  #write(path: string, fill: (target: OpenFile) => void): void {
    const file = this.#files.open(path, 'create');
    try {
      fill(file);
      file.sync();
    } finally {
      file.close();
    }
  }
}

/** The first sound batch, or mark, behind what is damaged in a segment. */
function soundBehind(
  { file, header }: Draft,
  position: Position,
  fence: FenceState,
  end: Position | undefined,
): GapEnd | undefined {
  // The batch that stands for the gap has a header too.
  for (const found of findHeaders(file, header, offsetOf(header, position) + BATCH_HEADER_BYTES)) {
    if (end !== undefined && found.position >= end) return undefined;
    if (found.recordsBefore < fence.recordsBefore || found.epoch < fence.epoch) continue;
    if (isEntry(found.kind)) {
      const reader = new SegmentReader(file, header);
      reader.seek(found.position);
      if (reader.next().kind !== 'batch') continue;
    } else if (end !== undefined) continue;
    const { position: gapEnd, recordsBefore } = found;
    // A take-over has to raise the epoch that a reader comes with.
    const { epoch, writer } = found.kind === 'takeover' ? fence : found;
    return { end: gapEnd, epoch, writer, recordsBefore };
  }
  return undefined;
}

/** Where a gap ends behind which there is nothing sound in its segment. */
function gapToEnd(
  { file, header }: Draft,
  position: Position,
  fence: FenceState,
  next: SegmentHeader | undefined,
): GapEnd {
  if (next !== undefined) {
    const recordsBefore = next.before.recordsBefore - next.recordsLost;
    if (recordsBefore < fence.recordsBefore) return { ...fence, end: next.predecessorEnd };
    return { ...next.before, recordsBefore, end: next.predecessorEnd };
  }
  // The last segment: as far as headers tell of batches that cannot be read, and what was synced with the segment.
  let gap: GapEnd = { ...fence, end: later(header.bornEnd, position + BigInt(BATCH_HEADER_BYTES)) };
  for (const found of findHeaders(file, header, offsetOf(header, position))) {
    const isBatch = isEntry(found.kind);
    const recordsBefore = found.recordsBefore + BigInt(isBatch ? found.recordCount : 0);
    if (recordsBefore < gap.recordsBefore || found.epoch < gap.epoch) continue;
    const end = later(gap.end, isBatch ? batchEnd(found) : found.position);
    gap = { end, recordsBefore, epoch: found.epoch, writer: found.writer };
  }
  return gap;
}

/** A header for a segment whose own is damaged, from the first batch in it that is sound. Undefined: there is none. */
function headerFromBatches(
  file: PatchedFile,
  number: number,
  logId: bigint,
  previous: SegmentHeader | undefined,
  formatBehind: number,
): SegmentHeader | undefined {
  for (const { header: batch, offset } of findAnyHeaders(file, FILE_HEADER_BYTES)) {
    if (!isEntry(batch.kind)) continue;
    const start = offset + BATCH_HEADER_BYTES;
    const end = start + batch.payloadBytes;
    if (end > file.size() || file.crc(start, end) !== batch.payloadCrc) continue;
    const base = batch.position - BigInt(offset - FILE_HEADER_BYTES);
    if (base < 0n || base < (previous?.base ?? 0n)) continue;
    const { epoch, writer, recordsBefore } = batch;
    const isTakeover = batch.kind === 'takeover';
    return {
      formatVersion: previous?.formatVersion ?? formatBehind,
      logId,
      number,
      base,
      predecessorEnd: base,
      bornEnd: base,
      capacity: Math.max(file.size(), previous?.capacity ?? 0),
      createdMs: batch.timeMs,
      writer,
      epoch,
      before: { writer, recordsBefore, epoch: isTakeover ? epoch - 1 : epoch },
      recordsLost: 0n,
    };
  }
  return undefined;
}

function isWhole(files: Files, directory: string, info: SnapshotInfo): boolean {
  try {
    for (const _ of readSnapshotFile(files, directory, info));
    return true;
  } catch (error) {
    if (error instanceof SnapshotDamaged) return false;
    throw error;
  }
}
