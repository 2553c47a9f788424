// `npm run bench -- server`: the port beside memcached and beside the least that any such server costs, each with one
// thread on one processor, and the load in another process on another processor: load.cc. The floor is floor.cc.

import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { cpus, userInfo } from 'node:os';
import { join } from 'node:path';
import { describeMachine, printMachine, root } from '../lib/machine.mjs';
import { namesOption, numberOption, readOptions } from '../lib/options.mjs';
import { ratio, summary as summaryOf } from '../lib/statistics.mjs';
import { number, printTable, withRange } from '../lib/table.mjs';

export const summary = 'the memcached port beside memcached: requests per second, CPU per request, latency';

const SERVERS = ['cairn', 'node', 'memcached', 'floor'];
const ROWS = {
  get: { command: 'get', pipelines: [1, 10, 50] },
  set: { command: 'set', pipelines: [1, 10, 50] },
  mixed: { command: 'mixed', pipelines: [1, 10] },
  multi: { command: 'multi', pipelines: [1] },
  large: { command: 'get', pipelines: [1], valueBytes: 100 * 1024, keys: 1000 },
  largeSet: { command: 'set', pipelines: [1], valueBytes: 100 * 1024, keys: 1000 },
  one: { command: 'get', pipelines: [1], connections: 1 },
  besideLarge: { command: 'get', pipelines: [1], largeEvery: 100 },
};
/** The rows that are measured in another way. */
const OTHER_ROWS = { open: runOpen, costs: runCosts };
/** Of the rival's most requests per second. */
const OPEN_SHARES = [0.5, 0.8];

export const help = `npm run bench -- server [options]

  --only ROWS         of ${[...Object.keys(ROWS), ...Object.keys(OTHER_ROWS)].join(',')} (default all)
                      one: one connection; besideLarge: the latency of small gets while 1 % of the requests read a value
                      of 1,000,000 bytes; open: gets at random moments, at 50 % and 80 % of the requests per second that
                      memcached serves at most; costs: system calls and user-space instructions per request
  --servers NAMES     of ${SERVERS.join(',')} (default cairn,memcached,floor; node: the front over node:net)
  --connections N     (default 50)
  --keys N            (default 100000)
  --value-bytes N     (default 32; the row large: 100 KiB)
  --rounds N          alternating rounds (default 5)
  --seconds N         of a measurement (default 1.5)
  --memcached PATH    the program (default memcached)
  --quick             everything once and short: shows that it runs, judges nothing
  --json              one JSON object instead of tables

Linux only: it reads /proc, and the floor is an epoll loop. Needs CMake and a C++ compiler; taskset keeps server and load on
a processor each. The row costs needs strace, and perf on a machine that counts instructions.
`;

const programs = join(root, 'native', 'build-bench');
const KEY_BYTES = 20;
/** Above this share of its processor the load itself is the limit: its requests per second judge nothing. */
const BUSY_MAX = 0.8;

function build() {
  const { status, stderr } = [
    ['-S', 'native', '-B', 'native/build-bench', '-DCAIRN_BENCH=ON'],
    ['--build', 'native/build-bench', '--target', 'server_load', 'server_floor', '--parallel', String(cpus().length)],
  ]
    .map((args) => spawnSync('cmake', args, { cwd: root, encoding: 'utf8' }))
    .find((ended) => ended.status !== 0) ?? { status: 0 };
  if (status !== 0) throw new Error(`The programs of the bench could not be built:\n${stderr}`);
}

const hasTaskset = () => cpus().length > 1 && spawnSync('taskset', ['-V']).status === 0;
const on = (processor, [command, ...args]) =>
  hasTaskset() ? ['taskset', ['-c', String(processor), command, ...args]] : [command, args];

/** Starts a server on a free port; resolves when it answers. */
async function start(name, { memcached, requestBytes, replyBytes }) {
  const lines = {
    cairn: [
      process.execPath,
      join(root, 'dist/cli/main.js'),
      'serve',
      '-p',
      '-1',
      '-l',
      '127.0.0.1',
      '-t',
      '1',
      '-m',
      '1024',
    ],
    memcached: [
      memcached,
      '-p',
      '-1',
      '-U',
      '0',
      '-l',
      '127.0.0.1',
      '-t',
      '1',
      '-m',
      '1024',
      '-u',
      userInfo().username,
    ],
    floor: [join(programs, 'server_floor'), `--request-bytes=${requestBytes}`, `--reply-bytes=${replyBytes}`],
  };
  lines.node = [...lines.cairn, '--front', 'node'];
  const [command, args] = on(0, lines[name]);
  const file = join(root, 'native', 'build-bench', `port-${process.pid}`);
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, MEMCACHED_PORT_FILENAME: file },
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  let output = '';
  const port = await new Promise((resolve, reject) => {
    child.once('error', () => reject(new Error(`${lines[name][0]} could not be started`)));
    child.once('close', () => reject(new Error(`${name} has ended:\n${output}`)));
    let looks = 0;
    const timer = setInterval(() => {
      if (looks++ === 1000) reject(new Error(`${name} does not say where it listens:\n${output}`));
      const found = /127\.0\.0\.1:(\d+)/.exec(output)?.[1] ?? (name === 'memcached' ? portIn(file) : undefined);
      if (found === undefined) return;
      clearInterval(timer);
      resolve(Number(found));
    }, 10);
    child.stdout.on('data', (text) => {
      output += text;
    });
    child.stderr.on('data', (text) => {
      output += text;
    });
    ended.then(() => clearInterval(timer));
  });
  rmSync(file, { force: true });
  const stop = async () => {
    child.stdin.end();
    child.kill();
    await ended;
  };
  return { name, port, pid: child.pid, stop };
}

function portIn(file) {
  try {
    return /TCP INET: (\d+)/.exec(readFileSync(file, 'utf8'))?.[1];
  } catch {
    return undefined;
  }
}

/** Microseconds of processor time that a process has used, to 10 ms. */
function cpuUs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/** One measurement of a server. */
async function measure(server, options) {
  const words = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const [command, args] = on(1, [join(programs, 'server_load'), `--port=${server.port}`, ...words]);
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  let before;
  child.stdout.on('data', (text) => {
    before ??= cpuUs(server.pid);
    output += text;
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`The load on ${server.name} has failed`);
  if ('fill' in options) return undefined;
  const found = JSON.parse(output.trim().split('\n').at(-1));
  return { ...found, rate: found.requests / found.seconds, cpuUs: (cpuUs(server.pid) - before) / found.requests };
}

function sizesOf(command, valueBytes) {
  const length = String(valueBytes).length;
  const get = 'VALUE  0 \r\n\r\n'.length + KEY_BYTES + length + valueBytes;
  const sizes = {
    get: [KEY_BYTES + 6, get + 5],
    set: [KEY_BYTES + length + valueBytes + 'set  0 0 \r\n\r\n'.length, 8],
    multi: [5 + 100 * (KEY_BYTES + 1), 100 * get + 5],
  };
  // Of a mixed load, that of its gets.
  const [requestBytes, replyBytes] = sizes[command] ?? sizes.get;
  return { requestBytes, replyBytes };
}

async function runRow(name, pipeline, settings) {
  const { command, valueBytes = settings.valueBytes, keys = settings.keys, connections, largeEvery } = ROWS[name];
  // Requests or replies of two sizes cannot be told from each other by the floor, which knows them by their size only.
  const names = settings.servers.filter(
    (server) => server !== 'floor' || (command !== 'mixed' && largeEvery === undefined),
  );
  const large = largeEvery === undefined ? {} : { 'large-every': largeEvery };
  const of = { command, valueBytes, keys, large };
  const results = new Map(names.map((server) => [server, []]));
  await withServers(names, of, settings, async (servers) => {
    const options = { command, pipeline, keys, 'value-bytes': valueBytes, ...large, ...settings.load };
    if (connections !== undefined) options.connections = connections;
    for (let round = 0; round < settings.rounds; round++) {
      for (const server of servers) results.get(server.name).push(await measure(server, options));
    }
  });
  return { row: `${name}, pipeline ${pipeline}`, results };
}

/** Starts the servers, sets all keys of each, and stops them after `use`. */
async function withServers(names, { command, valueBytes, keys, large = {} }, settings, use) {
  const servers = [];
  try {
    for (const name of names) {
      const started = await start(name, { ...settings, ...sizesOf(command, valueBytes) });
      servers.push(started);
      if (name !== 'floor') await measure(started, { fill: '', keys, 'value-bytes': valueBytes, ...large });
    }
    await use(servers);
  } finally {
    await Promise.all(servers.map(({ stop }) => stop()));
  }
}

async function runOpen(settings) {
  const { keys, valueBytes, load } = settings;
  const results = OPEN_SHARES.map(() => new Map());
  const rates = [];
  await withServers(settings.servers, { command: 'get', valueBytes, keys }, settings, async (servers) => {
    const options = { command: 'get', pipeline: 1, keys, 'value-bytes': valueBytes, ...load };
    const rival = servers.find(({ name }) => name === 'memcached') ?? servers[0];
    const most = (await measure(rival, options)).rate;
    for (const [index, share] of OPEN_SHARES.entries()) {
      rates.push(Math.round(most * share));
      for (let round = 0; round < settings.rounds; round++) {
        for (const server of servers) {
          const found = await measure(server, { ...options, rate: rates[index] });
          results[index].set(server.name, [...(results[index].get(server.name) ?? []), found]);
        }
      }
    }
  });
  return OPEN_SHARES.map((share, index) => ({
    row: `open loop, ${share * 100} %: ${number(rates[index])} gets/s`,
    results: results[index],
    print: printOpen,
  }));
}

/** What a request of pipeline 1 costs, counted while it is measured; undefined: this machine cannot count it. */
async function runCosts(settings) {
  const { keys, valueBytes, load } = settings;
  const results = new Map();
  await withServers(settings.servers, { command: 'get', valueBytes, keys }, settings, async (servers) => {
    for (const server of servers) {
      const options = { command: 'get', pipeline: 1, keys, 'value-bytes': valueBytes, ...load, 'warm-up': 0 };
      results.set(server.name, {
        calls: await countWhile(server, options, ['strace', '-c', '-f', '-p'], callsIn),
        instructions: await countWhile(
          server,
          options,
          ['perf', 'stat', '-x', ',', '-e', 'instructions:u', '-p'],
          instructionsIn,
        ),
      });
    }
  });
  return [{ row: 'costs of a get, pipeline 1', results, print: printCosts }];
}

async function countWhile(server, options, [command, ...args], read) {
  const counter = spawn(command, [...args, String(server.pid)], { stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  counter.stderr.on('data', (text) => {
    output += text;
  });
  const ended = new Promise((resolve) => {
    counter.once('error', resolve);
    counter.once('close', resolve);
  });
  // Both need a moment to attach, and perf says nothing then.
  await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 1000))]);
  const { requests } = await measure(server, options);
  counter.kill('SIGINT');
  await ended;
  const count = read(output);
  return count === undefined ? undefined : count / requests;
}

/** Of the last line of strace's table: the share of 100, seconds, microseconds per call, calls. */
function callsIn(output) {
  const calls = /^100\.00\s+\S+\s+\S+\s+(\d+)\s.*total$/m.exec(output)?.[1];
  return calls === undefined ? undefined : Number(calls);
}

function instructionsIn(output) {
  const count = /^(\d+),[^,]*,instructions/m.exec(output)?.[1];
  return count === undefined ? undefined : Number(count);
}

function print({ row, results }) {
  const rival = results.get('memcached');
  printTable(
    [row, 'requests/s', 'x memcached', 'server CPU us', 'x memcached', 'p50 us', 'p99', 'p99.9', 'load busy'],
    [...results].map(([server, rounds]) => {
      const all = (field, of = rounds) => of.map((round) => round[field]);
      const of = (field) => summaryOf(all(field));
      const times = (found) => (rival === undefined ? '-' : withRange(found(), 'x'));
      const rate = () => ratio(all('rate'), all('rate', rival));
      const cpu = () => ratio(all('cpuUs', rival), all('cpuUs'));
      const busy = of('busy').median;
      return [
        server,
        number(of('rate').median),
        busy < BUSY_MAX ? times(rate) : 'load is the limit',
        number(of('cpuUs').median),
        times(cpu),
        number(of('p50').median),
        number(of('p99').median),
        number(of('p999').median),
        `${Math.round(busy * 100)} %`,
      ];
    }),
  );
}

function printOpen({ row, results }) {
  printTable(
    [row, 'answered/s', 'p50 us', 'p99', 'p99.9', 'sent late'],
    [...results].map(([server, rounds]) => {
      const of = (field) => summaryOf(rounds.map((round) => round[field])).median;
      const times = ['p50', 'p99', 'p999'].map((field) => number(of(field)));
      return [server, number(of('rate')), ...times, `${(of('busy') * 100).toFixed(1)} %`];
    }),
  );
}

function printCosts({ row, results }) {
  printTable(
    [row, 'system calls', 'user-space instructions'],
    [...results].map(([server, { calls, instructions }]) => [
      server,
      calls === undefined ? 'strace cannot attach' : calls.toFixed(2),
      instructions === undefined ? 'not counted by this machine' : number(instructions),
    ]),
  );
}

export async function run(args) {
  const values = readOptions(args, help, {
    only: { type: 'string' },
    servers: { type: 'string' },
    connections: { type: 'string' },
    keys: { type: 'string' },
    'value-bytes': { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    memcached: { type: 'string' },
    quick: { type: 'boolean' },
    json: { type: 'boolean' },
  });
  if (values === undefined) return;
  if (process.platform !== 'linux') throw new RangeError('Expected Linux: the bench reads /proc');
  const rows = namesOption(values, 'only', [...Object.keys(ROWS), ...Object.keys(OTHER_ROWS)]);
  const quick = values.quick ?? false;
  const memcached = values.memcached ?? 'memcached';
  const hasMemcached = spawnSync(memcached, ['-V']).status === 0;
  const usual = hasMemcached ? ['cairn', 'memcached', 'floor'] : ['cairn', 'floor'];
  const settings = {
    servers: namesOption(values, 'servers', SERVERS, usual),
    memcached,
    keys: numberOption(values, 'keys', quick ? 1000 : 100_000),
    valueBytes: numberOption(values, 'value-bytes', 32),
    rounds: numberOption(values, 'rounds', quick ? 1 : 5),
    load: {
      connections: numberOption(values, 'connections', 50),
      seconds: numberOption(values, 'seconds', quick ? 0.1 : 1.5, { least: 0.05, isWhole: false }),
      'warm-up': quick ? 0.05 : 0.3,
    },
  };
  build();
  const machine = describeMachine();
  if (!values.json) printMachine(machine);
  const all = [];
  const add = (done) => {
    if (!values.json) (done.print ?? print)(done);
    all.push({ row: done.row, ...Object.fromEntries(done.results) });
  };
  for (const name of rows) {
    for (const pipeline of ROWS[name]?.pipelines ?? []) add(await runRow(name, pipeline, settings));
    for (const done of (await OTHER_ROWS[name]?.(settings)) ?? []) add(done);
  }
  if (values.json) console.log(JSON.stringify({ machine, rows: all }, undefined, 2));
}
