// Random streams of meta and text commands, asked of Cairn and of Debian's memcached 1.6.18, whose answers to these are
// those of 1.6.45. Cas numbers differ from server to server: each is asked for the one that it gave last, or for one
// that is lower, and they are not compared. Of times only what does not change while the test runs is.
//
// Left out is what 1.6.18 has not or answers otherwise (the recordings say so): E, x, C of mg, N of ms, s of ms, q with
// N of ma, T of ma; and h, which an append here keeps.

import { expect } from 'vitest';
import { Cache, serve } from '../../src/index.ts';
import { whileMemcachedRuns, withMemcached1618 } from '../support/memcached-process.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { Random } from '../support/random.ts';

const COMMANDS = 3000;
const KEYS = ['a', 'b', 'Zm9v'];
/** One letter each; C stands for a cas number. */
const FLAGS: Readonly<Record<string, readonly string[]>> = {
  mg: [
    'v',
    'k',
    't',
    'f',
    's',
    'q',
    'O1',
    'u',
    'N1000',
    'N0',
    'R100',
    'R5000',
    'T0',
    'T1000',
    'T90',
    'b',
    'c',
    'z',
    'Tx',
  ],
  ms: [
    'ME',
    'MA',
    'MP',
    'MR',
    'MS',
    'MX',
    'F7',
    'T1000',
    'T90',
    'T0',
    'T-1',
    'k',
    'c',
    'O2',
    'q',
    'C',
    'C-',
    'I',
    'b',
    'Fx',
  ],
  md: ['I', 'I', 'T90', 'T1000', 'q', 'k', 'O3', 'C', 'C-', 'b'],
  ma: ['N1000', 'J7', 'D3', 'MI', 'M+', 'v', 't', 'c', 'k', 'O4', 'C', 'Dx', 'q'],
};

interface Command {
  readonly text: string;
  readonly key: string;
}

function randomCommand(random: Random): Command {
  // memcached may store a counted number as a new item, which then has no marks: numbers have keys of their own.
  const isNumber = random.below(3) === 0;
  const key = isNumber ? 'n' : random.pick(KEYS);
  const value = random.pick(isNumber ? ['1', '10', '99'] : ['1', 'x', '', 'longer']);
  const name = random.pick(['mg', 'mg', 'ms', isNumber ? 'ma' : 'md', isNumber ? 'ma' : 'mg', 'text']);
  if (name === 'text') {
    const text = random.pick([
      `get ${key}\r\n`,
      `set ${key} 5 0 ${value.length}\r\n${value}\r\n`,
      isNumber ? `incr ${key} 5\r\n` : `append ${key} 0 0 1\r\n1\r\n`,
      `touch ${key} 1000\r\n`,
      `gat 90 ${key}\r\n`,
      `delete ${key}\r\n`,
    ]);
    return { text, key };
  }
  const flags = Array.from({ length: random.below(6) }, () => random.pick(FLAGS[name] ?? []));
  if (isNumber && flags.some((flag) => /^[NRI]/.test(flag) && name !== 'ma')) flags.splice(0);
  // 1.6.18 has one error for all wrong flags of md.
  const letters = new Set(flags.map((flag) => flag[0]));
  if (name === 'md' && (letters.size !== flags.length || (letters.has('b') && key !== 'Zm9v'))) flags.splice(0);
  // The cas numbers are those of the key as it stands there.
  if (flags.includes('b') && flags.some((flag) => flag.startsWith('C'))) flags.splice(0);
  if (name === 'mg' && flags.includes('b') && flags.some((flag) => flag.startsWith('N'))) flags.splice(0);
  if (name === 'ma' && flags.includes('q') && flags.includes('N1000')) flags.splice(0);
  const words = [name, key, ...(name === 'ms' ? [value.length] : []), ...flags].join(' ');
  return { text: `${words}\r\n${name === 'ms' ? `${value}\r\n` : ''}`, key };
}

/** A server, and the cas numbers that it gave. */
class Side {
  readonly #client: MemcachedSocket;
  readonly #cas = new Map<string, bigint>();

  constructor(client: MemcachedSocket) {
    this.#client = client;
  }

  async ask({ text, key }: Command): Promise<string> {
    const cas = this.#cas.get(key) ?? 1n;
    const bytes = text.replace(/ C(-?)(?=[ \r])/g, (_, lower) => ` C${lower === '' ? cas : cas - 1n}`);
    const all = await this.#client.ask(`${bytes}gets ${key}\r\nmn\r\n`, 'MN\r\n');
    const [, given] = /VALUE \S+ \d+ \d+ (\d+)\r\n[\s\S]*END\r\nMN\r\n$/.exec(all) ?? [];
    if (given !== undefined) this.#cas.set(key, BigInt(given));
    return all
      .replace(/(VALUE \S+ \d+ \d+) \d+\r\n/g, '$1\r\n')
      .replace(/ c\d+/g, ' c')
      .replace(/ t(\d+)/g, (_, left) => ` t~${Math.ceil(Number(left) / 30)}`);
  }
}

withMemcached1618(
  `${COMMANDS} random commands are answered as memcached answers them`,
  async () => {
    const cache = new Cache({ maxMemory: '16mb' });
    const server = await serve(cache, { port: 0, host: '127.0.0.1' });
    const [address] = server.addresses;
    const client = await MemcachedSocket.open(address !== undefined && 'port' in address ? address.port : 0);
    try {
      await whileMemcachedRuns(async (port) => {
        const theirClient = await MemcachedSocket.open(port);
        const random = new Random();
        const ours = new Side(client);
        const theirs = new Side(theirClient);
        const recent: string[] = [];
        for (let i = 0; i < COMMANDS; i++) {
          const command = randomCommand(random);
          recent.push(command.text);
          const what = `CAIRN_SEED=${random.seed}, after ${JSON.stringify(recent.slice(-12))}`;
          expect(await ours.ask(command), what).toBe(await theirs.ask(command));
        }
        theirClient.destroy();
      });
    } finally {
      client.destroy();
      server.destroy();
      await server.close();
      await cache.close();
    }
  },
  120_000,
);
