#!/usr/bin/env node
// Replays the transcripts in this folder against a memcached-compatible server and compares every reply.
//
//   node play.mjs HOST PORT [options] [files...]
//   node play.mjs --start "CMD" [options] [files...]
//
// The format of the files and the placeholders are described in README.md; tests use the functions exported here.

import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const FIRST_BYTE_MS = 10000; // how long a reply may take to begin
const STALL_MS = 5000;      // a reply that has begun, does not match and stands still for this long has failed
const QUIET_MS = 50;        // "no reply" means nothing within this time
const SPLIT_MS = 15;        // pause between the parts of a send that is an array
const START_MS = 10000;     // how long a server may take to listen
const CLOSE_MS = 2000;      // how long a promised close may take

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---------------------------------------------------------------------------------------------------------------
// Templates: strings with placeholders in angle brackets, over bytes kept as latin1 strings.

/** Splits a template into literals and placeholders. `hex` templates hold hexadecimal digits, blanks and '|'. */
export function parseTemplate(template, hex = false) {
  const tokens = [];
  const literal = (text) => {
    const last = tokens.at(-1);
    if (last?.kind === 'literal') last.text += text;
    else if (text !== '') tokens.push({ kind: 'literal', text });
  };
  for (const part of template.split(/(<[^<>]*>)/)) {
    if (part === '') continue;
    if (!(part.startsWith('<') && part.endsWith('>'))) {
      literal(hex ? fromHex(part) : part);
      continue;
    }
    const body = part.slice(1, -1);
    let m;
    if (body === 'lt') literal('<');
    else if ((m = /^rep:(\d+):([^]*)$/.exec(body))) literal((hex ? fromHex(m[2]) : m[2]).repeat(Number(m[1])));
    else if ((m = /^hex:([0-9a-fA-F\s]*)$/.exec(body))) literal(fromHex(m[1]));
    else if ((m = /^cas:(\w+)(?:([+-])(\d+)|!(\w+))?$/.exec(body))) {
      tokens.push({ kind: 'cas', name: m[1], add: m[2] ? BigInt(m[2] + m[3]) : 0n, not: m[4] });
    } else if ((m = /^now(?:([+-])(\d+))?$/.exec(body))) tokens.push({ kind: 'now', add: Number((m[1] ?? '+') + (m[2] ?? 0)) });
    else if (body === 'int') tokens.push({ kind: 'int', low: -Infinity, high: Infinity });
    else if ((m = /^int:(-?\d+)\.\.(-?\d+)$/.exec(body))) tokens.push({ kind: 'int', low: Number(m[1]), high: Number(m[2]) });
    else if (body === 'any') tokens.push({ kind: 'any' });
    else if (body === 'lines') tokens.push({ kind: 'lines' });
    else if (body === 'packets') tokens.push({ kind: 'packets' });
    else if ((m = /^any:(\d+)$/.exec(body))) tokens.push({ kind: 'skip', count: Number(m[1]) });
    else if ((m = /^len:(\w+)$/.exec(body))) tokens.push({ kind: 'len', name: m[1] });
    else if ((m = /^bytes:(\w+)$/.exec(body))) tokens.push({ kind: 'bytes', name: m[1] });
    else throw new Error(`unknown placeholder ${part}`);
  }
  return tokens;
}

function fromHex(text) {
  const digits = text.replace(/[\s|]/g, '');
  if (!/^([0-9a-fA-F]{2})*$/.test(digits)) throw new Error(`bad hexadecimal text ${JSON.stringify(text)}`);
  return Buffer.from(digits, 'hex').toString('latin1');
}

function bigEndian(value, bytes) {
  return Buffer.from(value.toString(16).padStart(bytes * 2, '0'), 'hex').toString('latin1');
}

/** The bytes to send for a template; `names` holds the CAS values bound so far. An unbound name sends 0. */
export function expand(template, names, hex = false) {
  let out = '';
  for (const token of parseTemplate(template, hex)) {
    if (token.kind === 'literal') out += token.text;
    else if (token.kind === 'cas') {
      const value = BigInt(names.get(token.name) ?? 0n) + token.add;
      out += hex ? bigEndian(value < 0n ? 0n : value, 8) : String(value < 0n ? 0n : value);
    } else if (token.kind === 'now') {
      const seconds = Math.floor(Date.now() / 1000) + token.add;
      out += hex ? bigEndian(seconds, 4) : String(seconds);
    } else throw new Error(`placeholder of kind ${token.kind} cannot be sent`);
  }
  return out;
}

/**
 * Compares received bytes with a template. Returns { ok, names, at }: the names bound so far including new ones, and
 * how many received bytes agreed when they did not all match.
 */
export function matchTemplate(template, got, names, hex = false) {
  const tokens = parseTemplate(template, hex);
  let furthest = 0;
  const walk = (index, pos, bound) => {
    for (; index < tokens.length; index++) {
      furthest = Math.max(furthest, pos);
      const token = tokens[index];
      if (token.kind === 'literal') {
        if (!got.startsWith(token.text, pos)) {
          let same = 0;
          while (same < token.text.length && token.text[same] === got[pos + same]) same++;
          furthest = Math.max(furthest, pos + same);
          return null;
        }
        pos += token.text.length;
      } else if (token.kind === 'cas') {
        let value;
        if (hex) {
          if (pos + 8 > got.length) return null;
          value = BigInt('0x' + Buffer.from(got.slice(pos, pos + 8), 'latin1').toString('hex'));
          pos += 8;
        } else {
          const digits = /^\d+/.exec(got.slice(pos, pos + 24));
          if (!digits) return null;
          value = BigInt(digits[0]);
          pos += digits[0].length;
        }
        if (bound.has(token.name)) {
          if (bound.get(token.name) + token.add !== value) return null;
        } else {
          if (value === 0n || (token.not && bound.get(token.not) === value)) return null;
          bound = new Map(bound).set(token.name, value);
        }
      } else if (token.kind === 'int') {
        const digits = /^-?\d+/.exec(got.slice(pos, pos + 24));
        if (!digits || Number(digits[0]) < token.low || Number(digits[0]) > token.high) return null;
        pos += digits[0].length;
      } else if (token.kind === 'any') {
        for (let end = pos; end <= got.length; end++) {
          const rest = walk(index + 1, end, bound);
          if (rest) return rest;
          if (got[end] === '\r' || got[end] === '\n') break;
        }
        return null;
      } else if (token.kind === 'lines') {
        for (let end = pos; end !== -1 && end <= got.length; end = nextLine(got, end)) {
          const rest = walk(index + 1, end, bound);
          if (rest) return rest;
        }
        return null;
      } else if (token.kind === 'packets') {
        for (let end = pos; end !== -1 && end <= got.length; end = nextKeyedPacket(got, end)) {
          const rest = walk(index + 1, end, bound);
          if (rest) return rest;
        }
        return null;
      } else if (token.kind === 'skip') {
        pos += token.count;
        if (pos > got.length) return null;
      } else if (token.kind === 'len') {
        if (pos + 4 > got.length) return null;
        bound = new Map(bound).set(`len ${token.name}`, Buffer.from(got.slice(pos, pos + 4), 'latin1').readUInt32BE());
        pos += 4;
      } else if (token.kind === 'bytes') {
        pos += bound.get(`len ${token.name}`) ?? 0;
        if (pos > got.length) return null;
      } else throw new Error(`placeholder of kind ${token.kind} cannot be expected`);
    }
    furthest = Math.max(furthest, pos);
    return pos === got.length ? bound : null;
  };
  const bound = walk(0, 0, new Map(names));
  return bound ? { ok: true, names: bound, at: got.length } : { ok: false, names, at: furthest };
}

function nextLine(text, from) {
  const at = text.indexOf('\n', from);
  return at === -1 ? -1 : at + 1;
}

function nextKeyedPacket(text, from) {
  if (from + 24 > text.length) return -1;
  const header = Buffer.from(text.slice(from, from + 24), 'latin1');
  return header[0] === 0x81 && header.readUInt16BE(2) > 0 ? from + 24 + header.readUInt32BE(8) : -1;
}

/** Reads a `stats` reply into a map of names and kinds of values. Slab classes, file descriptors become N. */
export function statsOf(reply) {
  if (!reply.endsWith('END\r\n')) return null;
  const stats = {};
  for (const line of reply.slice(0, -5).split('\r\n').slice(0, -1)) {
    const m = /^STAT (\S+) ?(.*)$/.exec(line);
    if (!m) return null;
    const name = m[1].replace(/^items:\d+:/, 'items:N:').replace(/^\d+:/, 'N:');
    const kind = /^-?\d+$/.test(m[2]) ? 'int' : /^-?\d+\.\d+$/.test(m[2]) ? 'float'
      : /^(yes|no)$/.test(m[2]) ? 'yesno' : 'text';
    stats[name] = name in stats && stats[name] !== kind ? 'text' : kind;
  }
  return stats;
}

// ---------------------------------------------------------------------------------------------------------------
// Connections

export class Connection {
  static open(host, port, transport = 'tcp') {
    return transport === 'udp' ? UdpConnection.open(host, port) : TcpConnection.open(host, port);
  }
}

class TcpConnection {
  received = '';
  closed = false;
  #waiters = new Set();

  static open(host, port) {
    return new Promise((resolve, reject) => {
      const connection = new TcpConnection();
      const socket = net.connect({ host, port, noDelay: true });
      connection.socket = socket;
      let up = false;
      socket.once('connect', () => { up = true; resolve(connection); });
      socket.on('data', (chunk) => { connection.received += chunk.toString('latin1'); connection.#wake(); });
      socket.on('end', () => { connection.closed = true; connection.#wake(); });
      socket.on('close', () => { connection.closed = true; connection.#wake(); });
      socket.on('error', (error) => {
        connection.closed = true;
        if (!up) reject(error);
        connection.#wake();
      });
    });
  }

  #wake() {
    for (const waiter of this.#waiters) waiter();
    this.#waiters.clear();
  }

  send(bytes) {
    if (this.socket.writable) this.socket.write(Buffer.from(bytes, 'latin1'));
  }

  /** Resolves true when something new arrived or the connection closed, false after `ms`. */
  change(ms) {
    return new Promise((resolve) => {
      const waiter = () => { clearTimeout(timer); resolve(true); };
      const timer = setTimeout(() => { this.#waiters.delete(waiter); resolve(false); }, ms);
      this.#waiters.add(waiter);
    });
  }

  clear() { this.received = ''; }
  destroy() { this.socket.destroy(); }
}

class UdpConnection {
  datagrams = [];
  closed = false;
  #waiters = new Set();

  static open(host, port) {
    return new Promise((resolve, reject) => {
      const connection = new UdpConnection();
      const socket = dgram.createSocket('udp4');
      connection.socket = socket;
      socket.on('error', reject);
      socket.on('message', (message) => {
        connection.datagrams.push(message.toString('latin1'));
        for (const waiter of connection.#waiters) waiter();
        connection.#waiters.clear();
      });
      socket.connect(port, host, () => resolve(connection));
    });
  }

  get received() { return this.datagrams; }
  send(bytes) { this.socket.send(Buffer.from(bytes, 'latin1')); }

  change(ms) {
    return new Promise((resolve) => {
      const waiter = () => { clearTimeout(timer); resolve(true); };
      const timer = setTimeout(() => { this.#waiters.delete(waiter); resolve(false); }, ms);
      this.#waiters.add(waiter);
    });
  }

  clear() { this.datagrams = []; }
  destroy() { this.socket.close(); }
}

// ---------------------------------------------------------------------------------------------------------------
// Steps and cases

const isHex = (step) => step.sendHex !== undefined || step.expectHex !== undefined;

/** Sends what a step sends: one write, several writes with pauses between them, or one write per byte. */
export async function sendStep(connection, step, names) {
  const hex = step.sendHex !== undefined;
  const parts = [step.sendHex ?? step.send ?? ''].flat().map((part) => expand(part, names, hex));
  const writes = step.everyByte ? [...parts.join('')] : parts;
  for (const [index, bytes] of writes.entries()) {
    if (index > 0) await sleep(step.everyByte ? 1 : SPLIT_MS);
    if (bytes !== '') connection.send(bytes);
  }
}

/** The templates that a step accepts, best first. `as` is '1.6.18' to prefer what that version answers. */
function acceptedBy(step, as) {
  const own = step.expectHex ?? step.expect;
  const all = [];
  if (as === '1.6.18' && step.reply_1_6_18 !== undefined) all.push(step.reply_1_6_18);
  else if (own !== undefined) all.push(own, ...[step.orExpect ?? []].flat());
  return all;
}

function compare(template, got, names, hex) {
  if (!Array.isArray(template)) return matchTemplate(template, got, names, hex);
  if (got.length !== template.length) return { ok: false, names, at: 0 };
  for (const [index, datagram] of template.entries()) {
    const result = matchTemplate(datagram, got[index], names);
    if (!result.ok) return { ...result, datagram: index };
    names = result.names;
  }
  return { ok: true, names };
}

/** Waits for the reply of one step. Returns null when it is right, else { expected, got, why }. */
async function checkStep(connection, step, names, as) {
  const hex = isHex(step);
  if (step.expectStats) return checkStats(connection, step, as);
  const templates = acceptedBy(step, as);
  const silent = templates.every((template) => template.length === 0);
  const closes = as === '1.6.18' && step.closes_1_6_18 !== undefined ? step.closes_1_6_18 : step.closes;
  if (silent) await connection.change(closes ? CLOSE_MS : QUIET_MS);
  else if (templates.length > 1) { // one may be the beginning of another
    if (connection.received.length === 0) await connection.change(FIRST_BYTE_MS);
    while (!connection.closed && await connection.change(QUIET_MS));
  }
  let best;
  for (;;) {
    for (const template of templates) {
      const result = compare(template, connection.received, names, hex);
      if (result.ok) {
        for (const [name, value] of result.names) names.set(name, value);
        best = null;
        break;
      }
      if (!best || result.at > best.at) best = { template, ...result };
    }
    if (best === null || connection.closed) break;
    if (!await connection.change(connection.received.length === 0 ? FIRST_BYTE_MS : STALL_MS)) break;
    best = undefined;
  }
  const got = connection.received;
  connection.clear();
  if (best) return { expected: best.template, got, at: best.at, hex, why: connection.closed ? 'other reply, and the server closed' : 'other reply' };
  if (closes && !connection.closed) {
    await connection.change(CLOSE_MS);
    if (!connection.closed) return { expected: '', got: '', hex, why: 'the server should have closed the connection' };
  }
  return null;
}

async function checkStats(connection, step, as) {
  while (!connection.received.endsWith('END\r\n')) {
    if (connection.closed || !await connection.change(FIRST_BYTE_MS)) break;
  }
  const got = connection.received;
  connection.clear();
  const stats = statsOf(got);
  if (!stats) return { expected: 'STAT lines and END', got, why: 'not a stats reply' };
  const expected = { ...step.expectStats };
  if (as === '1.6.18' && step.reply_1_6_18) {
    for (const name of step.reply_1_6_18.absent) delete expected[name];
    Object.assign(expected, step.reply_1_6_18.extra);
  }
  const wrong = [];
  for (const [name, kind] of Object.entries(expected)) {
    if (!(name in stats)) wrong.push(`missing ${name}`);
    else if (kind !== 'text' && stats[name] !== kind && !(kind === 'float' && stats[name] === 'int')) {
      wrong.push(`${name} should be ${kind}, is ${stats[name]}`);
    }
  }
  return wrong.length > 0 ? { expected: wrong.join('\n'), got: '', raw: true, why: 'stats' } : null;
}

/** Empties the server over a new connection. */
export async function flushServer(host, port) {
  const connection = await Connection.open(host, port);
  connection.send('flush_all\r\n');
  const deadline = Date.now() + FIRST_BYTE_MS;
  while (!connection.received.endsWith('\n') && !connection.closed && Date.now() < deadline) await connection.change(100);
  const reply = connection.received;
  connection.destroy();
  if (reply !== 'OK\r\n') throw new Error(`flush_all answered ${JSON.stringify(reply)}`);
}

/** What every case ends with: a command that must be answered by exactly one reply, so that nothing was left over. */
function closingStep(testCase) {
  const hex = testCase.steps.some(isHex);
  return hex
    ? { sendHex: '80 0a 0000 00 00 0000 00000000 7fffffff 0000000000000000', expectHex: '81 0a 0000 00 00 0000 00000000 7fffffff 0000000000000000' }
    : { send: 'mn\r\n', expect: 'MN\r\n' };
}

/** Plays one case. `report(stepNumber, step, problem)` is called for each step; problem is null when it passed. */
export async function playCase(host, port, file, testCase, as, report) {
  if (testCase.flush ?? file.flush ?? true) await flushServer(host, port);
  const connections = new Map();
  const names = new Map();
  const get = async (number) => {
    if (!connections.has(number)) connections.set(number, await Connection.open(host, port, testCase.transport));
    return connections.get(number);
  };
  try {
    const used = new Set();
    let closed = false;
    for (const [index, step] of testCase.steps.entries()) {
      if (step.wait) await sleep(step.wait);
      const number = step.conn ?? 1;
      used.add(number);
      const connection = await get(number);
      let problem = null;
      if (connection.closed && (step.send || step.sendHex)) {
        problem = { expected: step.expect ?? step.expectHex ?? '', got: '', why: 'the connection was closed before this step' };
      } else {
        await sendStep(connection, step, names);
        problem = await checkStep(connection, step, names, as);
      }
      closed ||= Boolean(step.closes || step.closes_1_6_18);
      report(index + 1, step, problem);
    }
    if (testCase.transport === 'udp' || testCase.end === false || closed) return;
    for (const number of used) {
      const connection = connections.get(number);
      const step = closingStep(testCase);
      await sendStep(connection, step, names);
      const problem = await checkStep(connection, step, names, as);
      if (problem) report(testCase.steps.length, { ...step, note: `after the last step, on connection ${number}` }, { ...problem, extra: true });
    }
  } finally {
    for (const connection of connections.values()) connection.destroy();
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Servers

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Starts `command` with the flags of a file on a free port of 127.0.0.1. Returns { port, stop }. */
export async function startServer(command, flags, files = {}) {
  const port = await freePort();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'transcripts-'));
  fs.chmodSync(folder, 0o755);
  for (const [name, content] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), content, { mode: 0o644 });
  const given = flags.map((flag) => flag.replace('{port}', String(port)).replace(/\{file:([^}]+)\}/, (_, name) => path.join(folder, name)));
  const [program, ...own] = command.split(/\s+/).filter(Boolean);
  const child = spawn(program, [...own, '-l', '127.0.0.1', '-p', String(port), ...given], { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  let gone = false;
  child.stderr.on('data', (chunk) => { stderr = (stderr + chunk).slice(-2000); });
  const exit = new Promise((resolve) => {
    child.once('error', (error) => { gone = true; stderr += error.message; resolve(); });
    child.once('exit', () => { gone = true; resolve(); });
  });
  const stop = async () => {
    if (!gone) child.kill('SIGTERM');
    const hard = setTimeout(() => { if (!gone) child.kill('SIGKILL'); }, 3000);
    await exit;
    clearTimeout(hard);
    fs.rmSync(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_MS;
  for (;;) {
    if (gone || Date.now() > deadline) {
      await stop();
      throw new Error(`the server did not start: ${program} ${given.join(' ')}\n${stderr}`);
    }
    try {
      (await Connection.open('127.0.0.1', port)).destroy();
      return { port, stop };
    } catch {
      await sleep(25);
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Output

/** Bytes as readable text: escapes, and long runs of one character as <rep:N:c>. */
export function show(bytes, hex = false, max = 600) {
  if (Array.isArray(bytes)) return bytes.length === 0 ? '(nothing)' : bytes.map((datagram) => show(datagram, false, max)).join('\n           ');
  if (bytes === '') return '(nothing)';
  const text = hex
    ? Buffer.from(bytes, 'latin1').toString('hex').replace(/(..)/g, '$1 ').trim()
    : bytes.replace(/([^])\1{39,}/g, (run, char) => `<rep:${run.length}:${char}>`)
        .replace(/[\x00-\x1f\x7f-\xff\\]/g, (char) => ({ '\r': '\\r', '\n': '\\n', '\t': '\\t', '\\': '\\\\' })[char]
          ?? '\\x' + char.charCodeAt(0).toString(16).padStart(2, '0'));
  return text.length > max ? `${text.slice(0, max)}... (${bytes.length} bytes)` : text;
}

function printProblem(write, fileName, testCase, number, step, problem) {
  write(`\n  ${fileName}: ${testCase.name}, step ${number}: ${problem.why}\n`);
  if (step.note) write(`    note     ${step.note}\n`);
  const sent = [step.sendHex ?? step.send ?? ''].flat().join(' ~ ');
  if (sent) write(`    send     ${step.sendHex ? sent : show(sent)}\n`);
  if (problem.raw) {
    write(problem.expected.split('\n').map((line) => `    ${line}\n`).join(''));
    return;
  }
  write(`    expected ${problem.hex && typeof problem.expected === 'string' ? problem.expected || '(nothing)' : show(problem.expected)}\n`);
  write(`    got      ${show(problem.got, problem.hex)}\n`);
  if (problem.at > 0 && typeof problem.got === 'string') write(`    first difference after ${problem.at} bytes\n`);
}

const USAGE = `usage: node play.mjs HOST PORT [options] [files...]
       node play.mjs --start "CMD" [options] [files...]

Replays transcripts (default: every .json file beside this script) and compares the replies.
  --start CMD     start a server for each file: CMD -l 127.0.0.1 -p FREE_PORT plus the file's own flags
  --case TEXT     only cases whose name contains TEXT
  --as 1.6.18     expect what memcached 1.6.18 answers where that differs
  --strict        do not accept "orExpect": only what 1.6.45 answered
  --brief         no diffs, only the counts
Exit status: 0 all passed, 1 something failed, 2 wrong usage or no server.`;

async function main(args) {
  const options = { files: [] };
  const plain = [];
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--start') options.start = args[++i];
    else if (args[i] === '--case') options.only = args[++i];
    else if (args[i] === '--as') options.as = args[++i];
    else if (args[i] === '--strict') options.strict = true;
    else if (args[i] === '--brief') options.brief = true;
    else if (args[i] === '--help' || args[i] === '-h') { console.log(USAGE); return 0; }
    else if (args[i].startsWith('--')) { console.error(`unknown option ${args[i]}\n\n${USAGE}`); return 2; }
    else plain.push(args[i]);
  }
  if (options.start === undefined) {
    [options.host, options.port] = plain.splice(0, 2);
    if (!options.host || !/^\d+$/.test(options.port ?? '')) { console.error(USAGE); return 2; }
  }
  const here = path.dirname(fileURLToPath(import.meta.url));
  const files = plain.length > 0 ? plain : fs.readdirSync(here).filter((name) => name.endsWith('.json')).sort().map((name) => path.join(here, name));
  const write = options.brief ? () => {} : (text) => process.stdout.write(text);
  const total = { passed: 0, failed: 0, skipped: 0 };

  for (const name of files) {
    const file = JSON.parse(fs.readFileSync(name, 'utf8'));
    const fileName = path.basename(name);
    const count = { passed: 0, failed: 0, skipped: 0 };
    const cases = file.cases.filter((testCase) => !options.only || testCase.name.includes(options.only));
    let shared = null;
    if (!options.start && (file.start ?? []).join(' ') !== '-m 64') write(`  ${fileName} was recorded with: ${file.start.join(' ')}\n`);
    try {
      for (const testCase of cases) {
        if (options.strict) for (const step of testCase.steps) delete step.orExpect;
        let host = options.host;
        let port = Number(options.port);
        let server = null;
        if (options.start) {
          host = '127.0.0.1';
          if (testCase.start) server = await startServer(options.start, testCase.start, { ...file.files, ...testCase.files });
          else shared ??= await startServer(options.start, file.start ?? [], file.files);
          port = (server ?? shared).port;
        } else if (testCase.start) {
          count.skipped += testCase.steps.length;
          continue;
        }
        const failedSteps = new Set();
        const seen = new Set();
        try {
          await playCase(host, port, file, testCase, options.as, (number, step, problem) => {
            seen.add(number);
            if (problem) {
              failedSteps.add(number);
              printProblem(write, fileName, testCase, number, step, problem);
            }
          });
        } catch (error) {
          write(`\n  ${fileName}: ${testCase.name}: ${error.message}\n`);
          for (let number = 1; number <= testCase.steps.length; number++) if (!seen.has(number)) failedSteps.add(number);
        } finally {
          await server?.stop();
        }
        count.failed += failedSteps.size;
        count.passed += testCase.steps.length - failedSteps.size;
      }
    } catch (error) {
      console.error(`${fileName}: ${error.message}`);
      return 2;
    } finally {
      await shared?.stop();
    }
    console.log(`${fileName}: ${count.passed} passed, ${count.failed} failed${count.skipped ? `, ${count.skipped} skipped (need a server of their own: use --start)` : ''}`);
    for (const key of Object.keys(total)) total[key] += count[key];
  }
  console.log(`total: ${total.passed} passed, ${total.failed} failed${total.skipped ? `, ${total.skipped} skipped` : ''}`);
  return total.failed > 0 ? 1 : 0;
}

if (process.argv[1] && import.meta.url === pathToFileURL(fs.realpathSync(process.argv[1])).href) {
  process.exitCode = await main(process.argv.slice(2));
}
