// The embedded log on this machine's files, in processes that are killed while they write: what they had acknowledged
// is there, and the next process gets the directory. The processes use the built package, because Node cannot run
// TypeScript.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { EmbeddedLog } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { appendNow, keysIn } from '../support/logs.ts';
import { skipUnless } from '../support/skip.ts';

const library = new URL('../../dist/log/index.js', import.meta.url).href;
const locks = new URL('../../dist/native/directory-lock.js', import.meta.url).href;
const root = mkdtempSync(join(tmpdir(), 'cairn-log-process-'));
afterAll(() => rmSync(root, { recursive: true }));

/** Appends batches until it is killed, and says after each how many were committed. */
const program = `
  import { writeSync } from 'node:fs';
  const [library, locks, directory, sync, first] = process.argv.slice(1);
  const { EmbeddedLog } = await import(library);
  const { lockByAddon: lockDirectory } = await import(locks);
  const log = EmbeddedLog.open({ directory, lockDirectory, sync, segmentBytes: 16384 });
  const record = (key) => {
    const bytes = Buffer.alloc(40 + 16);
    bytes.writeUInt32LE(bytes.length, 0);
    bytes[4] = 1;
    bytes.writeBigUInt64LE((BigInt(log.epoch) << 32n) + 1n, 8);
    bytes.writeUInt32LE(key.length, 28);
    bytes.writeUInt32LE(16 - key.length, 32);
    bytes.write(key, 40);
    return bytes;
  };
  for (let i = Number(first); ; i++) {
    const batch = { records: [record(String(i))], recordCount: 1, epoch: log.epoch, expectPosition: log.end };
    if (log.append(batch).kind !== 'committed') throw new Error('not committed');
    writeSync(1, i + '\\n'); // which throws once its reader is gone
  }
`;

async function writeUntilKilled(directory: string, sync: string, first: number, batches: number): Promise<number> {
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', program, library, locks, directory, sync, String(first)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
    if (text.split('\n').length > batches) child.kill('SIGKILL');
  });
  await once(child, 'close');
  expect(child.signalCode).toBe('SIGKILL');
  // What was printed in full.
  return Number(text.split('\n').at(-2));
}

describe('a process that is killed while it writes', () => {
  test.each(['always', '1000ms', 'none'])('leaves what it has acknowledged (%s)', async (sync) => {
    const directory = join(root, sync);
    let next = 0;
    for (let life = 0; life < 3; life++) {
      const acknowledged = await writeUntilKilled(directory, sync, next, 300);
      expect(acknowledged).toBeGreaterThan(next + 200);
      const log = EmbeddedLog.open({ directory, lockDirectory: lockByAddon });
      const keys = keysIn(log).map(Number);
      expect(keys).toEqual(keys.map((_, i) => i));
      expect(keys.length).toBeGreaterThan(acknowledged);
      next = keys.length;
      log.close();
    }
  });
});

test('a log stays where it was opened when the process goes to another directory', () => {
  const before = process.cwd();
  try {
    process.chdir(root);
    const log = EmbeddedLog.open({ directory: 'relative', lockDirectory: lockByAddon, segmentBytes: 4096 });
    expect(log.directory).toBe(join(process.cwd(), 'relative'));
    process.chdir(before);
    for (let i = 0; i < 10; i++) appendNow(log, `${i}`, { valueBytes: 1000 });
    log.cursor('x').advance(log.committed);
    expect(keysIn(log)).toHaveLength(10);
    log.close();
  } finally {
    process.chdir(before);
  }
  const names = readdirSync(join(root, 'relative'));
  expect(names.filter((name) => name.endsWith('.log')).length).toBeGreaterThan(2);
  expect(names).toContain('cursors');
});

skipUnless(
  process.platform !== 'win32',
  'Windows has other permissions',
  'platform',
)('directory and files are for their owner only', () => {
  const directory = join(root, 'private', 'log');
  const log = EmbeddedLog.open({ directory, lockDirectory: lockByAddon });
  log.cursor('x').advance(log.committed);
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  for (const name of readdirSync(directory)) expect(statSync(join(directory, name)).mode & 0o077, name).toBe(0);
  log.close();
});
