// pymemcache, the usual client of Python, against `cairn serve`: what a program in another language sees, byte for byte.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServeProcess, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';
import { pythonWith } from './python.ts';

const python = pythonWith('pymemcache');
const script = fileURLToPath(new URL('pymemcache_client.py', import.meta.url));

skipUnless(python, 'pymemcache is missing (apt-get install python3-pymemcache)').describe('pymemcache', () => {
  let server: ServeProcess;
  let steps: Record<string, string> = {};

  beforeAll(async () => {
    server = await startServe(['-m', '64']);
    const { stdout, stderr, status } = spawnSync(python as string, [script, String(server.port)], { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    steps = JSON.parse(stdout);
  }, 60_000);

  afterAll(() => server?.stop());

  test.each([
    'set and get',
    'values of any bytes, up to the item size limit',
    'add, replace, append, prepend',
    'cas',
    'incr and decr',
    'many keys at once',
    'expiry and touch',
    'delete and flush_all',
    'errors',
    'a pool of connections in threads',
    'stats and version',
  ])('%s', (name) => {
    expect(steps[name] ?? 'was not run').toBe('ok');
  });

  test('nothing else was run', () => {
    expect(Object.keys(steps)).toHaveLength(11);
  });
});
