// Every snippet of the README that a reader may paste does what it says: the library's from a module and by require,
// the one that keeps its data, twice, and pymemcache's against a server.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServe } from './support/serve-process.ts';
import { skipUnless } from './support/skip.ts';
import { installedFolder, markedSnippet, type Outcome, paste, promisedOutput, runIn } from './support/snippets.ts';

const python = ['/usr/bin/python3', 'python3'].find(
  (program) => spawnSync(program, ['-c', 'import pymemcache']).status === 0,
);
const code = (mark: string): string => markedSnippet('README.md', mark).code;

let folder: string;
beforeAll(() => {
  folder = installedFolder();
});
afterAll(() => rmSync(folder, { recursive: true }));

const ran = (file: string): Promise<Outcome> => runIn(folder, process.execPath, [file]);
const printed = (mark: string): Outcome => {
  const lines = promisedOutput(code(mark));
  expect(lines).not.toContain(undefined);
  return { code: 0, stdout: `${lines.join('\n')}\n`, stderr: '' };
};

describe('the six lines of the README', () => {
  test('run as pasted, and the process ends by itself', async () => {
    expect(await ran(paste(folder, 'paste.mjs', code('library')))).toEqual(printed('library'));
  });

  test('run by require', async () => {
    const body = code('library').replace(/^import (.*) from ('.*');/, 'const $1 = require($2);');
    const file = paste(folder, 'paste.cjs', body.replace(/^(const user = .*)/ms, '(async () => {\n$1})();\n'));
    expect(await ran(file)).toEqual(printed('library'));
  });

  test('are few', () => {
    expect(code('library').trim().split('\n').length).toBeLessThanOrEqual(8);
  });
});

test('the lines that keep their data run as pasted, on a new directory and on their own', async () => {
  const file = paste(folder, 'kept.mjs', code('kept'));
  expect(await ran(file)).toEqual(printed('kept'));
  expect(await ran(file)).toEqual(printed('kept'));
});

const withPymemcache = skipUnless(python, 'pymemcache is missing (apt-get install python3-pymemcache)');
withPymemcache('the lines for pymemcache run against a server', async () => {
  const server = await startServe();
  try {
    const lines = code('pymemcache').replace('11211', String(server.port));
    expect(await runIn(folder, python!, ['-c', lines])).toMatchObject({ code: 0, stdout: "b'Ada'\n" });
  } finally {
    await server.stop();
  }
});
