// A batch from end to end without threads: requests are written into a block, the addon executes it, and the answers
// are read out of it. The random test compares every answer with a Map that executes the same requests one after
// another. It makes values of all sizes, so that batches run out of room in the block again and again, between reads
// and writes of the same few keys: it proves that no caller can tell.
import { isDeepStrictEqual } from 'node:util';
import { expect, test } from 'vitest';
import { Cache, handleOf } from '../../src/cache.ts';
import { KEY_BYTES_MAX } from '../../src/limits.ts';
import { Code } from '../../src/native.ts';
import {
  Block,
  payloadRoom,
  type RequestFields,
  StagedKey,
  VALUE_BYTES_INLINE_MAX,
  Verb,
} from '../../src/request/batch.ts';
import { Codec, decode, type Encoded, encode } from '../../src/request/codec.ts';
import { type Random, withRandom } from '../support/random.ts';

interface BatchHandle {
  beginBatch(block: Uint8Array, pieces: readonly Uint8Array[] | undefined): number;
  continueBatch(target: Uint8Array, pieceNumber: number): number;
}

class Batcher {
  readonly cache = new Cache({ maxMemory: '64mb', maxValueBytes: '8mb', shards: 2 });
  readonly handle = handleOf(this.cache as never) as unknown as BatchHandle;
  readonly key = new StagedKey(KEY_BYTES_MAX);
  readonly block = new Block();
  pieces: Buffer[] = [];

  append(verb: Verb, key: string | Uint8Array, value?: unknown, fields?: RequestFields): number {
    expect(this.key.take(key)).toBe(true);
    if (value === undefined) {
      expect(this.block.hasRoom(this.key.byteLength, 0)).toBe(true);
      return this.block.append(verb, this.key, fields);
    }
    const encoded: Encoded = { payload: '', codec: 0 };
    encode(value, encoded);
    expect(this.block.hasRoom(this.key.byteLength, payloadRoom(encoded.payload))).toBe(true);
    return this.block.appendValue(verb, this.key, encoded, fields);
  }

  /** Executes the block; values without room get targets of `room` bytes, or what they need. Returns their number. */
  run(room = 64 * 1024): number {
    this.block.seal();
    this.pieces = [];
    let need = this.handle.beginBatch(new Uint8Array(this.block.memory), this.block.pieces);
    while (need > 0) {
      const piece = Buffer.alloc(Math.max(need, room));
      this.pieces.push(piece);
      need = this.handle.continueBatch(piece, this.pieces.length);
    }
    expect(need).toBe(0);
    expect(this.block.rowsDone).toBe(this.block.rowCount);
    return this.pieces.length;
  }

  value(row: number): unknown {
    if (this.block.status(row) === Code.notFound) return undefined;
    expect(this.block.status(row)).toBe(Code.found);
    const { bytes, start, end } = this.block.value(row, this.pieces);
    return decode(this.block.codec(row), bytes, start, end, 'buffer', this.block.clientFlags(row));
  }
}

test('values of every kind come back as they were', () => {
  const batch = new Batcher();
  const values = [
    '',
    'text',
    'grün',
    '\u{1f600}',
    'lone \ud800',
    0,
    -0,
    1.5,
    Number.NaN,
    10n ** 30n,
    true,
    null,
    { a: [1] },
    new Map([[1, 2]]),
    Buffer.alloc(0),
    Buffer.from([0, 255]),
  ];
  for (const [i, value] of values.entries()) batch.append(Verb.set, `key ${i}`, value);
  const rows = values.map((_, i) => batch.append(Verb.get, `key ${i}`));
  batch.run();
  expect(rows.map((row) => batch.value(row))).toEqual(values);
});

test('keys of every kind and size reach their entries', () => {
  const batch = new Batcher();
  const keys = [
    'k',
    'four',
    'five5',
    'ü',
    '\u{1f600}'.repeat(3),
    'a'.repeat(64),
    'a'.repeat(65),
    `${'a'.repeat(63)}ü`,
    'x'.repeat(250),
    'x'.repeat(251),
    'y'.repeat(5000),
    Buffer.from([0]),
    Buffer.alloc(70, 1),
  ];
  for (const [i, key] of keys.entries()) batch.append(Verb.set, key, i);
  batch.run();
  expect(keys.map((key) => batch.cache.get(key))).toEqual(keys.map((_, i) => i));
  expect(batch.cache.size).toBe(keys.length);
});

test('the longest key and the largest value in line fit one block with every field', () => {
  const batch = new Batcher();
  const key = 'k'.repeat(KEY_BYTES_MAX);
  const value = Buffer.alloc(VALUE_BYTES_INLINE_MAX, 7);
  batch.append(Verb.set, key, value, { ttl: 60_000, compare: 1n, delta: 1n, initial: 1n });
  expect(batch.block.hasRoom(batch.key.byteLength, value.length)).toBe(false);
  batch.run();
  expect(batch.block.status(0)).toBe(Code.stored);
  expect(isDeepStrictEqual(batch.cache.get(key), value)).toBe(true);
});

test.each<[string, unknown, boolean]>([
  ['an empty string', '', false],
  ['the longest string', 'k'.repeat(KEY_BYTES_MAX), true],
  ['a string too long', 'k'.repeat(KEY_BYTES_MAX + 1), false],
  ['the longest string of two-byte characters', 'ü'.repeat(KEY_BYTES_MAX / 2), true],
  ['one byte more', `k${'ü'.repeat(KEY_BYTES_MAX / 2)}`, false],
  ['a string three times too long', '€'.repeat(KEY_BYTES_MAX), false],
  ['a lone surrogate', 'lone \ud800', false],
  ['what stands for one', '\ufffd', true],
  ['no bytes', Buffer.alloc(0), false],
  ['the most bytes', new Uint8Array(KEY_BYTES_MAX), true],
  ['too many bytes', new Uint8Array(KEY_BYTES_MAX + 1), false],
  ['a number', 1, false],
  ['undefined', undefined, false],
])('%s is a key or is not', (_, key, isTaken) => {
  expect(new StagedKey(KEY_BYTES_MAX).take(key)).toBe(isTaken);
});

test('values too large for a block travel beside it, both ways', () => {
  const batch = new Batcher();
  const values = [
    Buffer.alloc(VALUE_BYTES_INLINE_MAX + 1, 1),
    'a'.repeat(200_000),
    'é'.repeat(100_000),
    `${'x'.repeat(30_000)}\udc00`,
    Array.from({ length: 9000 }, (_, i) => i),
    Buffer.alloc(3_000_000, 9),
  ];
  for (const [i, value] of values.entries()) batch.append(Verb.set, `key ${i}`, value);
  expect(batch.block.pieces.length).toBe(values.length);
  expect(batch.block.requestBytes).toBeGreaterThan(3_000_000);
  batch.run();
  batch.block.reset();
  expect(batch.block.pieces.length).toBe(0);
  const rows = values.map((_, i) => batch.append(Verb.get, `key ${i}`));
  expect(batch.run()).toBeGreaterThan(1);
  // Not toEqual, which takes seconds for large buffers.
  for (const [i, row] of rows.entries()) expect(isDeepStrictEqual(batch.value(row), values[i])).toBe(true);
});

test('a value that fills its piece is known to be the only one there', () => {
  const batch = new Batcher();
  const value = Buffer.alloc(500_000, 3);
  batch.cache.set('large', value);
  const row = batch.append(Verb.get, 'large');
  batch.run(0);
  expect(batch.block.value(row, batch.pieces)).toMatchObject({ start: 0, end: 500_000, isOwn: true });
  expect(value.equals(batch.value(row) as Buffer)).toBe(true);
});

test('64-bit fields keep all their bits', () => {
  const batch = new Batcher();
  const huge = 2n ** 64n - 2n;
  const rows = [
    batch.append(Verb.incr, 'n', undefined, { delta: 5n, initial: huge }),
    batch.append(Verb.incr, 'n', undefined, { delta: 1n }),
    batch.append(Verb.incr, 'n', undefined, { delta: 2n ** 33n + 1n }),
    batch.append(Verb.decr, 'n', undefined, { delta: 2n ** 33n }),
    batch.append(Verb.set, 'aged', 'v', { ttl: 2 ** 40 + 5 }),
    batch.append(Verb.has, 'aged'),
    batch.append(Verb.get, 'n'),
  ];
  batch.run();
  expect(rows.slice(0, 4).map((row) => batch.block.number(row))).toEqual([huge, huge + 1n, 2n ** 33n, 0n]);
  expect(Number(batch.block.number(rows[5]!))).toBeGreaterThan(2 ** 40);
  expect(batch.block.number(rows[6]!)).toBe(0n); // never expires
});

test('requests that are withdrawn are not done, whatever they look like', () => {
  const batch = new Batcher();
  const rows = [
    batch.append(Verb.set, 'a', 'x', { ttl: 5, compare: 6n }),
    batch.append(Verb.set, 'b', Buffer.alloc(VALUE_BYTES_INLINE_MAX + 1)),
    batch.append(Verb.incr, 'c', undefined, { delta: 1n, initial: 1n, ttl: 7 }),
    batch.append(Verb.set, 'd', 'kept'),
    batch.append(Verb.delete, 'd', undefined, { ttl: -1 }),
    batch.append(Verb.set, 'e', 'kept too'),
    batch.append(Verb.get, 'e'),
  ];
  batch.block.withdraw([rows[0]!, rows[1]!, rows[2]!, rows[4]!]);
  batch.run();
  expect([...batch.cache.keys()].sort()).toEqual(['d', 'e']);
  expect(batch.value(rows[6]!)).toBe('kept too');
});

test('a closed cache answers that it is', async () => {
  const batch = new Batcher();
  batch.append(Verb.get, 'a');
  await batch.cache.close();
  batch.block.seal();
  expect(batch.handle.beginBatch(new Uint8Array(batch.block.memory), undefined)).toBe(-1);
  expect(batch.handle.continueBatch(new Uint8Array(1), 1)).toBe(-1);
});

function randomValue(random: Random): unknown {
  const size = random.pick([
    0,
    1,
    10,
    100,
    1000,
    4095,
    4097,
    9000,
    VALUE_BYTES_INLINE_MAX,
    VALUE_BYTES_INLINE_MAX + 1,
    70_000,
  ]);
  const filler = random.below(256);
  return random.pick([
    () => Buffer.alloc(size, filler),
    () => 'abc'.repeat(size / 3),
    () => 'ü'.repeat(size / 2),
    () => random.below(1000),
    () => ({ size, filler }),
  ])();
}

/** Executes one request on the model and says what the row has to hold. */
function expected(model: Map<string, unknown>, verb: Verb, key: string, value: unknown): unknown {
  const present = model.get(key);
  switch (verb) {
    case Verb.get:
    case Verb.peek:
      return { value: present };
    case Verb.take:
      model.delete(key);
      return { value: present };
    case Verb.has:
      return { status: model.has(key) ? Code.found : Code.notFound };
    case Verb.delete:
    case Verb.evict:
      return { status: model.delete(key) ? Code.found : Code.notFound };
    case Verb.touch:
      return { status: model.has(key) ? Code.found : Code.notFound };
    case Verb.add:
      if (model.has(key)) return { status: Code.notStored };
      break;
    case Verb.replace:
      if (!model.has(key)) return { status: Code.notStored };
      break;
    default:
      break;
  }
  model.set(key, value);
  return { status: Code.stored };
}

test('random batches do what the same requests do one after another', () => {
  withRandom((random) => {
    const batch = new Batcher();
    const model = new Map<string, unknown>();
    const verbs = [
      Verb.get,
      Verb.get,
      Verb.peek,
      Verb.take,
      Verb.has,
      Verb.set,
      Verb.set,
      Verb.add,
      Verb.replace,
      Verb.delete,
      Verb.evict,
      Verb.touch,
    ];
    const storing: Verb[] = [Verb.set, Verb.add, Verb.replace];
    let pieces = 0;
    for (let round = 0; round < 60; round++) {
      batch.block.reset();
      const keys = Array.from({ length: 1 + random.below(12) }, () => `key ${random.below(12)}`);
      const count = random.pick([1, 10, 300, 600]);
      const checks: [number, unknown][] = [];
      for (let i = 0; i < count; i++) {
        const verb = random.pick(verbs);
        const key = random.pick(keys);
        const value = storing.includes(verb) ? randomValue(random) : undefined;
        if (!batch.key.take(key) || !batch.block.hasRoom(batch.key.byteLength, VALUE_BYTES_INLINE_MAX)) break;
        checks.push([batch.append(verb, key, value), expected(model, verb, key, value)]);
      }
      pieces += batch.run(random.pick([0, 1000, 50_000]));
      for (const [row, check] of checks) {
        const found = Object.hasOwn(check as object, 'value')
          ? { value: batch.value(row) }
          : { status: batch.block.status(row) };
        if (!isDeepStrictEqual(found, check)) expect(found).toEqual(check);
      }
    }
    expect(batch.cache.size).toBe(model.size);
    expect(pieces).toBeGreaterThan(0);
  });
});

test('codecs are those of the API', () => {
  const batch = new Batcher();
  batch.append(Verb.set, 'ascii', 'a');
  batch.append(Verb.set, 'utf8', 'ü');
  batch.append(Verb.set, 'wtf8', '\ud800');
  batch.append(Verb.set, 'number', 1);
  const rows = ['ascii', 'utf8', 'wtf8', 'number'].map((key) => batch.append(Verb.get, key));
  batch.run();
  expect(rows.map((row) => batch.block.codec(row))).toEqual([Codec.ascii, Codec.utf8, Codec.wtf8, Codec.number]);
});
