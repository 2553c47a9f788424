/**
 * A batch from a lane to the database, or one of several lanes that an entry brings together: sent until its outcome is
 * known, then confirmed. The marks are raised and the writer is told before the lane says that the database has it.
 */
import type { LogEntry } from '../log/index.ts';
import type { Batch } from './batcher.ts';
import type { Calls } from './calls.ts';
import { Changes } from './coalesce.ts';
import { deliver } from './delivery.ts';
import type { LaneMarks } from './lane-marks.ts';
import type { LaneRoom } from './lane-room.ts';
import type { Letters } from './letters-behind.ts';
import type { LaneOutcome } from './meetings.ts';
import type { Standing } from './standing.ts';

/** A lane as its batches are sent. */
export interface Party {
  readonly standing: Standing;
  readonly marks: LaneMarks;
  /** A batch of it was taken: the reader may go on. */
  readonly taken: () => void;
}

export interface SenderOptions {
  readonly room: LaneRoom;
  readonly calls: Calls;
  /** Resolves when a call may be begun. */
  readonly resumed: () => Promise<void>;
  readonly ending: AbortSignal;
  /** The database has a batch. */
  readonly onSucceeded: () => void;
}

export class Sender {
  readonly #options: SenderOptions;

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  /** Takes the batch of a lane, and sends it. */
  send(lane: Party): Promise<LaneOutcome> {
    const { rate, clock } = this.#options.room;
    const batch = lane.standing.batcher.take();
    lane.standing.writing = batch;
    rate.count(batch.changes.rowCount, clock.steadyMs());
    lane.taken();
    return this.#send([lane], [batch]);
  }

  /** Sends an entry for all lanes that it brings together, in their order. */
  sendCrossing(lanes: readonly Party[], entry: LogEntry): Promise<LaneOutcome> {
    const { rate, clock, rules } = this.#options.room;
    const changes = new Changes(rules);
    for (const { standing } of lanes) standing.batcher.addCrossing(entry, changes);
    const oldestMs = changes.rowCount === 0 ? undefined : entry.timeMs;
    const batches = lanes.map(({ standing }, i) => {
      const batch = { ...standing.batcher.take(), oldestMs };
      // Counted once.
      standing.writing = i === 0 ? { ...batch, changes } : batch;
      return standing.writing;
    });
    rate.count(changes.rowCount, clock.steadyMs());
    for (const lane of lanes) lane.taken();
    return this.#send(lanes, batches);
  }

  // Writes the changes of the first of some batches, and moves the cursors of all their lanes.
  async #send(lanes: readonly Party[], batches: readonly Batch[]): Promise<LaneOutcome> {
    const { room, calls, resumed, ending, onSucceeded } = this.#options;
    const { clock } = room;
    const begunMs = clock.steadyMs();
    const { changes: gathered } = batches[0]!;
    const changes = gathered.list();
    const { history } = gathered;
    const rows = history.length === 0 ? { changes } : { changes, history };
    const [own, ...also] = lanes.map(({ standing }, i) => {
      return { from: standing.cursor, to: standing.cursorAt(batches[i]!.end) };
    });
    const write = { ...rows, ...own!, ...(also.length === 0 ? {} : { also }) };
    const delivered = await deliver(write, { calls, resumed, ending });
    if (delivered.kind !== 'written') return delivered.kind;
    onSucceeded();
    const { marks } = lanes[0]!;
    const { position } = own!.to;
    let { deadLetters } = delivered;
    let behind: Letters | undefined;
    if (marks.areToBeAsked(deadLetters)) {
      const standings = lanes.map(({ standing }) => standing);
      behind = await marks.lettersOf(standings, calls, position);
      if (behind === undefined) return 'ended';
      deadLetters ??= behind.letters;
    }
    for (const [i, lane] of lanes.entries()) {
      lane.standing.cursor = lane.standing.cursorAt(batches[i]!.end);
      lane.marks.written(batches[i]!, deadLetters!);
    }
    room.committed({
      lanes: [own!, ...also].map(({ to }) => to.lane),
      laneCount: own!.to.laneCount,
      changes,
      recordCount: gathered.recordCount,
      bytes: gathered.bytes,
      deadLetters: deadLetters!,
      elapsedMs: clock.steadyMs() - begunMs,
      position,
    });
    for (const [i, { standing }] of lanes.entries()) {
      standing.writing = undefined;
      standing.confirm(batches[i]!.end.position);
    }
    if (behind !== undefined) await marks.drop(behind, calls);
    return 'written';
  }
}
