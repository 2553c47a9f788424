/**
 * What a batch of changes comes to: of each key its newest change, by kind, sorted by key. Sorted, because two
 * transactions that lock rows in the same order cannot lock each other out.
 */
import type { AddChange, Change, DeleteChange, SetChange, TouchChange } from './backend.ts';
import { together } from './counter.ts';

export interface NewestChanges {
  readonly deletes: readonly DeleteChange[];
  readonly sets: readonly SetChange[];
  readonly touches: readonly TouchChange[];
  readonly adds: readonly AddChange[];
}

/**
 * `before`, and then `after`, as one change of the same key.
 *
 * | before        | after       | together                                     |
 * |---------------|-------------|----------------------------------------------|
 * | anything      | set, delete | that set or delete                           |
 * | a set         | touch       | the set with the expiry of the touch         |
 * | a touch       | touch       | the later touch                              |
 * | a delete      | touch       | the delete: a touch makes no row             |
 * | an add        | touch       | the add with the expiry of the touch         |
 * | an add        | add         | the later add, of both sums                  |
 * | a touch       | add         | the add, which has the expiry of the touch   |
 * | a set, delete | add         | a set of the result of the add               |
 */
export function joined(before: Change, after: Change): Change {
  if (after.kind === 'add') return addedTo(before, after);
  if (after.kind !== 'touch') return after;
  if (before.kind === 'delete') return before;
  return { ...before, expiresWallMs: after.expiresWallMs, version: after.version };
}

function addedTo(before: Change, after: AddChange): Change {
  if (before.kind === 'add') return { ...after, delta: together(before.delta, after.delta) };
  return before.kind === 'touch' ? after : resultOf(after);
}

/** The set that leaves the row of an addition as the cache saw it. */
export function resultOf({ delta: _, ...change }: AddChange): SetChange {
  return { ...change, kind: 'set' };
}

/** One addition alone. */
export function onlyAddition(change: AddChange): NewestChanges {
  return { deletes: [], sets: [], touches: [], adds: [change] };
}

export function newestChanges(changes: readonly Change[]): NewestChanges {
  // One string per key: comparing strings costs less than comparing Buffers, and latin1 keeps the order of bytes.
  const named = changes.map((change, index) => ({ name: change.key.toString('latin1'), index }));
  named.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.index - b.index));
  const deletes: DeleteChange[] = [];
  const sets: SetChange[] = [];
  const touches: TouchChange[] = [];
  const adds: AddChange[] = [];
  for (let i = 0; i < named.length; ) {
    const { name, index } = named[i]!;
    let change = changes[index]!;
    for (i++; i < named.length && named[i]!.name === name; i++) change = joined(change, changes[named[i]!.index]!);
    if (change.kind === 'set') sets.push(change);
    else if (change.kind === 'delete') deletes.push(change);
    else if (change.kind === 'add') adds.push(change);
    else touches.push(change);
  }
  return { deletes, sets, touches, adds };
}

/** The changes with those of the additions that `isCovered` names as sets of their results. */
export function withResults(changes: NewestChanges, isCovered: (key: Buffer) => boolean): NewestChanges {
  const results = changes.adds.filter(({ key }) => isCovered(key)).map(resultOf);
  if (results.length === 0) return changes;
  return {
    ...changes,
    sets: [...changes.sets, ...results].sort((a, b) => Buffer.compare(a.key, b.key)),
    adds: changes.adds.filter(({ key }) => !isCovered(key)),
  };
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
  return change.key.length + ('value' in change ? change.value.length : 0);
}
