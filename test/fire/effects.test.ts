// Effects under fire, the short form of `npm run torture -- effects`: what happens in a campaign, and how it is judged,
// is in test/fire/harness/effects.

import { describe, expect, test } from 'vitest';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';
import { torture } from '../support/torture.ts';

const SHORT = ['--effects', '20000', '--life', '1'];

describe('kill -9 of a server that counts', () => {
  test('loses and repeats no effect on a row, and each write is in the history once', {
    timeout: 180_000,
  }, async () => {
    const { code, output } = await torture('effects', '--store', 'lmdb', '--sync', '10ms', ...SHORT);
    expect(output).toMatch(/^2\d,\d{3} effects, 0 of another writer, .*, 0 lost, 0 doubled;/m);
    expect(code, output).toBe(0);
  });

  skipUnless(postgresPrograms, POSTGRES_MISSING).describe('with PostgreSQL', () => {
    test.each(['always', '10ms'])(
      'beside another writer, and each write is in the history once, with sync %s',
      {
        timeout: 180_000,
      },
      async (sync) => {
        const { code, output } = await torture('effects', '--sync', sync, ...SHORT);
        expect(output).toMatch(/^2\d,\d{3} effects, [1-9][\d,]* of another writer, .*, 0 lost, 0 doubled;/m);
        expect(code, output).toBe(0);
      },
    );

    test.each([
      ['forgets', / [1-9][\d,]* lost, 0 doubled;/],
      ['repeats', / 0 lost, [1-9][\d,]* doubled;/],
    ])('finds a database that %s effects', { timeout: 180_000 }, async (mistake, found) => {
      const { code, output } = await torture('effects', '--mistake', mistake, '--effects', '3000', '--life', '1');
      expect(output).toMatch(found);
      expect(code).toBe(1);
    });
  });
});
