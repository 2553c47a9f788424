/** The log as the writer uses it. */
import { CairnError } from '../errors.ts';
import type { FenceState, LogEntry, Position, Takeover } from '../log/index.ts';

/** Why a log that was opened on a full disk cannot be carried yet. */
export function notTakenOver(directory: string): CairnError {
  return new CairnError(
    'ERR_LOG_FULL',
    `The disk has no room for the entry of the log in ${directory} with which this process has opened it. Until then the database gets nothing`,
  );
}

export interface WriterLog {
  readonly directory: string;
  readonly logId: bigint;
  /** Everything before this is known to be in the database: the log's own cursor as of opening. */
  readonly confirmed: Position;
  /** The entry with which this process took it over. By that it holds the database: its writer is as heldAs() says. */
  readonly takeover: Takeover;
  /**
   * Resolves when a power cut leaves that entry, or when the signal says so. Rejects with why the log does not have it:
   * another call may find it there.
   */
  takenOver(signal: AbortSignal): Promise<void>;
  /**
   * Whether it had the entry of another opening, as that held the database; true also if what it still has says nothing
   * of that one.
   */
  mayHaveHad(takeover: Pick<Takeover, 'epoch' | 'writer'>): boolean;
  /** Where the log begins. */
  oldest(): Position;
  /** The end of what a power cut leaves. */
  end(): Position;
  /** A position behind everything that was done so far, when the log has it. */
  settled(): Promise<Position>;
  /** Bytes of it from a position on. */
  bytesFrom(position: Position): number;
  /** When the log took the first records from a position on, in wall time; undefined: there are none. */
  timeFrom(position: Position): number | undefined;
  /** Epoch and writer of the entry that ends at a position; undefined: none does. */
  stateAt(position: Position): Pick<FenceState, 'epoch' | 'writer'> | undefined;
  /**
   * The entries that a power cut leaves from a position on, and then each as it comes, until the signal says so.
   * `until`: the database has entries up to there, so that they may be read in any case.
   */
  read(from: Position, signal: AbortSignal, until?: Position): AsyncIterable<LogEntry>;
  /** Moves the log's own cursor: the log needs nothing before this position for the writer any more. */
  advance(position: Position): Promise<void>;
  /** Moves it back: what is behind this position is owed to the database again. */
  goBack(position: Position): Promise<void>;
  /** From where on the log keeps what the database has, for the day on which that goes back; undefined: nothing yet. */
  historyFrom(): Promise<Position | undefined>;
  /** Keeps it from a position on, as long as there is room; undefined: no more. */
  keepHistory(position: Position | undefined): Promise<void>;
}
