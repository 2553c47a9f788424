// Whatever fails, each change has its effect once, and at the end the rows are those of the log.
//
// Random records go into a log; a writer carries them to a database whose calls fail at random: before their effect,
// after it, never returning, or returning never and having their effect later. At random moments the writer is killed
// (no call of it is begun any more, calls on their way go on) and another one begins with the log's cursor as it was
// noted, and at times the one before lives on. Once another process that has opened the log has claimed the database,
// no change of one before it may reach the database. The next process has another number of lanes. Atomic batches
// change all keys of a group, which lie in several lanes; no other change touches these. The database goes back to
// earlier states, rows, history and cursors together. Another writer adds to counters, which the log only adds to. At
// the end it is sound for a while. Then the rows must be those of a model that applies the log, with what the other
// writer has added, and no change may be twice in the database's history. And after each transaction all rows of a
// group must have the same value, or all must be missing.

import { expect, test } from 'vitest';
import { RuleSet } from '../../src/rules/index.ts';
import { Writer } from '../../src/write-back/writer.ts';
import { Random } from '../support/random.ts';
import type { RecordParts } from '../support/records.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { type Fault, noMarks, WorldBackend, WorldDatabase, WorldLog } from '../support/writer-world.ts';

const ROUNDS = 60;
const STEPS = 150;
const KEYS = 24;
const GROUPS = 4;
const GROUP_KEYS = 3;
const LANES = [1, 2, 4, 8];
const COUNTERS = 3;
const rules = new RuleSet([{ prefix: 'counter-', skip: false, deleteOnExpire: true, counter: true }]);

/** The rows that the log makes: value, expiry and version. */
class Model {
  readonly rows = new Map<string, [string, number, bigint]>();
  #counter = 0;

  apply(parts: RecordParts, epoch: number): void {
    const version = (BigInt(epoch) << 32n) + BigInt(++this.#counter);
    const key = String(parts.key);
    const { expiresWallMs = 0 } = parts;
    const row = this.rows.get(key);
    if (parts.kind === 'set') this.rows.set(key, [String(parts.value), expiresWallMs, version]);
    else if (parts.kind === 'delete') this.rows.delete(key);
    else if (parts.kind === 'touch' && row !== undefined) this.rows.set(key, [row[0], expiresWallMs, version]);
  }
}

interface Run {
  readonly writer: Writer;
  /** Its process, by the epoch of the log. */
  readonly epoch: number;
  readonly backends: WorldBackend[];
  isDead: boolean;
}

const keysOf = (group: number): string[] => Array.from({ length: GROUP_KEYS }, (_, i) => `group-${group}-${i}`);

// How often the database was found to have gone back, and lanes came together.
async function round(random: Random): Promise<{ healings: number; joint: number }> {
  const clock = new VirtualClock();
  const log = new WorldLog();
  const database = new WorldDatabase();
  const model = new Model();
  const runs: Run[] = [];
  /** The epoch of the process that holds the database. */
  let holder = 0;
  const backups: (() => void)[] = [];
  let faultShare = 0;
  let healings = 0;
  let batchIds = 0n;
  let lanes = random.pick(LANES);
  let joint = 0;
  database.onCommit = ({ changes, to, also = [] }) => {
    for (const { holderEpoch } of [to, ...also.flatMap((move) => move.to ?? [])]) {
      if (holderEpoch < holder) throw new Error(`Epoch ${holderEpoch} writes, and ${holder} has taken over`);
      if (changes.length > 0 && holderEpoch !== holder) throw new Error(`Epoch ${holderEpoch} has not taken over`);
      holder = holderEpoch;
    }
    if (changes.length > 0 && also.length > 0) joint++;
    for (let group = 0; group < GROUPS; group++) {
      const values = keysOf(group).map((key) => database.rows.get(key)?.value);
      if (new Set(values).size !== 1) throw new Error(`Group ${group} is torn: ${values}`);
    }
  };

  const begin = (): Run => {
    const run: Run = {
      epoch: log.epoch,
      isDead: false,
      backends: [],
      writer: new Writer({
        lanes,
        marksOf: () => noMarks,
        // Of the log's own cursor it knows what was noted when it began.
        log: log.asOfNow(),
        connect: async () => {
          const backend = new WorldBackend(database, clock);
          backend.callMs = random.below(50);
          backend.fault = () => {
            // A process that is gone calls nothing.
            if (run.isDead) return 'hangs';
            if (random.below(100) >= faultShare) return undefined;
            return random.pick<Fault>(['before', 'after', 'hangs', 'late']);
          };
          run.backends.push(backend);
          return backend;
        },
        limits: { rows: 1 + random.below(20), bytes: 2 ** 20, delayMs: random.below(40) },
        rules,
        rowsPerSecond: 0,
        dropsRefused: false,
        retainMs: 600_000,
        reached: new SharedArrayBuffer(8 * lanes),
        callTimeoutMs: 500,
        clock,
        random: () => random.below(1000) / 1000,
        on: {
          state: () => {},
          committed: () => {},
          retry: () => {},
          healing: () => void healings++,
          healed: () => {},
          historyShort: () => {},
        },
      }),
    };
    runs.push(run);
    return run;
  };

  const atomicBatch = (): RecordParts[] => {
    const id = ++batchIds;
    const kind = random.below(4) === 0 ? 'delete' : 'set';
    return keysOf(random.below(GROUPS)).map((key, index) => {
      return { kind, key, value: kind === 'set' ? `batch-${id}` : '', batch: { id, count: GROUP_KEYS, index } };
    });
  };

  // The numbers as a cache has them: it adds to its own.
  const counters = Array.from({ length: COUNTERS }, () => 1_000_000n);
  const count = (): RecordParts => {
    const i = random.below(COUNTERS);
    const delta = BigInt(random.below(100) - 50);
    counters[i] = counters[i]! + delta;
    return { kind: 'set', key: `counter-${i}`, value: String(counters[i]), delta };
  };
  const append = (): void => {
    const records = Array.from({ length: 1 + random.below(5) }, (): RecordParts => {
      if (random.below(4) === 0) return count();
      const key = `key-${random.below(KEYS)}`;
      const expiresWallMs = random.below(2) * random.below(1000);
      switch (random.below(10)) {
        case 0:
        case 1:
          return { kind: 'delete', key };
        case 2:
          return { kind: 'touch', key, expiresWallMs };
        case 3:
          return { kind: 'clear' };
        default:
          return { kind: 'set', key, value: `value-${random.below(1000)}`, expiresWallMs };
      }
    });
    if (random.below(4) === 0) records.push(...atomicBatch());
    log.append(...records);
    for (const each of records) model.apply(each, log.epoch);
  };

  const first = counters.map((number, i): RecordParts => ({ kind: 'set', key: `counter-${i}`, value: String(number) }));
  log.append(...first);
  for (const each of first) model.apply(each, log.epoch);

  let current = begin();
  for (let step = 0; step < STEPS; step++) {
    const chance = random.below(100);
    if (chance < 60) append();
    else if (chance < 63) {
      // kill -9, and the next process takes the log over.
      current.isDead = true;
      log.takeOver();
      lanes = random.pick(LANES);
      current = begin();
    } else if (chance < 65) {
      // The keeper restarts the thread, and the one before lives on.
      current = begin();
    } else if (chance < 70) faultShare = random.below(70);
    // Before its first cursor it is another database.
    else if (chance < 76 && database.cursors.length > 0) backups.push(database.backUp());
    else if (chance < 78 && backups.length > 0) {
      random.pick(backups)();
      holder = database.cursors[0]!.holderEpoch;
    } else if (chance < 85) database.addTo(`counter-${random.below(COUNTERS)}`, BigInt(1_000_000 + random.below(1000)));
    await clock.advance(random.below(60));
  }
  faultShare = 0;
  // One of this process that lives on may still be the one that writes.
  await clock.advance(120_000);
  for (const { writer, epoch, isDead } of runs) {
    if (!isDead) expect(writer.state === 'refused').toBe(epoch < log.epoch);
  }
  const ended = runs.map(({ writer }) => writer.close(0));
  await clock.advance(10_000);
  await Promise.all(ended);
  const last = begin();
  await clock.advance(60_000);
  expect(last.writer.state).toBe('writing');

  const rows = new Map([...database.rows].map(([key, row]) => [key, [row.value, row.expiresWallMs, row.version]]));
  for (const [key, number] of database.foreign) {
    const [value, ...rest] = model.rows.get(key)!;
    model.rows.set(key, [String(BigInt(value) + number), ...rest]);
  }
  expect(rows).toEqual(model.rows);
  expect(database.history.length).toBe(new Set(database.history).size);
  expect(database.history.length).toBeGreaterThan(0);
  const closed = last.writer.close(0);
  await clock.advance(5000);
  await closed;
  return { healings, joint };
}

test('each change of a log has its effect once, and the rows are those of the log', async () => {
  const random = new Random();
  const sum = { healings: 0, joint: 0 };
  for (let i = 0; i < ROUNDS; i++) {
    try {
      const { healings, joint } = await round(random);
      sum.healings += healings;
      sum.joint += joint;
    } catch (error) {
      throw new Error(`Failed in round ${i} with CAIRN_SEED=${random.seed}`, { cause: error });
    }
  }
  expect(sum.healings).toBeGreaterThan(0);
  expect(sum.joint).toBeGreaterThan(0);
});
