// The tests that drive the server with other people's clients, none of which may be skipped here.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { bin, findProgram, root } from '../lib/project.mjs';

export const title = 'clients of others';

const folder = 'test/services';

export function check() {
  if (!existsSync(join(root, folder))) return `there is no ${folder} yet`;
  const missing = [];
  if (!findProgram('memccapable')) missing.push('memccapable (apt-get install libmemcached-tools)');
  const python = spawnSync('python3', ['-c', 'import pymemcache'], { stdio: 'ignore' });
  const debian = spawnSync('/usr/bin/python3', ['-c', 'import pymemcache'], { stdio: 'ignore' });
  if (python.status !== 0 && debian.status !== 0) missing.push('pymemcache (apt-get install python3-pymemcache)');
  if (missing.length > 0) return `missing: ${missing.join(', ')}`;
  bin('vitest', 'vitest.mjs', ['run', folder], { env: { ...process.env, CAIRN_REQUIRE_SERVICES: '1' } });
  return undefined;
}
