// `npm run bench -- mission`: everything on. A server with a log that syncs before it answers, and a database that gets
// every change in the background, under an open loop of requests; beside it the same requests to a server that keeps
// nothing. At the end each row of the database is compared with the last acknowledged set of its key.

import { fork, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describeMachine, printMachine, root } from '../lib/machine.mjs';
import { numberOption, readOptions } from '../lib/options.mjs';
import { startPostgres } from '../lib/postgres.mjs';
import { number, printTable } from '../lib/table.mjs';

export const summary = 'log, database and server together at a fixed rate, and what became of every write';

export const help = `npm run bench -- mission [options]

  --seconds N       of load (default 600)
  --rate N          requests a second, all clients together (default 50000)
  --connections N   (default 50)
  --keys N          different keys, drawn by Zipf 0.99 (default 100000)
  --reads SHARE     share of gets (default 0.9)
  --value-bytes N   (default 100)
  --store URL       the database; default: a private PostgreSQL in a temporary folder
  --sync POLICY     of the log (default always)
  --dir DIR         where log and database are (default: the folder for temporary files)
  --seed N          (default 1)
  --quick           five seconds at 2,000 requests a second: shows that it runs, judges nothing
  --json            one JSON object instead of tables
`;

/** The share of the offered requests that has to be answered, and the oldest change that may wait for the database. */
const ANSWERED_TARGET = 0.999;
const UNWRITTEN_MS_MAX = 10_000;

const loadFile = fileURLToPath(new URL('load.mjs', import.meta.url));
const cli = join(root, 'dist', 'cli', 'main.js');

/** Starts `cairn serve` on a free port. Resolves to `{ port, child, ended, output() }`. */
async function serve(args) {
  const child = spawn(process.execPath, [cli, 'serve', '-p', '-1', '-l', '127.0.0.1', '-c', '2000', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const ended = new Promise((resolve) => child.once('close', resolve));
  const port = await new Promise((resolve, reject) => {
    const read = (text) => {
      output += text;
      const [, found] = /Listening on 127\.0\.0\.1:(\d+)/.exec(output) ?? [];
      if (found !== undefined) resolve(Number(found));
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.once('close', () => reject(new Error(`cairn serve has ended:\n${output}`)));
  });
  return { port, child, ended, output: () => output };
}

/** The numbers of `stats cairn`. */
function statsOf(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('stats cairn\r\n'));
    let text = '';
    socket.setEncoding('latin1');
    socket.once('error', reject);
    socket.on('data', (piece) => {
      text += piece;
      if (!text.endsWith('END\r\n')) return;
      socket.destroy();
      resolve(Object.fromEntries([...text.matchAll(/^STAT (\S+) (.*)\r$/gm)].map(([, name, value]) => [name, value])));
    });
  });
}

/** Offers the load to a server, and looks at its numbers every second. */
async function offer(port, load) {
  const samples = [];
  const timer = setInterval(() => {
    statsOf(port).then(
      (stats) => samples.push(stats),
      () => {},
    );
  }, 1000);
  const client = fork(loadFile, [JSON.stringify({ ...load, port })], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  try {
    const result = await new Promise((resolve, reject) => {
      client.once('message', resolve);
      client.once('exit', (code) => reject(new Error(`The clients have ended with code ${code}`)));
    });
    return { ...result, samples };
  } finally {
    clearInterval(timer);
  }
}

/** Compares the rows with the sets: of each key the row is that of the last acknowledged set, or of a later one. */
async function check(url, { last, keyPrefix }) {
  const { makeBackend } = await import(pathToFileURL(join(root, 'dist', 'backend', 'index.js')).href);
  const backend = await makeBackend(url);
  await backend.open();
  const rows = new Map();
  for await (const piece of backend.scan()) {
    for (const { key, value } of piece.rows) rows.set(key.toString('latin1'), value.toString('latin1'));
  }
  await backend.close();
  const wrong = [];
  for (const [rank, acknowledged, sent] of last) {
    if (acknowledged === 0) continue;
    const value = rows.get(`${keyPrefix}${String(rank).padStart(10, '0')}`);
    const [of, nth] = (value ?? '').split(':').map(Number);
    if (value === undefined || of !== rank || !(nth >= acknowledged && nth <= sent)) {
      wrong.push({ rank, acknowledged, sent, row: value?.slice(0, 40) ?? 'none' });
    }
  }
  return { rows: rows.size, keys: last.filter(([, acknowledged]) => acknowledged > 0).length, wrong };
}

export async function run(args) {
  const values = readOptions(args, help, {
    seconds: { type: 'string' },
    rate: { type: 'string' },
    connections: { type: 'string', default: '50' },
    keys: { type: 'string', default: '100000' },
    reads: { type: 'string', default: '0.9' },
    'value-bytes': { type: 'string', default: '100' },
    store: { type: 'string' },
    sync: { type: 'string', default: 'always' },
    dir: { type: 'string', default: tmpdir() },
    seed: { type: 'string', default: '1' },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  });
  if (values === undefined) return;
  const load = {
    seconds: numberOption(values, 'seconds', values.quick ? 5 : 600, { isWhole: false }),
    rate: numberOption(values, 'rate', values.quick ? 2000 : 50_000),
    connections: numberOption(values, 'connections'),
    keys: numberOption(values, 'keys'),
    readShare: numberOption(values, 'reads', undefined, { least: 0, isWhole: false }),
    valueBytes: numberOption(values, 'value-bytes', undefined, { least: 32 }),
    zipf: 0.99,
    seed: numberOption(values, 'seed', undefined, { least: 0 }),
  };
  const machine = describeMachine();
  if (!values.json) printMachine(machine);

  const folder = mkdtempSync(join(values.dir, 'cairn-mission-'));
  let postgres;
  let server;
  try {
    // In memory only, for a tenth of the time: its latencies change little.
    const memorySeconds = Math.max(Math.ceil(load.seconds / 10), Math.min(load.seconds, 5));
    server = await serve(['-m', '256']);
    const memory = await offer(server.port, { ...load, seconds: memorySeconds });
    server.child.kill('SIGTERM');
    await server.ended;

    if (values.store === undefined) postgres = await startPostgres(join(folder, 'postgres'));
    const url = values.store ?? postgres.url;
    const data = ['--data', join(folder, 'data'), '--sync', values.sync];
    server = await serve(['-m', '256', ...data, '--store', url, '--mode', 'write-back']);
    const all = await offer(server.port, load);
    const began = performance.now();
    server.child.kill('SIGTERM');
    const code = await server.ended;
    const endMs = performance.now() - began;
    if (code !== 0) throw new Error(`cairn serve has ended with code ${code}:\n${server.output()}`);
    server = undefined;
    const checked = await check(url, all);
    report({
      load,
      memorySeconds,
      memory,
      all,
      endMs,
      checked,
      url: values.store ?? 'PostgreSQL',
      json: values.json,
      machine,
    });
  } finally {
    server?.child.kill('SIGKILL');
    await postgres?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function report({ load, memorySeconds, memory, all, endMs, checked, url, json, machine }) {
  const ages = all.samples.map((sample) => Number(sample.write_back_oldest_unwritten_ms)).filter(Number.isFinite);
  const oldestMs = ages.length === 0 ? Number.NaN : Math.max(...ages);
  const answered = all.answered / all.offered;
  if (json) {
    const { last: _, samples: __, ...rest } = all;
    console.log(JSON.stringify({ machine, load, all: rest, oldestMs, endMs, checked }, null, 2));
  } else {
    const { rate, seconds, connections, readShare, keys } = load;
    console.log(
      `${number(rate)} requests/s for ${seconds} s, ${connections} connections, ${keys} keys, ${readShare * 100} % gets\n`,
    );
    const row = (name, { gets, sets, busy, late }) => [
      name,
      ...[gets.p50, gets.p99, gets.p999, sets.p50, sets.p99, sets.p999].map((ms) => ms.toFixed(2)),
      `${(busy * 100).toFixed(0)} %`,
      String(late),
    ];
    const header = ['ms', 'get p50', 'p99', 'p99.9', 'set p50', 'p99', 'p99.9', 'clients busy', 'late turns'];
    printTable(header, [row(`memory only, ${memorySeconds} s`, memory), row(`log and ${url.replace(/:.*/, '')}`, all)]);
    console.log(
      `answered            ${(100 * answered).toFixed(3)} % of ${number(all.offered)}; errors ${all.errors} ${all.firstError ?? ''}`,
    );
    console.log(`hit ratio           ${((100 * all.hits) / Math.max(1, all.gets.count)).toFixed(2)} %`);
    console.log(`oldest unwritten    ${oldestMs} ms at most, of ${ages.length} samples`);
    console.log(`end                 ${(endMs / 1000).toFixed(1)} s, with what was left to write`);
    console.log(
      `rows                ${number(checked.rows)} for ${number(checked.keys)} acknowledged keys; ${checked.wrong.length} lost or stale`,
    );
    for (const each of checked.wrong.slice(0, 10)) console.log(`  ${JSON.stringify(each)}`);
  }
  const isMet = answered >= ANSWERED_TARGET && oldestMs <= UNWRITTEN_MS_MAX && checked.wrong.length === 0;
  console.log(
    `target: >= ${100 * ANSWERED_TARGET} % answered, unwritten age bounded (<= ${UNWRITTEN_MS_MAX / 1000} s), 0 lost: ${isMet ? 'met' : 'MISSED'}`,
  );
  if (checked.wrong.length > 0) process.exitCode = 1;
}
