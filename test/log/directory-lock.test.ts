// One process at a time in a directory, and no lock that outlives its owner.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { EmbeddedLog, lockByFile } from '../../src/log/index.ts';
import { withCode } from '../support/errors.ts';
import { skipUnless } from '../support/skip.ts';

const root = mkdtempSync(join(tmpdir(), 'cairn-lock-'));
afterAll(() => rmSync(root, { recursive: true }));

let folder = '';
let lock = '';
beforeEach(() => {
  folder = mkdtempSync(join(root, 'log-'));
  lock = join(folder, 'lock');
});

/** The lock file that another process would have written. */
function lockOf(pid: number, change: (text: string) => string = (text) => text): void {
  const held = lockByFile(folder);
  const mine = readFileSync(lock, 'utf8');
  held.release();
  writeFileSync(lock, change(mine.replace(/pid \d+/, `pid ${pid}`).replace(/start .*/, 'start ')));
}

const hasBootId = existsSync('/proc/sys/kernel/random/boot_id');

describe('the lock of a directory', () => {
  test('is refused to everybody else, with the pid of who has it, until it is released', () => {
    const held = lockByFile(folder);
    expect(() => lockByFile(folder)).toThrow(withCode('ERR_LOG_LOCKED', new RegExp(`process ${process.pid}\\b`)));
    held.release();
    held.release();
    expect(readdirSync(folder)).toEqual([]);
    lockByFile(folder).release();
  });

  test('of a living process is respected', async () => {
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    try {
      await once(child, 'spawn');
      lockOf(child.pid!);
      expect(() => lockByFile(folder)).toThrow(withCode('ERR_LOG_LOCKED', new RegExp(`process ${child.pid}\\b`)));
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    lockByFile(folder).release();
  });

  test('of a process that is gone is taken', () => {
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    lockOf(pid);
    lockByFile(folder).release();
    expect(readdirSync(folder)).toEqual([]);
  });

  test('that a power cut has emptied is taken', () => {
    writeFileSync(lock, '');
    lockByFile(folder).release();
  });

  skipUnless(
    hasBootId,
    'the system has no boot id',
    'platform',
  )('of an earlier boot is taken, whoever has its pid now', () => {
    lockOf(process.pid, (text) => text.replace(/boot .*/, 'boot 00000000-0000-0000-0000-000000000000'));
    lockByFile(folder).release();
  });

  skipUnless(
    hasBootId,
    'the system does not say when a process began',
    'platform',
  )('of a process whose pid was given out again is taken', () => {
    lockOf(process.pid, (text) => text.replace(/start .*/, 'start 1'));
    lockByFile(folder).release();
  });

  test('is not removed when somebody else has taken it by force', () => {
    const held = lockByFile(folder);
    rmSync(lock);
    const other = lockByFile(folder);
    writeFileSync(lock, readFileSync(lock, 'utf8').replace(/pid \d+/, 'pid 1'));
    held.release();
    expect(readFileSync(lock, 'utf8')).toContain('pid 1\n');
    other.release();
    expect(existsSync(lock)).toBe(true);
  });

  test('is held by an open log, and given up when it is closed or could not be opened', () => {
    const directory = join(folder, 'log');
    const log = EmbeddedLog.open({ directory });
    expect(() => EmbeddedLog.open({ directory })).toThrow(withCode('ERR_LOG_LOCKED'));
    log.close();
    writeFileSync(join(directory, '000000000001.log'), 'no segment');
    expect(() => EmbeddedLog.open({ directory })).toThrow(withCode('ERR_LOG_CORRUPT'));
    expect(existsSync(join(directory, 'lock'))).toBe(false);
  });
});
