/**
 * `drain({ keys })`: waits until the database has what was done to some keys. Memory knows the newest change of a key
 * until the database has it: that is written at once, and waited for as a change at the level `stored` is. Then the
 * database is asked whether it has put a change of a key aside before, which nothing has superseded since.
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

/** The databases of a cache, by their names. */
export interface LettersOfStores {
  /** Which has the key; undefined: none. */
  storeOf(key: Buffer): string | undefined;
  /** One of some keys of which a database has put a change aside that is not superseded; undefined: there is none. */
  refusedKey(
    keys: readonly Buffer[],
    store: string,
  ): Promise<{ readonly key: Buffer; readonly error: string } | undefined>;
}

/** Those of one handle. */
export class KeyDrains {
  readonly #handle: BackedHandle;
  readonly #letters: LettersOfStores;
  readonly #waits = new Set<StoredWaits>();

  constructor(handle: BackedHandle, letters: LettersOfStores) {
    this.#handle = handle;
    this.#letters = letters;
  }

  /**
   * Resolves when the database has the changes of all keys. Rejects, when the outcome of each is known, for one that
   * the database will not have, and with the error of a database that cannot be asked for dead letters. `signal`: the
   * caller no longer waits. Throws `ERR_INVALID_ARGUMENT` for what is no key.
   * REQUIRES: an open handle, and keys whose bytes stay as they are.
   */
  async drain(keys: readonly Key[], signal?: AbortSignal): Promise<void> {
    const owed: NewestChange[] = [];
    /** By the name of their database and their own. */
    const asked = new Map<string, Map<string, Key>>();
    for (const given of keys) {
      const [key, isOwed] = this.#isOwed(given);
      this.#note(asked, typeof key === 'string' ? keyBytes(key) : bufferOf(key), given);
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
    const settled = await outcomes;
    this.#waits.delete(waits);
    signal?.removeEventListener('abort', end);
    const failed = settled.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined;
    if (failed !== undefined) throw failed.reason;
    for (const [store, keysOfStore] of asked) await this.#checkLetters(store, keysOfStore, signal);
  }

  #note(asked: Map<string, Map<string, Key>>, key: Buffer, given: Key): void {
    const store = this.#letters.storeOf(key);
    if (store === undefined) return;
    const keys = asked.get(store) ?? new Map<string, Key>();
    asked.set(store, keys.set(nameOf(key), given));
  }

  // Rejects for one of the keys of which the database keeps a dead letter that counts.
  async #checkLetters(store: string, keys: ReadonlyMap<string, Key>, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const names = [...keys.keys()];
    const found = await this.#letters.refusedKey(
      names.map((name) => Buffer.from(name, 'latin1')),
      store,
    );
    if (found !== undefined) throw inWords(keys.get(nameOf(found.key))!, refused(found.error));
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

function nameOf(key: Buffer): string {
  return key.toString('latin1');
}

function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
