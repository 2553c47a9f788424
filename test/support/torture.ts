// The short forms of `npm run torture -- ...`, run as a program by the tests of test/fire.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { root } from '../../scripts/lib/project.mjs';
import { Random } from './random.ts';

/** Its exit code, and all that it has printed. */
export async function torture(
  program: 'crash' | 'effects' | 'kill' | 'write-back',
  ...args: string[]
): Promise<{ code: number | null; output: string }> {
  const seed = String(new Random().seed);
  const command = [join(root, 'scripts/torture/main.mjs'), program, ...args, '--seed', seed];
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
