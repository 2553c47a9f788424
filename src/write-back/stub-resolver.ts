/**
 * What a key owes, as its stub in memory says: a value that left memory before the database had it comes back from the
 * log, and a key that was deleted is absent, though the database has its row yet.
 */
import { reasonOf } from '../errors.ts';
import { type BackedHandle, Code, StubKind } from '../native.ts';
import type { RecordFinder } from '../scribe/index.ts';

export type Resolved =
  /** It owes no value: the database has the row, or there is none. */
  | { readonly kind: 'database' }
  /** Memory has by now all that there is to say of it. */
  | { readonly kind: 'memory' }
  | { readonly kind: 'failed'; readonly why: string };

export class StubResolver {
  readonly #handle: BackedHandle;
  readonly #finder: RecordFinder;

  /** `handle`: of the cache; stays the caller's. */
  constructor(handle: BackedHandle, finder: RecordFinder) {
    this.#handle = handle;
    this.#finder = finder;
  }

  /** Whether a new expiry of the key is owed: its row may have expired, and be there again when it is written. */
  isTouched(key: Buffer): boolean {
    return this.#handle.stubOf(key)?.kind === StubKind.expiry;
  }

  resolve(key: Buffer): Resolved {
    let gone: bigint | undefined;
    for (;;) {
      const stub = this.#handle.stubOf(key);
      if (stub === undefined || stub.kind === StubKind.expiry) return { kind: 'database' };
      if (stub.kind === StubKind.gone) return { kind: 'memory' };
      try {
        const found = this.#finder.find(key, stub.valueVersion);
        if (found.kind === 'found') {
          const code = this.#handle.revive(found.record, stub.newestVersion);
          if (code === Code.stored || code === Code.notFound) return { kind: 'memory' };
          return { kind: 'failed', why: 'there is no room for it in memory' };
        }
      } catch (error) {
        return { kind: 'failed', why: reasonOf(error) };
      }
      // The database has it by now, and the stub goes; or the log has lost it.
      if (gone === stub.valueVersion) return { kind: 'failed', why: 'the log has lost it' };
      gone = stub.valueVersion;
    }
  }
}
