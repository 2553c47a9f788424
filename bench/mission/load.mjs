// The clients of the mission bench, in a process of their own: an open loop of gets and sets over memcached's text
// protocol. Requests have their times by the clock, whatever the server does, and latency counts from that time: a
// server that stalls is charged for every request that it delays.
//
// A set's value says which set of the key it is, so that the row of a key can be compared with its last set. Each key
// belongs to one connection, which answers in order: the last acknowledged set of a key is known.

import { connect } from 'node:net';
import { seededRandom, zipfRanks } from '../lib/random.mjs';

const { port, connections, rate, seconds, keys, valueBytes, readShare, zipf, seed } = JSON.parse(process.argv[2]);

/** Requests are sent in bunches of this time. */
const TICK_MS = 1;

const random = seededRandom(seed);
const nextRank = zipfRanks(keys, zipf, random);
const keyOf = (rank) => `mission:${String(rank).padStart(10, '0')}`;
/** By rank: how many sets were sent, and how many of these were acknowledged. */
const sent = new Uint32Array(keys);
const acknowledged = new Uint32Array(keys);

function valueOf(rank, number) {
  return `${rank}:${number}:`.padEnd(valueBytes, 'v');
}

/** Latencies in microseconds, in buckets of 3 % up to a minute. */
class Histogram {
  #counts = new Float64Array(700);
  count = 0;

  add(us) {
    this.#counts[Math.min(699, Math.floor(Math.log(Math.max(1, us)) / Math.log(1.03)))]++;
    this.count++;
  }

  /** In milliseconds. */
  at(share) {
    let left = this.count * share;
    for (let i = 0; i < this.#counts.length; i++) {
      left -= this.#counts[i];
      if (left <= 0) return 1.03 ** (i + 1) / 1000;
    }
    return Number.NaN;
  }
}

const gets = new Histogram();
const sets = new Histogram();
let errors = 0;
let firstError;
let hits = 0;
let unanswered = 0;

/** One connection; its requests are answered in their order. */
class Client {
  #socket;
  #waiting = [];
  #first = 0;
  #rest = '';
  #out = '';
  #body = 0;

  static open() {
    const client = new Client();
    return new Promise((resolve, reject) => {
      client.#socket = connect(port, '127.0.0.1', () => resolve(client));
      client.#socket.setNoDelay(true);
      client.#socket.setEncoding('latin1');
      client.#socket.once('error', reject);
      client.#socket.on('data', (text) => client.#read(text));
    });
  }

  get(rank, atMs) {
    this.#out += `get ${keyOf(rank)}\r\n`;
    this.#waiting.push({ rank, atMs, number: 0 });
    unanswered++;
  }

  set(rank, atMs) {
    const value = valueOf(rank, ++sent[rank]);
    this.#out += `set ${keyOf(rank)} 0 0 ${value.length}\r\n${value}\r\n`;
    this.#waiting.push({ rank, atMs, number: sent[rank] });
    unanswered++;
  }

  flush() {
    if (this.#out === '') return;
    this.#socket.write(this.#out, 'latin1');
    this.#out = '';
  }

  close() {
    this.#socket.destroy();
  }

  #read(text) {
    const nowMs = performance.now();
    const all = this.#rest + text;
    let at = 0;
    for (;;) {
      if (this.#body > 0) {
        if (all.length - at < this.#body) break;
        at += this.#body;
        this.#body = 0;
        continue;
      }
      const end = all.indexOf('\r\n', at);
      if (end < 0) break;
      const line = all.slice(at, end);
      at = end + 2;
      this.#take(line, nowMs);
    }
    this.#rest = all.slice(at);
  }

  #take(line, nowMs) {
    if (line.startsWith('VALUE ')) {
      this.#body = Number(line.slice(line.lastIndexOf(' ') + 1)) + 2;
      hits++;
      return;
    }
    const { rank, atMs, number } = this.#waiting[this.#first++];
    if (this.#first === 4096) {
      this.#waiting.splice(0, this.#first);
      this.#first = 0;
    }
    unanswered--;
    const us = (nowMs - atMs) * 1000;
    if (number === 0) gets.add(us);
    else sets.add(us);
    if (line === 'STORED') acknowledged[rank] = number;
    else if (line !== 'END') {
      errors++;
      firstError ??= line;
    }
  }
}

const clients = await Promise.all(Array.from({ length: connections }, () => Client.open()));
const beganMs = performance.now();
const cpuBegan = process.cpuUsage();
let offered = 0;
let late = 0;

await new Promise((resolve) => {
  const tick = () => {
    const nowMs = performance.now() - beganMs;
    const due = Math.min(Math.floor((nowMs * rate) / 1000), rate * seconds);
    // A turn that comes late sends what was due meanwhile, each from its own time.
    if (due - offered > (rate * 20) / 1000) late++;
    for (; offered < due; offered++) {
      const rank = nextRank();
      const atMs = beganMs + (offered * 1000) / rate;
      const client = clients[rank % connections];
      if (random() < readShare) client.get(rank, atMs);
      else client.set(rank, atMs);
    }
    for (const client of clients) client.flush();
    if (offered < rate * seconds) setTimeout(tick, TICK_MS);
    else resolve();
  };
  tick();
});
const deadlineMs = performance.now() + 30_000;
while (unanswered > 0 && performance.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 5));
const elapsedMs = performance.now() - beganMs;
const cpu = process.cpuUsage(cpuBegan);
for (const client of clients) client.close();

const times = (histogram) => ({
  count: histogram.count,
  p50: histogram.at(0.5),
  p99: histogram.at(0.99),
  p999: histogram.at(0.999),
});
const last = [];
for (let rank = 0; rank < keys; rank++) if (sent[rank] > 0) last.push([rank, acknowledged[rank], sent[rank]]);
const result = {
  offered,
  answered: gets.count + sets.count,
  unanswered,
  elapsedMs,
  late,
  busy: (cpu.user + cpu.system) / 1000 / elapsedMs,
  errors,
  firstError,
  hits,
  gets: times(gets),
  sets: times(sets),
  last,
  keyPrefix: 'mission:',
  valueBytes,
};
// Disconnected when it is written: what is still in the pipe's buffer would be lost, and with it a message this large.
process.send(result, () => process.disconnect());
