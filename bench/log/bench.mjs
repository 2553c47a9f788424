// `npm run bench -- log`: the request log against the least that a log can do, which is to append the same bytes to a
// file and wait for the disk, and how fast it is read again.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeMachine, printMachine } from '../lib/machine.mjs';
import { numberOption, readOptions } from '../lib/options.mjs';
import { measureLog } from './alone.mjs';
import { measureService } from './service.mjs';

export const summary = 'the request log against appending to a file by hand, and behind a cache';

export const help = `npm run bench -- log [options]

  --dir PATH        where to write (default: the folder for temporary files, which should be on the disk that matters)
  --quick           a few seconds: shows that it runs
  --rounds N        alternating rounds (default 9)
  --ms N            milliseconds of a measurement (default 400; behind a cache: 1000)
  --part NAME       log (alone) or cache (with a cache in front of it); default: both
`;

export async function run(args) {
  const values = readOptions(args, help, {
    dir: { type: 'string' },
    quick: { type: 'boolean' },
    rounds: { type: 'string' },
    ms: { type: 'string' },
    part: { type: 'string' },
  });
  if (values === undefined) return;
  const quick = values.quick ?? false;
  const settings = {
    rounds: numberOption(values, 'rounds', quick ? 2 : 9),
    ms: numberOption(values, 'ms', quick ? 30 : 400),
  };
  const part = values.part ?? 'both';
  if (!['log', 'cache', 'both'].includes(part))
    throw new RangeError(`Expected --part to be log or cache, got "${part}"`);
  printMachine(describeMachine());
  const root = mkdtempSync(join(values.dir ?? tmpdir(), 'cairn-bench-log-'));
  try {
    if (part !== 'cache') {
      measureLog(root, settings, await import(new URL('../../dist/log/index.js', import.meta.url).href), quick);
    }
    if (part !== 'log') {
      const { Cache } = await import(new URL('../../dist/index.js', import.meta.url).href);
      const rounds = numberOption(values, 'rounds', quick ? 1 : 5);
      const ms = numberOption(values, 'ms', quick ? 100 : 1000);
      await measureService(root, { rounds, ms, entries: quick ? 20_000 : 1_000_000 }, Cache);
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
