// Every snippet of the README that a reader may paste does what it says: the library's from a module and by require,
// and pymemcache's against a server.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServe } from './support/serve-process.ts';
import { skipUnless } from './support/skip.ts';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const built = fileURLToPath(new URL('../dist/index.js', import.meta.url));
const python = ['/usr/bin/python3', 'python3'].find(
  (program) => spawnSync(program, ['-c', 'import pymemcache']).status === 0,
);

function snippet(name: string): string {
  const [, code] = new RegExp(`<!-- test: ${name} -->\\n\`\`\`\\w+\\n(.*?)\`\`\``, 's').exec(readme) ?? [];
  if (code === undefined) throw new Error(`README.md has no snippet marked "test: ${name}"`);
  return code;
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cairn-readme-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('the six lines of the README', () => {
  const printed = "{ name: 'Ada' }\n{ name: 'loaded user:2' } 1\n";

  test('run as pasted, and the process ends by itself', () => {
    const file = join(folder, 'paste.mjs');
    const code = snippet('library').replace("'cairn-cache'", JSON.stringify(pathToFileURL(built).href));
    writeFileSync(file, code.replace('new Cache<{ name: string }>', 'new Cache'));
    expect(execFileSync(process.execPath, [file], { encoding: 'utf8', timeout: 60_000 })).toBe(printed);
  });

  test('are few', () => {
    expect(snippet('library').trim().split('\n').length).toBeLessThanOrEqual(8);
  });
});

const withPymemcache = skipUnless(python, 'pymemcache is missing (apt-get install python3-pymemcache)');
withPymemcache('the lines for pymemcache run against a server', async () => {
  const server = await startServe();
  try {
    const code = snippet('pymemcache').replace('11211', String(server.port));
    expect(execFileSync(python!, ['-c', code], { encoding: 'utf8', timeout: 60_000 })).toBe("b'Ada'\n");
  } finally {
    await server.stop();
  }
});
