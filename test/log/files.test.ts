// The file calls on the machine's own files.
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nodeFiles } from '../../src/log/index.ts';
import { skipUnless } from '../support/skip.ts';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'cairn-files-'));
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

test('a directory is made with those above it, for this user only', () => {
  const path = join(root, 'a', 'b', 'c');
  nodeFiles.makeDirectory(path);
  expect(nodeFiles.list(path)).toEqual([]);
  if (process.platform !== 'win32') expect(statSync(path).mode & 0o777).toBe(0o700);
  nodeFiles.makeDirectory(path);
  nodeFiles.makeDirectory('.');
});

test('a file in the way is an error', () => {
  writeFileSync(join(root, 'file'), '');
  expect(() => nodeFiles.makeDirectory(join(root, 'file'))).toThrow(/ENOTDIR/);
  expect(() => nodeFiles.makeDirectory(join(root, 'file', 'below'))).toThrow(/ENOTDIR/);
});

const linuxTest = skipUnless(process.platform === 'linux', 'needs /proc', 'platform');

// Node's own `recursive` never comes back from there.
linuxTest('where no directory can be made it is an error', () => {
  expect(() => nodeFiles.makeDirectory('/proc/cairn')).toThrow(/ENOENT/);
  expect(() => nodeFiles.makeDirectory('/proc/cairn/below')).toThrow(/ENOENT/);
});
