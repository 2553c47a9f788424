// Write-back under fire, the short form of `npm run torture -- write-back`: what happens in a campaign, and how it is
// judged, is in harness/write-back/campaign.ts.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { root } from '../../scripts/lib/project.mjs';
import { POSTGRES_MISSING, postgresPrograms } from '../support/postgres.ts';
import { Random } from '../support/random.ts';
import { skipUnless } from '../support/skip.ts';

/** Its exit code, and all that it has printed. */
async function torture(...args: string[]): Promise<{ code: number | null; output: string }> {
  const seed = String(new Random().seed);
  const command = [join(root, 'scripts/torture/main.mjs'), 'write-back', ...args, '--seed', seed];
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  const [code] = await once(child, 'close');
  return { code, output };
}

describe('kill -9 of a server that writes to a database', () => {
  test('loses no acknowledged change, in the cache or in a row, and repeats no effect', {
    timeout: 180_000,
  }, async () => {
    const { code, output } = await torture('--rounds', '8');
    expect(output).toMatch(/ 0 lost, 0 duplicated, 0 failed$/m);
    expect(code, output).toBe(0);
    const [, effects = ''] = / ([\d,]+) effects, /.exec(output) ?? [];
    expect(Number(effects.replaceAll(',', ''))).toBeGreaterThan(200);
  });

  skipUnless(postgresPrograms, POSTGRES_MISSING)(
    'nor does PostgreSQL, which is stopped and cut off meanwhile',
    async () => {
      const { code, output } = await torture('--store', 'postgres', '--rounds', '8');
      expect(output).toMatch(/ 0 lost, 0 duplicated, 0 failed$/m);
      expect(code, output).toBe(0);
    },
    180_000,
  );

  test.each([
    ['forgets', / [1-9][\d,]* lost, 0 duplicated, 0 failed$/m],
    ['repeats', / 0 lost, [1-9][\d,]* duplicated, 0 failed$/m],
  ])('finds a database that %s', { timeout: 180_000 }, async (mistake, found) => {
    // Some lives end before they have begun.
    const { code, output } = await torture('--rounds', '6', '--mistake', mistake);
    expect(output).toMatch(found);
    expect(code).toBe(1);
  });
});
