/**
 * Recovery with more keys that the database does not have than memory has room for, even as stubs: the database gets
 * them before the cache is ready. The thread that opens the cache writes them, and recovery waits for it.
 *
 *     a group without room -> the rest of the log is read -> the database is reached -> the log is taken over, synced
 *                          -> the database has everything up to the group's end -> memory settles -> the group again
 *
 * Until the log is taken over, no byte of it is changed, nor of the database: a log that is damaged further on stays as
 * it was, and so does one whose database does not answer. It is synced before the first write, since a database must
 * not have what a power cut takes from the log.
 */
import type { LogPort, Position } from '../log/index.ts';
import type { LogFiles, OpeningQuestion } from './message.ts';

export interface FirstWritesOptions {
  readonly log: LogPort;
  /** Of a log that is carried to a database. */
  readonly files: Pick<LogFiles, 'logId' | 'takeover'> | undefined;
  /** Where the log's own cursor is. */
  readonly confirmed: Position;
  /** Asks the keeper; throws what it answers instead. */
  readonly ask: (question: OpeningQuestion) => unknown;
  /** Throws if a part of the log from a position on cannot be applied. */
  readonly check: (from: Position) => void;
  /** Makes what was read durable. */
  readonly makeSafe: () => void;
}

export class FirstWrites {
  readonly #options: FirstWritesOptions;
  #hasTakenOver = false;

  constructor(options: FirstWritesOptions) {
    this.#options = options;
  }

  /** The log was taken over. */
  get hasTakenOver(): boolean {
    return this.#hasTakenOver;
  }

  /** The database has everything before `end` when this returns. `position`: before which the log has been applied. */
  upTo(end: Position, position: Position): void {
    const { ask } = this.#options;
    if (!this.#hasTakenOver) this.#begin(position);
    ask({ kind: 'write', position: end });
  }

  #begin(position: Position): void {
    const { log, files, confirmed, ask, check, makeSafe } = this.#options;
    const { logId, takeover } = files!;
    check(position);
    ask({ kind: 'reach', logId, takeover, confirmed });
    log.takeOver();
    this.#hasTakenOver = true;
    makeSafe();
  }
}
