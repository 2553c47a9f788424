// memccapable (libmemcached) goes through the text protocol and says for each command whether a server behaves as it
// expects. It was written for a memcached that refused `delete` with a third word; 1.6.45, which is our law, ignores that
// word, and so fails the same two of its tests.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findProgram } from '../../native/build.mjs';
import { type ServeProcess, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const capable = skipUnless(findProgram('memccapable'), 'memccapable is missing (apt-get install libmemcached-tools)');

capable.describe('memccapable', () => {
  let server: ServeProcess;
  const verdicts = new Map<string, string>();

  beforeAll(async () => {
    server = await startServe();
    const child = spawn('memccapable', ['-a', '-t', '10', '-h', '127.0.0.1', '-p', String(server.port)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    await once(child, 'close');
    // "3 of 27 tests failed" goes to the other stream and may stand between a name and its verdict.
    const lines = output.replace(/\d+ of \d+ tests failed\s*|All tests passed\s*/g, '');
    for (const [, name = '', verdict = ''] of lines.matchAll(/^(ascii [a-z ]+?)\s+\[(\w+)\]/gm))
      verdicts.set(name, verdict);
  }, 120_000);

  afterAll(() => server?.stop());

  test.each([
    ...['version', 'quit', 'verbosity', 'set', 'get', 'gets', 'mget', 'flush', 'add', 'replace', 'cas', 'incr', 'decr'],
    ...['append', 'prepend', 'stat', 'set noreply', 'flush noreply', 'add noreply', 'replace noreply', 'cas noreply'],
    ...['incr noreply', 'decr noreply', 'append noreply', 'prepend noreply'],
  ])('is content with %s', (name) => {
    expect(verdicts.get(`ascii ${name}`)).toBe('pass');
  });

  test('finds fault with nothing but the third word of delete', () => {
    const failed = [...verdicts].filter(([, verdict]) => verdict !== 'pass').map(([name]) => name);
    expect(verdicts.size).toBe(27);
    expect(failed).toEqual(['ascii delete', 'ascii delete noreply']);
  });
});
