// The decoder of records against bytes made by hand after the drawing in native/store/record.h, against bytes that are
// cut or changed, and against what the addon has written.

import { describe, expect, test } from 'vitest';
import { DumpReader } from '../../src/dump.ts';
import {
  epochOf,
  RecordKind,
  RecordReader,
  recordBytes,
  recordsFault,
  versionOf,
  writeSet,
} from '../../src/request/record.ts';
import { withRandom } from '../support/random.ts';
import { makeRecord, type RecordParts } from '../support/records.ts';
import { skipUnless } from '../support/skip.ts';

const examples: RecordParts[] = [
  { kind: 'set', key: 'k', value: '' },
  {
    kind: 'set',
    key: 'user:1',
    value: '{"name":"Ada"}',
    codec: 9,
    clientFlags: 0xfedcba98,
    epoch: 2 ** 32 - 1,
    counter: 7,
  },
  { kind: 'set', key: Buffer.alloc(65_536, 1), value: Buffer.alloc(100_000, 2), expiresWallMs: 8.64e15 },
  { kind: 'set', key: 'loaded', value: 'fresh until', freshUntilWallMs: 1_767_225_600_000, expiresWallMs: 8.64e15 },
  { kind: 'set', key: 'counter', value: '7', delta: -(2n ** 63n) },
  {
    kind: 'set',
    key: 'all',
    value: '8',
    freshUntilWallMs: 1,
    delta: 1n,
    batch: { id: 2n ** 64n - 1n, count: 3, index: 2 },
  },
  { kind: 'delete', key: 'part', batch: { id: 1n, count: 1, index: 0 } },
  { kind: 'touch', key: 'kept', freshUntilWallMs: 5, batch: { id: 1n, count: 2, index: 1 } },
  { kind: 'delete', key: 'gone', counter: 2 ** 32 - 1 },
  { kind: 'touch', key: 'touched', expiresWallMs: 1_767_225_600_000 },
  { kind: 'touch', key: 'forever', expiresWallMs: 0 },
  { kind: 'clear', epoch: 3, counter: 0 },
  { kind: 'clearAt', epoch: 3, counter: 1, expiresWallMs: 1_767_225_600_000 },
  { kind: 'clearAt', epoch: 3, counter: 2 },
];

function read(bytes: Uint8Array): { parts: RecordParts[]; status: string; end: number } {
  const reader = new RecordReader(bytes);
  const parts: RecordParts[] = [];
  const kinds = new Map(Object.entries(RecordKind).map(([name, number]) => [number, name]));
  while (reader.next()) {
    parts.push({
      kind: kinds.get(reader.kind) as RecordParts['kind'],
      key: Buffer.from(reader.key),
      value: Buffer.from(reader.value),
      epoch: epochOf(reader.version),
      counter: Number(reader.version & (2n ** 32n - 1n)),
      expiresWallMs: Number(reader.expiresWallMs),
      clientFlags: reader.clientFlags,
      codec: reader.codec,
      ...(reader.freshUntilWallMs === undefined ? {} : { freshUntilWallMs: Number(reader.freshUntilWallMs) }),
      ...(reader.delta === undefined ? {} : { delta: reader.delta }),
      ...(reader.batch === undefined ? {} : { batch: reader.batch }),
    });
  }
  return { parts, status: reader.status, end: reader.end };
}

describe('a record', () => {
  test('is decoded into what it was made of', () => {
    for (const example of examples) {
      const bytes = makeRecord(example);
      const expected = { epoch: 1, counter: 1, expiresWallMs: 0, clientFlags: 0, codec: 0, ...example };
      const { parts, status, end } = read(bytes);
      expect([status, end]).toEqual(['ok', bytes.length]);
      expect(parts).toEqual([
        { ...expected, key: Buffer.from(example.key ?? ''), value: Buffer.from(example.value ?? '') },
      ]);
      // What is made of that again is the same record.
      expect(makeRecord(parts[0]!).equals(bytes)).toBe(true);
    }
  });

  test('is 40 bytes, its key and its value, in steps of eight', () => {
    expect(recordBytes(1, 0)).toBe(48);
    expect(recordBytes(8, 0)).toBe(48);
    expect(recordBytes(8, 1)).toBe(56);
    for (const { key = '', value = '', ...rest } of examples) {
      const bytes = makeRecord({ ...rest, key, value });
      expect(recordBytes(Buffer.byteLength(key), Buffer.byteLength(value), bytes[6])).toBe(bytes.length);
    }
  });

  test('is read from the middle of a larger buffer, as a view of it', () => {
    const record = makeRecord({ kind: 'set', key: 'key', value: 'value' });
    const buffer = new Uint8Array(100 + record.length);
    buffer.set(record, 50);
    const reader = new RecordReader(buffer.subarray(50, 50 + record.length));
    expect(reader.next()).toBe(true);
    expect(reader.value.buffer).toBe(buffer.buffer);
    buffer[50 + 40] = 'K'.charCodeAt(0);
    expect(reader.key.toString()).toBe('Key');
    expect(reader.record.length).toBe(record.length);
  });

  test('is not there yet, wherever it is cut', () => {
    const bytes = makeRecord({ kind: 'set', key: 'key', value: 'a value' });
    for (let size = 1; size < bytes.length; size++) {
      expect(read(bytes.subarray(0, size))).toEqual({ parts: [], status: 'needs-more', end: 0 });
    }
    expect(read(Buffer.alloc(0))).toEqual({ parts: [], status: 'ok', end: 0 });
  });

  test('is malformed with a size that no record has, before the rest is there', () => {
    for (const size of [0, 8, 32, 41, 44, 2 ** 31]) {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(size, 0);
      expect(read(bytes).status, `${size} bytes`).toBe('malformed');
    }
  });

  test.each<[string, (bytes: Buffer) => void]>([
    ['kind 0', (bytes) => bytes.writeUInt8(0, 4)],
    ['kind 6', (bytes) => bytes.writeUInt8(6, 4)],
    ['a codec above its nibble', (bytes) => bytes.writeUInt8(0x20, 5)],
    ['the bit for client flags without any', (bytes) => bytes.writeUInt8(0x10, 5)],
    ['a field that is not there', (bytes) => bytes.writeUInt16LE(1, 6)],
    ['reserved bytes', (bytes) => bytes.writeUInt32LE(1, 36)],
    ['no key', (bytes) => bytes.writeUInt32LE(0, 28)],
    ['a key that is too long', (bytes) => bytes.writeUInt32LE(65_537, 28)],
    ['a value that is too long', (bytes) => bytes.writeUInt32LE(2 ** 30 + 1, 32)],
    ['a size that does not fit', (bytes) => bytes.writeUInt32LE(64, 0)],
    ['a value where the kind has none', (bytes) => bytes.writeUInt8(RecordKind.delete, 4)],
    ['a key where the kind has none', (bytes) => bytes.writeUInt8(RecordKind.clear, 4)],
    ['a key where a clear to come has none', (bytes) => bytes.writeUInt8(RecordKind.clearAt, 4)],
    ['padding that is not 0', (bytes) => bytes.writeUInt8(1, bytes.length - 1)],
  ])('is malformed with %s', (_, spoil) => {
    const bytes = makeRecord({ kind: 'set', key: 'key', value: 'val' });
    expect(read(bytes).status).toBe('ok');
    spoil(bytes);
    expect(read(bytes)).toEqual({ parts: [], status: 'malformed', end: 0 });
  });

  test.each<[string, RecordParts]>([
    ['an end of freshness of 0', { kind: 'set', key: 'key', freshUntilWallMs: 0 }],
    ['a negative end of freshness', { kind: 'touch', key: 'key', freshUntilWallMs: -1 }],
    ['an end of freshness where the kind has none', { kind: 'delete', key: 'key', freshUntilWallMs: 1 }],
    ['a delta where the kind has none', { kind: 'touch', key: 'key', delta: 1n }],
    ['a part where the kind has none', { kind: 'clear', batch: { id: 1n, count: 1, index: 0 } }],
    ['a part of a batch that has none', { kind: 'set', key: 'key', batch: { id: 1n, count: 0, index: 0 } }],
    ['a part behind the last', { kind: 'set', key: 'key', batch: { id: 1n, count: 3, index: 3 } }],
  ])('is malformed with %s', (_, parts) => {
    expect(read(makeRecord(parts))).toEqual({ parts: [], status: 'malformed', end: 0 });
  });

  test.each([3, 9, 15])('with the optional field %d, which is not known, is refused by its name', (bit) => {
    const bytes = makeRecord({ kind: 'set', key: 'key', value: 'val', delta: 1n });
    bytes.writeUInt16LE((1 << bit) | 2, 6);
    const impossible = Buffer.from(bytes);
    impossible[0] = 3;
    expect(read(impossible).status).toBe('malformed');
    expect(read(bytes)).toEqual({ parts: [], status: 'unknown-field', end: 0 });
    expect(recordsFault(bytes)).toBe(`has the optional field ${bit}, which this version of cairn-cache does not know`);
  });

  test('may leave out the bit that says it has client flags', () => {
    const bytes = makeRecord({ kind: 'set', key: 'key', value: 'val', clientFlags: 5, codec: 3 });
    bytes[5]! &= 0x0f;
    expect(read(bytes).parts).toMatchObject([{ clientFlags: 5, codec: 3 }]);
  });

  test('with any bit flipped is another record or none, and nothing outside of it is read', () => {
    const bytes = makeRecord({ kind: 'set', key: 'key', value: 'a value', clientFlags: 1 });
    const next = makeRecord({ kind: 'delete', key: 'next' });
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const both = Buffer.concat([bytes, next]);
      both[bit >> 3]! ^= 1 << (bit & 7);
      const { parts, status, end } = read(both);
      expect(end).toBeLessThanOrEqual(both.length);
      if (status === 'ok') expect(parts).toHaveLength(2);
      else expect(parts.length).toBeLessThan(2);
    }
  });
});

describe('records one behind the other', () => {
  test('are read in order, to the first that is none', () => {
    const bytes = Buffer.concat(examples.map(makeRecord));
    expect(read(bytes).parts.map(({ kind }) => kind)).toEqual(examples.map(({ kind }) => kind));
    const { parts, status, end } = read(Buffer.concat([bytes, Buffer.alloc(48)]));
    expect([parts.length, status, end]).toEqual([examples.length, 'malformed', bytes.length]);
  });

  test('of random parts are what they were made of', () => {
    withRandom((random) => {
      for (let round = 0; round < 200; round++) {
        const made = Array.from({ length: random.below(10) }, (): RecordParts => {
          const kind = random.pick(['set', 'delete', 'touch', 'clear'] as const);
          return {
            kind,
            key: kind === 'clear' ? Buffer.alloc(0) : random.bytes(1 + random.below(40)),
            value: kind === 'set' ? random.bytes(random.below(60)) : Buffer.alloc(0),
            epoch: random.below(2 ** 20),
            counter: random.bits(),
            expiresWallMs: random.below(2) * random.bits(),
            clientFlags: random.below(2) * random.bits(),
            codec: random.below(16),
          };
        });
        expect(read(Buffer.concat(made.map(makeRecord)))).toMatchObject({ parts: made, status: 'ok' });
      }
    });
  });
});

// The addon may not be built for this platform: then there is no cache to compare with.
const addon = await import('../../src/index.ts').catch((error: unknown) => {
  if (error instanceof Error && 'code' in error && error.code === 'ERR_NATIVE_MISSING') return undefined;
  throw error;
});

skipUnless(
  addon !== undefined,
  'the native addon is missing',
  'platform',
)('what a cache dumps is read as what was stored', () => {
  const { Cache } = addon!;
  const cache = new Cache({ maxMemory: '8mb', shards: 1 });
  const stored = new Map<string, string>();
  for (let i = 0; i < 500; i++) {
    const [key, value] = [`key ${i}`, 'x'.repeat((i * 37) % 900)];
    stored.set(key, value);
    cache.set(key, value, i % 3 === 0 ? { ttl: '1h' } : {});
  }
  const reader = new DumpReader();
  const before = Date.now();
  for (const piece of cache.dump()) {
    for (const records of reader.push(piece)) {
      const { parts, status } = read(records);
      expect(status).toBe('ok');
      for (const { kind, key, value, epoch, expiresWallMs } of parts) {
        const name = String(key);
        expect([kind, String(value)]).toEqual(['set', stored.get(name)]);
        expect(epoch).toBeGreaterThan(0);
        const expires = Number(name.slice(4)) % 3 === 0;
        if (expires) expect(expiresWallMs).toBeGreaterThan(before);
        else expect(expiresWallMs).toBe(0);
        stored.delete(name);
      }
    }
  }
  reader.end();
  expect(stored.size).toBe(0);
  cache.close();
});

test('a set that is written here is the record that the addon would make of it', () => {
  withRandom((random) => {
    for (let i = 0; i < 500; i++) {
      const parts = {
        key: random.bytes(1 + random.below(40)),
        value: random.bytes(random.below(60)),
        codec: random.below(8),
        clientFlags: random.below(2) * random.bits(),
        expiresWallMs: random.below(2) * (1_700_000_000_000 + random.below(1e9)),
      };
      const record = makeRecord({ kind: 'set', ...parts, epoch: 7, counter: i });
      const target = Buffer.alloc(8 + record.length, 0xff);
      expect(writeSet(target, 8, parts, versionOf(7, i))).toBe(target.length);
      expect(target.subarray(8)).toEqual(record);
    }
  });
});
