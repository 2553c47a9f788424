/**
 * The course of a writer: reads the cursors of the database, judges them (identity.ts), and has the lanes carried from
 * there until one of them finds its cursor elsewhere; then it begins again. Before it has anything changed, it claims
 * the database for this process (holder.ts). If the database has the cursors of another number of lanes, it has those
 * carried to one position first, and makes their cursors those of the writer's own (relaning.ts).
 */
import { setMaxListeners } from 'node:events';
import type { Backend, Cursor } from '../backend/index.ts';
import { asError } from '../errors.ts';
import { earlier, later } from '../log/index.ts';
import type { Calls } from './calls.ts';
import { sleep } from './clock.ts';
import { deliver } from './delivery.ts';
import type { FollowingCursor } from './following-cursor.ts';
import { claimMoves, isHeldBy, type Moves } from './holder.ts';
import { judge, type LogIdentity, Refusal } from './identity.ts';
import { type CarryEnd, Lane } from './lane.ts';
import type { LaneRoom } from './lane-room.ts';
import { Meetings } from './meetings.ts';
import { furthest, relaningMoves } from './relaning.ts';
import { Share } from './share.ts';
import { NO_MARKS } from './stored-marks.ts';

export interface CourseOptions {
  readonly room: LaneRoom;
  readonly lanes: readonly Lane[];
  /** Those of the writer itself, between the times in which its lanes are carried. */
  readonly calls: Calls;
  readonly logCursor: FollowingCursor;
  /** The end of the writer. */
  readonly ending: AbortSignal;
  /** Resolves when a call may be begun. */
  readonly resumed: () => Promise<void>;
  /** The log does not have the entry yet by which this process claims the database. */
  readonly onUnclaimed: (cause: Error) => void;
  /** The database has gone back by this much of the log. */
  readonly onHealing: (bytes: number) => void;
}

/** How often the log is asked again for its entry. */
const CLAIM_AGAIN_MS = 1000;

export class Course {
  readonly #options: CourseOptions;
  readonly #lanes: readonly Lane[];
  /** Those that are carried now: its own, or those that the database had. */
  #carried: readonly Lane[] = [];

  constructor(options: CourseOptions) {
    this.#options = options;
    this.#lanes = options.lanes;
  }

  /** The lanes that are carried now: the writer's, or those that the database has. */
  get carried(): readonly Lane[] {
    return this.#carried;
  }

  /** Runs until the end of the writer; or resolves with why it is refused. */
  async run(): Promise<Refusal | undefined> {
    const { calls } = this.#options;
    for (let end: CarryEnd = 'moved'; end !== 'ended'; ) {
      const found = await calls.untilAnswered(async (backend) => {
        return { level: backend.level, cursors: await backend.readCursors() };
      });
      if (found === undefined) break;
      calls.succeeded();
      const cursors = this.#judge(found);
      if (cursors instanceof Refusal) return cursors;
      end = await this.#begin(cursors);
    }
    return undefined;
  }

  #judge({ level, cursors }: { readonly level: Backend['level']; readonly cursors: readonly Cursor[] }) {
    const { name } = this.#options.room.connection;
    if (level === 'idempotent' && (this.#lanes.length > 1 || cursors.length > 1)) {
      return new Refusal(
        'lanes',
        `${name} is of level idempotent, and several lanes need one that is transactional: their cursors move together at times. Give writeBack: { lanes: 1 }`,
      );
    }
    return judge(cursors, this.#identity(), name);
  }

  #identity(): LogIdentity {
    const { log } = this.#options.room;
    const { directory, logId, takeover } = log;
    return {
      directory,
      logId,
      takeover,
      confirmed: this.#lanes.map(({ reached }) => reached).reduce(later),
      oldest: log.oldest(),
      end: log.end(),
      stateAt: (position) => log.stateAt(position),
      mayHaveHad: (other) => log.mayHaveHad(other),
    };
  }

  // Goes on from cursors of the database.
  async #begin(cursors: readonly Cursor[]): Promise<CarryEnd> {
    const { room } = this.#options;
    const lanes = this.#lanes;
    if (!isHeldBy(cursors, room.log.takeover)) return this.#claim(cursors);
    const areOurs = cursors.length === lanes.length;
    await this.#goBack(cursors, areOurs);
    if (areOurs) {
      const end = await this.#carry(lanes, cursors);
      if (end === 'moved') for (const lane of lanes) lane.doubt();
      return end;
    }
    // All lanes of the database reach one position, and then become those of this writer.
    const goal = furthest(cursors);
    if (cursors.some(({ position }) => position < goal.position)) {
      const old = Share.all(cursors.length).map((share, lane) => {
        const reached = BigUint64Array.of(cursors[lane]!.position);
        return new Lane({ room, share, marks: NO_MARKS, reached, until: goal.position });
      });
      // What has been done is found in the cursors.
      const end = await this.#carry(old, cursors);
      return end === 'ended' ? 'ended' : 'moved';
    }
    return this.#rewrite(relaningMoves(cursors, goal, lanes.length));
  }

  // Makes this process the holder of the database, if its cursors are still those.
  async #claim(cursors: readonly Cursor[]): Promise<CarryEnd> {
    const { room, ending, onUnclaimed } = this.#options;
    const { log, clock } = room;
    for (let isTakenOver = false; !isTakenOver; ) {
      try {
        await log.takenOver(ending);
        isTakenOver = true;
      } catch (error) {
        onUnclaimed(asError(error));
        await sleep(clock, CLAIM_AGAIN_MS, ending);
      }
      if (ending.aborted) return 'ended';
    }
    return this.#rewrite(claimMoves(cursors, log, this.#lanes.length));
  }

  // If the database has gone back: from now on everything behind its cursors is owed to it.
  async #goBack(cursors: readonly Cursor[], areOurs: boolean): Promise<void> {
    const { room, logCursor, onHealing } = this.#options;
    const lowest = cursors.map(({ position }) => position).reduce(earlier);
    const bytes: number[] = [];
    for (const lane of this.#lanes) {
      const position = areOurs ? cursors[lane.share.lane]!.position : lowest;
      if (position >= lane.confirmed) continue;
      lane.goBack(position);
      bytes.push(room.log.bytesFrom(position) - room.log.bytesFrom(lane.reached));
    }
    if (bytes.length === 0) return;
    onHealing(Math.max(...bytes));
    await logCursor.goBack(this.#lanes.map(({ confirmed }) => confirmed).reduce(earlier));
  }

  // One transaction that makes the cursors of the database others.
  async #rewrite(moves: Moves): Promise<CarryEnd> {
    const { calls, resumed, ending } = this.#options;
    const delivered = await deliver({ changes: [], ...moves }, { calls, resumed, ending });
    calls.succeeded();
    return delivered.kind === 'ended' ? 'ended' : 'moved';
  }

  // Carries lanes from these cursors on, until one of them does not go on.
  async #carry(lanes: readonly Lane[], cursors: readonly Cursor[]): Promise<CarryEnd> {
    const ending = new AbortController();
    // Each lane has a few, which is no leak.
    setMaxListeners(0, ending.signal);
    const stop = (): void => ending.abort();
    this.#options.ending.addEventListener('abort', stop, { once: true });
    const session = { ending: ending.signal, meetings: new Meetings<Lane>(ending.signal) };
    this.#carried = lanes;
    try {
      const ends = await Promise.all(
        lanes.map(async (lane, i) => {
          let end: CarryEnd = 'ended';
          try {
            end = await lane.carry(cursors[i]!, session);
          } finally {
            if (end !== 'reached') stop();
          }
          return end;
        }),
      );
      if (this.#options.ending.aborted) return 'ended';
      return ends.find((end) => end !== 'ended') ?? 'ended';
    } finally {
      this.#carried = [];
      this.#options.ending.removeEventListener('abort', stop);
    }
  }
}
