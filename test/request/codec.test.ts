// The value codec by itself: everything that can be stored comes back as it was, and what cannot is refused by name.
// Random values are made of all kinds, nested in one another, and compared with what decoding gives.
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import {
  Codec,
  decode,
  type Encoded,
  encode,
  encodeDoubtfulText,
  isWellFormed,
  TEXT_CODEC,
} from '../../src/request/codec.ts';
import { type Random, withRandom } from '../support/random.ts';

function roundTrip(value: unknown): { value: unknown; codec: number } {
  const encoded: Encoded = { payload: '', codec: 0 };
  encode(value, encoded);
  if (encoded.codec === TEXT_CODEC) encodeDoubtfulText(encoded.payload as string, encoded);
  const bytes = Buffer.from(encoded.payload as Uint8Array);
  // In the middle of a larger buffer, which is overwritten afterwards: nothing may refer to it.
  const around = Buffer.concat([Buffer.from('junk'), bytes, Buffer.from('junk')]);
  const decoded = decode(encoded.codec, around, 4, 4 + bytes.length, 'buffer', 0);
  around.fill(0xee);
  return { value: decoded, codec: encoded.codec };
}

const UNITS = [0x41, 0xe9, 0x20ac, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xfffd, 0];

function randomText(random: Random): string {
  return Array.from({ length: random.below(8) }, () => String.fromCharCode(random.pick(UNITS))).join('');
}

function randomNumber(random: Random): number {
  const bytes = random.bytes(8);
  return random.pick([
    0,
    -0,
    1,
    -1,
    Number.NaN,
    Infinity,
    -Infinity,
    0.1,
    2 ** 53,
    -(2 ** 53),
    5e-324,
    bytes.readDoubleLE(),
  ]);
}

function randomData(random: Random, depth: number): unknown {
  const inner = () => randomData(random, depth - 1);
  const length = random.below(4);
  const list = () => Array.from({ length }, inner);
  const record = () => Object.fromEntries(Array.from({ length }, () => [randomText(random), inner()]));
  const leaves: readonly (() => unknown)[] = [
    () => randomText(random),
    () => randomNumber(random),
    () => random.pick([true, false, null]),
    () => BigInt(random.bits()) * BigInt(random.bits()) - BigInt(random.bits()),
    () => new Date(random.bits()),
    () => random.bytes(random.below(40)),
    () => new Float64Array([randomNumber(random)]),
    () => new Error(randomText(random)),
    () => /a+b/giu,
  ];
  const nodes: readonly (() => unknown)[] = [
    list,
    record,
    () => new Map(list().map((each) => [inner(), each])),
    () => new Set(list()),
    () => Object.assign(new Array(3), { 1: inner(), 2: undefined }),
  ];
  return random.pick(depth === 0 ? leaves : random.below(3) === 0 ? leaves : nodes)();
}

describe('encode and decode', () => {
  test('give every kind of value back', () => {
    withRandom((random) => {
      for (let i = 0; i < 3000; i++) {
        const value = randomData(random, random.below(4));
        expect(isDeepStrictEqual(roundTrip(value).value, value), `${i}`).toBe(true);
      }
    });
  });

  test.each<[string, unknown, number]>([
    ['a number', 42, Codec.number],
    ['-0', -0, Codec.number],
    ['NaN', Number.NaN, Codec.number],
    ['-Infinity', Number.NEGATIVE_INFINITY, Codec.number],
    ['a bigint', -(2n ** 80n), Codec.bigint],
    ['true', true, Codec.json],
    ['null', null, Codec.json],
    ['a plain object', { a: [1, 'x', { b: null }] }, Codec.json],
    ['an empty object', {}, Codec.json],
    ['an empty array', [], Codec.json],
    ['an object with a lone surrogate', { a: '\ud800', '\udfff': 1 }, Codec.json],
    ['an object with the key __proto__', JSON.parse('{"__proto__":{"a":1}}'), Codec.json],
    ['an object with a key that looks like a number', { 1: 'a', b: 2 }, Codec.json],
    ['a Buffer', Buffer.from([0, 255]), Codec.raw],
    ['an object that holds undefined', { a: undefined }, Codec.structured],
    ['an object that holds -0', { a: -0 }, Codec.structured],
    ['an object that holds NaN', [Number.NaN], Codec.structured],
    ['an object that holds a bigint', { a: 1n }, Codec.structured],
    ['a sparse array', Object.assign(new Array(3), { 0: 1, 2: 3 }), Codec.structured],
    ['the result of a match, an array with names', 'abc'.match(/b/), Codec.structured],
    ['an object that holds bytes', { a: Buffer.from('x') }, Codec.structured],
    ['a Date', new Date(0), Codec.structured],
    ['a Map', new Map([[{ a: 1 }, new Set([1n])]]), Codec.structured],
    ['a typed array', new Uint16Array([1, 65535]), Codec.structured],
    ['an array of dates', [new Date(1)], Codec.structured],
    ['a boxed string', Object('x'), Codec.structured],
  ])('keep %s', (_name, value, codec) => {
    const result = roundTrip(value);
    expect(isDeepStrictEqual(result.value, value)).toBe(true);
    expect(result.codec).toBe(codec);
  });

  test('keep every text of up to three units, lone surrogates included', () => {
    for (const first of UNITS) {
      for (const second of UNITS) {
        for (const third of UNITS) {
          for (const text of [
            String.fromCharCode(first),
            String.fromCharCode(first, second),
            String.fromCharCode(first, second, third),
          ]) {
            const { value, codec } = roundTrip(text);
            expect(value).toBe(text);
            expect(codec).toBe(isWellFormed(text) ? Codec.utf8 : Codec.wtf8);
          }
        }
      }
    }
  });

  test('join halves of a pair that were encoded apart', () => {
    const bytes = ['a\ud83d', '\udd11b'].map((half) => {
      const encoded: Encoded = { payload: '', codec: 0 };
      encodeDoubtfulText(half, encoded);
      return encoded.payload as Buffer;
    });
    const joined = Buffer.concat(bytes);
    expect(decode(Codec.wtf8, joined, 0, joined.length, 'buffer', 0)).toBe('a\u{1f511}b');
  });

  test('keep what is held twice, and cycles', () => {
    const inner = { x: 1 };
    const shared = roundTrip({ a: inner, b: inner }).value as { a: object; b: object };
    expect(shared.a).toBe(shared.b);
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    const back = roundTrip(cycle).value as { self: unknown };
    expect(back.self).toBe(back);
  });

  test('do not visit what is held often more than once', () => {
    let value: unknown = 1;
    for (let i = 0; i < 100; i++) value = [value, value]; // 2^100 paths
    expect(isDeepStrictEqual((roundTrip(value).value as unknown[]).length, 2)).toBe(true);
  });

  test('keep nesting that is deeper than JSON is used for', () => {
    let value: unknown = 'bottom';
    for (let i = 0; i < 500; i++) value = { value };
    expect(isDeepStrictEqual(roundTrip(value).value, value)).toBe(true);
  });

  test('make a plain object of a class instance, and of one without a prototype', () => {
    class Point {
      x = 1;
    }
    expect(roundTrip(new Point())).toStrictEqual({ value: { x: 1 }, codec: Codec.json });
    expect(roundTrip({ at: new Point() })).toStrictEqual({ value: { at: { x: 1 } }, codec: Codec.json });
    class Money {
      cents = 5;
      toJSON() {
        return '0.05';
      }
    }
    expect(roundTrip(new Money())).toStrictEqual({ value: { cents: 5 }, codec: Codec.structured });
    expect(roundTrip(Object.assign(Object.create(null), { x: 1 })).value).toStrictEqual({ x: 1 });
  });

  test('give bytes of their own', () => {
    const bytes = Buffer.from('abc');
    const { value } = roundTrip(bytes);
    expect(Buffer.isBuffer(value)).toBe(true);
    expect(value).not.toBe(bytes);
    expect(Buffer.isBuffer(roundTrip(new Uint8Array([1])).value)).toBe(true);
  });
});

describe('encode refuses', () => {
  class Session {
    #secret = 1;
    get secret() {
      return this.#secret;
    }
  }
  test.each<[string, unknown, string, RegExp]>([
    ['undefined', undefined, 'ERR_INVALID_ARGUMENT', /use delete\(key\)/],
    ['a function', () => 1, 'ERR_VALUE_NOT_STORABLE', /a function/],
    ['a symbol', Symbol('s'), 'ERR_VALUE_NOT_STORABLE', /Symbol\(s\)/],
    ['a promise', Promise.resolve(1), 'ERR_VALUE_NOT_STORABLE', /await it first/],
    ['a class', class A {}, 'ERR_VALUE_NOT_STORABLE', /A/],
    ['a method in an object', { a: { run() {} } }, 'ERR_VALUE_NOT_STORABLE', /value\.a\.run/],
    ['a function in an array', [0, [() => 1]], 'ERR_VALUE_NOT_STORABLE', /value\[1\]\[0\]/],
    ['a symbol in a Map', new Map([['k', Symbol('x')]]), 'ERR_VALUE_NOT_STORABLE', /value\.get\("k"\)/],
    ['a promise in a Set', new Set([Promise.resolve()]), 'ERR_VALUE_NOT_STORABLE', /promise/],
    ['a URL, whose data is hidden', new URL('http://a.b'), 'ERR_VALUE_NOT_STORABLE', /instance of URL/],
    ['an instance whose data is private', [new Session()], 'ERR_VALUE_NOT_STORABLE', /value\[0\].*Session/],
    ['a WeakMap', new WeakMap(), 'ERR_VALUE_NOT_STORABLE', /WeakMap/],
    ['a SharedArrayBuffer', new SharedArrayBuffer(8), 'ERR_VALUE_NOT_STORABLE', /SharedArrayBuffer/],
    ['a proxy', new Proxy({ a: 1 }, {}), 'ERR_VALUE_NOT_STORABLE', /could not be cloned/],
  ])('%s', (_name, value, code, message) => {
    expect(() => encode(value, { payload: '', codec: 0 })).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
    expect(() => encode(value, { payload: '', codec: 0 })).toThrow(TypeError);
  });

  test('nesting that exhausts the stack, without ending the process', () => {
    let value: unknown = 1;
    for (let i = 0; i < 200_000; i++) value = [value];
    expect(() => encode(value, { payload: '', codec: 0 })).toThrow(
      expect.objectContaining({ code: 'ERR_VALUE_NOT_STORABLE' }),
    );
  });
});

describe('decode', () => {
  test.each<[string, number, string]>([
    ['JSON', Codec.json, '{"a":'],
    ['a bigint', Codec.bigint, '12x'],
    ['a structured clone', Codec.structured, 'nonsense'],
    ['a structured clone that is cut off', Codec.structured, '\xff\x0fo"'],
    ['a codec that does not exist', 9, 'x'],
  ])('says that bytes are not %s', (_name, codec, bytes) => {
    const buffer = Buffer.from(bytes, 'latin1');
    expect(() => decode(codec, buffer, 0, buffer.length, 'buffer', 0)).toThrow(
      expect.objectContaining({ code: 'ERR_VALUE_MALFORMED' }),
    );
  });

  test('never ends the process, whatever bytes are called a structured clone', () => {
    withRandom((random) => {
      const encoded: Encoded = { payload: '', codec: 0 };
      for (let i = 0; i < 5000; i++) {
        encode(new Map([[randomData(random, 2), randomData(random, 2)]]), encoded);
        const bytes = Buffer.from(encoded.payload as Uint8Array);
        for (let flips = random.below(4); flips >= 0; flips--) bytes[random.below(bytes.length)] = random.below(256);
        try {
          decode(Codec.structured, bytes, 0, bytes.length, 'buffer', 0);
        } catch (error) {
          expect(error).toHaveProperty('code', 'ERR_VALUE_MALFORMED');
        }
      }
    });
  });

  test.each<[string, Parameters<typeof decode>[4], unknown]>([
    ['a Buffer by default', 'buffer', Buffer.from('{"a":1}')],
    ['text', 'string', '{"a":1}'],
    ['what JSON.parse makes of them', 'json', { a: 1 }],
    ['what a function makes of them and the flags', (bytes, flags) => [bytes.toString(), flags], ['{"a":1}', 7]],
  ])('gives for raw bytes %s', (_name, raw, expected) => {
    const bytes = Buffer.from('..{"a":1}..');
    expect(decode(Codec.raw, bytes, 2, bytes.length - 2, raw, 7)).toEqual(expected);
  });

  test("lets an error of the user's own function through", () => {
    const error = new Error('mine');
    const raw = () => {
      throw error;
    };
    expect(() => decode(Codec.raw, Buffer.from('x'), 0, 1, raw, 0)).toThrow(error);
  });
});
