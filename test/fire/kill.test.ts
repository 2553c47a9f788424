// kill -9 under load, the short form of `npm run torture -- kill`: what the processes do, and how their histories are
// judged, is in harness/campaign.ts.

import { describe, expect, test } from 'vitest';
import { torture } from '../support/torture.ts';

describe('kill -9 at a random moment', () => {
  test.each([
    ['api', 8],
    ['serve', 4],
  ])(
    'takes nothing that was acknowledged, and no value or version goes back (%s)',
    { timeout: 180_000 },
    async (target, rounds) => {
      const sizes = ['--rounds', String(rounds), '--campaign', '4', '--answers', '1500'];
      const { code, output } = await torture('kill', '--target', target, ...sizes);
      expect(output).toMatch(/ 0 lost, 0 stale, 0 failed$/m);
      expect(code, output).toBe(0);
      const [, acknowledged = ''] = / ([\d,]+) acknowledged, [\d,]+ unknown, [\d,]+ refused, 0 lost/.exec(output) ?? [];
      expect(Number(acknowledged.replaceAll(',', ''))).toBeGreaterThan(20 * rounds);
    },
  );

  test('takes everything from a cache without a log, which is noticed', { timeout: 180_000 }, async () => {
    const args = ['--rounds', '3', '--campaign', '3', '--answers', '300', '--no-log'];
    const { code, output } = await torture('kill', ...args);
    expect(output).toMatch(/ [1-9]\d* lost/);
    expect(code).toBe(1);
  });
});
