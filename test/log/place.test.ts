// A directory that is renamed, removed or replaced while a log in it is open: the log notices before it writes by name
// and before it acknowledges anything, and never meets the files of another process.

import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { withCode } from '../support/errors.ts';
import { appendNow, batchFor, DIRECTORY, keysIn, LogDisk } from '../support/logs.ts';

const MOVED = '/data/moved';
const moved = withCode('ERR_LOG_IO', /directory that was opened has been moved or removed/);

describe('a log whose directory is renamed', () => {
  test.each(['always', '10ms', 'none'] as const)('acknowledges nothing any more, under %s', (sync) => {
    const disk = new LogDisk();
    const log = disk.open({ sync });
    appendNow(log, 'a');
    disk.disk.moveDirectory(DIRECTORY, MOVED);
    expect(log.append(batchFor(log, 'b'))).toEqual({ kind: 'unknown', cause: moved });
    expect(() => log.sync()).toThrow(moved);
    expect(() => log.cursor('c').advance(log.committed)).toThrow(withCode('ERR_LOG_IO'));
  });

  test('goes on when the directory is back, with everything that was acknowledged and nothing twice', () => {
    const disk = new LogDisk();
    const log = disk.open();
    appendNow(log, 'a');
    disk.disk.moveDirectory(DIRECTORY, MOVED);
    const batch = batchFor(log, 'b');
    for (let i = 0; i < 3; i++) expect(log.append(batch).kind).toBe('unknown');
    disk.disk.moveDirectory(MOVED, DIRECTORY);
    expect(log.append(batch).kind).toBe('committed');
    log.close();
    expect(keysIn(disk.open())).toEqual(['a.1', 'b.1']);
  });

  test('writes no byte into another directory that has its name', () => {
    const disk = new LogDisk();
    const log = disk.open({ segmentBytes: 4096 });
    for (let i = 0; i < 10; i++) appendNow(log, `a${i}`, { valueBytes: 700 });
    const start = { position: log.committed, recordsBefore: log.recordsBefore, epoch: log.epoch };
    disk.disk.moveDirectory(DIRECTORY, MOVED);
    const other = disk.open({ segmentBytes: 4096 });
    for (let i = 0; i < 10; i++) appendNow(other, `b${i}`, { valueBytes: 700 });
    const image = (): [string, Buffer][] => [...disk.disk.image()].filter(([path]) => path.startsWith(DIRECTORY));
    const before = image();
    const batch = batchFor(log, 'late', { valueBytes: 5000 });
    for (let i = 0; i < 3; i++) expect(log.append(batch).kind).toBe('unknown');
    for (const action of [
      () => log.sync(),
      () => log.cursor('c').advance(log.committed),
      () => log.snapshots.begin(start),
    ]) {
      expect(action).toThrow(withCode('ERR_LOG_IO'));
    }
    log.truncate(log.committed);
    expect(image()).toEqual(before);
    appendNow(other, 'last');
    other.close();
    expect(keysIn(disk.open())).toEqual([...Array.from({ length: 10 }, (_, i) => `b${i}.1`), 'last.1']);
  });

  test('between the lock and the opening is refused, and not made anew', () => {
    const disk = new LogDisk();
    disk.open().close();
    const files = disk.disk.files();
    const place = { directory: files.identify(DIRECTORY), lock: undefined };
    disk.disk.moveDirectory(DIRECTORY, MOVED);
    expect(() => disk.open({ place })).toThrow(moved);
    expect(() => files.identify(DIRECTORY)).toThrow();
  });
});

test('a lock file that is removed ends a log that nothing else protects, and no other', () => {
  for (const isLost of ['never', 'with-file'] as const) {
    const disk = new LogDisk();
    disk.disk.put(disk.path('lock'), Buffer.from('1'));
    const log = disk.open({ lockDirectory: () => ({ isLost, release() {} }) });
    appendNow(log, 'a');
    disk.disk.delete(disk.path('lock'));
    const result = log.append(batchFor(log, 'b'));
    if (isLost === 'never') expect(result.kind).toBe('committed');
    else expect(result).toEqual({ kind: 'unknown', cause: withCode('ERR_LOG_IO', /the file lock in it/) });
    // Another process has made it anew.
    disk.disk.put(disk.path('lock'), Buffer.from('2'));
    expect(log.append(batchFor(log, 'c')).kind).toBe(isLost === 'never' ? 'committed' : 'unknown');
  }
});

describe('a cache', () => {
  const root = mkdtempSync(join(tmpdir(), 'cairn-place-'));
  afterAll(() => rmSync(root, { recursive: true }));

  test.each(['renamed', 'removed'])('whose directory is %s rejects what it cannot keep, and says why', async (how) => {
    const directory = join(root, how);
    const cache = await Cache.open<string>({ data: directory, segmentSize: '4kb' });
    await cache.promises.set('a', '1');
    if (how === 'renamed') renameSync(directory, `${directory}-moved`);
    else rmSync(directory, { recursive: true });
    const failed = new Promise<unknown>((resolve) => {
      cache.on('log', (notice) => notice.kind === 'sync-failed' && resolve(notice.cause));
    });
    await expect(cache.promises.set('b', 'x'.repeat(5000))).rejects.toMatchObject({ code: 'ERR_LOG_IO' });
    expect(await failed).toEqual(moved);
    expect(cache.get('a')).toBe('1');
    if (how === 'renamed') {
      // It is this process's under any name, and another one may have the old name.
      expect(() => lockByAddon(`${directory}-moved`)).toThrow(withCode('ERR_LOG_LOCKED'));
      mkdirSync(directory);
      lockByAddon(directory).release();
      rmSync(directory, { recursive: true });
      renameSync(`${directory}-moved`, directory);
      // It is tried again and again; until then sets are refused.
      while ((await cache.promises.set('c', '1').catch(() => 'refused')) === 'refused');
    }
    const closed = cache.close({ timeout: 500 });
    if (how === 'removed') {
      await expect(closed).rejects.toMatchObject({ code: 'ERR_LOG_IO' });
      return;
    }
    await closed;
    const again = await Cache.open<string>({ data: directory, raw: 'string' });
    expect([...again.keys()].sort()).toEqual(['a', 'b', 'c']);
    await again.close();
  });

  test('whose lock file is removed keeps its directory', async () => {
    const directory = join(root, 'lock');
    const cache = await Cache.open<string>({ data: directory });
    rmSync(join(directory, 'lock'));
    expect(() => lockByAddon(directory)).toThrow(withCode('ERR_LOG_LOCKED'));
    await cache.promises.set('a', '1');
    await cache.close();
    lockByAddon(directory).release();
  });
});
