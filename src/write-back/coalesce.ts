/**
 * The changes that a batch will make, coalesced: of each key only the newest, as the records of the log say it.
 *
 * | the batch has | and a record comes | the batch then has                         |
 * |---------------|--------------------|--------------------------------------------|
 * | anything      | set                | that set                                   |
 * | anything      | delete             | that delete                                |
 * | nothing       | touch              | that touch: the row keeps its value        |
 * | a set         | touch              | the set with the expiry of the touch       |
 * | a touch       | touch              | the later touch                            |
 * | a delete      | touch              | the delete: a touch makes no entry         |
 *
 * Clears change no row. Neither does the second copy of a record (passed.ts), nor a record of a key that a rule skips.
 * Evictions and expiries leave no record; a row of an expired entry says by its expiry that it is a miss.
 */
import type { Change } from '../backend/index.ts';
import { RecordKind, RecordReader } from '../request/record.ts';
import type { RuleSet } from '../rules/index.ts';
import type { PassedVersions } from './passed.ts';

/** What a change counts beside its key and value: columns of fixed size and the objects here. */
const CHANGE_BYTES = 64;
/** Buffers of records that are kept only for a few small values may take this much more than the values. */
const WASTE_BYTES_MAX: number = 4 * 2 ** 20;

export class Changes {
  // In the order of their newest records.
  readonly #byKey = new Map<string, Change>();
  #bytes = 0;
  #keptBytes = 0;
  #recordCount = 0;
  readonly #rules: RuleSet | undefined;

  /** `rules`: which keys change a row; undefined: all. */
  constructor(rules?: RuleSet) {
    this.#rules = rules;
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

  /** The changes in the order of the log. */
  list(): Change[] {
    return [...this.#byKey.values()];
  }

  /**
   * Adds whole records in the order of the log, without those that have been passed before. Keeps views of them. Throws
   * if they are none.
   */
  add(records: Buffer, passed?: PassedVersions): void {
    const reader = new RecordReader(records);
    let isKept = false;
    while (reader.next()) if (this.#addOne(reader, passed)) isKept = true;
    if (reader.status !== 'ok') throw new Error(`A record of the log ${reader.fault}`);
    if (!isKept) return;
    this.#keptBytes += records.length;
    if (this.#keptBytes > 2 * this.#bytes + WASTE_BYTES_MAX) this.#copy();
  }

  #addOne(record: RecordReader, passed: PassedVersions | undefined): boolean {
    const { kind } = record;
    if (kind === RecordKind.clear || kind === RecordKind.clearAt) return false;
    if (passed?.pass(record) === false) return false;
    if (this.#rules?.writes(record.key) === false) return false;
    this.#recordCount++;
    const name = record.key.toString('latin1');
    const before = this.#byKey.get(name);
    const change = this.#changeOf(record, before);
    if (before !== undefined) {
      this.#bytes -= bytesOf(before);
      this.#byKey.delete(name);
    }
    this.#bytes += bytesOf(change);
    this.#byKey.set(name, change);
    return true;
  }

  #changeOf(record: RecordReader, before: Change | undefined): Change {
    const { kind, key, version } = record;
    const expiresWallMs = Number(record.expiresWallMs);
    switch (kind) {
      case RecordKind.set: {
        const { value, codec, clientFlags } = record;
        return { kind: 'set', key, value, codec, clientFlags, expiresWallMs, version };
      }
      case RecordKind.touch:
        if (before?.kind === 'delete') return before;
        if (before?.kind === 'set') return { ...before, expiresWallMs, version };
        return { kind: 'touch', key, expiresWallMs, version };
      default:
        return { kind: 'delete', key, version };
    }
  }

  // Lets the buffers of the log go: of most of their records another is newer.
  #copy(): void {
    for (const [name, change] of this.#byKey) {
      const key = Buffer.from(change.key);
      this.#byKey.set(
        name,
        change.kind === 'set' ? { ...change, key, value: Buffer.from(change.value) } : { ...change, key },
      );
    }
    this.#keptBytes = this.#bytes;
  }
}

function bytesOf(change: Change): number {
  return CHANGE_BYTES + change.key.length + (change.kind === 'set' ? change.value.length : 0);
}
