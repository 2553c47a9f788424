// The lines of `watch`, held against Debian's memcached: random commands of all protocols for both, and the same lines
// except their times, numbers and connections. Left out is what Cairn says otherwise (docs/protocol.md): values that
// are too large, and entries that have expired; and deletions, which 1.6.18 cannot be asked for.

import { expect, vi } from 'vitest';
import { Cache, serve } from '../../src/index.ts';
import { countExtras, packet, words } from '../support/binary-packets.ts';
import { whileMemcachedRuns, withMemcached } from '../support/memcached-process.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { Random } from '../support/random.ts';

const COMMANDS = 1500;
const KEYS = ['a', 'b%/', 'c\x01\xff'];
/** No entry has this cas number. */
const NO_CAS = 2n ** 64n - 1n;

function randomLine(random: Random): string {
  const key = random.pick(KEYS);
  const value = random.pick(['', '1', '99', 'x', 'longer']);
  const exptime = random.pick([0, 0, 1000]);
  const block = `${value.length}\r\n${value}\r\n`;
  return random.pick([
    () => `get ${key}\r\n`,
    () => `gets ${KEYS.join(' ')} nothing\r\n`,
    () => `gat 1000 ${key}\r\n`,
    () => `${random.pick(['set', 'set', 'add', 'replace', 'append', 'prepend'])} ${key} 0 ${exptime} ${block}`,
    () => `cas ${key} 0 ${exptime} ${value.length} ${NO_CAS}\r\n${value}\r\n`,
    () => `incr ${key} 7\r\n`,
    () => `touch ${key} 1000\r\n`,
    () => `delete ${key}\r\n`,
    () => `mg ${key} v\r\n`,
    () => `mg ${key} s q\r\n`,
    () => `me ${key}\r\n`,
    () => `ms ${key} ${value.length} T${exptime} ${random.pick(['', 'ME', 'MR', 'MA', 'MP'])}\r\n${value}\r\n`,
    () => `md ${key}\r\n`,
    () => `md ${key} q\r\n`,
    () => `ma n N1000 J${random.below(20)}\r\n`,
    () => `md n\r\n`,
    () => 'get\r\n',
  ])();
}

function randomPacket(random: Random): Buffer {
  const key = random.pick(KEYS);
  const value = random.pick(['', '1', 'x', 'longer']);
  return random.pick([
    () => packet(0x00, { key }),
    () => packet(0x09, { key }),
    () => packet(random.pick([0x01, 0x02, 0x03]), { key, value, extras: words(0, random.pick([0, 1000])) }),
    () => packet(0x01, { key, value, extras: words(0, 0), cas: NO_CAS }),
    () => packet(random.pick([0x0e, 0x0f]), { key, value }),
    () => packet(0x04, { key }),
    () => packet(0x05, { key: 'n', extras: countExtras(1n, 7n, random.pick([0, 1000, 0xffffffff])) }),
    () => packet(0x1c, { key, extras: words(1000) }),
    () => packet(0x1d, { key, extras: words(1000) }),
  ])();
}

/** The reply to a noop. */
const packetEnd = `\x81\x0a${'\0'.repeat(22)}`;

function masked(line: string): string {
  return line
    .replace(/^ts=\d+\.\d+ gid=\d+ /, '')
    .replace(/ cfd=\d+/, '')
    .replace(/( key=n .*) ttl=\d+/, '$1') // Of ma, memcached tells none.
    .replace(/(not_stored cmd=(?:ap|pre)pend) ttl=\d+/, '$1') // And here one that it ignores.
    .replace(/ ttl=[1-9]\d*/, ' ttl=some');
}

/** Has a server execute the commands, and resolves to the lines that a watcher gets, masked. */
async function linesOf(port: number, seed: number): Promise<string[]> {
  const [text, binary, watcher] = await Promise.all([1, 2, 3].map(() => MemcachedSocket.open(port)));
  try {
    await binary!.ask(packet(0x0a).toString('latin1'), packetEnd);
    expect(await watcher!.ask('watch fetchers mutations\r\n')).toBe('OK\r\n');
    const random = new Random(seed);
    for (let i = 0; i < COMMANDS; i++) {
      if (random.below(3) === 0) {
        const bytes = Buffer.concat([randomPacket(random), packet(0x0a)]);
        await binary!.ask(bytes.toString('latin1'), packetEnd);
      } else {
        await text!.ask(`${randomLine(random)}mn\r\n`, 'MN\r\n');
      }
    }
    // The threads of a server are read in turns: each of the two has a last line.
    await text!.ask('get end1\r\nmn\r\n', 'MN\r\n');
    await binary!.ask(Buffer.concat([packet(0x00, { key: 'end2' }), packet(0x0a)]).toString('latin1'), packetEnd);
    let lines = '';
    await vi.waitUntil(
      () => {
        lines += watcher!.take();
        return /key=end1 .*\n/.test(lines) && /key=end2 .*\n/.test(lines);
      },
      { timeout: 30_000 },
    );
    const numberOf = (line: string): number => Number(/ gid=(\d+)/.exec(line)?.[1]);
    const all = lines.split('\n').slice(0, -1);
    return all.sort((a, b) => numberOf(a) - numberOf(b)).map(masked);
  } finally {
    for (const client of [text, binary, watcher]) client!.destroy();
  }
}

withMemcached(
  `${COMMANDS} random commands leave the lines that they leave in memcached`,
  async () => {
    const cache = new Cache({ maxMemory: '16mb' });
    const server = await serve(cache, { port: 0, host: '127.0.0.1' });
    const [address] = server.addresses;
    const { seed } = new Random();
    try {
      await whileMemcachedRuns(async (port) => {
        const theirs = await linesOf(port, seed);
        const ours = await linesOf(address !== undefined && 'port' in address ? address.port : 0, seed);
        const other = ours.findIndex((line, i) => line !== theirs[i]);
        const from = Math.max(other - 5, 0);
        expect(ours.slice(from, other + 5), `CAIRN_SEED=${seed}`).toEqual(theirs.slice(from, other + 5));
        expect(ours.length).toBe(theirs.length);
        expect(ours.length).toBeGreaterThan(COMMANDS);
      });
    } finally {
      server.destroy();
      await server.close();
      await cache.close();
    }
  },
  120_000,
);
