/**
 * The room of an LMDB file with a limit. Pages in use are counted before each batch. If the batch does not fit, `full`
 * says what happens: `'refuse'` refuses it, until the limit is raised; `'evict'` removes other rows in its transaction.
 *
 * Rows of history count, and are never removed: as they get more, other rows have to give way.
 */
import { CairnError } from '../errors.ts';
import { nameOf, type Opened, type RowBytes, rangeFrom, type Snapshot, type Table } from './lmdb-file.ts';
import { expiryOf, versionOf } from './row-bytes.ts';

export interface LmdbRoomOptions {
  /** Of the database, in messages. */
  readonly name: string;
  /** Bytes of pages in use, about. */
  readonly limitBytes: number;
  readonly full: 'refuse' | 'evict';
  /** Unix milliseconds: which rows have expired. */
  readonly clock: () => number;
}

/** What a batch needs. */
export interface Need {
  readonly opened: Opened;
  readonly transaction: Snapshot;
  readonly rows: readonly RowBytes[];
  readonly history: readonly RowBytes[];
  /** Keys of rows that it removes. */
  readonly removed: readonly Buffer[];
}

/** Rows that an eviction looks at at once; it removes the older half of them. */
const EVICTION_ROWS = 16;
/** An eviction makes this part of the limit free beyond the batch's need. */
const EVICTION_SHARE = 64;

export class LmdbRoom {
  readonly #options: LmdbRoomOptions;
  /** Where the next eviction begins. */
  #hand: Buffer | undefined;

  constructor(options: LmdbRoomOptions) {
    this.#options = options;
  }

  /** The keys of the rows that have to go so that the batch fits the limit, by name. Throws if it cannot. */
  evictedFor({ opened, transaction, rows, history, removed }: Need): ReadonlyMap<string, Buffer> {
    const evicted = new Map<string, Buffer>();
    if (rows.length === 0 && history.length === 0) return evicted;
    const { name, limitBytes, full } = this.#options;
    const { entries } = opened;
    const { pageSize = 4096 } = entries.getStats();
    // Of values of more than half a page, whole pages are used.
    const hasPages = (bytes: Buffer): boolean => bytes.length >= pageSize / 2;
    const sizeOf = (bytes: Buffer): number =>
      hasPages(bytes) ? Math.ceil(bytes.length / pageSize) * pageSize : bytes.length;
    const needed = [...rows, ...history].reduce((total, { bytes }) => total + sizeOf(bytes), 0);
    const historyBytes = opened.history === undefined ? 0 : pagesOf(opened.history) * pageSize;
    let excess = pagesOf(entries) * pageSize + historyBytes + needed - limitBytes;
    if (excess <= 0) return evicted;
    for (const key of removed) {
      const bytes = entries.get(key, { transaction });
      if (bytes !== undefined && hasPages(bytes)) excess -= sizeOf(bytes);
    }
    if (excess <= 0) return evicted;
    if (full === 'refuse' || historyBytes + needed > limitBytes) {
      throw new CairnError('ERR_BACKEND_FULL', `${name} is full: its limit is ${limitBytes} bytes`);
    }
    excess += limitBytes / EVICTION_SHARE;
    const gone = new Set(removed.map(nameOf));
    const nowMs = this.#options.clock();
    let isSecondRound = false;
    while (excess > 0) {
      const found: { key: Buffer; expired: boolean; version: bigint; bytes: number }[] = [];
      for (const { key, value } of rangeFrom(opened, this.#hand, { transaction })) {
        const rowName = nameOf(key);
        if (gone.has(rowName) || evicted.has(rowName)) continue;
        const expiresMs = expiryOf(value);
        const expired = expiresMs !== 0 && expiresMs <= nowMs;
        found.push({ key: Buffer.from(key), expired, version: versionOf(value), bytes: sizeOf(value) });
        if (found.length === EVICTION_ROWS) break;
      }
      this.#hand = found.length === EVICTION_ROWS ? found.at(-1)!.key : undefined;
      if (found.length === 0) {
        if (isSecondRound) break;
        isSecondRound = true;
        continue;
      }
      isSecondRound = false;
      const inOrder = found.sort((a, b) => Number(b.expired) - Number(a.expired) || (a.version < b.version ? -1 : 1));
      for (const { key, bytes } of inOrder.slice(0, Math.ceil(found.length / 2))) {
        evicted.set(nameOf(key), key);
        excess -= bytes;
      }
    }
    return evicted;
  }
}

function pagesOf(table: Table): number {
  const { treeBranchPageCount = 0, treeLeafPageCount = 0, overflowPages = 0 } = table.getStats();
  return treeBranchPageCount + treeLeafPageCount + overflowPages;
}
