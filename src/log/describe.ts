/** What `cairn log` prints: a survey, the entries and records of a log, and what a repair did, as lines of text. */
import { join } from 'node:path';
import { keyText } from '../errors.ts';
import { RecordKind, RecordReader } from '../request/record.ts';
import { epochText, versionParts } from './epoch.ts';
import { type Files, nodeFiles, openIfThere } from './files.ts';
import type { SegmentHeader } from './format.ts';
import type { Repaired } from './repair.ts';
import type { Position } from './request-log.ts';
import { type Batch, SegmentReader } from './segment.ts';
import type { SegmentSurvey, Survey } from './survey.ts';

/** Everything at a glance. */
export function* describeSurvey(survey: Survey): Generator<string> {
  const { directory, segments, snapshots, cursors, logId, oldest, end } = survey;
  if (segments.length === 0) {
    yield `There are no segments that can be read in ${directory}`;
    return;
  }
  const bytes = segments.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  const records = segments.reduce((sum, { scan }) => sum + scan.recordCount, 0);
  // A log that a newer program goes on with is of several until the older segments are removed.
  const formats = [...new Set(segments.map(({ header }) => header.formatVersion))].sort((a, b) => a - b);
  yield `Log ${hex(logId)} in ${directory}, format ${formats.join(' and ')}`;
  yield `  positions ${oldest} to ${end}, ${count(records, 'record')}, ${size(bytes)} in ${count(segments.length, 'segment')}`;
  yield '';
  yield* table(
    ['segment', 'base', 'end', 'batches', 'records', 'file', 'epoch', 'made', ''],
    segments.map((segment, i) => segmentRow(segment, i === segments.length - 1)),
  );
  if (snapshots.length > 0) {
    yield '';
    yield* table(
      ['snapshot', 'log from', 'synced to', 'chunks', 'records', 'file', 'epoch', 'made', ''],
      snapshots.map((found) =>
        'info' in found
          ? [
              found.name,
              String(found.info.position),
              String(found.info.end),
              String(found.info.chunkCount),
              String(found.info.recordCount),
              size(found.info.fileBytes),
              epochText(found.info.formatVersion, found.info.epochMax),
              time(found.info.finishedMs),
              '',
            ]
          : [found.name, '', '', '', '', '', '', '', 'damaged'],
      ),
    );
  }
  if (cursors.size > 0) {
    yield '';
    yield* table(
      ['cursor', 'position', 'behind'],
      [...cursors].map(([name, position]) => [
        JSON.stringify(name),
        String(position),
        position > end ? 'ahead of the log' : size(Number(end - position)),
      ]),
    );
  }
}

function segmentRow({ name, header, fileBytes, scan }: SegmentSurvey, isLast: boolean): string[] {
  const state =
    scan.damage !== undefined ? 'damaged' : !isLast ? '' : scan.mark?.kind === 'closed' ? 'closed' : 'not closed';
  return [
    name,
    String(header.base),
    String(scan.end),
    String(scan.batchCount),
    String(scan.recordCount),
    size(fileBytes),
    epochText(header.formatVersion, scan.fence.epoch),
    time(header.createdMs),
    state,
  ];
}

/** What is wrong, or that nothing is. */
export function* describeProblems({ problems, directory }: Survey): Generator<string> {
  const damage = problems.filter(({ kind }) => kind !== 'note');
  for (const { kind, file, position, offset, text } of problems) {
    const place =
      position !== undefined
        ? ` at position ${position}${offset === undefined ? '' : ` (offset ${offset})`}`
        : offset !== undefined
          ? ` at offset ${offset}`
          : '';
    yield `${kind === 'note' ? 'note' : 'DAMAGE'}: ${file}${place}: ${text}`;
  }
  if (damage.length === 0) yield 'Everything that should be there is sound.';
  else if (damage.some(({ kind }) => kind === 'newer')) yield 'A newer version of cairn-cache wrote this; use that.';
  else
    yield `${count(damage.length, 'fault')}. To keep everything that is sound: npx cairn-cache log repair ${directory}`;
}

export interface ListOptions {
  readonly files?: Files;
  /** The first position that is of interest. */
  readonly from?: Position;
  /** Records too, not only batches. */
  readonly withRecords?: boolean;
}

/** One line for each batch or mark, with its records if that is asked for. Ends a segment where it is not sound. */
export function* describeBatches(
  { directory, segments }: Survey,
  { files = nodeFiles, from = 0n, withRecords = false }: ListOptions = {},
): Generator<string> {
  for (const { name, header, scan } of segments) {
    if (scan.end <= from && scan.mark === undefined) continue;
    yield `${name}: base ${header.base}, made ${time(header.createdMs)} by writer ${hex(header.writer)} in epoch ${epochText(header.formatVersion, header.epoch)}`;
    if (header.predecessorEnd !== header.base) {
      yield `  positions from ${header.predecessorEnd} on are left out, with ${count(Number(header.recordsLost), 'record')} lost`;
    }
    const file = openIfThere(files, join(directory, name));
    if (file === undefined) {
      yield '  was removed meanwhile';
      continue;
    }
    try {
      const reader = new SegmentReader(file, header);
      while (reader.position < scan.end) {
        const next = reader.next();
        if (next.kind !== 'batch') break;
        if (reader.position <= from) continue;
        yield `  ${batchLine(next, header)}`;
        if (withRecords && next.header.kind === 'records') {
          for (const line of recordLines(next.payload, header)) yield `    ${line}`;
        }
      }
    } finally {
      file.close();
    }
    if (scan.damage !== undefined) yield `  ${scan.damage.position}  DAMAGE: ${scan.damage.why}`;
    else if (scan.mark !== undefined) yield `  ${scan.end}  ${scan.mark.kind}`;
  }
}

function batchLine({ header, offset }: Batch, { formatVersion }: SegmentHeader): string {
  const { kind, position, recordCount, payloadBytes, epoch, writer, durableEnd, timeMs } = header;
  const what = kind === 'takeover' ? 'takeover' : `${kind} ${recordCount}, ${payloadBytes} bytes`;
  const synced = durableEnd === position ? 'all before it synced' : `synced to ${durableEnd}`;
  return `${position}  ${what}  (offset ${offset}, epoch ${epochText(formatVersion, epoch)}, writer ${hex(writer)}, ${synced}, ${time(timeMs)})`;
}

const KIND_NAMES = new Map<number, string>([
  ...Object.entries(RecordKind).map(([name, number]): [number, string] => [number, name]),
  [RecordKind.clearAt, 'clear to come'],
]);

/** One line for each record: everything but the value itself. */
function* recordLines(records: Buffer, { formatVersion }: SegmentHeader): Generator<string> {
  const reader = new RecordReader(records);
  while (reader.next()) {
    const { kind, key, value, codec, clientFlags, version, expiresWallMs, freshUntilWallMs, delta, batch } = reader;
    const { epoch, counter } = versionParts(formatVersion, version);
    const parts = [
      KIND_NAMES.get(kind) ?? String(kind),
      ...(key.length === 0 ? [] : [keyText(key)]),
      ...(kind === RecordKind.set
        ? [`${value.length} ${value.length === 1 ? 'byte' : 'bytes'}`, `codec ${codec}`]
        : []),
      ...(clientFlags === 0 ? [] : [`flags ${clientFlags}`]),
      `version ${epoch}.${counter}`,
      ...(kind === RecordKind.clearAt ? [clearAtText(expiresWallMs)] : []),
      ...(kind === RecordKind.clearAt || expiresWallMs === 0n ? [] : [`expires ${time(Number(expiresWallMs))}`]),
      ...(freshUntilWallMs === undefined ? [] : [`stale from ${time(Number(freshUntilWallMs))}`]),
      ...(delta === undefined ? [] : [`by ${delta}`]),
      ...(batch === undefined ? [] : [`part ${batch.index + 1} of ${batch.count} of atomic batch ${hex(batch.id)}`]),
    ];
    yield parts.join('  ');
  }
  if (reader.status === 'unknown-field') yield `the record at ${reader.end} ${reader.fault}`;
  else if (reader.status !== 'ok') yield `DAMAGE: what follows at ${reader.end} is not a record`;
}

function clearAtText(wallMs: bigint): string {
  return wallMs === 0n ? 'none' : `at ${time(Number(wallMs))}`;
}

export function* describeRepair({
  before,
  actions,
  lostRecords,
  lostEntries,
  backup,
  after,
}: Repaired): Generator<string> {
  if (actions.length === 0) {
    yield `The log in ${before.directory} is sound: there is nothing to repair.`;
    return;
  }
  for (const { file, what } of actions) yield `${file}: ${what}`;
  const [records, are] = [count(lostRecords, 'record'), lostRecords === 1 ? 'is' : 'are'];
  yield lostRecords === 0 ? 'No record of the log is lost.' : `At least ${records} of the log ${are} lost.`;
  if (lostEntries > 0) {
    const [entries, are] = [count(lostEntries, 'entry', 'entries'), lostEntries === 1 ? 'is' : 'are'];
    yield `At least ${entries} that only a snapshot had ${are} lost, unless the log behind it has them anew.`;
  }
  if (backup === undefined) {
    yield 'Nothing was changed: this is what would be done.';
    return;
  }
  yield `The files as they were are in ${backup}.`;
  if (lostRecords + lostEntries > 0 && after.problems.every(({ kind }) => kind === 'note')) {
    for (const line of describeProblems(after)) if (line.startsWith('note: ')) yield line;
    yield 'What is left is sound.';
  } else yield* describeProblems(after);
}

/** Columns: the first to the left, the others to the right, the last as it is. */
function* table(headings: readonly string[], rows: readonly (readonly string[])[]): Generator<string> {
  const lines = [headings, ...rows];
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  for (const line of lines) {
    const cells = line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)));
    yield cells.join('  ').trimEnd();
  }
}

function count(number: number, noun: string, nouns = `${noun}s`): string {
  return `${number.toLocaleString('en-US')} ${number === 1 ? noun : nouns}`;
}

function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let scaled = bytes;
  let unit = 0;
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit++;
  }
  return `${unit === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[unit]}`;
}

function time(ms: number): string {
  // What a damaged file says may be no time at all.
  return ms <= 8.64e15 ? new Date(ms).toISOString() : `${ms} ms`;
}

function hex(number: bigint | undefined): string {
  return (number ?? 0n).toString(16).padStart(16, '0');
}
