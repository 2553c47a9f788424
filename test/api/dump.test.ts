// dump and load: everything comes back, in pieces cut anywhere; what is damaged is refused.
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { withRandom } from '../support/random.ts';
import { expectSame } from '../support/same.ts';
import { until } from '../support/threads.ts';

let from: Cache;
let to: Cache;
beforeEach(() => {
  from = new Cache({ maxMemory: '64mb', shards: 1 });
  to = new Cache({ maxMemory: '64mb', shards: 1 });
});
afterEach(async () => {
  await from.close();
  await to.close();
});

const VALUES = [
  'text',
  'ü',
  '\ud800',
  '',
  5,
  -0,
  7n,
  null,
  { a: [1] },
  new Map([[1, 2]]),
  Buffer.from([0, 255]),
  'x'.repeat(10_000),
  Buffer.alloc(700_000, 9),
];
const fill = () => {
  for (const [i, value] of VALUES.entries()) from.set(`k${i}`, value);
  from.set(Buffer.from([0xff, 0xfe]), 'bytes as a key');
  from.set('k'.repeat(65_536), 'the longest key');
};
const whole = () => Buffer.concat([...from.dump()]);

describe('load takes what dump gave', () => {
  test('with values of every kind, keys of every kind, and the order of use', () => {
    fill();
    expect(to.load(from.dump())).toEqual({ loaded: VALUES.length + 2, skipped: 0 });
    expectSame([...to.entries()], [...from.entries()]);
    expect(to.info('k0')?.kind).toBe('text');
  });

  test('of an empty cache', () => {
    expect(to.load(from.dump())).toEqual({ loaded: 0, skipped: 0 });
  });

  test('of many entries', () => {
    for (let i = 0; i < 20_000; i++) from.set(`key ${i}`, `value ${i}`);
    expect(to.load(from.dump()).loaded).toBe(20_000);
    expect(to.size).toBe(20_000);
    expect(to.get('key 12345')).toBe('value 12345');
  });

  test('as one buffer, or cut anywhere', () => {
    fill();
    const bytes = whole();
    expect(to.load(bytes).loaded).toBe(VALUES.length + 2);
    withRandom((random) => {
      for (let round = 0; round < 20; round++) {
        const pieces: Buffer[] = [];
        for (let at = 0; at < bytes.length; ) {
          const length = random.pick([1, 7, 16, 100, 5000, 300_000]);
          pieces.push(bytes.subarray(at, at + length));
          at += length;
        }
        to.clear();
        expect(to.load(pieces).loaded).toBe(VALUES.length + 2);
      }
    });
    expectSame([...to.entries()], [...from.entries()]);
  });

  test('byte by byte', () => {
    from.set('a', 1);
    const bytes = whole();
    expect(to.load(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))).toEqual({ loaded: 1, skipped: 0 });
  });

  test('from a file, as a stream', async () => {
    fill();
    const folder = mkdtempSync(join(tmpdir(), 'cairn-dump-'));
    try {
      const file = join(folder, 'dump');
      writeFileSync(file, whole());
      await expect(to.load(createReadStream(file))).resolves.toEqual({ loaded: VALUES.length + 2, skipped: 0 });
    } finally {
      rmSync(folder, { recursive: true });
    }
    expectSame([...to.entries()], [...from.entries()]);
  });

  test('into a cache with entries: the dump replaces entries of its keys, others stay', () => {
    from.set('a', 'new');
    to.set('a', 'old');
    to.set('b', 'stays');
    to.load(from.dump());
    expect(to.getMany(['a', 'b'])).toEqual(['new', 'stays']);
  });

  test('with times to live, and without what has expired', async () => {
    from.set('hour', 1, { ttl: '1h' });
    from.set('never', 1);
    let bytes: Buffer;
    // On a busy machine its time may be over before it is dumped.
    do {
      from.set('soon', 1, { ttl: 100 });
      bytes = whole();
    } while (!from.has('soon'));
    // A dump holds wall time, a cache counts by another clock: each in whole milliseconds, so they may differ by one.
    const expired = Date.now() + 102;
    await until(() => !from.has('soon') && Date.now() > expired);
    expect(to.load(bytes)).toEqual({ loaded: 2, skipped: 1 });
    expect(to.getRemainingTTL('hour')).toBeGreaterThan(3_500_000);
    expect(to.getRemainingTTL('hour')).toBeLessThanOrEqual(3_600_000);
    expect(to.getRemainingTTL('never')).toBe(Number.POSITIVE_INFINITY);
  });

  test('from shared memory that changes after it was passed', () => {
    from.set('a', 'first');
    const dump = whole();
    const shared = new Uint8Array(new SharedArrayBuffer(dump.length));
    shared.set(dump);
    const cut = dump.length - 4;
    function* pieces() {
      yield shared.subarray(0, cut);
      shared.fill(0, 0, cut);
      yield shared.subarray(cut);
    }
    expect(to.load(pieces())).toEqual({ loaded: 1, skipped: 0 });
    expect(to.get('a')).toBe('first');
  });

  test('without what is too large for this cache', () => {
    fill();
    using small = new Cache({ maxValueBytes: 1000 });
    expect(small.load(from.dump())).toEqual({ loaded: VALUES.length, skipped: 2 });
  });
});

describe('load refuses', () => {
  test.each([
    ['nothing at all', Buffer.alloc(0)],
    ['something else', Buffer.from('{"not":"a dump, but long enough"}')],
    ['half a header', Buffer.from('CAIRNDMP')],
  ])('%s', (_name, bytes) => {
    expect(() => to.load(bytes)).toThrow(withCode('ERR_DUMP_MALFORMED'));
  });

  test('a newer version, by its number', () => {
    const bytes = whole();
    bytes.writeUInt32LE(2, 8);
    expect(() => to.load(bytes)).toThrow(withCode('ERR_DUMP_MALFORMED', /version is 2, expected 1/));
  });

  test('a dump that is cut off, wherever', () => {
    from.set('a', 'x');
    from.set('b', { y: 1 });
    const bytes = whole();
    for (let length = 0; length < bytes.length; length++) {
      if (length === 16) continue; // the dump of an empty cache
      expect(() => to.load(bytes.subarray(0, length)), `${length}`).toThrow(withCode('ERR_DUMP_MALFORMED'));
    }
    expect(to.size).toBe(0);
  });

  test('a dump with any byte changed, having loaded nothing of its block', () => {
    from.set('a', 'x');
    from.set('b', { y: 1 });
    const bytes = whole();
    for (let at = 0; at < bytes.length; at++) {
      if (at >= 12 && at < 16) continue; // reserved
      const damaged = Buffer.from(bytes);
      damaged[at]! ^= 0x55;
      expect(() => to.load(damaged), `${at}`).toThrow(withCode('ERR_DUMP_MALFORMED'));
    }
    expect(to.size).toBe(0);
  });

  test('records that are nonsense under a right checksum', async () => {
    const { dumpHeader, sealBlock } = await import('../../src/dump.ts');
    withRandom((random) => {
      from.set('a', 'x'.repeat(50));
      const good = whole().subarray(16);
      for (let round = 0; round < 2000; round++) {
        const block = Buffer.from(good);
        for (let flips = 1 + random.below(3); flips > 0; flips--) block[8 + random.below(40)] = random.below(256);
        sealBlock(block);
        try {
          to.load([dumpHeader(), block]);
        } catch (error) {
          expect(error).toHaveProperty('code', 'ERR_DUMP_MALFORMED');
        }
      }
    });
  });

  test('arguments that are not bytes', async () => {
    for (const dump of [5, 'text', [5], undefined, null]) {
      expect(() => to.load(dump as never)).toThrow(withCode('ERR_INVALID_ARGUMENT'));
    }
    await expect(to.load(Readable.from([5]) as never)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
  });
});
