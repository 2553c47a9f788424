/**
 * What the scribe's thread asks of its keeper while it opens the log (asking.ts), and the parts of the keeper's thread
 * that answer: both know the database behind the cache, and the scribe does not.
 */
import { type FenceState, LogReader, type Position } from '../log/index.ts';
import type { FeedHandle } from '../native.ts';
import type { RecoveryProgress } from '../options/types.ts';
import type { LogFiles, OpeningAnswer, OpeningQuestion } from './message.ts';

/** Tells how far an opening is. */
export type ProgressListener = (progress: RecoveryProgress) => void;

/** Brings the rows of a database into a cache that is not ready. */
export interface Filler {
  /** The cache is in this epoch; its handle stays the keeper's. */
  fill(handle: FeedHandle, epoch: number, onProgress: ProgressListener): Promise<OpeningAnswer>;
  /** Moves the cursor of the database: from now on it follows this log. */
  adopt(at: Omit<OpeningQuestion & { kind: 'adopt' }, 'kind'> & Pick<FenceState, 'epoch' | 'writer'>): Promise<void>;
}

/** Writes a part of the log to its database before the cache is ready. */
export interface Carrier {
  /**
   * Resolves when the database can be written from this log. Nothing was changed by then, neither there nor in the log.
   * `confirmed`: where the log's own cursor is.
   */
  reach(log: Omit<LogFiles, 'openedAt'>, confirmed: Position, onProgress: ProgressListener): Promise<void>;
  /** Resolves when the database has everything before a position. */
  write(position: Position, onProgress: ProgressListener): Promise<void>;
  /** What was written in all. */
  readonly written: Written;
}

/** What a database got before its cache was ready. */
export interface Written {
  readonly records: number;
  readonly bytes: number;
  /** Changes that the database has refused for good. */
  readonly deadLetters: number;
  readonly elapsedMs: number;
}

export interface OpeningHelpOptions {
  readonly handle: FeedHandle;
  readonly directory: string;
  /** How far the log is. */
  readonly progress: SharedArrayBuffer;
  /** Of a cache that begins with the rows of its database. */
  readonly filler: Filler | undefined;
  /** Of a cache whose log is carried to a database. */
  readonly carrier: Carrier | undefined;
}

const NOTHING: OpeningAnswer = { rows: 0, bytes: 0, isFull: false };

/** Answers a question of the scribe. Rejects with what keeps the cache from opening. */
export async function help(
  { handle, directory, progress, filler, carrier }: OpeningHelpOptions,
  question: OpeningQuestion,
  onProgress: ProgressListener,
): Promise<OpeningAnswer> {
  switch (question.kind) {
    case 'fill':
      return filler!.fill(handle, question.epoch, onProgress);
    case 'adopt': {
      const { logId, takeover, position } = question;
      const { epoch, writer } = new LogReader({ directory, progress }).stateAt(position)!;
      await filler!.adopt({ logId, takeover, position, epoch, writer });
      return NOTHING;
    }
    case 'reach': {
      const { logId, takeover, confirmed } = question;
      await carrier!.reach({ directory, progress, logId, takeover }, confirmed, onProgress);
      return NOTHING;
    }
    case 'write':
      await carrier!.write(question.position, onProgress);
      return NOTHING;
  }
}
