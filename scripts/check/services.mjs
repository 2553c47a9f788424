// The tests that drive the server with other people's clients, none of which may be skipped here.

import { spawnSync } from 'node:child_process';
import { bin, findProgram } from '../lib/project.mjs';

export const title = 'clients of others';

const files = ['test/server/clients.test.ts', 'test/server/clients-login.test.ts'];

const OTHERS = [
  ['php', ['-r', 'exit(class_exists("Memcached") ? 0 : 1);'], 'php-memcached (apt-get install php-cli php-memcached)'],
  ['ruby', ['-e', 'require "dalli"'], 'Dalli (apt-get install ruby ruby-dalli)'],
  ['/usr/bin/python3', ['-c', 'import pylibmc'], 'pylibmc (apt-get install python3-pylibmc)'],
];

export function check() {
  const missing = [];
  if (!findProgram('memccapable')) missing.push('memccapable (apt-get install libmemcached-tools)');
  const python = spawnSync('python3', ['-c', 'import pymemcache'], { stdio: 'ignore' });
  const debian = spawnSync('/usr/bin/python3', ['-c', 'import pymemcache'], { stdio: 'ignore' });
  if (python.status !== 0 && debian.status !== 0) missing.push('pymemcache (apt-get install python3-pymemcache)');
  for (const [program, args, name] of OTHERS) {
    if (spawnSync(program, args, { stdio: 'ignore' }).status !== 0) missing.push(name);
  }
  if (missing.length > 0) return `missing: ${missing.join(', ')}`;
  bin('vitest', 'vitest.mjs', ['run', ...files], { env: { ...process.env, CAIRN_REQUIRE_SERVICES: '1' } });
  return undefined;
}
