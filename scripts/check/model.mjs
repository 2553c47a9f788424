// The store beside its model, unsanitized and therefore for many more steps than the other runs: a process for each
// processor, CAIRN_MODEL_SECONDS each (default 60), every one with a seed of its own. A failure prints what repeats it.

import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { BuildError } from '../lib/project.mjs';
import { buildNativeTests } from '../lib/steps.mjs';

export const title = 'the store beside its model';

export async function check() {
  if (process.platform === 'win32') return 'run on Linux and macOS only';
  const program = join(buildNativeTests('build-test', [], ['store_model']), 'store_model');
  const seconds = process.env.CAIRN_MODEL_SECONDS ?? '60';
  const runs = Array.from({ length: Math.min(availableParallelism(), 4) }, () => {
    const args = ['--seconds', seconds, '--seed', String(randomInt(2 ** 32))];
    const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    return new Promise((resolve, reject) => child.once('error', reject).once('exit', (code) => resolve(code === 0)));
  });
  if (!(await Promise.all(runs)).every(Boolean)) throw new BuildError('The store differs from its model');
  return undefined;
}
