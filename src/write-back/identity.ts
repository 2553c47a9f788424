/**
 * Whether a database goes with a log: what its cursor says is compared with what the log itself has at that position.
 * Every answer that is not "go on" is refused by name, and nothing is written. The holder (holder.ts) is looked at
 * before the places: a process that another one has taken over from says so, wherever that one is by now.
 *
 * | the database has                             | the log                   | then                        |
 * |----------------------------------------------|---------------------------|-----------------------------|
 * | no cursor                                    | has all its records       | begin, at the first record  |
 * | no cursor                                    | has not                   | refused: another database   |
 * | a cursor of another log                      |                           | refused: another log        |
 * | cursors that are not those of all lanes      |                           | refused: they were edited   |
 * | cursors without a holder                     |                           | refused: its module         |
 * | a holder that is no opening of this log,     |                           | refused: another process,   |
 * |   or holds another store by it               |                           |   or another store          |
 * | a cursor behind the end of the log           |                           | refused: another writer     |
 * | a cursor before the beginning of the log     |                           | refused: gone back too far  |
 * | a cursor where no such entry of the log ends |                           | refused: another writer     |
 * | a cursor of each lane                        | has these entries         | go on from there            |
 *
 * The last holds for a cursor before what is confirmed, too: the database has gone back to an earlier state, and the
 * log writes what it lacks again. Cursor and rows are changed in one transaction, so they went back together. What a
 * writer from before sends late has no effect: its batch begins elsewhere, or is the same range of the same log.
 */
import type { Cursor } from '../backend/index.ts';
import { CairnError } from '../errors.ts';
import { LANES_MAX } from '../limits.ts';
import type { FenceState, Position, Takeover } from '../log/index.ts';
import { isHeldByAnother } from './holder.ts';

/** Why writing is refused. */
export type RefusalKind = 'other-log' | 'other-database' | 'lanes' | 'taken-over' | 'fenced' | 'gone-back';

/** A database that does not go with the log, or not any more. */
export class Refusal {
  readonly kind: RefusalKind;
  readonly error: CairnError;

  constructor(kind: RefusalKind, message: string) {
    this.kind = kind;
    this.error = new CairnError('ERR_STORE_REFUSED', message);
  }
}

/** What is known of the log. */
export interface LogIdentity {
  readonly directory: string;
  readonly logId: bigint;
  /** The entry with which this process took it over. */
  readonly takeover: Takeover;
  /** Whether the log had another opening, as WriterLog says. */
  mayHaveHad(takeover: Pick<Takeover, 'epoch' | 'writer'>): boolean;
  /** Everything before this was confirmed to be in the database. */
  readonly confirmed: Position;
  /** Where it begins. */
  readonly oldest: Position;
  /** The end of what may be read. */
  readonly end: Position;
  /** Epoch and writer of the entry that ends at a position; undefined: none does. */
  stateAt(position: Position): Pick<FenceState, 'epoch' | 'writer'> | undefined;
}

/** Of a database that one lane writes. */
export const ONE_LANE = { lane: 0, laneCount: 1 } as const;

/**
 * Judges the cursors of a database by a log: the cursors of all its lanes in their order, of which there are none if
 * the database is new; or why not.
 */
export function judge(cursors: readonly Cursor[], log: LogIdentity, database: string): readonly Cursor[] | Refusal {
  const { directory, logId, confirmed } = log;
  if (cursors.length === 0) {
    if (confirmed === 0n) return [];
    return new Refusal(
      'other-database',
      `${database} has no cursor, and the log in ${directory} has no records any more before position ${confirmed}: they went to another database, or were written without one. Give the database that belongs to the log, or begin with an empty directory`,
    );
  }
  if (cursors.some((cursor) => cursor.logId !== logId)) {
    return new Refusal(
      'other-log',
      `${database} belongs to another log than the one in ${directory}. Give the directory that belongs to the database, or a database without tables of Cairn. A new directory with recover: 'store' takes the database over, with its rows as they are`,
    );
  }
  const lanes = allLanes(cursors);
  if (lanes === undefined) return new Refusal('lanes', `${database} ${NOT_ALL_LANES} (${directory})`);
  // A module has no types that are checked here. Its database would be claimed again and again.
  if (lanes.some(({ holderEpoch, holderWriter }) => holderEpoch === undefined || holderWriter === undefined)) {
    return new Refusal(
      'lanes',
      `${database} keeps cursors without their holder (${directory}): its module has to keep every part of a cursor, as the tests of cairn-cache/testing say`,
    );
  }
  const other = lanes.find((cursor) => isHeldByAnother(cursor, log));
  if (other !== undefined) return takenOver(other, log, database);
  for (const cursor of lanes) {
    const refusal = judgeOne(cursor, log, database);
    if (refusal !== undefined) return refusal;
  }
  return lanes;
}

/** What is wrong with cursors that allLanes() refuses. */
export const NOT_ALL_LANES =
  'has cursors that are not those of all lanes of a log: its table of cursors was edited, or is of a newer version';

/** Cursors in the order of their lanes; undefined: they are not those of all lanes. */
export function allLanes(cursors: readonly Cursor[]): readonly Cursor[] | undefined {
  const lanes = cursors.toSorted((a, b) => a.lane - b.lane);
  const count = lanes.length;
  const isWhole =
    isLaneCount(count) && lanes.every(({ lane, laneCount }, place) => lane === place && laneCount === count);
  return isWhole || count === 0 ? lanes : undefined;
}

/** Whether there can be that many lanes. */
export function isLaneCount(count: number): boolean {
  return Number.isInteger(count) && count >= 1 && count <= LANES_MAX && (count & (count - 1)) === 0;
}

function judgeOne({ position, epoch, writer }: Cursor, log: LogIdentity, database: string): Refusal | undefined {
  const { directory, oldest } = log;
  if (position > log.end) return fenced(database, directory);
  if (position < oldest) return goneBack(database, log, position);
  if (position === 0n) return undefined;
  const state = log.stateAt(position);
  return state?.epoch === epoch && state.writer === writer ? undefined : fenced(database, directory);
}

function takenOver({ holderEpoch }: Cursor, { directory, takeover }: LogIdentity, database: string): Refusal {
  return new Refusal(
    'taken-over',
    `Another process has taken ${database} over, with a copy of the log in ${directory} (in epoch ${holderEpoch}; this process is in epoch ${takeover.epoch}). This process writes nothing to it any more: end it, and go on with the directory of the other one. If that one is lost, begin with the rows as they are: an empty directory, and recover: 'store'. If there is no other one, this database is that of another store of the cache: store and stores have it under two names, or have changed places. Give each a separate one`,
  );
}

function fenced(database: string, directory: string): Refusal {
  return new Refusal(
    'fenced',
    `${database} was written by a copy of the log in ${directory} that was written separately. Only one of them may go on: end the other process, and give each directory a separate database`,
  );
}

function goneBack(database: string, { directory, oldest, confirmed }: LogIdentity, position: Position): Refusal {
  return new Refusal(
    'gone-back',
    `${database} has gone back to an earlier state, to position ${position} of the log in ${directory}, which had been written up to ${confirmed} and is kept from ${oldest} on. What is between cannot be written again. Bring the database to a later state; or write all that the directory has to it, with npx cairn-cache rebuild --data ${directory} --store DATABASE; or begin with its rows as they are: an empty directory, and recover: 'store'`,
  );
}
