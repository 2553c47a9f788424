/**
 * `drain({ keys })`: waits until the database has what was done to some keys. Memory knows the newest change of a key
 * until the database has it: that is written at once, and waited for as a change at the level `stored` is.
 */
import { CairnError, show } from './errors.ts';
import { type BackedHandle, Code, Word, words } from './native.ts';
import { type Key, keyBytes, keyError } from './request/arguments.ts';
import { refused, StoredWaits } from './stored-waits.ts';

interface NewestChange {
  readonly key: Key;
  readonly shard: number;
  readonly version: bigint;
}

/** Those of one handle. */
export class KeyDrains {
  readonly #handle: BackedHandle;
  readonly #waits = new Set<StoredWaits>();

  constructor(handle: BackedHandle) {
    this.#handle = handle;
  }

  /**
   * Resolves when the database has the changes of all keys. Rejects, when the outcome of each is known, for one that
   * the database will not have. `signal`: the caller no longer waits. Throws `ERR_INVALID_ARGUMENT` for what is no key.
   * REQUIRES: an open handle, and keys whose bytes stay as they are.
   */
  drain(keys: readonly Key[], signal?: AbortSignal): Promise<void> {
    const owed: NewestChange[] = [];
    let before: CairnError | undefined;
    for (const given of keys) {
      const [key, isOwed] = this.#isOwed(given);
      const change = { key, shard: Number(words[Word.place]), version: words[Word.version]! };
      if (isOwed) owed.push(change);
      else before ??= this.#refusalOf(change);
    }
    // Of a shard the earliest is tested first.
    owed.sort((a, b) => (a.version < b.version ? -1 : 1));
    const waits = new StoredWaits(this.#handle);
    this.#waits.add(waits);
    const outcomes = Promise.allSettled(owed.map((change) => this.#stored(waits, change)));
    const end = (): void => waits.end(new CairnError('ERR_CLOSED', 'the caller no longer waits'));
    signal?.addEventListener('abort', end, { once: true });
    return outcomes.then((settled) => {
      this.#waits.delete(waits);
      signal?.removeEventListener('abort', end);
      const failed = settled.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined;
      if (failed !== undefined) throw failed.reason;
      if (before !== undefined) throw before;
    });
  }

  /** The handle was closed: nothing wakes this thread for it any more. */
  handleClosed(): void {
    for (const waits of this.#waits) waits.look();
  }

  // The words say more of it.
  #isOwed(key: Key): [Key, boolean] {
    const isOwed = this.#handle.lastChangeOf(key);
    if (isOwed === Code.keyMaybeIllFormed) return this.#isOwed(keyBytes(key));
    if (typeof isOwed === 'number') throw keyError(key);
    return [key, isOwed];
  }

  // Of a change from before. The entry may also be a row that was loaded, whose version no mark will pass.
  #refusalOf({ key, shard, version }: NewestChange): CairnError | undefined {
    const outcome = version === 0n ? undefined : this.#handle.storedOutcome(shard, key, version);
    return typeof outcome === 'string' ? inWords(key, refused(outcome)) : undefined;
  }

  #stored(waits: StoredWaits, { key, shard, version }: NewestChange): Promise<void> {
    return new Promise((resolve, reject) => {
      waits.hold(shard, version, key, {
        committed: resolve,
        uncommitted: (why) => reject(inWords(key, why)),
      });
    });
  }
}

function inWords(key: Key, why: CairnError): CairnError {
  return new CairnError(why.code, `Cannot drain ${show(key)}: ${why.message}`);
}
