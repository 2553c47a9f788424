/**
 * The process that holds a database. A process names itself in the cursors of all lanes, in one transaction without
 * changes, before it writes anything: it claims the database. Every batch moves a cursor from exactly where it is,
 * holder included, so from then on no batch of the process before has an effect, in any lane.
 *
 * A process is known by the entry with which it took the log over. It claims when a power cut leaves that entry: the
 * next opening of the log has a higher epoch then, and finds in the log that the holder was an earlier opening.
 *
 * A cache of several stores holds each under another number. So one database under two names, or the database of
 * another store, is held by another for all but one of them.
 */
import { createHash } from 'node:crypto';
import type { Cursor, WriteBatch } from '../backend/index.ts';
import type { Takeover } from '../log/index.ts';
import { DEFAULT_STORE } from '../rules/index.ts';
import type { WriterLog } from './writer-log.ts';

export type Holder = Pick<Cursor, 'holderEpoch' | 'holderWriter'>;
/** All moves of a batch without changes. */
export type Moves = Pick<WriteBatch, 'from' | 'to' | 'also'>;

/**
 * An opening of the log, as it holds the database of a store: of each but the default one under another number.
 * The same again makes of that number the one in the log.
 */
export function heldAs<Opening extends Pick<Takeover, 'writer'>>(store: string, opening: Opening): Opening {
  if (store === DEFAULT_STORE) return opening;
  const mark = BigInt.asUintN(63, createHash('sha256').update(store).digest().readBigUInt64LE());
  return { ...opening, writer: opening.writer ^ mark };
}

export function holderOf({ epoch, writer }: Pick<Takeover, 'epoch' | 'writer'>): Holder {
  return { holderEpoch: epoch, holderWriter: writer };
}

/** Whether a process holds the database. */
export function isHeldBy(cursors: readonly Cursor[], { epoch, writer }: Takeover): boolean {
  return cursors.length > 0 && cursors.every((at) => at.holderEpoch === epoch && at.holderWriter === writer);
}

/**
 * Whether the holder is a process that has opened a copy of the log: one that is no earlier opening of this log itself.
 * Its epoch says that if it is not below that of this opening. Otherwise the log does: a directory that was left does
 * not get the database back by being opened until its epoch is the higher one.
 */
export function isHeldByAnother(
  { holderEpoch: epoch, holderWriter: writer }: Holder,
  { takeover, mayHaveHad }: Pick<WriterLog, 'takeover' | 'mayHaveHad'>,
): boolean {
  if (epoch >= takeover.epoch) return epoch > takeover.epoch || writer !== takeover.writer;
  return !mayHaveHad({ epoch, writer });
}

/** Leaves the cursors in their places, under another holder. A database that has none gets those of all lanes. */
export function claimMoves(
  cursors: readonly Cursor[],
  log: { logId: bigint; takeover: Takeover },
  lanes: number,
): Moves {
  const holder = holderOf(log.takeover);
  if (cursors.length > 0)
    return movesTo(
      cursors,
      cursors.map((cursor) => ({ ...cursor, ...holder })),
    );
  const { logId } = log;
  const first = Array.from({ length: lanes }, (_, lane) => {
    return { lane, laneCount: lanes, logId, position: 0n, epoch: 0, writer: 0n, ...holder };
  });
  return movesTo([], first);
}

/** From some cursors to others, lane by lane; lanes without another one lose theirs. REQUIRES: lane 0 has one. */
export function movesTo(from: readonly Cursor[], to: readonly Cursor[]): Moves {
  const count = Math.max(from.length, to.length);
  const also = Array.from({ length: count }, (_, lane) => ({ from: from[lane], to: to[lane] })).slice(1);
  return { from: from[0], to: to[0]!, ...(also.length === 0 ? {} : { also }) };
}
