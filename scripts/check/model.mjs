// The store beside its model, unsanitized and therefore for many more steps than the other runs: two processes of
// CAIRN_MODEL_STEPS each (default 8 million), each with its own seed, for CAIRN_MODEL_SECONDS at most
// (default 120). A failure prints what repeats it. Then one with more entries than anything else has:
// CAIRN_MODEL_ENTRIES (default 20 million).

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { BuildError, run } from '../lib/project.mjs';
import { seedTests } from '../lib/seed.mjs';
import { buildNativeTests } from '../lib/steps.mjs';

export const title = 'the store beside its model';

export async function check() {
  if (process.platform === 'win32') return 'run on Linux and macOS only';
  const out = buildNativeTests('build-test', [], ['run_model', 'many_entries']);
  const program = join(out, 'run_model');
  const steps = process.env.CAIRN_MODEL_STEPS ?? '8000000';
  const seconds = process.env.CAIRN_MODEL_SECONDS ?? '120';
  const seed = seedTests();
  console.log(`seeds ${seed} and ${seed + 1}: ${steps} steps each, or ${seconds} s`);
  const runs = [seed, seed + 1].map((each) => {
    const child = spawn(program, ['--steps', steps, '--seconds', seconds, '--seed', String(each)], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    return new Promise((resolve, reject) => child.once('error', reject).once('exit', (code) => resolve(code === 0)));
  });
  if (!(await Promise.all(runs)).every(Boolean)) throw new BuildError('The store differs from its model');
  run(join(out, 'many_entries'), ['--entries', process.env.CAIRN_MODEL_ENTRIES ?? '20000000']);
  return undefined;
}
