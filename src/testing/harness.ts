/** What a backend has to bring to be tested, and what the tests share. */
import assert from 'node:assert/strict';
import type {
  AddChange,
  Backend,
  BackendLevel,
  Change,
  Cursor,
  DeleteChange,
  Loaded,
  Row,
  RowValue,
  SetChange,
  TouchChange,
  WriteOutcome,
} from '../backend/index.ts';

/**
 * A database for tests. Each case begins with `reset`, and closes the backends that it has made.
 *
 * Abilities that are left out leave out the cases that need them: `backendCases` says which cases there are.
 */
export interface BackendHarness {
  /** What the backend says of itself. Default: `transactional`. */
  readonly level?: BackendLevel;
  /** Empties the database: no rows, no cursors, no tables. */
  reset(): Promise<void>;
  /** A backend on that database, which has not been opened. `clock`: Unix milliseconds, for what has expired. */
  make(clock: () => number): Backend;
  /**
   * Makes the open database refuse every `set` whose value begins with {@link REFUSED}, every `delete` of a key that
   * does, and every `touch` whose expiry is {@link REFUSED_EXPIRY}: by constraints, or triggers.
   */
  refuse?(): Promise<void>;
  /** A backend as of `make`, through connections that can be cut. */
  makeCuttable?(clock: () => number): Cuts & { readonly backend: Backend };
  /** The backend has `sweep`. */
  readonly sweeps?: true;
  /** The largest value to try, in bytes. Default: 64 MiB. */
  readonly valueBytesMax?: number;
}

/** How a test cuts connections. */
export interface Cuts {
  /**
   * A connection breaks at the statement of this number from now, counted from 0: before the database gets it, or after
   * the database has carried it out and before the backend learns of it.
   */
  cutAt(index: number, side: 'before' | 'after'): void;
  /** Whether the cut was made; none is to come any more. */
  disarm(): boolean;
}

/** What a refused value or key begins with. */
export const REFUSED = 'refused';
export const REFUSED_EXPIRY = 4_000_000_000_001;

/** The clock of the tests stands here until a test moves it. */
export const NOW_MS = 1_900_000_000_000;

/** A backend under test, with the log that is written to it. */
export class Subject {
  readonly backend: Backend;
  nowMs: number;
  /** The position of the log's end; each batch is one byte long. */
  #position = 0n;
  readonly laneCount: number;
  readonly lane: number;
  #cursor: Cursor | undefined;

  constructor(make: (clock: () => number) => Backend, lane = 0, laneCount = 1) {
    this.nowMs = NOW_MS;
    this.backend = make(() => this.nowMs);
    this.lane = lane;
    this.laneCount = laneCount;
  }

  get cursor(): Cursor | undefined {
    return this.#cursor;
  }

  /** The cursor after one more batch. */
  next(): Cursor {
    const { lane, laneCount } = this;
    const place = { lane, laneCount, logId: LOG_ID, position: this.#position + 1n, epoch: 3, writer: WRITER };
    return { ...place, holderEpoch: 3, holderWriter: WRITER };
  }

  moveTo(cursor: Cursor | undefined): void {
    this.#cursor = cursor;
    this.#position = cursor?.position ?? 0n;
  }

  /** Writes a batch that has to be committed. */
  async write(...changes: Change[]): Promise<WriteOutcome & { kind: 'committed' }> {
    const to = this.next();
    const outcome = await this.backend.write({ changes, from: this.#cursor, to });
    assert.equal(outcome.kind, 'committed');
    this.moveTo(to);
    return outcome as WriteOutcome & { kind: 'committed' };
  }

  load(...keys: (Buffer | string)[]): Promise<Loaded> {
    return this.backend.load(keys.map(bytes));
  }

  /** The values of some keys as text. */
  async texts(...keys: (Buffer | string)[]): Promise<(string | undefined)[]> {
    return (await this.load(...keys)).rows.map((row) => row?.value.toString());
  }

  /** All rows of a scan, and the cursors, which have to be the same in all pieces. */
  async scan(): Promise<{ rows: Row[]; cursors: readonly Cursor[] }> {
    const rows: Row[] = [];
    let cursors: readonly Cursor[] | undefined;
    for await (const piece of this.backend.scan()) {
      rows.push(...piece.rows);
      if (cursors !== undefined) assert.deepEqual(piece.cursors, cursors);
      cursors = piece.cursors;
    }
    assert.ok(cursors !== undefined, 'a scan of no rows tells the cursors too');
    return { rows, cursors };
  }
}

// Beyond 2^63: such numbers have to survive.
export const LOG_ID = 0xfedc_ba98_7654_3210n;
export const WRITER = 0xffff_ffff_ffff_ffffn;

export function bytes(key: Buffer | string): Buffer {
  return typeof key === 'string' ? Buffer.from(key) : key;
}

let lastVersion = 1n << 32n;

export function set(key: Buffer | string, value: Buffer | string, more: Partial<RowValue> = {}): SetChange {
  const rest = { codec: 2, clientFlags: 0, expiresWallMs: 0, version: ++lastVersion, ...more };
  return { kind: 'set', key: bytes(key), value: bytes(value), ...rest } as const;
}

export function remove(key: Buffer | string): DeleteChange {
  return { kind: 'delete', key: bytes(key), version: ++lastVersion };
}

export function touch(key: Buffer | string, expiresWallMs: number): TouchChange {
  return { kind: 'touch', key: bytes(key), expiresWallMs, version: ++lastVersion };
}

/** `result`: as the cache saw it. */
export function add(
  key: Buffer | string,
  delta: bigint,
  result: bigint | number,
  more: Partial<RowValue> = {},
): AddChange {
  return { ...set(key, `${result}`, { codec: 4, ...more }), kind: 'add', delta };
}

function holdsNumber(row: RowValue | undefined): boolean {
  return row !== undefined && /^\s*\+?\d+(\s|$)/.test(row.value.toString('latin1')) && numberIn(row.value) < 2n ** 64n;
}

function numberIn(value: Buffer): bigint {
  return BigInt(/\d+/.exec(value.toString('latin1'))![0]);
}

// Modulo 2^64, and not below 0.
function sumOf(value: Buffer, delta: bigint): Buffer {
  const sum = numberIn(value) + delta;
  return Buffer.from(String(sum < 0n ? 0n : BigInt.asUintN(64, sum)));
}

/** What the rows have to be, kept in a Map. */
export class RowsModel {
  readonly #rows = new Map<string, RowValue>();

  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      const name = change.key.toString('latin1');
      const { version } = change;
      const row = this.#rows.get(name);
      if (change.kind === 'delete') this.#rows.delete(name);
      else if (change.kind === 'set' || (change.kind === 'add' && !holdsNumber(row))) {
        const { value, codec, clientFlags, expiresWallMs } = change;
        this.#rows.set(name, { value, codec, clientFlags, expiresWallMs, version });
      } else if (row !== undefined) {
        const value = change.kind === 'add' ? sumOf(row.value, change.delta) : row.value;
        this.#rows.set(name, { ...row, value, expiresWallMs: change.expiresWallMs, version });
      }
    }
  }

  /** The row, though it may have expired. */
  stored(key: Buffer): RowValue | undefined {
    return this.#rows.get(key.toString('latin1'));
  }

  row(key: Buffer, nowMs: number): RowValue | undefined {
    const row = this.stored(key);
    return row !== undefined && (row.expiresWallMs === 0 || row.expiresWallMs > nowMs) ? row : undefined;
  }

  rows(nowMs: number): Row[] {
    const keys = [...this.#rows.keys()].map((name) => Buffer.from(name, 'latin1'));
    return keys.flatMap((key) => {
      const row = this.row(key, nowMs);
      return row === undefined ? [] : [{ key, ...row }];
    });
  }
}

/** Fails unless the database has the rows of the model, by load and by scan. */
export async function compare(subject: Subject, model: RowsModel, keys: readonly Buffer[]): Promise<void> {
  const { rows, cursors } = await subject.backend.load(keys);
  assert.deepEqual(
    rows,
    keys.map((key) => model.row(key, subject.nowMs)),
  );
  const ours = subject.cursor === undefined ? [] : [subject.cursor];
  assert.deepEqual(cursors, ours);
  const scanned = await subject.scan();
  const inOrder = (some: Row[]): Row[] => some.sort((a, b) => Buffer.compare(a.key, b.key));
  assert.deepEqual(inOrder(scanned.rows), inOrder(model.rows(subject.nowMs)));
  assert.deepEqual(scanned.cursors, ours);
}

/** Random numbers that a seed repeats: Mulberry32 (Tommy Ettinger). */
export class Draw {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer in [0, limit). */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let word = this.#state;
    word = Math.imul(word ^ (word >>> 15), word | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return Math.floor((((word ^ (word >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }
}
