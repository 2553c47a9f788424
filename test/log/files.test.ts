// The file calls on this machine, with a system in between that writes less than it was asked to and tells what was
// synced.

import type * as realFs from 'node:fs';
import { mkdtempSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { nodeFiles } from '../../src/log/index.ts';
import { skipUnless } from '../support/skip.ts';

const system = vi.hoisted(() => ({
  /** Bytes that one call writes at most. */
  writtenAtMost: Number.POSITIVE_INFINITY,
  paths: new Map<number, string>(),
  synced: [] as string[],
}));

vi.mock('node:fs', async (importOriginal) => {
  const fs = await importOriginal<typeof realFs>();
  return {
    ...fs,
    openSync: (path: string, ...rest: [string, number?]) => {
      const descriptor = fs.openSync(path, ...rest);
      system.paths.set(descriptor, path);
      return descriptor;
    },
    fsyncSync: (descriptor: number) => {
      system.synced.push(system.paths.get(descriptor) ?? '');
      fs.fsyncSync(descriptor);
    },
    writevSync: (descriptor: number, pieces: readonly Uint8Array[], position: number) => {
      const all = Buffer.concat(pieces);
      return fs.writevSync(descriptor, [all.subarray(0, system.writtenAtMost)], position);
    },
  };
});

const root = realpathSync(mkdtempSync(join(tmpdir(), 'cairn-files-')));
afterAll(() => rmSync(root, { recursive: true }));

describe('files', () => {
  test('are written whole where the system writes less at once', () => {
    const pieces = ['one', '', 'twotwo', 'three', 'f'].map((text) => Buffer.from(text));
    for (const atMost of [1, 2, 3, 4, 7, 14, 15, 16]) {
      system.writtenAtMost = atMost;
      const path = join(root, `short-${atMost}`);
      const file = nodeFiles.open(path, 'create');
      file.write(pieces, 0);
      file.write(pieces, 15);
      file.close();
      file.close();
      expect(readFileSync(path, 'utf8')).toBe('onetwotwothreefonetwotwothreef');
    }
    system.writtenAtMost = Number.POSITIVE_INFINITY;
  });

  test('take room with zeros, and are cut', () => {
    const path = join(root, 'room');
    const file = nodeFiles.open(path, 'create');
    file.write([Buffer.from('abc')], 0);
    file.allocate(3, 1_000_000);
    expect(file.size()).toBe(1_000_003);
    const bytes = Buffer.alloc(10, 1);
    expect(file.read(bytes, 1_000_000)).toBe(3);
    expect(bytes.toString('latin1', 0, 4)).toBe('\0\0\0\x01');
    file.truncate(2);
    file.close();
    expect(readFileSync(path, 'utf8')).toBe('ab');
  });

  skipUnless(
    process.platform !== 'win32',
    'Windows syncs no directories',
    'platform',
  )('a directory is made durably with all its parents', () => {
    system.synced.length = 0;
    nodeFiles.makeDirectory(join(root, 'a', 'b', 'c'));
    expect([...system.synced].sort()).toEqual([root, join(root, 'a'), join(root, 'a', 'b')]);
    system.synced.length = 0;
    nodeFiles.makeDirectory(join(root, 'a', 'b', 'c'));
    expect(system.synced).toEqual([]);
    nodeFiles.makeDirectory(join(root, 'a', 'b', 'd'));
    expect(system.synced).toEqual([join(root, 'a', 'b')]);
  });

  test('a directory is made for this user only', () => {
    const path = join(root, 'p', 'q');
    nodeFiles.makeDirectory(path);
    expect(nodeFiles.list(path)).toEqual([]);
    if (process.platform !== 'win32') expect(statSync(path).mode & 0o777).toBe(0o700);
    nodeFiles.makeDirectory('.');
  });

  test('a file in the way of a directory is an error', () => {
    writeFileSync(join(root, 'file'), '');
    expect(() => nodeFiles.makeDirectory(join(root, 'file'))).toThrow(/ENOTDIR/);
    expect(() => nodeFiles.makeDirectory(join(root, 'file', 'below'))).toThrow(/ENOTDIR/);
  });

  // Node's own `recursive` never comes back from there.
  skipUnless(
    process.platform === 'linux',
    'there is no /proc',
    'platform',
  )('where no directory can be made it is an error', () => {
    expect(() => nodeFiles.makeDirectory('/proc/cairn')).toThrow(/ENOENT/);
    expect(() => nodeFiles.makeDirectory('/proc/cairn/below')).toThrow(/ENOENT/);
  });
});
