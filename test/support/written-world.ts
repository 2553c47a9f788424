// A writer in a world of virtual time: its log and its database are in memory (writer-world.ts).

import type { BatchLimits } from '../../src/write-back/batcher.ts';
import type { Share } from '../../src/write-back/share.ts';
import type { WriterMarks } from '../../src/write-back/stored-marks.ts';
import { type Committed, Writer, type WriterState } from '../../src/write-back/writer.ts';
import type { RecordParts } from './records.ts';
import { VirtualClock } from './virtual-clock.ts';
import { type Fault, noMarks, WorldBackend, WorldDatabase, WorldLog } from './writer-world.ts';

export const CALL_TIMEOUT_MS = 5000;

/** A log, a database and the writer between them. */
export class World {
  readonly clock = new VirtualClock();
  readonly log: WorldLog;
  readonly database: WorldDatabase;
  readonly backends: WorldBackend[] = [];
  readonly states: WriterState[] = [];
  readonly causes: string[] = [];
  readonly batches: Committed[] = [];
  retries = 0;
  callMs = 1;
  fault: WorldBackend['fault'] = () => undefined;
  retainMs = 600_000;
  rowsPerSecond = 0;
  dropsRefused = false;
  lanes = 1;
  level: WorldBackend['level'] = 'transactional';
  reached = new SharedArrayBuffer(8 * 16);
  marks: WriterMarks = noMarks;
  marksOf: (share: Share) => WriterMarks = () => this.marks;
  readonly told: string[] = [];
  limits: BatchLimits = { rows: 100, bytes: 2 ** 20, delayMs: 20 };
  #writer: Writer | undefined;

  constructor(log = new WorldLog(), database = new WorldDatabase()) {
    this.log = log;
    this.database = database;
    worlds.push(this);
  }

  get writer(): Writer {
    this.#writer ??= new Writer({
      lanes: this.lanes,
      marksOf: (share) => this.marksOf(share),
      rowsPerSecond: this.rowsPerSecond,
      dropsRefused: this.dropsRefused,
      log: this.log.asOfNow(),
      connect: async () => {
        const backend = new WorldBackend(this.database, this.clock);
        backend.fault = (call, batch) => this.fault(call, batch);
        backend.callMs = this.callMs;
        backend.level = this.level;
        this.backends.push(backend);
        return backend;
      },
      limits: this.limits,
      retainMs: this.retainMs,
      reached: this.reached,
      callTimeoutMs: CALL_TIMEOUT_MS,
      clock: this.clock,
      random: () => 0,
      on: {
        state: (state, cause) => {
          this.states.push(state);
          if (cause !== undefined) this.causes.push(cause.message);
        },
        committed: (batch) => this.batches.push(batch),
        retry: () => {
          this.retries++;
        },
        healing: (bytes) => this.told.push(`healing ${bytes}`),
        healed: () => this.told.push('healed'),
        historyShort: (keptMs) => this.told.push(`short ${keptMs}`),
      },
    });
    return this.#writer;
  }

  async run(ms = 1000): Promise<this> {
    void this.writer;
    await this.clock.advance(ms);
    return this;
  }

  /** The next calls of a kind come to these; later ones are sound. */
  failNext(kind: 'open' | 'readCursors' | 'write', ...faults: (Fault | undefined)[]): void {
    this.fault = (call) => (call === kind ? faults.shift() : undefined);
  }

  async close(): Promise<void> {
    const closed = this.writer.close(0);
    await this.clock.advance(5000);
    await closed;
  }

  get rows(): Record<string, string> {
    return Object.fromEntries([...this.database.rows].map(([key, { value }]) => [key, value]));
  }
}

const worlds: World[] = [];

/** Ends the writers of a test. */
export async function closeWorlds(): Promise<void> {
  for (const world of worlds.splice(0)) await world.close();
}

export const set = (key: string, value: string): RecordParts => ({ kind: 'set', key, value });
