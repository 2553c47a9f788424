import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { routingHash, routingHashOfBytes } from '../../src/request/hash.ts';
import { withRandom } from '../support/random.ts';

const vectors: { hex: string; repeat?: number; key?: string; hash: number }[] = JSON.parse(
  readFileSync(new URL('../vectors/routing-hash.json', import.meta.url), 'utf8'),
);

describe('the routing hash', () => {
  test('gives what the shared vectors say, of bytes and of text', () => {
    expect(vectors.length).toBeGreaterThan(20);
    for (const { hex, repeat = 1, key, hash } of vectors) {
      const bytes = Buffer.from(hex.repeat(repeat), 'hex');
      expect(routingHashOfBytes(bytes), hex).toBe(hash);
      expect(routingHash(bytes), hex).toBe(hash);
      if (key !== undefined) expect(routingHash(key), key).toBe(hash);
    }
  });

  test('is the same of a text and of its bytes, whatever its length', () => {
    withRandom((random) => {
      for (let length = 1; length < 3000; length = Math.ceil(length * 1.1)) {
        const ascii = Array.from({ length }, () => String.fromCharCode(random.below(128))).join('');
        const wide = Array.from({ length }, () => String.fromCodePoint(random.pick([65, 0xe9, 0x20ac, 0x1f511]))).join(
          '',
        );
        for (const text of [ascii, wide]) expect(routingHash(text)).toBe(routingHash(Buffer.from(text)));
      }
    });
  });

  test('changes with every bit of the key', () => {
    withRandom((random) => {
      for (const length of [1, 3, 4, 15, 16, 17, 33]) {
        const bytes = random.bytes(length);
        const seen = new Set([routingHashOfBytes(bytes)]);
        for (let bit = 0; bit < length * 8; bit++) {
          bytes[bit >> 3]! ^= 1 << (bit & 7);
          seen.add(routingHashOfBytes(bytes));
          bytes[bit >> 3]! ^= 1 << (bit & 7);
        }
        expect(seen.size).toBe(length * 8 + 1);
      }
    });
  });
});
