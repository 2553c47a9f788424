/**
 * Rows, cursors and dead letters as the columns of SQL tables, the same in each database.
 *
 * Numbers of 64 bits without a sign (versions, the identities of log and writer) stand in columns of 64 bits with a
 * sign, with their bits unchanged. Up to 2^63 that is the number itself; versions reach it after 2^31 epochs.
 */
import type { Change, Cursor, CursorPlace, RowValue } from './backend.ts';

/** Of a dead letter. */
export const PLACE_COLUMNS = 'lane, lane_count, log_id, position, epoch, writer';
export const CURSOR_COLUMNS = `${PLACE_COLUMNS}, holder_epoch, holder_writer`;
export const VALUE_COLUMNS = 'value, codec, client_flags, expires_ms, version';
/** Those, what an addition adds, and which of the atomic batches of its transaction a change was in. */
export const LETTER_COLUMNS = `${VALUE_COLUMNS}, delta, atomic`;

/** Keys of a load. PostgreSQL: each is a parameter twice, and a statement can have 65,535. */
export const LOAD_KEYS_MAX = 16_384;
/** Rows of a piece of a scan, and the largest value that comes with others; a larger one is a piece alone. */
export const SCAN_ROWS = 256;
export const SCAN_VALUE_BYTES_MAX: number = 64 * 1024;

/** A cell that a driver gives. Numbers come as their text, too. */
export type FoundCell = Buffer | string | number | bigint | null | undefined;

/** 64 bits without a sign, as a column has them. */
export function signed(bits: bigint): bigint {
  return BigInt.asIntN(64, bits);
}

export function unsigned(cell: FoundCell): bigint {
  return BigInt.asUintN(64, BigInt(cell as bigint));
}

/** The cells of {@link PLACE_COLUMNS}. */
export function placeCells({ lane, laneCount, logId, position, epoch, writer }: CursorPlace): (number | bigint)[] {
  return [lane, laneCount, signed(logId), signed(position), BigInt(epoch), signed(writer)];
}

/** The cells of {@link CURSOR_COLUMNS}. */
export function cursorCells(cursor: Cursor): (number | bigint)[] {
  return [...placeCells(cursor), BigInt(cursor.holderEpoch), signed(cursor.holderWriter)];
}

export function placeOf([lane, laneCount, logId, position, epoch, writer]: readonly FoundCell[]): CursorPlace {
  return {
    lane: Number(lane),
    laneCount: Number(laneCount),
    logId: unsigned(logId),
    position: unsigned(position),
    epoch: Number(epoch),
    writer: unsigned(writer),
  };
}

const HOLDER = PLACE_COLUMNS.split(', ').length;

export function cursorOf(cells: readonly FoundCell[]): Cursor {
  const [holderEpoch, holderWriter] = cells.slice(HOLDER);
  return { ...placeOf(cells), holderEpoch: Number(holderEpoch), holderWriter: unsigned(holderWriter) };
}

/** A row from the cells of {@link VALUE_COLUMNS}. */
export function rowValueOf([value, codec, clientFlags, expiresMs, version]: readonly FoundCell[]): RowValue {
  return {
    value: value as Buffer,
    codec: Number(codec),
    clientFlags: Number(clientFlags),
    expiresWallMs: Number(expiresMs),
    version: unsigned(version),
  };
}

/** The cells of {@link VALUE_COLUMNS} of a change. */
export function changeCells(change: Change): (Buffer | number | bigint | null)[] {
  const hasValue = 'value' in change;
  return [
    hasValue ? change.value : null,
    hasValue ? change.codec : null,
    hasValue ? BigInt(change.clientFlags) : null,
    change.kind === 'delete' ? null : BigInt(change.expiresWallMs),
    signed(change.version),
  ];
}

/** The cells of {@link LETTER_COLUMNS} of a change. What was added is text: it may have 65 bits. */
export function letterCells(change: Change): (Buffer | number | bigint | string | null)[] {
  const { kind, atomic } = change;
  return [
    ...changeCells(change),
    kind === 'add' ? String(change.delta) : null,
    atomic === undefined ? null : BigInt(atomic),
  ];
}

/** The change of a dead letter from the same cells. */
export function changeOf(kind: string, key: Buffer, cells: readonly FoundCell[]): Change {
  const change = changeAlone(kind, key, cells);
  const atomic = cells[ATOMIC];
  return atomic === null || atomic === undefined ? change : { ...change, atomic: Number(atomic) };
}

const ATOMIC = LETTER_COLUMNS.split(', ').indexOf('atomic');

function changeAlone(kind: string, key: Buffer, cells: readonly FoundCell[]): Change {
  if (kind === 'set') return { kind, key, ...rowValueOf(cells) };
  const [, , , expiresMs, version, delta] = cells;
  if (kind === 'add') return { kind, key, ...rowValueOf(cells), delta: BigInt(String(delta)) };
  if (kind === 'delete') return { kind, key, version: unsigned(version) };
  return { kind: 'touch', key, expiresWallMs: Number(expiresMs), version: unsigned(version) };
}
