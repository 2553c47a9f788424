/** What a thread can ask of the scribe, the same in the keeper's thread (keeper.ts) and in any other (remote.ts). */
import type { Position, ReadLevel } from '../log/index.ts';
import { type FeedHandle, targetsOf } from '../native.ts';
import type { Command, CursorAct, SnapshotSummary } from './message.ts';

type WithoutId<C> = C extends Command ? Omit<C, 'id'> : never;
/** A command that has no number yet. */
export type Question = WithoutId<Command>;

/**
 * A reader's place, kept with the log under a name: `LogCursor` through the scribe's thread. Rejects with what the log
 * refuses.
 */
export interface ScribeCursor {
  readonly name: string;
  /** Undefined: there is no cursor of that name, and the log keeps nothing for it. */
  position(): Promise<Position | undefined>;
  /** Makes the cursor, or moves it ahead. It is durable, and so is the log up to there, when this resolves. */
  advance(position: Position): Promise<void>;
  /** The same, also to a position before that where it is. */
  place(position: Position): Promise<void>;
  drop(): Promise<void>;
}

export abstract class ScribeCommands {
  readonly #feed: FeedHandle;

  constructor(feed: FeedHandle) {
    this.#feed = feed;
  }

  /** Sends a command under a new number; the promise of its answer, which rejects when the signal comes. */
  protected abstract ask(question: Question, signal?: AbortSignal): Promise<unknown>;

  /** Resolves when everything that was done so far is durable. */
  async sync(): Promise<void> {
    await this.committedUpTo('durable');
  }

  /**
   * Resolves when everything that was done so far is in the log, and durable if that is the level: with a position of
   * the log behind all records of it. `signal`: the caller does not wait any more.
   */
  async committedUpTo(level: ReadLevel, signal?: AbortSignal): Promise<Position> {
    signal?.throwIfAborted();
    return (await this.ask({ kind: 'sync', targets: targetsOf(this.#feed), level }, signal)) as Position;
  }

  /** Takes a snapshot of what is there now. */
  async snapshot(): Promise<SnapshotSummary> {
    return (await this.ask({ kind: 'snapshot' })) as SnapshotSummary;
  }

  cursor(name: string): ScribeCursor {
    const ask = async (act: CursorAct): Promise<unknown> => this.ask({ kind: 'cursor', name, act });
    return {
      name,
      position: async () => (await ask('position')) as Position | undefined,
      advance: async (position) => void (await ask({ advance: position })),
      place: async (position) => void (await ask({ place: position })),
      drop: async () => void (await ask('drop')),
    };
  }
}
