// Text of every kind and length comes back as it was, as key and as value, one at a time and many at a time, also at
// the lengths at which the addon changes from one way of reading strings to another.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { type Random, withRandom } from '../support/random.ts';

let cache: Cache<string>;
beforeEach(() => {
  cache = new Cache<string>({ maxMemory: '16mb' });
});
afterEach(() => cache.close());

/** What the characters of a text are drawn from. */
const ALPHABETS: Record<string, readonly string[]> = {
  ascii: ['a', 'z', '\0', ' ', '\x7f'],
  'one byte each for V8': ['a', 'b', 'c', 'd', '\x80', 'é', 'ÿ'],
  'two bytes each for V8': ['a', 'b', 'ß', 'Ā', 'я', '\u07ff', '\u0800', '漢', '\ud7ff', '\ue000', '\uffff'],
  'with the replacement character': ['a', 'b', '\ufffd', 'ï', '\u07ff'],
  'beyond the basic plane': ['a', '\u{10000}', '😀', '\u{10ffff}'],
  'with lone surrogates': ['a', 'a', 'a', 'é', '😀', '\ud800', '\udfff'],
};

// Around the steps of the loops that read text, and where long text is read in another way.
const LENGTHS = [
  ...Array.from({ length: 42 }, (_, i) => i + 1),
  ...[63, 64, 65, 127, 128, 255, 256, 257, 509, 510, 511, 512, 513, 600, 1022, 1023, 1024, 1533, 1534, 5000, 21_000],
];

function textOf(random: Random, alphabet: readonly string[], length: number): string {
  let text = '';
  while (text.length < length) text += random.pick(alphabet);
  // Flat or not, a slice of another or not: V8 has many kinds of strings.
  return random.below(2) === 0 ? text.slice(0, length) : Array.from(text).join('').slice(0, length);
}

describe.each(Object.entries(ALPHABETS))('text %s', (name, alphabet) => {
  test.each(LENGTHS)('of %i units', (length) => {
    withRandom((random) => {
      for (let turn = 0; turn < 20; turn++) {
        const text = textOf(random, alphabet, length);
        // A cut may leave half a pair in any text.
        const wellFormed = Buffer.from(text).toString() === text;
        expect(cache.set('value', text)).toBe('stored');
        expect(cache.get('value')).toBe(text);
        expect(
          cache.setMany([
            ['one', text],
            ['two', text],
          ]),
        ).toEqual(['stored', 'stored']);
        expect(cache.getMany(['one', 'two'])).toEqual([text, text]);
        if (!wellFormed) {
          expect(() => cache.set(text, 'x')).toThrow(withCode('ERR_INVALID_ARGUMENT', /lone surrogates/));
          expect(() => cache.getMany(['a', text])).toThrow(withCode('ERR_INVALID_ARGUMENT', /lone surrogates/));
          continue;
        }
        const bytes = Buffer.from(text);
        const room = Buffer.alloc(bytes.length);
        expect(cache.getInto('value', room)).toBe(bytes.length);
        expect(room.equals(bytes)).toBe(true);
        if (bytes.length > 65_536) continue;
        expect(cache.set(text, name)).toBe('stored');
        expect(cache.get(bytes)).toBe(name);
        expect(cache.getMany([text, bytes])).toEqual([name, name]);
        expect(cache.delete(text)).toBe(true);
        expect(cache.has(bytes)).toBe(false);
      }
    });
  });
});

test('one character that is not ASCII is seen wherever it stands', () => {
  for (const length of [...Array.from({ length: 50 }, (_, i) => i + 1), 511, 512]) {
    for (let at = 0; at < length; at++) {
      for (const letter of ['\x80', 'ÿ', '漢']) {
        const text = `${'a'.repeat(at)}${letter}${'a'.repeat(length - at - 1)}`;
        cache.set('value', text);
        if (cache.get('value') !== text) expect.fail(`a value of ${length} with ${letter} at ${at}`);
        cache.set(text, 'found');
        if (cache.take(Buffer.from(text)) !== 'found') expect.fail(`a key of ${length} with ${letter} at ${at}`);
      }
    }
  }
});

test('a key of text is never cut off', () => {
  for (const length of [500, 511, 512, 1000, 1530, 1531, 1532, 1533, 1534, 1535, 1536, 3000]) {
    for (const letter of ['k', 'é', '漢']) {
      const long = letter.repeat(length);
      cache.set(long, 'long');
      cache.set(long.slice(0, -1), 'shorter');
      expect(cache.get(long)).toBe('long');
      expect(cache.get(`${long}${letter}`)).toBeUndefined();
    }
  }
});

test('long and short texts take turns', () => {
  const texts = ['s', 'é'.repeat(40), 'x'.repeat(511), 'x'.repeat(512), '漢'.repeat(700), 'x'.repeat(70_000), ''];
  withRandom((random) => {
    for (let i = 0; i < 500; i++) {
      const text = random.pick(texts);
      cache.set('key', text);
      expect(cache.get('key')).toBe(text);
    }
  });
});
