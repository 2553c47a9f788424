// `cairn log` as users meet it: what it prints, and how it ends.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { logCommand } from '../../src/cli/log.ts';
import { EmbeddedLog } from '../../src/log/index.ts';
import { makeRecord } from '../support/records.ts';

const root = mkdtempSync(join(tmpdir(), 'cairn-cli-log-'));
afterAll(() => rmSync(root, { recursive: true }));

const made = join(root, 'made');
{
  const log = EmbeddedLog.open({ directory: made });
  log.append({
    records: [
      makeRecord({ kind: 'set', key: 'user:1', value: 'secret', clientFlags: 7, expiresWallMs: 1_767_225_600_000 }),
      makeRecord({ kind: 'delete', key: Buffer.from([0xff, 0x00]) }),
    ],
    recordCount: 2,
    epoch: log.epoch,
    expectPosition: log.end,
  });
  log.append({ records: [makeRecord({ kind: 'clear', epoch: 2 })], recordCount: 1, epoch: 2, expectPosition: log.end });
  log.cursor('write-back').advance(log.committed);
  const steps = log.snapshots.begin({ position: log.committed, recordsBefore: 3n, epoch: 2 }).finish(log.durable, 2);
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
    expect(lines).toMatch(/^Log [0-9a-f]{16} in .*, format 1$/m);
    expect(lines).toMatch(/positions 0 to \d+, 3 records, \d+ B in 1 segment/);
    expect(lines).toMatch(/^000000000001\.log +0 +\d+ +3 +3 .* 2 .*Z +closed$/m);
    expect(lines).toMatch(/^000000000001\.snapshot +\d+ +\d+ +0 +0 /m);
    expect(lines).toMatch(/^"write-back" +\d+ +0 B$/m);
    expect(lines).toContain('Everything that should be there is sound.');
  });

  test('inspect --records lists batches and records, with keys and without values', async () => {
    const { lines } = await run('inspect', directory, '--records');
    expect(lines).toMatch(/ 0 {2}takeover {2}\(offset 128, epoch 1, writer [0-9a-f]{16}, all before it synced, /);
    expect(lines).toMatch(/ 64 {2}records 2, \d+ bytes {2}\(offset 192, epoch 1/);
    expect(lines).toContain('set  "user:1"  6 bytes  codec 0  flags 7  version 1.1  expires 2026-01-01T00:00:00.000Z');
    expect(lines).toContain('delete  0xff00  version 1.1');
    expect(lines).toContain('clear  version 2.1');
    expect(lines).toMatch(/^ {2}\d+ {2}closed$/m);
    expect(lines).not.toContain('secret');
  });

  test('inspect --batches --from leaves out what is before', async () => {
    const all = (await run('inspect', directory, '--batches')).lines;
    const end = /positions 0 to (\d+)/.exec(all)?.[1] ?? '';
    expect(all).toContain('  records 2,');
    const { lines } = await run('inspect', directory, '--batches', '--from', String(Number(end) - 8));
    expect(lines).toContain('  records 1,');
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
    expect(lines).toContain(`1 fault. To keep everything that is sound: cairn log repair ${directory}`);
  });

  test('repair keeps what is sound, says what it did, and leaves a log that is sound', async () => {
    damage(128 + 64 + 64 + 45);
    const dry = await run('repair', directory, '--dry-run');
    expect(dry.code).toBe(1);
    expect(dry.lines).toContain('Nothing was changed');
    const { code, lines } = await run('repair', directory);
    expect(code).toBe(0);
    expect(lines).toContain('000000000001.log: 2 records at position 64');
    expect(lines).toContain('At least 2 records of the log are lost.');
    expect(lines).toContain(`The files as they were are in ${join(directory, 'before-repair-1')}.`);
    expect((await run('verify', directory)).code).toBe(0);
    expect((await run('repair', directory)).lines).toContain('there is nothing to repair');
  });

  test('a directory that is not there, or has no log, is said to be so', async () => {
    const { code, errors } = await run('inspect', join(directory, 'nowhere'));
    expect(code).toBe(1);
    expect(errors).toMatch(/^cairn log inspect: .*nowhere/);
    const empty = mkdtempSync(join(root, 'empty-'));
    expect(await run('verify', empty)).toMatchObject({ lines: expect.stringContaining('There is no log in') });
  });

  test('a log that is in use is not repaired', async () => {
    const log = EmbeddedLog.open({ directory });
    const { code, errors } = await run('repair', directory);
    expect(code).toBe(1);
    expect(errors).toContain(`in use by process ${process.pid}`);
    log.close();
  });
});
