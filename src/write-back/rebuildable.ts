/**
 * Whether a database may be rebuilt from a directory: it is the one of the store that the command names, and it lacks
 * what the log does not have any more. Everything else is refused by name, and nothing is changed.
 *
 * The holder of the database (holder.ts) tells one store from another as long as the log knows the opening that holds
 * it. A database that has gone back further than the log is kept may be held by an earlier one. Then its rows tell: a
 * database that has rows of other stores only is not that of this store.
 */
import type { Backend, Cursor } from '../backend/index.ts';
import { CairnError, show } from '../errors.ts';
import { type EmbeddedLog, LogReader } from '../log/index.ts';
import { heldAs, isHeldByAnother } from './holder.ts';
import { cursorOf } from './message.ts';

export interface RebuildableOptions {
  readonly log: EmbeddedLog;
  /** The name of the store. */
  readonly store: string;
  /** The directory has the rules of a cache with this store. */
  readonly isKnown: boolean;
}

/** Throws `ERR_STORE_REFUSED` if cursors or log are against it. `name`: of the database. */
export function refuseOthers(
  cursors: readonly Cursor[],
  name: string,
  { log, store, isKnown }: RebuildableOptions,
): void {
  const { directory, logId, oldestReadable: oldest } = log;
  const refuse = (why: string): never => {
    throw new CairnError('ERR_STORE_REFUSED', `${name} ${why}. Nothing was changed`);
  };
  if (cursors.some((cursor) => cursor.logId !== logId)) refuse(`belongs to another log than the one in ${directory}`);
  const reader = new LogReader(log);
  const own = {
    takeover: heldAs(store, log.takeover),
    mayHaveHad: (other: Parameters<LogReader['mayHaveHad']>[0]) => reader.mayHaveHad(heldAs(store, other)),
  };
  if (cursors.some((cursor) => isHeldByAnother(cursor, own))) {
    refuse(
      `was taken over by another process, with a copy of the log in ${directory}, or belongs to another of its stores`,
    );
  }
  // Also if files of the log are gone that the database needed.
  const noted = log.cursors().get(cursorOf(store));
  const isBehind =
    cursors.length === 0 || cursors.some(({ position }) => position < oldest) || (noted ?? oldest) < oldest;
  if (!isBehind || oldest === 0n)
    refuse(`needs no rebuild: the log in ${directory} has every change that it lacks. Open the cache`);
  if (cursors.length === 0 && noted === undefined && !isKnown)
    refuse(`has never been a database of the log in ${directory}, which never had the store ${show(store)}`);
}

/**
 * Throws the same if the database has rows of other stores, and none of this one. It is read up to one of these.
 * `storeOf`: the store that has a key; undefined: none.
 */
export async function refuseOtherRows(
  backend: Backend,
  { store, storeOf }: { readonly store: string; readonly storeOf: (key: Buffer) => string | undefined },
): Promise<void> {
  const others = new Set<string>();
  for await (const { rows } of backend.scan()) {
    for (const { key } of rows) {
      const found = storeOf(key);
      if (found === store) return;
      if (found !== undefined) others.add(found);
    }
  }
  if (others.size === 0) return;
  const names = [...others].map(show).join(' and ');
  throw new CairnError(
    'ERR_STORE_REFUSED',
    `${backend.name} has rows of ${names} only, and none of the store ${show(store)}. Give the --name that belongs to it. Nothing was changed`,
  );
}
