/**
 * Whether the database has put a change of some keys aside that nothing has superseded since: a question by key, or
 * where a backend cannot answer that, a walk over the table of dead letters.
 */
import type { DeadLetters, RefusedKey } from '../backend/index.ts';

/** Keys of one question by key. */
const KEYS = 256;
/** Letters of one page of a walk. */
const PAGE = 100;

/** The first that is found of them; undefined: there is none. */
export async function refusedAmong(
  letters: Pick<DeadLetters, 'list' | 'oldestOf'>,
  keys: readonly Buffer[],
): Promise<RefusedKey | undefined> {
  if (letters.oldestOf === undefined) return findIn(letters, keys);
  for (let start = 0; start < keys.length; start += KEYS) {
    const found = await letters.oldestOf(keys.slice(start, start + KEYS));
    if (found !== undefined) return found;
  }
  return undefined;
}

async function findIn({ list }: Pick<DeadLetters, 'list'>, keys: readonly Buffer[]): Promise<RefusedKey | undefined> {
  const names = new Set(keys.map(nameOf));
  for (let after = 0n; ; ) {
    const page = await list(PAGE, after);
    const found = page.find(({ change, isSuperseded }) => !isSuperseded && names.has(nameOf(change.key)));
    if (found !== undefined) return { key: found.change.key, error: found.error };
    if (page.length < PAGE) return undefined;
    after = page.at(-1)!.id;
  }
}

function nameOf(key: Buffer): string {
  return key.toString('latin1');
}
