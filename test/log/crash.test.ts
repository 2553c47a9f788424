// What survives which crash, proved by trying: a log is written over a disk that fails (support/faulty-files.ts), with
// random batches, rotations, cursors, snapshots, full disks, failed writes and syncs, and each life of it ends with a
// close, the end of the process, or a power cut in the middle of some file call. Then it is opened again and compared
// with what the test has kept of all answers:
//   - a batch that was answered as durable is there, whatever happened; one that was answered as committed is there
//     unless the power went;
//   - what is there was appended, is whole, and is in the order and at the place in which it was appended; a committed
//     batch that is missing is followed by nothing older than the crash;
//   - what was refused is not there; what was not there after a crash never comes back; no position is given out twice;
//   - cursors and snapshots that were acknowledged are there, and never a damaged log;
//   - a batch that the log reports as lost was never durable, and the disk forgets at once what it could not sync.
// The many short lives share disks, so that one crash meets what another has left.

import { describe, expect, test } from 'vitest';
import { CairnError } from '../../src/errors.ts';
import { EmbeddedLog, type LogNotice, type Position, type SyncPolicy } from '../../src/log/index.ts';
import { RecordReader } from '../../src/request/record.ts';
import { FaultyDisk, PowerCut } from '../support/faulty-files.ts';
import { Random } from '../support/random.ts';
import { makeRecord } from '../support/records.ts';

/** CAIRN_TEST_FACTOR=20 makes it a long one. */
const LIVES: number = 2400 * Number(process.env['CAIRN_TEST_FACTOR'] ?? 1);
const LIVES_PER_DISK = 12;
const DIRECTORY = '/data/log';

type Status = 'refused' | 'unknown' | 'committed' | 'durable' | 'gone';

interface Sent {
  readonly id: number;
  readonly bytes: Buffer;
  status: Status;
  position: Position | undefined;
  end: Position | undefined;
}

/** What the test knows of one disk's log. */
class World {
  readonly random: Random;
  readonly disk: FaultyDisk;
  readonly sent: Sent[] = [];
  readonly cursors = new Map<string, { acknowledged: Position | undefined; tried: Set<Position | undefined> }>();
  positionMax: Position = 0n;
  snapshotNumber = 0;
  oldest: Position = 0n;
  nowMs = 1_000_000;
  isFirst = true;
  /** Since the log was last compared. */
  wasPowerCut = false;

  constructor(random: Random) {
    this.random = random;
    this.disk = new FaultyDisk(random);
    this.disk.forgetsAtOnce = random.below(4) === 0;
  }
}

/** One process: opens the log, checks what is there, does something, and ends somehow. */
function live(world: World): void {
  const { random, disk } = world;
  const noteLoss = (notice: LogNotice): void => {
    if (notice.kind !== 'lost') return;
    expect(disk.forgetsAtOnce).toBe(true);
    for (const sent of world.sent) {
      if (sent.position === undefined || sent.position < notice.position || sent.position >= notice.end) continue;
      if (sent.status === 'gone') continue;
      expect(sent.status, `batch ${sent.id} is lost`).toBe('committed');
      sent.status = 'gone';
    }
  };
  disk.fate = () => 'ok';
  disk.capacityBytes = Number.POSITIVE_INFINITY;
  const troubled = random.below(4) === 0;
  // Some errors come alone, others stay for a while.
  let stays = 0;
  if (troubled) {
    disk.fate = () => {
      if (stays === 0 && random.below(25) === 0) stays = random.pick([1, 1, 3, 8]);
      if (stays === 0) return 'ok';
      stays--;
      return random.pick(['EIO', 'ENOSPC'] as const);
    };
  }
  const cutAt = random.below(3) === 0 ? disk.callCount + 1 + random.below(120) : -1;
  const otherwise = disk.fate;
  disk.fate = (call) => {
    if (call.index === cutAt) return 'cut';
    // What was written is read from memory as long as the machine is up: a read that fails is another test's.
    const fate = call.kind === 'read' || call.kind === 'open' || call.kind === 'list' ? 'ok' : otherwise(call);
    // What is not synced may be gone by then, as after a power cut.
    if (call.kind === 'sync' && fate !== 'ok' && disk.forgetsAtOnce) world.wasPowerCut = true;
    return fate;
  };
  const sync = random.pick<SyncPolicy>(['always', '10ms', 'none']);
  let log: EmbeddedLog;
  try {
    log = EmbeddedLog.open({
      directory: DIRECTORY,
      sync,
      segmentBytes: random.pick([4096, 8192]),
      limitBytes: random.below(8) === 0 ? 40_000 : 2 ** 30,
      files: disk.files(),
      lockDirectory: () => ({ release() {} }),
      clock: { wallMs: () => world.nowMs++, steadyMs: () => world.nowMs },
      random: () => (BigInt(random.bits()) << 32n) | BigInt(random.bits()),
      onNotice: noteLoss,
    });
  } catch (error) {
    // With a sick disk it may fail to open, but it must not call the log damaged.
    if (!isOfDisk(error)) throw error;
    endByCrash(world);
    return;
  }
  try {
    compare(world, log);
    const steps = random.below(40);
    for (let i = 0; i < steps; i++) step(world, log);
    if (random.below(3) === 0) {
      log.close();
      for (const sent of world.sent) if (sent.status === 'committed') sent.status = 'durable';
      if (random.below(2) === 0) disk.restart();
      return;
    }
  } catch (error) {
    // Only close(), cursors and snapshots throw what the disk does.
    if (!isOfDisk(error)) throw error;
  }
  endByCrash(world);
}

function isOfDisk(error: unknown): boolean {
  return error instanceof PowerCut || (error instanceof CairnError && error.code === 'ERR_LOG_IO');
}

function endByCrash(world: World): void {
  const { disk, random } = world;
  const isPowerCut = disk.isOut || random.below(2) === 0;
  world.wasPowerCut ||= isPowerCut;
  if (isPowerCut) disk.restart();
  else disk.kill();
}

/** Compares what an opened log has with what it may and must have. */
function compare(world: World, log: EmbeddedLog): void {
  const found: { id: number; bytes: Buffer; position: Position; end: Position }[] = [];
  let recordsBefore: bigint | undefined;
  for (const entry of log.entries(log.oldestReadable)) {
    if (entry.kind === 'lost') expect(world.disk.forgetsAtOnce).toBe(true);
    if (recordsBefore !== undefined) expect(entry.recordsBefore).toBe(recordsBefore);
    recordsBefore = entry.recordsBefore + BigInt(entry.recordCount);
    if (entry.kind !== 'records') continue;
    found.push({ id: idOf(entry.records), bytes: entry.records, position: entry.position, end: entry.end });
  }
  const byId = new Map(found.map((batch) => [batch.id, batch]));
  for (let i = 1; i < found.length; i++) expect(found[i]!.id).toBeGreaterThan(found[i - 1]!.id);
  expect(log.oldestReadable).toBeGreaterThanOrEqual(world.oldest);

  let isBehindHole = false;
  for (const sent of world.sent) {
    const there = byId.get(sent.id);
    byId.delete(sent.id);
    const isGivenUp = sent.end !== undefined && sent.end <= log.oldestReadable;
    if (there === undefined) {
      if (isGivenUp) continue;
      expect(sent.status, `batch ${sent.id} is missing`).not.toBe('durable');
      if (sent.status === 'committed') {
        expect(world.wasPowerCut, `batch ${sent.id} is missing without a power cut`).toBe(true);
        isBehindHole = true;
      }
      if (sent.status !== 'refused') sent.status = 'gone';
      continue;
    }
    expect(['unknown', 'committed', 'durable'], `batch ${sent.id} is there`).toContain(sent.status);
    expect(isBehindHole, `batch ${sent.id} is behind one that is missing`).toBe(false);
    expect(there.bytes.equals(sent.bytes)).toBe(true);
    if (sent.position !== undefined) expect(there.position).toBe(sent.position);
    // Opening has made it durable, unless there was no room for that.
    const status = there.end <= log.durable ? 'durable' : 'committed';
    Object.assign(sent, { status, position: there.position, end: there.end });
  }
  expect([...byId.keys()], 'batches that were never appended').toEqual([]);
  world.wasPowerCut = false;

  for (const [name, { acknowledged, tried }] of world.cursors) {
    const position = log.cursors().get(name);
    if (position !== acknowledged) expect([...tried]).toContain(position);
    world.cursors.set(name, { acknowledged: position, tried: new Set() });
  }
  const [newest] = log.snapshots.sound;
  expect(newest?.number ?? 0).toBeGreaterThanOrEqual(world.snapshotNumber);
  world.snapshotNumber = newest?.number ?? 0;
  for (const info of log.snapshots.sound) {
    expect([...log.snapshots.read(info)].map(({ records }) => records.length).reduce((a, b) => a + b, 0)).toBe(
      info.payloadBytes,
    );
  }
}

function step(world: World, log: EmbeddedLog): void {
  const { random, disk } = world;
  world.nowMs += random.below(6);
  const choice = random.below(100);
  if (choice < 80) append(world, log);
  else if (choice < 84) {
    log.sync();
    settleDurable(world, log);
  } else if (choice < 90) {
    const name = random.pick(['a', 'b']);
    const cursor = world.cursors.get(name) ?? { acknowledged: undefined, tried: new Set() };
    world.cursors.set(name, cursor);
    const position = random.below(5) === 0 ? undefined : log.committed;
    cursor.tried.add(position);
    if (position === undefined) log.cursor(name).drop();
    else log.cursor(name).advance(position);
    cursor.acknowledged = position;
    cursor.tried.clear();
    settleDurable(world, log);
  } else if (choice < 93) snapshot(world, log);
  else if (choice < 95) log.truncate(log.durable);
  else if (choice < 97) {
    disk.capacityBytes = random.below(2) === 0 ? Number.POSITIVE_INFINITY : disk.bytes + random.below(6000);
  } else {
    log.syncIfDue();
    settleDurable(world, log);
  }
  world.oldest = log.oldestReadable;
}

function append(world: World, log: EmbeddedLog): void {
  const { random } = world;
  const last = world.sent.at(-1);
  // What is unknown is settled by sending it again; some callers go on with something else.
  const isAgain = last?.status === 'unknown' && last.position === undefined && random.below(2) === 0;
  const sent = isAgain ? last : newBatch(world);
  if (!isAgain) world.sent.push(sent);
  sent.status = 'unknown';
  const expectPosition = log.end;
  // In pieces, as they come from several rings.
  const cut = random.below(sent.bytes.length / 8) * 8;
  const result = log.append({
    records: [sent.bytes.subarray(0, cut), sent.bytes.subarray(cut)],
    recordCount: countOf(sent.bytes),
    epoch: log.epoch,
    expectPosition,
  });
  switch (result.kind) {
    case 'committed':
      if (world.disk.forgetsAtOnce) expect(result.position).toBeGreaterThanOrEqual(expectPosition);
      else expect(result.position).toBe(expectPosition);
      expect(result.position, 'a position is given out twice').toBeGreaterThanOrEqual(world.positionMax);
      world.positionMax = result.end;
      Object.assign(sent, { status: 'committed', position: result.position, end: result.end });
      break;
    case 'full':
      // The first try may have left it there.
      if (!isAgain) sent.status = 'refused';
      break;
    case 'conflict':
      expect(world.disk.forgetsAtOnce).toBe(true);
      sent.status = 'refused';
      break;
    default:
      expect(result.kind).toBe('unknown');
  }
  settleDurable(world, log);
}

function settleDurable(world: World, log: EmbeddedLog): void {
  for (let i = world.sent.length - 1; i >= 0; i--) {
    const sent = world.sent[i]!;
    if (sent.status === 'durable') break;
    if (sent.status === 'committed' && sent.end! <= log.durable) sent.status = 'durable';
  }
}

function snapshot(world: World, log: EmbeddedLog): void {
  const { random } = world;
  const writer = log.snapshots.begin({
    position: log.committed,
    recordsBefore: log.recordsBefore,
    epoch: log.epoch,
  });
  for (let i = random.below(4); i > 0; i--)
    writer.add(makeRecord({ kind: 'set', key: 'k', value: 'v'.repeat(700) }), 1);
  if (random.below(4) === 0) {
    writer.abort();
    return;
  }
  try {
    log.sync();
  } catch (error) {
    writer.abort();
    throw error;
  }
  settleDurable(world, log);
  const steps = writer.finish(log.durable, log.epoch);
  let next = steps.next();
  while (!next.done) next = steps.next();
  world.snapshotNumber = next.value.number;
  log.reclaim();
}

let nextId = 1;

function newBatch({ random }: World): Sent {
  const id = nextId++;
  const count = 1 + random.below(4);
  const valueBytes = random.pick([10, 100, 400, random.below(3000), random.below(20) === 0 ? 9000 : 50]);
  const records = Array.from({ length: count }, (_, i) =>
    makeRecord({ kind: 'set', key: `batch ${id}`, value: Buffer.alloc(valueBytes, id % 251), counter: i }),
  );
  return { id, bytes: Buffer.concat(records), status: 'unknown', position: undefined, end: undefined };
}

function idOf(records: Buffer): number {
  const reader = new RecordReader(records);
  expect(reader.next()).toBe(true);
  return Number(/^batch (\d+)$/.exec(reader.key.toString())?.[1]);
}

function countOf(records: Buffer): number {
  const reader = new RecordReader(records);
  let count = 0;
  while (reader.next()) count++;
  return count;
}

describe('the log after crashes', () => {
  const random = new Random();
  test(`keeps its promises over ${LIVES} lives, seed ${random.seed}`, { timeout: 3_600_000 }, () => {
    let world = new World(random);
    for (let i = 0; i < LIVES; i++) {
      if (i % LIVES_PER_DISK === 0) world = new World(random);
      try {
        live(world);
      } catch (error) {
        throw new Error(`Failed in life ${i} with CAIRN_SEED=${random.seed}`, { cause: error });
      }
    }
  });
});
