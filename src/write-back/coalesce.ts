/**
 * The changes that a batch will make, coalesced: of each key one, as `joined` of backend/newest.ts makes it of two.
 *
 * **Counters.** A record of `incr` or `decr` says what was added. Of a key of a counter rule it is an addition; of
 * other keys, as a record without that, a set.
 *
 * **Atomic batches.** The entry of the log that has one is added as a whole, so all parts are in one batch here. They
 * have a number in common (`Change.atomic`), by which a database that refuses one of them refuses all. A change that
 * takes the place of a part takes its number too: otherwise the part would be lost alone if the change is refused. If
 * it has one itself, the two batches become one.
 *
 * **History.** Of keys whose rule says so, every record is kept beside that, as it is; of counters the results. A
 * record that adds nothing is not: it may be of a value that a clear took from memory and that was stored again as it
 * was.
 *
 * Clears change no row. Neither does the second copy of a record (passed.ts), nor a record of a key that a rule skips.
 * Evictions and expiries leave no record; a row of an expired entry says by its expiry that it is a miss.
 */
import { type Change, deltaOf, type HistoryRow, joined, numberOf } from '../backend/index.ts';
import { RecordKind, RecordReader } from '../request/record.ts';
import type { RuleSet } from '../rules/index.ts';
import type { PassedVersions } from './passed.ts';

/** What a change counts beside its key and value: columns of fixed size and the objects here. */
const CHANGE_BYTES = 64;
/** Buffers of records that are kept only for a few small values may take this much more than the values. */
const WASTE_BYTES_MAX: number = 4 * 2 ** 20;

export class Changes {
  readonly #groups = new AtomicGroups();
  // In the order of their newest records.
  readonly #byKey = new Map<string, Change>();
  #bytes = 0;
  #keptBytes = 0;
  #recordCount = 0;
  readonly #rules: RuleSet | undefined;
  readonly #keepsHistory: boolean;
  readonly #hasCounters: boolean;
  // In the order of the log.
  #history: HistoryRow[] = [];

  /** `rules`: which keys change a row; undefined: all. */
  constructor(rules?: RuleSet) {
    this.#rules = rules;
    this.#keepsHistory = rules?.hasHistory === true;
    this.#hasCounters = rules?.counterRule !== undefined;
  }

  /** Distinct keys. */
  get rowCount(): number {
    return this.#byKey.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Records of sets, deletes and touches that were added. */
  get recordCount(): number {
    return this.#recordCount;
  }

  /** The writes that are kept as they are, in the order of the log. */
  get history(): readonly HistoryRow[] {
    return this.#history;
  }

  /** The changes in the order of the log. */
  list(): Change[] {
    return this.#groups.isEmpty ? [...this.#byKey.values()] : Array.from(this.#byKey.values(), this.#groups.settled);
  }

  /**
   * Adds whole records in the order of the log, without those that have been passed before. Keeps views of them. Throws
   * if they are none. `loggedWallMs`: when the log took them.
   */
  add(records: Buffer, passed?: PassedVersions, loggedWallMs = 0): void {
    const reader = new RecordReader(records);
    let isKept = false;
    while (reader.next()) if (this.#addOne(reader, passed, loggedWallMs)) isKept = true;
    if (reader.status !== 'ok') throw new Error(`A record of the log ${reader.fault}`);
    if (!isKept) return;
    this.#keptBytes += records.length;
    if (this.#keptBytes > 2 * this.#bytes + WASTE_BYTES_MAX) this.#copy();
  }

  #addOne(record: RecordReader, passed: PassedVersions | undefined, loggedWallMs: number): boolean {
    const { kind } = record;
    if (kind === RecordKind.clear || kind === RecordKind.clearAt) return false;
    if (passed?.pass(record) === false) return false;
    if (this.#rules?.writes(record.key) === false) return false;
    this.#recordCount++;
    if (this.#keepsHistory && record.delta !== 0n && this.#rules!.keepsHistory(record.key)) {
      const row = { ...changeOf(record), loggedWallMs };
      this.#history.push(row);
      this.#bytes += bytesOf(row);
    }
    const name = record.key.toString('latin1');
    const before = this.#byKey.get(name);
    const isCounter = this.#hasCounters && this.#rules!.counts(record.key);
    const after = isCounter ? asAddition(changeOf(record), record.delta) : changeOf(record);
    const change = this.#groups.place(
      before === undefined ? after : joined(before, after),
      record.batch?.id,
      before?.atomic,
    );
    if (before !== undefined) {
      this.#bytes -= bytesOf(before);
      this.#byKey.delete(name);
    }
    this.#bytes += bytesOf(change);
    this.#byKey.set(name, change);
    return true;
  }

  // Lets the buffers of the log go: of most of their records another is newer.
  #copy(): void {
    for (const [name, change] of this.#byKey) this.#byKey.set(name, copyOf(change));
    this.#history = this.#history.map(copyOf);
    this.#keptBytes = this.#bytes;
  }
}

function changeOf(record: RecordReader): Exclude<Change, { kind: 'add' }> {
  const { kind, key, version } = record;
  const expiresWallMs = Number(record.expiresWallMs);
  switch (kind) {
    case RecordKind.set: {
      const { value, codec, clientFlags } = record;
      return { kind: 'set', key, value, codec, clientFlags, expiresWallMs, version };
    }
    case RecordKind.touch:
      return { kind: 'touch', key, expiresWallMs, version };
    default:
      return { kind: 'delete', key, version };
  }
}

/** `difference`: what was added, modulo 2^64, if it was. */
function asAddition(change: Change, difference: bigint | undefined): Change {
  if (change.kind !== 'set' || difference === undefined) return change;
  const result = numberOf(change.value);
  return result === undefined ? change : { ...change, kind: 'add', delta: deltaOf(result, difference) };
}

function copyOf<C extends Change>(change: C): C {
  const key = Buffer.from(change.key);
  return 'value' in change ? { ...change, key, value: Buffer.from(change.value) } : { ...change, key };
}

function bytesOf(change: Change): number {
  return CHANGE_BYTES + change.key.length + ('value' in change ? change.value.length : 0);
}

/** The atomic batches of the changes: each has a number, and several may have become one. */
class AtomicGroups {
  readonly #numbers = new Map<bigint, number>();
  // By number: that of the group that it has joined, or itself.
  readonly #joined: number[] = [];

  get isEmpty(): boolean {
    return this.#joined.length === 0;
  }

  /** The change with its number: it is a part of the batch `id`, and takes the place of a change with a number. */
  place(change: Change, id: bigint | undefined, before: number | undefined): Change {
    if (id === undefined) return before === undefined ? change : { ...change, atomic: before };
    let atomic = this.#numbers.get(id);
    if (atomic === undefined) {
      atomic = this.#joined.push(this.#joined.length) - 1;
      this.#numbers.set(id, atomic);
    }
    if (before !== undefined) this.#joined[this.#rootOf(before)] = this.#rootOf(atomic);
    return { ...change, atomic };
  }

  /** The change with the number of all that have become one with its batch. */
  readonly settled = (change: Change): Change => {
    const { atomic } = change;
    if (atomic === undefined) return change;
    const root = this.#rootOf(atomic);
    return root === atomic ? change : { ...change, atomic: root };
  };

  #rootOf(number: number): number {
    let root = number;
    while (this.#joined[root] !== root) root = this.#joined[root]!;
    // The next look at it is short.
    this.#joined[number] = root;
    return root;
  }
}
