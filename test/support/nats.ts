// A nats-server for the tests of a cluster. The first file of tests that needs one builds it, where none is installed.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { root } from '../../scripts/lib/project.mjs';
import { skipUnless } from './skip.ts';

async function find(): Promise<{ file: string } | { missing: string }> {
  if (process.platform === 'win32') return { missing: 'a cluster of nats-servers is started by a shell' };
  // In another process, so that this one goes on to answer its runner meanwhile.
  const script = join(root, 'scripts/nats-server.mjs');
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [script]);
    return { file: stdout.trim() };
  } catch (error) {
    const said = String((error as { stderr?: unknown }).stderr ?? error);
    return { missing: said.trim().split('\n').at(-1)! };
  }
}

const found = await find();

export const natsServerProgram = 'file' in found ? found.file : '';

/** `test`, where there is a nats-server. */
export const withNats = skipUnless(
  'file' in found,
  'missing' in found ? found.missing : '',
  process.platform === 'win32' ? 'platform' : 'service',
);
