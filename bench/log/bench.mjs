// `npm run bench -- log`: the request log against the least that a log can do, which is to append the same bytes to a file
// and wait for the disk, and how fast it is read again.

import { closeSync, fdatasyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measure } from '../lib/clock.mjs';
import { describeMachine, printMachine } from '../lib/machine.mjs';
import { ratio, summary as summarize } from '../lib/statistics.mjs';
import { number, printTable, withRange } from '../lib/table.mjs';
import { measureService } from './service.mjs';

export const summary = 'the request log against appending to a file by hand, and behind a cache';

export const help = `npm run bench -- log [options]

  --dir PATH        where to write (default: the folder for temporary files, which should be on the disk that matters)
  --quick           a few seconds: shows that it runs
  --rounds N        alternating rounds (default 9)
  --ms N            milliseconds of a measurement (default 400; behind a cache: 1000)
  --part NAME       log (alone) or cache (with a cache in front of it); default: both
`;

const KEY_BYTES = 20;
const VALUE_BYTES = 100;
const RECORD_BYTES = Math.ceil((40 + KEY_BYTES + VALUE_BYTES) / 8) * 8;
/** Records that are committed together: as many as writers that wait. */
const GROUPS = [1, 16, 64, 512, 4096];
/** The group that has to be reached, and how much of what is possible by hand. */
const TARGET = { group: 512, least: 0.6 };
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

/** Appends to files of 64 MiB, one after the other, each write followed by fdatasync if `isSynced`. */
function byHand(folder, bytes, isSynced) {
  mkdirSync(folder);
  let count = 0;
  let offset = FILE_BYTES;
  let file;
  return {
    append() {
      if (offset + bytes.length > FILE_BYTES) {
        if (file !== undefined) closeSync(file);
        file = openSync(join(folder, String(count++)), 'w');
        offset = 0;
      }
      writeSync(file, bytes, 0, bytes.length, offset);
      offset += bytes.length;
      if (isSynced) fdatasyncSync(file);
    },
    close: () => closeSync(file),
  };
}

function withLog(openLog, folder, bytes, recordCount, sync) {
  const log = openLog({ directory: folder, sync, limitBytes: 2 ** 40 });
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

async function compare(root, { rounds, ms }, openLog, recordCount, sync) {
  const bytes = recordsOf(recordCount);
  const subjects = {
    'by hand': (folder) => byHand(folder, bytes, sync === 'always'),
    log: (folder) => withLog(openLog, folder, bytes, recordCount, sync),
  };
  const samples = Object.fromEntries(Object.keys(subjects).map((name) => [name, { wall: [], cpu: [] }]));
  for (let round = 0; round < rounds; round++) {
    // In turn from either side: who goes first is not always the same.
    const names = round % 2 === 0 ? Object.keys(subjects) : Object.keys(subjects).reverse();
    for (const name of names) {
      const folder = join(root, `${name.replace(' ', '-')}-${round}`);
      const subject = subjects[name](folder);
      const pass = () => {
        for (let i = 0; i < 4; i++) subject.append();
        return 4 * recordCount;
      };
      pass();
      const { wall, cpu } = await measure(pass, ms);
      subject.close();
      rmSync(folder, { recursive: true });
      samples[name].wall.push(wall);
      samples[name].cpu.push(cpu);
    }
  }
  return samples;
}

async function measureReading(root, { rounds, ms }, openLog, recover) {
  const folder = join(root, 'reading');
  const { log, append, close } = withLog(openLog, folder, recordsOf(512), 512, 'none');
  for (let i = 0; i < 2000; i++) append();
  const samples = [];
  let bytes = 0;
  for (let round = 0; round < rounds; round++) {
    const pass = () => {
      const { records } = recover({ log, apply() {} });
      bytes = records * RECORD_BYTES;
      return records;
    };
    samples.push((await measure(pass, ms)).wall);
  }
  close();
  rmSync(folder, { recursive: true });
  return { perSecond: samples.map((ns) => 1e9 / ns), megabytes: bytes / 2 ** 20 };
}

const perSecond = (samples) => withRange(summarize(samples.map((ns) => 1e9 / ns)));

export async function run(args) {
  const { values } = parseArgs({
    args,
    options: {
      dir: { type: 'string' },
      quick: { type: 'boolean' },
      rounds: { type: 'string' },
      ms: { type: 'string' },
      part: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    console.log(help);
    return;
  }
  const quick = values.quick ?? false;
  const settings = { rounds: Number(values.rounds ?? (quick ? 2 : 9)), ms: Number(values.ms ?? (quick ? 30 : 400)) };
  for (const [name, value] of Object.entries(settings)) {
    if (!Number.isInteger(value) || value < 1) throw new RangeError(`Expected --${name} to be a whole number from 1`);
  }
  const part = values.part ?? 'both';
  if (!['log', 'cache', 'both'].includes(part))
    throw new RangeError(`Expected --part to be log or cache, got "${part}"`);
  printMachine(describeMachine());
  const root = mkdtempSync(join(values.dir ?? tmpdir(), 'cairn-bench-log-'));
  try {
    if (part !== 'cache') await measureLog(root, settings, quick);
    if (part !== 'log') {
      const { Cache } = await import(new URL('../../dist/index.js', import.meta.url).href);
      const rounds = Number(values.rounds ?? (quick ? 1 : 5));
      const ms = Number(values.ms ?? (quick ? 100 : 1000));
      await measureService(root, { rounds, ms, entries: quick ? 20_000 : 1_000_000 }, Cache);
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function measureLog(root, settings, quick) {
  const { EmbeddedLog, lockedByCaller, recover } = await import(
    new URL('../../dist/log/index.js', import.meta.url).href
  );
  // Its folder is nobody else's.
  const openLog = (options) => EmbeddedLog.open({ ...options, lockDirectory: lockedByCaller });
  console.log(`== log: records of ${KEY_BYTES} + ${VALUE_BYTES} bytes (${RECORD_BYTES} with their header), in ${root}`);
  console.log('  records per second: median [range over the rounds]; log : by hand, compared round by round\n');
  let reached;
  for (const sync of ['always', 'none']) {
    const rows = [];
    for (const group of GROUPS) {
      const samples = await compare(root, settings, openLog, group, sync);
      const [hand, ours] = [samples['by hand'], samples.log];
      const speed = ratio(hand.wall, ours.wall);
      if (sync === 'always' && group === TARGET.group) reached = speed.median;
      rows.push([
        `${number(group)} in a batch`,
        perSecond(hand.wall),
        perSecond(ours.wall),
        withRange(speed, 'x'),
        number(summarize(ours.cpu).median - summarize(hand.cpu).median),
      ]);
    }
    const title = sync === 'always' ? 'each batch synced' : 'not synced';
    printTable([title, 'by hand', 'log', 'log : by hand', 'more CPU, ns a record'], rows);
  }
  const reading = await measureReading(root, settings, openLog, recover);
  const rate = summarize(reading.perSecond);
  printTable(
    ['read again', 'records per second', 'MiB per second'],
    [[`${number(reading.megabytes)} MiB`, withRange(rate), number((rate.median * RECORD_BYTES) / 2 ** 20)]],
  );
  if (!quick) {
    const verdict = reached >= TARGET.least ? 'reached' : 'missed';
    console.log(
      `target: ${TARGET.least}x by hand with ${TARGET.group} in a batch, synced: ${verdict} (${number(reached)}x)`,
    );
  }
}
