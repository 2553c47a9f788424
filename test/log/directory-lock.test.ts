// One process at a time in a log's directory, and one thread of it. What the system's lock does is in
// test/native/base_os_lock_file_test.cc; here it is met from TypeScript: other processes and threads (from dist,
// because Node cannot run TypeScript), an open log, and a log's thread that is replaced while the main thread has the
// lock.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { EmbeddedLog } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { withCode } from '../support/errors.ts';
import { keysIn } from '../support/logs.ts';

const built = (path: string): string => new URL(`../../dist/${path}`, import.meta.url).href;
const root = mkdtempSync(join(tmpdir(), 'cairn-lock-'));
afterAll(() => rmSync(root, { recursive: true }));

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(root, 'log-'));
});

const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) await end(child);
});

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** Takes the lock of a folder, says how that went, and stays. */
const program = `
  const [locks, folder] = process.argv.slice(1);
  const { lockByAddon } = await import(locks);
  try {
    lockByAddon(folder);
    process.stdout.write('locked\\n');
  } catch (error) {
    process.stdout.write(error.code + ' ' + error.message + '\\n');
  }
  setInterval(() => {}, 1000);
`;

async function inOtherProcess(): Promise<{ child: ChildProcess; said: string }> {
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', program, built('native/directory-lock.js'), folder],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  children.push(child);
  let said = '';
  for await (const chunk of child.stdout!) {
    said += chunk;
    if (said.endsWith('\n')) break;
  }
  return { child, said: said.trim() };
}

/** Runs a module in a thread and returns what it posts, with the thread still there. */
async function inThread(code: string, data: object = {}): Promise<{ worker: Worker; said: unknown }> {
  const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
  const worker = new Worker(url, { workerData: { folder, locks: built('native/directory-lock.js'), ...data } });
  const failed = once(worker, 'error').then(([error]) => Promise.reject(error));
  const [said] = await Promise.race([once(worker, 'message'), failed]);
  return { worker, said };
}

const lockInThread = `
  import { parentPort, workerData } from 'node:worker_threads';
  const { lockByAddon } = await import(workerData.locks);
  try {
    lockByAddon(workerData.folder);
    parentPort.postMessage('locked');
  } catch (error) {
    parentPort.postMessage(error.code + ' ' + error.message);
  }
  setInterval(() => {}, 1000);
`;

describe('the lock of a directory', () => {
  test('is refused to others, with the pid of its holder, until it is released', () => {
    const held = lockByAddon(folder);
    const message = new RegExp(`^The log in .* is in use by this process, ${process.pid}\\. `);
    expect(() => lockByAddon(folder)).toThrow(withCode('ERR_LOG_LOCKED', message));
    held.release();
    held.release();
    const again = lockByAddon(folder);
    // Releasing once too often does not release the lock of another holder.
    held.release();
    expect(() => lockByAddon(folder)).toThrow(withCode('ERR_LOG_LOCKED'));
    again.release();
  });

  test('keeps another process out', async () => {
    const held = lockByAddon(folder);
    expect((await inOtherProcess()).said).toContain(
      `ERR_LOG_LOCKED The log in ${folder} is in use by process ${process.pid}. `,
    );
    held.release();
    expect((await inOtherProcess()).said).toBe('locked');
  });

  test('of another process keeps this one out, and is free when that is killed', async () => {
    const { child, said } = await inOtherProcess();
    expect(said).toBe('locked');
    expect(() => lockByAddon(folder)).toThrow(
      withCode('ERR_LOG_LOCKED', new RegExp(`is in use by process ${child.pid}\\. `)),
    );
    await end(child);
    lockByAddon(folder).release();
  });

  test('keeps other threads of this process out', async () => {
    const held = lockByAddon(folder);
    const { worker, said } = await inThread(lockInThread);
    expect(said).toMatch(/^ERR_LOG_LOCKED /);
    await worker.terminate();
    held.release();
  });

  test('of a thread is released when the thread ends, however it ends', async () => {
    const { worker, said } = await inThread(lockInThread);
    expect(said).toBe('locked');
    expect(() => lockByAddon(folder)).toThrow(withCode('ERR_LOG_LOCKED'));
    await worker.terminate();
    lockByAddon(folder).release();
  });

  test('is taken whatever a file of that name says', () => {
    for (const text of ['', '1\n', 'pid 4711', '999999999999']) {
      writeFileSync(join(folder, 'lock'), text);
      lockByAddon(folder).release();
    }
  });

  test('of a directory that is not there is an error with its reason', () => {
    expect(() => lockByAddon(join(folder, 'nowhere'))).toThrow(
      withCode('ERR_LOG_IO', /^Cannot lock .*nowhere.lock: ./),
    );
  });

  test('is held by an open log, and released when the log is closed or could not be opened', () => {
    const directory = join(folder, 'log');
    const options = { directory, lockDirectory: lockByAddon };
    const log = EmbeddedLog.open(options);
    expect(readFileSync(join(directory, 'lock'), 'utf8').trim()).toBe(String(process.pid));
    expect(() => EmbeddedLog.open(options)).toThrow(withCode('ERR_LOG_LOCKED'));
    log.close();
    log.close();
    EmbeddedLog.open(options).close();
    writeFileSync(join(directory, '000000000001.log'), 'no segment');
    expect(() => EmbeddedLog.open(options)).toThrow(withCode('ERR_LOG_CORRUPT'));
    lockByAddon(directory).release();
  });

  test("stays with the main thread while a log's own thread is replaced", async () => {
    const held = lockByAddon(folder);
    const code = `
      import { parentPort, workerData } from 'node:worker_threads';
      const { EmbeddedLog, lockedByCaller } = await import(workerData.library);
      const log = EmbeddedLog.open({ directory: workerData.folder, lockDirectory: lockedByCaller });
      const key = 'epoch ' + log.epoch;
      const record = Buffer.alloc(40 + 8);
      record.writeUInt32LE(record.length, 0);
      record[4] = 1;
      record.writeBigUInt64LE((BigInt(log.epoch) << 32n) + 1n, 8);
      record.writeUInt32LE(key.length, 28);
      record.write(key, 40);
      log.append({ records: [record], recordCount: 1, epoch: log.epoch, expectPosition: log.end });
      parentPort.postMessage(log.epoch);
      setInterval(() => {}, 1000);
    `;
    for (const epoch of [2, 4, 6]) {
      const { worker, said } = await inThread(code, { library: built('log/index.js') });
      expect(said).toBe(epoch);
      await worker.terminate();
      expect(() => lockByAddon(folder)).toThrow(withCode('ERR_LOG_LOCKED'));
    }
    held.release();
    const log = EmbeddedLog.open({ directory: folder, lockDirectory: lockByAddon });
    expect(keysIn(log)).toEqual(['epoch 2', 'epoch 4', 'epoch 6']);
    log.close();
    expect(existsSync(join(folder, 'lock'))).toBe(true);
  });
});
