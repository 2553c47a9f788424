// How the addon is found. Each test sets the one variable that steers it; nothing is loaded twice in one process.

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CairnError } from '../src/errors.ts';
import { loadNative } from '../src/native/load.ts';

const folder = mkdtempSync(join(tmpdir(), 'cairn-loader-'));
afterAll(() => rmSync(folder, { recursive: true }));

const before = process.env['CAIRN_NATIVE_PATH'];
const restore = (): void => {
  if (before === undefined) delete process.env['CAIRN_NATIVE_PATH'];
  else process.env['CAIRN_NATIVE_PATH'] = before;
};
beforeEach(restore);
afterEach(restore);

function failure(): CairnError {
  try {
    loadNative();
  } catch (error) {
    if (error instanceof CairnError) return error;
    throw error;
  }
  throw new Error('Expected loadNative() to throw');
}

/** The message of `loadNative()` of that module, in a separate process. */
function saidBy(module: URL, ...nodeOptions: string[]): string {
  const program = `import(${JSON.stringify(module.href)}).then((it) => it.loadNative()).catch((e) => console.log(e.message))`;
  return execFileSync(process.execPath, [...nodeOptions, '-e', program], { encoding: 'utf8' });
}

describe('loadNative', () => {
  test('finds the addon that was built here and returns the same exports every time', () => {
    const exports = loadNative() as object;
    expect(Object.keys(exports).length).toBeGreaterThan(0);
    expect(loadNative()).toBe(exports);
  });

  test('looks nowhere else when CAIRN_NATIVE_PATH names a file that is not there', () => {
    const file = join(folder, 'absent.node');
    process.env['CAIRN_NATIVE_PATH'] = file;
    const { code, message } = failure();
    expect(code).toBe('ERR_NATIVE_MISSING');
    expect(message).toContain(`${file}: not there`);
    expect(message).toContain('nothing else was tried');
    expect(message).not.toContain('prebuilds/');
  });

  test('says what kept a file that is there from loading, and keeps it as the cause', () => {
    const file = join(folder, 'broken.node');
    writeFileSync(file, 'no addon');
    process.env['CAIRN_NATIVE_PATH'] = file;
    const { code, message, cause } = failure();
    expect(code).toBe('ERR_NATIVE_MISSING');
    expect(message).toContain(`${file}: found, but did not load: `);
    expect(cause).toBeInstanceOf(Error);
  });

  test('says so where the process loads no addons', () => {
    const said = saidBy(new URL('../dist/native/load.js', import.meta.url), '--no-addons');
    expect(said).toMatch(
      /did not load: .*disabled.*\nThis process was started with --no-addons, or with --permission/s,
    );
    expect(said).not.toContain('cairn-cache build');
  });

  test('says so where a bundler has taken it out of its package', () => {
    mkdirSync(join(folder, 'app/out/chunks'), { recursive: true });
    writeFileSync(join(folder, 'app/package.json'), '{"name": "app", "type": "module"}');
    const built = fileURLToPath(new URL('../dist/', import.meta.url));
    copyFileSync(join(built, 'errors.js'), join(folder, 'app/out/errors.js'));
    copyFileSync(join(built, 'native/load.js'), join(folder, 'app/out/chunks/load.js'));
    const said = saidBy(pathToFileURL(join(folder, 'app/out/chunks/load.js')));
    expect(said).toContain(`${join(folder, 'app')}${sep} is not the package: a bundler must leave cairn-cache out`);
    expect(said).not.toContain('cairn-cache build');
  });

  test('names the platform and what the package holds for others', () => {
    process.env['CAIRN_NATIVE_PATH'] = join(folder, 'absent.node');
    const { message } = failure();
    expect(message).toContain(`No native addon for ${process.platform}-${process.arch}`);
    expect(message).toMatch(/Prebuilt addons in this package: (none|[\w., -]+\.node)\./);
  });
});
