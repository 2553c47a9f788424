// Random streams of the binary protocol, held against a memcached: the same requests, in pipelines, quiet and loud,
// with right and wrong cas numbers, get the same replies over both fronts; and a stream that ends in a broken packet
// ends alike. Of cas numbers only their presence is compared: each server has its own.
//
// Left out: what Debian's 1.6.18 answers otherwise than 1.6.45 (a body of 2 GiB), what is a deliberate difference
// (docs/protocol.md), and expiries near now, because memcached's clock ticks once a second.

import { describe, expect } from 'vitest';
import { Cache, type ServeFront, serve } from '../../src/index.ts';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { countExtras, type PacketParts, packet, type Reply, repliesIn, words } from '../support/binary-packets.ts';
import { whileMemcachedRuns, withMemcached } from '../support/memcached-process.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { Random } from '../support/random.ts';

const STREAMS = 20;
const PIPELINES = 25;
const NOOP = 0x0a;
const VERSION = 0x0b;
/** To a cas number: neither server has given the sum. */
const NEVER_GIVEN = 2n ** 40n;

/** The expiry with which incr and decr make no entry. */
const NO_CREATE = 0xffff_ffff;

/** A request without its cas number, which each server gives otherwise. */
interface Request {
  readonly opcode: number;
  readonly parts: PacketParts;
  readonly cas: 'none' | 'right' | 'wrong';
}

/** One server, the connection to it, and the cas numbers that it has told. */
class Side {
  readonly #socket: MemcachedSocket;
  readonly #cas = new Map<string, bigint>();

  private constructor(socket: MemcachedSocket) {
    this.#socket = socket;
  }
  static async open(port: number): Promise<Side> {
    return new Side(await MemcachedSocket.open(port));
  }

  /** Sends the requests with a noop behind them, and resolves to all replies. */
  async ask(requests: readonly Request[]): Promise<unknown[]> {
    const noop = packet(NOOP, { opaque: requests.length });
    const end = Buffer.concat([Buffer.from([0x81]), noop.subarray(1)]).toString('latin1');
    this.#socket.send(Buffer.concat([...requests.map((request, i) => this.#packetOf(request, i)), noop]));
    let text = '';
    await this.#socket.until('the reply to the noop', () => {
      text += this.#socket.take();
      return text.endsWith(end);
    });
    return repliesIn(text).map((reply) => this.#shown(reply, requests));
  }

  /** Sends bytes that end the connection, and resolves to what comes before. */
  async last(bytes: Buffer): Promise<unknown[]> {
    this.#socket.send(bytes);
    const text = await this.#socket.ending();
    return repliesIn(text).map((reply) => this.#shown(reply, []));
  }

  #packetOf({ opcode, parts, cas }: Request, opaque: number): Buffer {
    const told = this.#cas.get(parts.key ?? '') ?? 0n;
    return packet(opcode, { ...parts, opaque, cas: cas === 'none' ? 0n : cas === 'right' ? told : told + NEVER_GIVEN });
  }

  #shown({ cas, ...reply }: Reply, requests: readonly Request[]): unknown {
    const key = requests[reply.opaque]?.parts.key;
    if (key !== undefined && cas !== 0n) this.#cas.set(key, cas);
    // Blanks behind a number are missing there when a thread of the server itself held the item at that moment.
    const value = reply.opcode === VERSION ? '' : reply.value.trimEnd();
    return { ...reply, value, hasCas: cas !== 0n };
  }

  close(): void {
    this.#socket.destroy();
  }
}

const EXPIRIES = [0, 0, 0, 1000, 2_592_000, 2_592_001, 0xffff_ffff];
const pickOf =
  (random: Random) =>
  (...opcodes: number[]): number =>
    random.pick(opcodes);

/** A request that is well formed. Counters have keys of their own: a blank that is missing must stay at the end. */
function requestOf(random: Random): Request {
  const pick = pickOf(random);
  const isCounter = random.below(3) === 0;
  const key = random.below(40) === 0 ? 'k'.repeat(250) : `${isCounter ? 'n' : 'v'}${random.below(6)}`;
  const exptime = random.pick(EXPIRIES);
  const cas = random.pick(['none', 'none', 'none', 'right', 'wrong'] as const);
  const digits = String(random.below(1000));
  const value = isCounter ? digits : 'x'.repeat(random.pick([0, 1, 10, 500, 5000, 70_000]));
  switch (random.below(isCounter ? 7 : 8)) {
    case 0:
    case 1:
      return { opcode: pick(0x00, 0x09, 0x0c, 0x0d), parts: { key }, cas: 'none' };
    case 2:
    case 3: {
      const opcode = pick(0x01, 0x02, 0x03, 0x11, 0x12, 0x13);
      const tooLarge = random.below(60) === 0 ? 'x'.repeat(1_048_600) : value;
      return { opcode, parts: { key, value: tooLarge, extras: words(random.below(3), exptime) }, cas };
    }
    case 4:
      return { opcode: pick(0x1c, 0x1d, 0x1e, 0x23, 0x24), parts: { key, extras: words(exptime) }, cas: 'none' };
    case 5:
      return random.below(4) === 0
        ? { opcode: pick(0x08, 0x18, 0x0a, 0x0b, 0x1b, 0x20, 0x30, 0xff), parts: {}, cas: 'none' }
        : { opcode: pick(0x04, 0x14), parts: { key }, cas };
    case 6: {
      const [delta, initial] = [BigInt(random.below(300)), BigInt(random.below(300))];
      // A number that an append makes longer than 128 bytes would be none here: so only counters are made.
      const extras = countExtras(delta, initial, isCounter ? random.pick([0, 1000, NO_CREATE]) : NO_CREATE);
      return { opcode: pick(0x05, 0x06, 0x15, 0x16), parts: { key, extras }, cas };
    }
    default:
      return { opcode: pick(0x0e, 0x0f, 0x19, 0x1a), parts: { key, value }, cas };
  }
}

/** A packet that ends the connection. */
function lastOf(random: Random): Buffer {
  const broken = [
    packet(0x07),
    packet(0x17),
    packet(0x00, { key: 'a', extras: words(0) }),
    packet(0x00),
    packet(0x09, { key: 'a', value: 'x' }),
    packet(0x01, { key: 'a', value: 'x' }),
    packet(0x11, { value: 'x', extras: words(0, 0) }),
    packet(0x04, { key: 'a', extras: words(0) }),
    packet(0x05, { key: 'a', extras: words(0, 0) }),
    packet(0x0e, { key: 'a', value: 'x', extras: words(0, 0) }),
    packet(0x0a, { key: 'a' }),
    packet(0x08, { key: 'a' }),
    packet(0x10, { extras: words(0) }),
    packet(0x1c, { key: 'a' }),
    packet(0x00, { key: 'k'.repeat(251) }),
    Buffer.from('get a\r\nget b\r\nget c\r\nget d\r\n'),
  ];
  return random.pick(broken);
}

describe.each<ServeFront>(hasNativeFront() ? ['native', 'node'] : ['node'])('with the front %s', (front) => {
  withMemcached(
    `${STREAMS} random streams are answered as by memcached`,
    () =>
      whileMemcachedRuns(async (port) => {
        const cache = new Cache({ maxMemory: '64mb' });
        const server = await serve(cache, { port: 0, host: '127.0.0.1', front });
        const [address] = server.addresses;
        const random = new Random();
        try {
          for (let stream = 0; stream < STREAMS; stream++) {
            const ours = await Side.open((address as { port: number }).port);
            const theirs = await Side.open(port);
            for (let i = 0; i < PIPELINES; i++) {
              const requests = Array.from({ length: 1 + random.below(20) }, () => requestOf(random));
              const what = (): string =>
                `stream ${stream}, pipeline ${i}, CAIRN_SEED=${random.seed}: ${requests
                  .map(({ opcode, parts, cas }) => `${opcode.toString(16)} ${parts.key ?? ''} ${cas}`)
                  .join(', ')}`;
              expect(await ours.ask(requests), what()).toEqual(await theirs.ask(requests));
            }
            const last = lastOf(random);
            const what = `stream ${stream}, CAIRN_SEED=${random.seed}: ${last.toString('hex')}`;
            expect(await ours.last(last), what).toEqual(await theirs.last(last));
            ours.close();
            theirs.close();
          }
        } finally {
          await server.close();
          await cache.close();
        }
      }),
    120_000,
  );
});
