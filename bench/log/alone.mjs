// The log alone: what it costs to append to it, beside the least that any log has to do, and how fast it is read again.
//
// "By hand" is a loop that appends the same bytes to files of the same size with writev, and calls fdatasync where the
// log has to: after each batch, or when the interval is over. No header, no checksum, no end that a crash may tear.

import { closeSync, fdatasyncSync, mkdirSync, openSync, rmSync, writevSync } from 'node:fs';
import { join } from 'node:path';
import { threadCpuNs } from '../lib/clock.mjs';
import { ratio, summary } from '../lib/statistics.mjs';
import { number, printTable, withRange } from '../lib/table.mjs';

const KEY_BYTES = 20;
const VALUE_BYTES = 100;
const RECORD_BYTES = Math.ceil((40 + KEY_BYTES + VALUE_BYTES) / 8) * 8;
/** The number of waiting writers, each with one record: their records are committed together. */
const WRITERS = [1, 16, 64, 512];
const POLICIES = ['always', '10ms', 'none'];
/** What has to be reached, and how much of what is possible by hand. */
const TARGET = { sync: 'always', writers: 512, least: 0.6 };
const FILE_BYTES = 64 * 2 ** 20;

/** Encoded records of sets, as the store leaves them. */
function recordsOf(count) {
  const bytes = Buffer.alloc(count * RECORD_BYTES, 'v');
  for (let i = 0; i < count; i++) {
    const at = i * RECORD_BYTES;
    bytes.fill(0, at, at + 40);
    bytes.writeUInt32LE(RECORD_BYTES, at);
    bytes[at + 4] = 1;
    bytes.writeBigUInt64LE((1n << 44n) + BigInt(i), at + 8);
    bytes.writeUInt32LE(KEY_BYTES, at + 28);
    bytes.writeUInt32LE(VALUE_BYTES, at + 32);
    bytes.write(`key:${String(i).padStart(KEY_BYTES - 4, '0')}`, at + 40, 'latin1');
  }
  return bytes;
}

/** Milliseconds after which a policy syncs: 0 for always, Infinity for never. */
const delayOf = (sync) =>
  sync === 'always' ? 0 : sync === 'none' ? Number.POSITIVE_INFINITY : Number(sync.slice(0, -2));

function byHand(folder, bytes, sync) {
  mkdirSync(folder);
  const delayMs = delayOf(sync);
  let count = 0;
  let offset = FILE_BYTES;
  let file;
  let syncedMs = performance.now();
  return {
    append() {
      if (offset + bytes.length > FILE_BYTES) {
        if (file !== undefined) closeSync(file);
        file = openSync(join(folder, String(count++)), 'w');
        offset = 0;
      }
      writevSync(file, [bytes], offset);
      offset += bytes.length;
      if (delayMs > 0 && performance.now() - syncedMs < delayMs) return;
      fdatasyncSync(file);
      syncedMs = performance.now();
    },
    close: () => closeSync(file),
  };
}

function withLog({ EmbeddedLog, lockedByCaller }, folder, bytes, recordCount, sync) {
  // No other process uses the folder.
  const log = EmbeddedLog.open({ directory: folder, sync, limitBytes: 2 ** 40, lockDirectory: lockedByCaller });
  return {
    log,
    append() {
      const batch = { records: [bytes], recordCount, epoch: log.epoch, expectPosition: log.end };
      const { kind } = log.append(batch);
      if (kind !== 'committed') throw new Error(`Expected a batch to be committed, got ${kind}`);
    },
    close: () => log.close(),
  };
}

/**
 * Appends for a given time. Measures the cost of a record, and the time of a batch, for which each of its writers
 * waits.
 */
function time(subject, recordCount, ms) {
  for (let i = 0; i < 8; i++) subject.append();
  const latencies = [];
  const cpuAtStart = threadCpuNs();
  const start = performance.now();
  let now = start;
  do {
    subject.append();
    const before = now;
    now = performance.now();
    latencies.push(now - before);
  } while (now - start < ms);
  const cpuNs = threadCpuNs() - cpuAtStart;
  const records = latencies.length * recordCount;
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.floor((latencies.length - 1) * share)] * 1000;
  return { perSecond: (records * 1000) / (now - start), cpuNs: cpuNs / records, p50: at(0.5), p99: at(0.99) };
}

function compare(root, { rounds, ms }, library, writers, sync) {
  const bytes = recordsOf(writers);
  const subjects = {
    hand: (folder) => byHand(folder, bytes, sync),
    log: (folder) => withLog(library, folder, bytes, writers, sync),
  };
  const samples = { hand: [], log: [] };
  for (let round = 0; round < rounds; round++) {
    // In turn from either side: who goes first is not always the same.
    const names = round % 2 === 0 ? ['hand', 'log'] : ['log', 'hand'];
    for (const name of names) {
      const folder = join(root, `${name}-${round}`);
      const subject = subjects[name](folder);
      samples[name].push(time(subject, writers, ms));
      subject.close();
      rmSync(folder, { recursive: true });
    }
  }
  return samples;
}

const each = (samples, field) => samples.map((sample) => sample[field]);

function measureAppending(root, settings, library) {
  let reached;
  for (const sync of POLICIES) {
    const rows = WRITERS.map((writers) => {
      const { hand, log } = compare(root, settings, library, writers, sync);
      const speed = ratio(each(log, 'perSecond'), each(hand, 'perSecond'));
      if (sync === TARGET.sync && writers === TARGET.writers) reached = speed.median;
      const median = (samples, field) => number(summary(each(samples, field)).median);
      return [
        `${writers} writer${writers === 1 ? '' : 's'}`,
        withRange(summary(each(hand, 'perSecond'))),
        withRange(summary(each(log, 'perSecond'))),
        withRange(speed, 'x'),
        `${median(hand, 'p50')} / ${median(hand, 'p99')}`,
        `${median(log, 'p50')} / ${median(log, 'p99')}`,
        number(summary(each(log, 'cpuNs')).median - summary(each(hand, 'cpuNs')).median),
      ];
    });
    const headings = [`sync: ${sync}`, 'by hand', 'log', 'log : by hand', 'by hand, us', 'log, us', 'CPU ns more'];
    printTable(headings, rows);
  }
  return reached;
}

function measureReading(root, { rounds }, library, batches) {
  const folder = join(root, 'reading');
  const subject = withLog(library, folder, recordsOf(512), 512, 'none');
  for (let i = 0; i < batches; i++) subject.append();
  const { log } = subject;
  const info = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
  const rows = [];
  const read = (what) => {
    const samples = [];
    let records = 0;
    let bytes = 0;
    for (let round = 0; round <= rounds; round++) {
      records = 0;
      bytes = 0;
      const start = performance.now();
      library.recover({
        log,
        apply(chunk, { recordCount }) {
          records += recordCount;
          bytes += chunk.length;
        },
      });
      // The first brings the files into memory.
      if (round > 0) samples.push((performance.now() - start) / 1000);
    }
    const seconds = summary(samples);
    const rate = (amount) => withRange(summary(samples.map((sample) => amount / sample)));
    rows.push([what, number(bytes / 2 ** 20), number(seconds.median * 1000), rate(bytes / 2 ** 20), rate(records)]);
  };
  read('the log');
  const writer = log.snapshots.begin(info);
  const chunk = recordsOf(512);
  for (let i = 0; i < batches; i++) writer.add(chunk, 512);
  const steps = writer.finish(log.durable, log.epoch);
  while (!steps.next().done);
  read('a snapshot');
  subject.close();
  rmSync(folder, { recursive: true });
  printTable(['read and checked', 'MiB', 'ms', 'MiB per second', 'entries per second'], rows);
}

/** All tables. `library`: dist/log/index.js. */
export function measureLog(root, settings, library, isQuick) {
  console.log(`== log: records of ${KEY_BYTES} + ${VALUE_BYTES} bytes (${RECORD_BYTES} with their header), in ${root}`);
  console.log(
    '  records per second, median [range]; log : by hand, compared round by round; microseconds that a batch',
  );
  console.log('  takes, p50 / p99; how much more CPU a record takes than by hand\n');
  const reached = measureAppending(root, settings, library);
  measureReading(root, settings, library, isQuick ? 200 : 4000);
  if (isQuick) return;
  const verdict = reached >= TARGET.least ? 'reached' : 'missed';
  const { sync, writers, least } = TARGET;
  console.log(`target: ${least}x by hand with ${writers} writers, sync ${sync}: ${verdict} (${number(reached)}x)\n`);
}
