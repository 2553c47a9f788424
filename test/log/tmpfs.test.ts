// The log on a file system that is really full: a small one in memory, where this user may mount one. What a disk in
// memory says of it is in embedded-log.test.ts.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { EmbeddedLog, type LogNotice, lockedByCaller, survey } from '../../src/log/index.ts';
import { appendNow, batchFor, keysIn } from '../support/logs.ts';
import { skipUnless } from '../support/skip.ts';

const root = mkdtempSync(join(tmpdir(), 'cairn-tmpfs-'));
const disk = join(root, 'disk');

function mount(): void {
  execFileSync('mkdir', ['-p', disk]);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m,mode=0700', 'tmpfs', disk], { stdio: 'pipe' });
}

function unmount(): void {
  execFileSync('umount', [disk], { stdio: 'pipe' });
}

function mayMount(): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  try {
    mount();
    unmount();
    return true;
  } catch {
    return false;
  }
}

afterAll(() => rmSync(root, { recursive: true }));

skipUnless(mayMount(), 'needs root that may mount a tmpfs', 'platform').describe('a small file system', () => {
  const logs: EmbeddedLog[] = [];
  let notices: LogNotice[] = [];
  beforeEach(() => {
    notices = [];
    mount();
  });
  afterEach(() => {
    try {
      for (const log of logs.splice(0)) log.close();
    } finally {
      unmount();
    }
  });

  const open = (sync: 'always' | '5ms' | 'none'): EmbeddedLog => {
    const log = EmbeddedLog.open({
      directory: join(disk, 'log'),
      sync,
      segmentBytes: 256 * 1024,
      lockDirectory: lockedByCaller,
      onNotice: (notice) => void notices.push(notice),
    });
    logs.push(log);
    return log;
  };
  const fill = (bytes: number): void => writeFileSync(join(disk, 'filler'), Buffer.alloc(bytes));
  const makeRoom = (): void => rmSync(join(disk, 'filler'));

  test.each(['always', '5ms', 'none'] as const)(
    'that is full refuses batches, lets what is there be read, and takes them when there is room (%s)',
    (sync) => {
      fill(1024 * 1024);
      const log = open(sync);
      const keys: string[] = [];
      const size = { valueBytes: 20_000 };
      let batch = batchFor(log, '0', size);
      for (;;) {
        const result = log.append(batch);
        if (result.kind === 'full') {
          expect(result.reason).toBe('disk');
          break;
        }
        expect(result.kind).toBe('committed');
        keys.push(`${keys.length}.1`);
        batch = batchFor(log, `${keys.length}`, size);
      }
      expect(keys.length).toBeGreaterThan(50);
      expect(keysIn(log)).toEqual(keys);
      expect(log.usage().level).toBe('full');
      expect(log.append(batch)).toEqual({ kind: 'full', reason: 'disk' });
      makeRoom();
      expect(log.append(batch).kind).toBe('committed');
      expect(log.usage().level).toBe('ok');
      keys.push(`${keys.length}.1`);
      appendNow(log, 'last', size);
      log.close();
      expect(survey(log.directory, { isDeep: true }).problems).toEqual([]);
      expect(keysIn(open(sync))).toEqual([...keys, 'last.1']);
      expect(notices.map(({ kind }) => kind)).toEqual(['level', 'level']);
    },
  );

  test('that is full lets a log be opened and read, and written once there is room', () => {
    const first = open('always');
    appendNow(first, 'a');
    first.close();
    let bytes = 3 * 1024 * 1024;
    for (;;) {
      try {
        fill(bytes);
        break;
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOSPC' });
        bytes -= 4096;
      }
    }
    const log = open('always');
    expect(keysIn(log)).toEqual(['a.1']);
    const batch = batchFor(log, 'b');
    expect(log.append(batch)).toEqual({ kind: 'full', reason: 'disk' });
    makeRoom();
    expect(log.append(batch).kind).toBe('committed');
    expect(keysIn(log)).toEqual(['a.1', 'b.1']);
  });
});
