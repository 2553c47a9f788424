// Appends from one connection to the leader of a stream, with a fixed number in flight. Each measurement has a new
// stream, and subjects take turns within a round, so that what changes slowly on the machine changes all of them.

import { closeSync, fdatasync, openSync, rmSync, write } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connectTo, makeStream, reaches } from '../../test/support/nats-client.mjs';
import { ratio, summary } from '../lib/statistics.mjs';
import { number, printTable } from '../lib/table.mjs';

/** `cluster`: which of the two; `isConditional`: each append names the end of the stream that it expects. */
export const SUBJECTS = {
  'r3-always': { title: 'R3, always', cluster: 'always', replicas: 3, isConditional: true },
  'r3-blind': { title: 'R3, always, unconditional', cluster: 'always', replicas: 3, isConditional: false },
  'r3-default': { title: 'R3, default sync', cluster: 'usual', replicas: 3, isConditional: true },
  'r1-always': { title: 'R1, always', cluster: 'always', replicas: 1, isConditional: true },
};
/** A file of one appender, and one for each of three: servers on one machine share its disk. */
const DISKS = { 'disk-1': { title: 'disk, 1 file', files: 1 }, 'disk-3': { title: 'disk, 3 files', files: 3 } };

const KIB = 1024;
/** A stream in the bench never holds more: what a second of the fastest subject writes, several times. */
const STREAM_BYTES = 1536 * 2 ** 20;
const WARM_UP = 8;
const ACK_TIMEOUT_MS = 20_000;

const [writeAsync, fdatasyncAsync] = [write, fdatasync].map((call) => promisify(call));

function latenciesOf(samples, bytes, ms) {
  const sorted = samples.sort((a, b) => a - b);
  const at = (share) => sorted[Math.floor((sorted.length - 1) * share)];
  const perSecond = (sorted.length * 1000) / ms;
  return { p50: at(0.5), p99: at(0.99), count: sorted.length, perSecond, mbPerSecond: (perSecond * bytes) / 1e6 };
}

/** Runs `one` again and again for a time, `window` of them at once, and waits for all. */
async function inFlight(window, ms, one) {
  const samples = [];
  const start = performance.now();
  const lane = async () => {
    for (;;) {
      const begin = performance.now();
      if (begin - start >= ms) return;
      await one();
      samples.push(performance.now() - begin);
    }
  };
  await Promise.all(Array.from({ length: window }, lane));
  return { samples, ms: performance.now() - start };
}

async function appendFor(ms, { clients, cluster, subject, bytes, window }) {
  const name = `bench-${Math.random().toString(36).slice(2)}`;
  const [any] = clients.values();
  await makeStream(any, name, { replicas: subject.replicas, maxBytes: STREAM_BYTES });
  try {
    const client = clients.get(await cluster.leaderOf(name));
    await reaches(client, name);
    const payload = Buffer.alloc(bytes, 'v');
    let end = 0;
    const append = async () => {
      const last = end++;
      const expect = subject.isConditional ? { lastSequence: last } : {};
      const { seq } = await client.stream.publish(name, payload, { expect, timeout: ACK_TIMEOUT_MS });
      if (seq !== last + 1) throw new Error(`Expected an append to be number ${last + 1} of its stream, got ${seq}`);
    };
    for (let i = 0; i < WARM_UP; i++) await append();
    const { samples, ms: took } = await inFlight(window, ms, append);
    return latenciesOf(samples, bytes, took);
  } finally {
    await any.manager.streams.delete(name);
  }
}

/** Writes and syncs the same bytes, at the end of each file; a step ends when all files are synced. */
async function syncFor(ms, { folder, files, bytes }) {
  const paths = Array.from({ length: files }, (_, i) => join(folder, `disk-${i}`));
  const open = paths.map((path) => openSync(path, 'w'));
  try {
    const payload = Buffer.alloc(bytes, 'v');
    const step = () =>
      Promise.all(
        open.map(async (file) => {
          await writeAsync(file, payload);
          await fdatasyncAsync(file);
        }),
      );
    for (let i = 0; i < WARM_UP; i++) await step();
    const { samples, ms: took } = await inFlight(1, ms, step);
    return latenciesOf(samples, bytes, took);
  } finally {
    for (const file of open) closeSync(file);
    for (const path of paths) rmSync(path);
  }
}

export async function measureAppends({ always, usual, folder }, { rounds, ms, sizes, windows, subjects }) {
  const clusters = { always, usual };
  const clients = {};
  for (const [key, cluster] of Object.entries(clusters)) {
    const pairs = (cluster?.servers ?? []).map(async (server) => [server, await connectTo(server.address)]);
    clients[key] = new Map(await Promise.all(pairs));
  }
  const measured = [];
  try {
    for (const size of sizes) {
      const bytes = size * KIB;
      const samples = {};
      const add = (key, window, sample) => {
        samples[`${key} ${window}`] ??= [];
        samples[`${key} ${window}`].push(sample);
      };
      for (let round = 0; round < rounds; round++) {
        for (const [key, { files }] of Object.entries(DISKS)) add(key, 1, await syncFor(ms, { folder, files, bytes }));
        for (const window of windows) {
          // In turn from either side: the first is not always the same.
          for (const key of round % 2 === 0 ? subjects : subjects.toReversed()) {
            const subject = SUBJECTS[key];
            const place = { cluster: clusters[subject.cluster], clients: clients[subject.cluster] };
            add(key, window, await appendFor(ms, { ...place, subject, bytes, window }));
          }
        }
      }
      print(size, windows, subjects, samples);
      measured.push({ size, samples });
    }
  } finally {
    await Promise.all(Object.values(clients).flatMap((all) => [...all.values()].map((client) => client.close())));
  }
  return measured;
}

function print(size, windows, subjects, samples) {
  const of = (key, window, field) => samples[`${key} ${window}`].map((sample) => sample[field]);
  const median = (key, window, field) => number(summary(of(key, window, field)).median);
  const latency = (key, window) => `${median(key, window, 'p50')} / ${median(key, window, 'p99')}`;
  const rate = (key, window) => `${median(key, window, 'perSecond')} (${median(key, window, 'mbPerSecond')})`;
  const titles = subjects.map((key) => SUBJECTS[key].title);
  const disk = Object.keys(DISKS).map((key) => [DISKS[key].title, latency(key, 1), rate(key, 1)]);
  console.log(`== appends of ${size} KiB`);
  console.log('  the disk alone: write and fdatasync, one at a time\n');
  printTable(['', 'p50 / p99, ms', 'per second (MB/s)'], disk);
  const times = windows.map((window) => [String(window), ...subjects.map((key) => latency(key, window))]);
  printTable(['in flight; p50 / p99, ms', ...titles], times);
  const times1 = (key, window) => ratio(of(key, window, 'perSecond'), of('disk-1', 1, 'perSecond')).median;
  const rates = windows.map((window) => [
    String(window),
    ...subjects.map((key) => rate(key, window)),
    ...(subjects.includes('r3-always') ? [`${number(times1('r3-always', window))}x`] : []),
  ]);
  const last = subjects.includes('r3-always') ? ['R3, always : disk, 1 file'] : [];
  printTable(['in flight; per second (MB/s)', ...titles, ...last], rates);
}
