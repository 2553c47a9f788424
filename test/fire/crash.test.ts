// Power cuts at the level of system calls, the short form of `npm run torture -- crash`: which disks are tried, and how
// what recovery finds on them is judged, is in harness/crash/crash-campaign.ts.

import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { skipUnless } from '../support/skip.ts';
import { torture } from '../support/torture.ts';
import { type Moment, moments } from './harness/crash/states.ts';
import type { Step } from './harness/crash/trace.ts';

const hasCompiler = process.platform === 'linux' && spawnSync('cc', ['--version']).status === 0;
const withCompiler = skipUnless(hasCompiler, 'needs a C compiler on Linux', 'platform');

withCompiler('every disk that a power cut may leave opens with all that was durable, and nothing else', async () => {
  const { code, output } = await torture('crash', '--seconds', '20', '--per-moment', '64');
  expect(code, output).toBe(0);
  const [, states = '0'] = /([\d,]+) different states, 0 wrong$/m.exec(output) ?? [];
  expect(Number(states.replaceAll(',', '')), output).toBeGreaterThan(50);
});

withCompiler.describe('a sync that the disk never sees is noticed', () => {
  test.each(['file-sync', 'directory-sync'])('%s', async (what) => {
    const { code, output } = await torture('crash', '--seconds', '60', '--per-moment', '64', '--leave-out', what);
    expect(output).toMatch(/, 1 wrong$/m);
    expect(code).toBe(1);
  });
});

const bytes = Buffer.from('ab');
const link = (path: string, inode: number, from?: string): Step => ({ kind: 'link', path, inode, from });
const write = (inode: number, offset: number): Step => ({ kind: 'write', inode, offset, bytes });

/** The disks of the last moment, as `path=content`, for each subset of what is not synced. */
function disksAfter(steps: readonly Step[]): Set<string> {
  let last: Moment | undefined;
  for (const { moment } of moments(steps)) last = moment;
  const disks = new Set<string>();
  for (let subset = 0; subset < 2 ** last!.pending.length; subset++) {
    const files = last!.state((i) => (subset & (1 << i)) !== 0);
    disks.add([...files].map(([path, content]) => `${path}=${content.toString('latin1')}`).join(' '));
  }
  return disks;
}

test('what is synced is on every disk, and the rest in any selection', () => {
  const steps = [link('/d/a', 0), write(0, 0), { kind: 'sync', inode: 0 } as const];
  expect(disksAfter(steps)).toEqual(new Set(['', '/d/a=ab']));
  expect(disksAfter([...steps, { kind: 'sync-directory', path: '/d' }])).toEqual(new Set(['/d/a=ab']));
  expect(disksAfter([...steps, { kind: 'sync-directory', path: '/other' }])).toEqual(new Set(['', '/d/a=ab']));
});

test('a later write may be there without an earlier one, which leaves zeros', () => {
  const made = [link('/d/a', 0), { kind: 'sync-directory', path: '/d' }] as const;
  expect(disksAfter([...made, write(0, 0), write(0, 2)])).toEqual(
    new Set(['/d/a=', '/d/a=ab', '/d/a=\0\0ab', '/d/a=abab']),
  );
});

test('a rename moves the name at once, and is one step', () => {
  const made = [link('/d/a', 0), link('/d/b', 1), { kind: 'sync-directory', path: '/d' }] as const;
  expect(disksAfter([...made, link('/d/b', 0, '/d/a')])).toEqual(new Set(['/d/a= /d/b=', '/d/b=']));
});
