/**
 * What a batch of changes comes to: of each key its newest change, by kind, sorted by key. Sorted, because two
 * transactions that lock rows in the same order cannot lock each other out.
 */
import type { Change, DeleteChange, SetChange, TouchChange } from './backend.ts';

export interface NewestChanges {
  readonly deletes: readonly DeleteChange[];
  readonly sets: readonly SetChange[];
  readonly touches: readonly TouchChange[];
}

/** `before`, and then `after`, as one change of the same key. */
function joined(before: Change, after: Change): Change {
  if (after.kind !== 'touch') return after;
  // A touch finds the row that the earlier change left. After a delete there is none.
  if (before.kind === 'delete') return before;
  return { ...before, expiresWallMs: after.expiresWallMs, version: after.version };
}

export function newestChanges(changes: readonly Change[]): NewestChanges {
  // One string per key: comparing strings costs less than comparing Buffers, and latin1 keeps the order of bytes.
  const named = changes.map((change, index) => ({ name: change.key.toString('latin1'), index }));
  named.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.index - b.index));
  const deletes: DeleteChange[] = [];
  const sets: SetChange[] = [];
  const touches: TouchChange[] = [];
  for (let i = 0; i < named.length; ) {
    const { name, index } = named[i]!;
    let change = changes[index]!;
    for (i++; i < named.length && named[i]!.name === name; i++) change = joined(change, changes[named[i]!.index]!);
    if (change.kind === 'set') sets.push(change);
    else if (change.kind === 'delete') deletes.push(change);
    else touches.push(change);
  }
  return { deletes, sets, touches };
}

export interface PieceBounds {
  readonly rows: number;
  readonly bytes: number;
}

/** The changes in pieces of at most that number of rows and of bytes. A larger change is a piece alone. */
export function* piecesOf<C extends Change>(
  changes: readonly C[],
  { rows, bytes }: PieceBounds,
): Generator<readonly C[]> {
  let start = 0;
  let total = 0;
  for (let i = 0; i < changes.length; i++) {
    const size = changeBytes(changes[i]!);
    if (i > start && (i - start === rows || total + size > bytes)) {
      yield changes.slice(start, i);
      start = i;
      total = 0;
    }
    total += size;
  }
  if (start < changes.length) yield start === 0 ? changes : changes.slice(start);
}

function changeBytes(change: Change): number {
  return change.key.length + (change.kind === 'set' ? change.value.length : 0);
}
