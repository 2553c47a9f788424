// Write-back under fire, the short form of `npm run torture -- write-back`: what happens in a campaign, and how it is
// judged, is in src/torture/campaign.ts.

import { describe, expect, test } from 'vitest';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { skipUnless } from '../support/skip.ts';
import { torture } from '../support/torture.ts';

describe('kill -9 of a server that writes to a database', () => {
  test('loses no acknowledged change, in the cache or in a row, and repeats no effect', {
    timeout: 180_000,
  }, async () => {
    const { code, output } = await torture('write-back', '--rounds', '4');
    expect(output).toMatch(/ 0 lost, 0 stale, 0 duplicated, 0 by zombies, 0 failed$/m);
    expect(code, output).toBe(0);
    const [, effects = ''] = / ([\d,]+) effects, /.exec(output) ?? [];
    expect(Number(effects.replaceAll(',', ''))).toBeGreaterThan(100);
  });

  skipUnless(postgresPrograms, POSTGRES_MISSING)(
    'nor does PostgreSQL, which is stopped and cut off meanwhile',
    async () => {
      const { code, output } = await torture('write-back', '--store', 'postgres', '--rounds', '4');
      expect(output).toMatch(/ 0 lost, 0 stale, 0 duplicated, 0 by zombies, 0 failed$/m);
      expect(code, output).toBe(0);
    },
    180_000,
  );

  test('nor does it while the database goes back to earlier states', { timeout: 180_000 }, async () => {
    const { code, output } = await torture('write-back', '--db-failover', '--rounds', '3');
    expect(output).toMatch(
      / [1-9]\d* database gone back, [1-9][\d,]* effects taken by that,.* 0 lost, 0 stale, 0 duplicated, 0 by zombies, 0 failed$/m,
    );
    expect(code, output).toBe(0);
  });

  skipUnless(postgresPrograms, POSTGRES_MISSING)(
    'nor do that and PostgreSQL',
    async () => {
      const { code, output } = await torture('write-back', '--db-failover', '--store', 'postgres', '--rounds', '3');
      expect(output).toMatch(
        / [1-9]\d* database gone back, .* 0 lost, 0 stale, 0 duplicated, 0 by zombies, 0 failed$/m,
      );
      expect(code, output).toBe(0);
    },
    180_000,
  );

  skipUnless(postgresPrograms, POSTGRES_MISSING)(
    'nor is anything when PostgreSQL is killed and an asynchronous standby promoted, which lacks commits',
    async () => {
      const args = ['--db-failover', '--store', 'postgres-standby', '--rounds', '4', '--back', '1'];
      const { code, output } = await torture('write-back', ...args);
      expect(output).toMatch(
        / [1-9]\d* database gone back, [1-9][\d,]* effects taken by that, .* 0 lost, 0 stale, 0 duplicated, 0 by zombies, 0 failed$/m,
      );
      expect(code, output).toBe(0);
    },
    180_000,
  );

  test('nor is anything of two databases behind one cache, of which one is stopped and each goes back by itself', {
    timeout: 180_000,
  }, async () => {
    const { code, output } = await torture('write-back', '--store', 'lmdb+lmdb', '--db-failover', '--rounds', '3');
    expect(output).toMatch(
      / [1-9]\d* other stopped, [1-9]\d* database gone back, .* 0 lost, 0 stale, 0 duplicated, 0 by zombies, 0 failed$/m,
    );
    expect(code, output).toBe(0);
  });

  skipUnless(postgresPrograms, POSTGRES_MISSING)(
    'nor of PostgreSQL beside LMDB, both of which are stopped at times',
    async () => {
      const { code, output } = await torture('write-back', '--store', 'postgres+lmdb', '--rounds', '3');
      expect(output).toMatch(/ 0 lost, 0 stale, 0 duplicated, 0 by zombies, 0 failed$/m);
      // In the order in which they came first.
      for (const name of ['database', 'other']) expect(output).toMatch(new RegExp(` [1-9]\\d* ${name} stopped, `));
      expect(code, output).toBe(0);
    },
    180_000,
  );

  test('finds keys in the database of another rule', { timeout: 180_000 }, async () => {
    const args = ['--store', 'lmdb+lmdb', '--rounds', '3', '--mistake', 'misplaced'];
    const { code, output } = await torture('write-back', ...args);
    expect(output).toMatch(/Rows are in the database of another rule: s0:k1/);
    expect(output).toMatch(/ [1-9][\d,]* lost, /);
    expect(code).toBe(1);
  });

  test('finds a database that goes back without its cursors', { timeout: 180_000 }, async () => {
    const args = ['--db-failover', '--rounds', '2', '--mistake', 'rows-alone'];
    const { code, output } = await torture('write-back', ...args);
    expect(output).toMatch(/ [1-9][\d,]* lost, .* 0 failed$/m);
    expect(code).toBe(1);
  });

  test.each([
    ['forgets', / [1-9][\d,]* lost, [\d,]+ stale, 0 duplicated, 0 by zombies, 0 failed$/m],
    ['repeats', / 0 lost, 0 stale, [1-9][\d,]* duplicated, 0 by zombies, 0 failed$/m],
  ])('finds a database that %s', { timeout: 180_000 }, async (mistake, found) => {
    // Some lives end before they have begun.
    const { code, output } = await torture('write-back', '--rounds', '6', '--mistake', mistake);
    expect(output).toMatch(found);
    expect(code).toBe(1);
  });
});
