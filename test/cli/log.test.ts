// `cairn log` as users meet it: what it prints, and how it ends.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { logCommand } from '../../src/cli/log.ts';
import { FORMAT_VERSION } from '../../src/log/format.ts';
import { EmbeddedLog } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { makeRecord } from '../support/records.ts';
import { startCli } from '../support/serve-process.ts';

const built = (path: string): string => new URL(`../../dist/${path}`, import.meta.url).href;
const root = mkdtempSync(join(tmpdir(), 'cairn-cli-log-'));
afterAll(() => rmSync(root, { recursive: true }));

const made = join(root, 'made');
{
  const log = EmbeddedLog.open({ directory: made, lockDirectory: lockByAddon });
  log.append({
    records: [
      makeRecord({ kind: 'set', key: 'user:1', value: 'secret', clientFlags: 7, expiresWallMs: 1_767_225_600_000 }),
      makeRecord({ kind: 'delete', key: Buffer.from([0xff, 0x00]) }),
    ],
    recordCount: 2,
    epoch: log.epoch,
    expectPosition: log.end,
  });
  log.append({
    records: [
      makeRecord({ kind: 'clear', epoch: 2 }),
      makeRecord({ kind: 'clearAt', epoch: 2, counter: 2, expiresWallMs: 1_767_225_600_000 }),
      makeRecord({ kind: 'clearAt', epoch: 2, counter: 3 }),
    ],
    recordCount: 3,
    epoch: 2,
    expectPosition: log.end,
  });
  log.cursor('write-back').advance(log.committed);
  const steps = log.snapshots.begin({ position: log.committed, recordsBefore: 5n, epoch: 2 }).finish(log.durable, 2);
  while (!steps.next().done);
  log.close();
}

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(root, 'log-'));
  cpSync(made, directory, { recursive: true });
});

async function run(...args: string[]): Promise<{ code: number | undefined; lines: string; errors: string }> {
  const lines: string[] = [];
  const errors: string[] = [];
  let code: number | undefined;
  const command = logCommand({
    print: (line) => void lines.push(line),
    printError: (line) => void errors.push(line),
    setExitCode: (exitCode) => {
      code = exitCode;
    },
  });
  await command.parseAsync(args, { from: 'user' });
  return { code, lines: lines.join('\n'), errors: errors.join('\n') };
}

function damage(offset: number): void {
  const path = join(directory, '000000000001.log');
  const bytes = readFileSync(path);
  bytes[offset]! ^= 1;
  writeFileSync(path, bytes);
}

describe('cairn log', () => {
  test('inspect says what is there', async () => {
    const { code, lines } = await run('inspect', directory);
    expect(code).toBe(0);
    expect(lines).toMatch(/^Log [0-9a-f]{16} in .*, format 3$/m);
    expect(lines).toMatch(/positions 0 to \d+, 5 records, \d+ B in 1 segment/);
    expect(lines).toMatch(/^000000000001\.log +0 +\d+ +3 +5 .* 2 .*Z +closed$/m);
    expect(lines).toMatch(/^000000000001\.snapshot +\d+ +\d+ +0 +0 /m);
    expect(lines).toMatch(/^"write-back" +\d+ +0 B$/m);
    expect(lines).toContain('Everything that should be there is sound.');
  });

  test('inspect --records lists batches and records, with keys and without values', async () => {
    const { lines } = await run('inspect', directory, '--records');
    expect(lines).toMatch(/ 0 {2}takeover {2}\(offset 128, epoch 2, writer [0-9a-f]{16}, all before it synced, /);
    expect(lines).toMatch(/ 64 {2}records 2, \d+ bytes {2}\(offset 192, epoch 2/);
    expect(lines).toContain('set  "user:1"  6 bytes  codec 0  flags 7  version 1.1  expires 2026-01-01T00:00:00.000Z');
    expect(lines).toContain('delete  0xff00  version 1.1');
    expect(lines).toContain('clear  version 2.1');
    expect(lines).toContain('clear to come  version 2.2  at 2026-01-01T00:00:00.000Z');
    expect(lines).toContain('clear to come  version 2.3  none');
    expect(lines).toMatch(/^ {2}\d+ {2}closed$/m);
    expect(lines).not.toContain('secret');
  });

  test('inspect --records lists optional fields', async () => {
    const fields = mkdtempSync(join(root, 'fields-'));
    const log = EmbeddedLog.open({ directory: fields, lockDirectory: lockByAddon });
    const records = [
      makeRecord({ kind: 'set', key: 'n', value: '12', delta: -3n }),
      makeRecord({ kind: 'touch', key: 'k', freshUntilWallMs: 1_767_225_600_000 }),
      makeRecord({ kind: 'delete', key: 'part', batch: { id: 0xabcn, count: 1, index: 0 } }),
    ];
    log.append({ records, recordCount: 3, epoch: log.epoch, expectPosition: log.end });
    log.close();
    const { code, lines } = await run('inspect', fields, '--records');
    expect(code).toBe(0);
    expect(lines).toContain('set  "n"  2 bytes  codec 0  version 1.1  by -3\n');
    expect(lines).toContain('touch  "k"  version 1.1  stale from 2026-01-01T00:00:00.000Z\n');
    expect(lines).toContain('delete  "part"  version 1.1  part 1 of 1 of atomic batch 0000000000000abc\n');
    expect((await run('verify', fields)).code).toBe(0);
  });

  test('inspect --batches --from leaves out what is before', async () => {
    const all = (await run('inspect', directory, '--batches')).lines;
    const end = /positions 0 to (\d+)/.exec(all)?.[1] ?? '';
    expect(all).toContain('  records 2,');
    const { lines } = await run('inspect', directory, '--batches', '--from', String(Number(end) - 8));
    expect(lines).toContain('  records 3,');
    expect(lines).not.toContain('  records 2,');
  });

  test('verify finds a flipped bit that inspect does not look for', async () => {
    expect((await run('verify', directory)).code).toBe(0);
    damage(128 + 64 + 64 + 45);
    const { code, lines } = await run('verify', directory);
    expect(code).toBe(1);
    expect(lines).toMatch(
      /^DAMAGE: 000000000001\.log at position 64 \(offset 192\): the batch has the wrong checksum/m,
    );
    expect(lines).toContain(`1 fault. To keep everything that is sound: npx cairn-cache log repair ${directory}`);
  });

  test('repair keeps what is sound, says what it did, and leaves a log that is sound', async () => {
    damage(128 + 64 + 64 + 45);
    const dry = await run('repair', directory, '--dry-run');
    expect(dry.code).toBe(1);
    expect(dry.lines).toContain('Nothing was changed');
    const { code, lines } = await run('repair', directory);
    // What is there is sound, and not all that should be there.
    expect(code).toBe(1);
    expect(lines).toContain('What is left is sound.');
    expect(lines).toContain('000000000001.log: 2 records at position 64');
    expect(lines).toContain('At least 2 records of the log are lost.');
    expect(lines).toContain(`The files as they were are in ${join(directory, 'before-repair-1')}.`);
    expect((await run('verify', directory)).code).toBe(0);
    expect((await run('repair', directory)).lines).toContain('there is nothing to repair');
  });

  test('a directory that is not there, or has no log, is said to be so, and stays as it is', async () => {
    const empty = mkdtempSync(join(root, 'empty-'));
    mkdirSync(join(empty, 'photos'));
    for (const name of ['inspect', 'verify', 'repair']) {
      const { code, errors } = await run(name, join(directory, 'nowhere'));
      expect(code).toBe(2);
      expect(errors).toMatch(new RegExp(`^cairn log ${name}: .*nowhere`));
      expect(await run(name, empty)).toEqual({
        code: 2,
        lines: '',
        errors: `cairn log ${name}: There is no log in ${empty}`,
      });
    }
    expect(readdirSync(empty)).toEqual(['photos']);
  });

  test('a log that is in use is neither verified nor repaired', async () => {
    const log = EmbeddedLog.open({ directory, lockDirectory: lockByAddon });
    for (const name of ['verify', 'repair']) {
      const { code, errors } = await run(name, directory);
      expect(code).toBe(2);
      expect(errors).toContain(`in use by this process, ${process.pid}`);
    }
    log.close();
    expect((await run('verify', directory)).code).toBe(0);
  });

  test('a log that cannot be locked is verified all the same, with a remark, and not repaired', async () => {
    rmSync(join(directory, 'lock'));
    mkdirSync(join(directory, 'lock'));
    const verified = await run('verify', directory);
    expect(verified).toMatchObject({
      code: 0,
      errors: expect.stringMatching(/^cairn log: Cannot lock .* may look damaged$/),
    });
    expect(await run('repair', directory)).toMatchObject({ code: 2, errors: expect.stringMatching(/Cannot lock/) });
  });

  test('a log is not changed by inspect and verify', async () => {
    const names = readdirSync(directory);
    const before = names.map((name) => readFileSync(join(directory, name)));
    for (const name of ['inspect', 'verify']) await run(name, directory);
    expect(readdirSync(directory)).toEqual(names);
    const after = names.map((name) => readFileSync(join(directory, name)));
    expect(after).toEqual(before);
  });

  test('a log of a newer format is refused by its version', async () => {
    const path = join(directory, 'cursors');
    const bytes = readFileSync(path);
    bytes.writeUInt32LE(FORMAT_VERSION + 1, 8);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 124)), 124);
    writeFileSync(path, bytes);
    const verified = await run('verify', directory);
    expect(verified.code).toBe(2);
    expect(verified.lines).toContain('A newer version of cairn-cache wrote this');
    const repaired = await run('repair', directory);
    expect(repaired).toMatchObject({ code: 2, errors: expect.stringMatching(/newer version of cairn-cache/) });
  });

  test('inspect finds nothing wrong with a log that a process writes', async () => {
    const busy = mkdtempSync(join(root, 'busy-'));
    const program = `
      const [library, locks, directory] = process.argv.slice(1);
      const { EmbeddedLog } = await import(library);
      const { lockByAddon: lockDirectory } = await import(locks);
      const log = EmbeddedLog.open({ directory, lockDirectory, sync: 'none', segmentBytes: 262144 });
      const record = Buffer.alloc(40 + 1024);
      record.writeUInt32LE(record.length, 0);
      record[4] = 1;
      record.writeBigUInt64LE((BigInt(log.epoch) << 32n) + 1n, 8);
      record.writeUInt32LE(8, 28);
      record.writeUInt32LE(1016, 32);
      process.stdout.write('ready');
      const parent = process.ppid;
      for (let i = 0; process.ppid === parent; i++) {
        log.append({ records: [record], recordCount: 1, epoch: log.epoch, expectPosition: log.end });
        if (i % 1000 === 999) {
          const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
          const steps = log.snapshots.begin(start).finish((log.sync(), log.durable), log.epoch);
          while (!steps.next().done);
          log.cursor('reader').advance(log.committed);
        }
      }
    `;
    const child = spawn(
      process.execPath,
      ['--input-type=module', '-e', program, built('log/index.js'), built('native/directory-lock.js'), busy],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    try {
      await once(child.stdout, 'data');
      let last = '';
      for (let i = 0; i < 40; i++) {
        const { code, lines } = await run('inspect', busy, '--batches');
        expect(code, lines.slice(-500)).toBe(0);
        last = lines;
      }
      expect(last).toContain('the log is in use, or was not closed');
      expect(last).toMatch(/^0{3,11}(?!1\.)\d+\.log: base/m);
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    // What it left is sound.
    expect((await run('verify', busy)).code).toBe(0);
  });
});

describe('the command `cairn`', () => {
  const cli = async (...args: string[]) => {
    const process = startCli(args);
    const { code } = await process.ended;
    return { code, stdout: process.stdout, stderr: process.stderr };
  };

  test('has `log` with its three commands', async () => {
    expect((await cli('help')).stdout).toMatch(/log .*request log/);
    const { stdout } = await cli('log', '-h');
    for (const name of ['inspect', 'verify', 'repair']) expect(stdout).toContain(name);
    expect(stdout).toContain('Exit codes: 0,');
  });

  test('inspects, verifies and repairs, and says by its exit code what it found', async () => {
    expect(await cli('log', 'inspect', directory)).toMatchObject({ code: 0, stderr: '' });
    expect(await cli('log', 'verify', directory)).toMatchObject({ code: 0, stderr: '' });
    damage(128 + 64 + 64 + 45);
    const verified = await cli('log', 'verify', directory);
    expect(verified.code).toBe(1);
    expect(verified.stdout).toContain('DAMAGE: 000000000001.log at position 64');
    // Two records are lost.
    expect((await cli('log', 'repair', directory)).code).toBe(1);
    expect((await cli('log', 'verify', directory)).code).toBe(0);
    const nowhere = await cli('log', 'verify', join(directory, 'nowhere'));
    expect(nowhere).toMatchObject({ code: 2, stderr: expect.stringContaining('There is no log in') });
    const file = await cli('log', 'repair', join(directory, '000000000001.log'));
    expect(file).toMatchObject({ code: 2, stderr: expect.stringMatching(/01\.log is a file: expected the directory/) });
  });

  test('refuses what is no position, and a command without a directory', async () => {
    expect(await cli('log', 'inspect', directory, '--from', 'x')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Expected a position'),
    });
    expect(await cli('log', 'verify')).toMatchObject({ code: 2, stderr: expect.stringContaining('directory') });
  });

  test('inspects where the addon does not load, and says so where it is needed', async () => {
    const env = { CAIRN_NATIVE_PATH: join(root, 'none.node') };
    const inspected = startCli(['log', 'inspect', directory], env);
    expect((await inspected.ended).code).toBe(0);
    const verified = startCli(['log', 'verify', directory], env);
    expect((await verified.ended).code).toBe(2);
    expect(verified.stderr).toContain('No native addon');
  });
});
