// The tests that drive the server with other people's clients, none of which may be skipped here.

import { spawnSync } from 'node:child_process';
import { bin, findProgram } from '../lib/project.mjs';

export const title = 'clients of others';

const file = 'test/server/clients.test.ts';

export function check() {
  const missing = [];
  if (!findProgram('memccapable')) missing.push('memccapable (apt-get install libmemcached-tools)');
  const python = spawnSync('python3', ['-c', 'import pymemcache'], { stdio: 'ignore' });
  const debian = spawnSync('/usr/bin/python3', ['-c', 'import pymemcache'], { stdio: 'ignore' });
  if (python.status !== 0 && debian.status !== 0) missing.push('pymemcache (apt-get install python3-pymemcache)');
  if (missing.length > 0) return `missing: ${missing.join(', ')}`;
  bin('vitest', 'vitest.mjs', ['run', file], { env: { ...process.env, CAIRN_REQUIRE_SERVICES: '1' } });
  return undefined;
}
