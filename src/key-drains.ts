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
  /** A dead letter of it has at least this version. */
  readonly valueVersion: bigint;
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
    for (const given of keys) {
      const [key, isOwed] = this.#isOwed(given);
      if (!isOwed) continue;
      const [shard, version, valueVersion] = [words[Word.place]!, words[Word.version]!, words[Word.number]!];
      owed.push({ key, shard: Number(shard), version, valueVersion });
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

  #stored(waits: StoredWaits, { key, shard, version, valueVersion }: NewestChange): Promise<void> {
    return new Promise((resolve, reject) => {
      waits.hold(shard, version, key, {
        committed: () => {
          // The version that was waited for may be that of another key's touch.
          const reason = this.#handle.refusedSince(shard, key, valueVersion);
          if (reason === undefined) resolve();
          else reject(inWords(key, refused(reason)));
        },
        uncommitted: (why) => reject(inWords(key, why)),
      });
    });
  }
}

function inWords(key: Key, why: CairnError): CairnError {
  return new CairnError(why.code, `Cannot drain ${show(key)}: ${why.message}`);
}
