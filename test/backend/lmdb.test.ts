// LMDB behind a cache.

import { fork } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { makeBackend } from '../../src/backend/index.ts';
import { LmdbBackend, type LmdbOptions } from '../../src/backend/lmdb.ts';
import { bytes, NOW_MS, remove, Subject, set } from '../../src/testing/harness.ts';
import { describeBackend } from '../conformance/backend.ts';
import { withCode } from '../support/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'cairn-lmdb-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
let path = '';
const fresh = (): string => {
  path = join(folder, `${++count}`, 'store.lmdb');
  return path;
};

// Writes until it is killed: all keys in each batch, with the position as their version. It uses what is built in
// dist/, because not every Node runs TypeScript.
const dist = new URL('../../dist/', import.meta.url).href;
const WRITER = `
  import { LmdbBackend } from '${dist}backend/lmdb.js';
  import { Subject, set } from '${dist}testing/harness.js';
  const subject = new Subject((clock) => new LmdbBackend({ path: process.argv[2], clock }));
  await subject.backend.open();
  subject.moveTo((await subject.backend.readCursors())[0]);
  for (;;) {
    const version = subject.next().position;
    await subject.write(...Array.from({ length: 50 }, (_, i) => set('key ' + i, String(version), { version })));
    process.send(String(version));
    await new Promise((resolve) => setImmediate(resolve));
  }`;

describeBackend('LMDB', {
  async reset() {
    fresh();
  },
  make: (clock) => new LmdbBackend({ path, clock }),
});

describe('LMDB', () => {
  const open: Subject[] = [];
  const opened = async (options: Partial<LmdbOptions> = {}): Promise<Subject> => {
    const subject = new Subject((clock) => new LmdbBackend({ path, clock, ...options }));
    open.push(subject);
    await subject.backend.open();
    return subject;
  };
  afterEach(async () => {
    for (const { backend } of open.splice(0)) await backend.close();
  });
  const LIMIT = 4 * 2 ** 20;
  const batch = (number: number, size = 900) =>
    Array.from({ length: 100 }, (_, i) =>
      set(`${(number * 100 + i).toString(16).padStart(6, '0')}`, Buffer.alloc(size, 1)),
    );

  test('keeps what it has over an end of the process, at a path that its address names', async () => {
    const made = await makeBackend(`lmdb:${fresh()}`);
    expect(made.name).toBe(`LMDB in ${path}`);
    await made.open();
    const first = await opened();
    await first.write(set('key', 'value'));
    await first.backend.close();
    await made.close();
    const later = await opened();
    expect(await later.texts('key')).toEqual(['value']);
    expect(await later.backend.readCursors()).toEqual([first.cursor]);
    expect(statSync(join(path, '..')).mode & 0o777).toBe(0o700);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test.each([
    ['lmdb:', /a path behind lmdb:/],
    ['lmdb:x?sise=1gb', /no parameter "sise": known are size, full/],
    ['lmdb:x?size=much', /a size such as 10gb, got "much"/],
    ['lmdb:x?size=1', /1mb or more/],
    ['lmdb:x?size=1gb&full=drop', /refuse or evict, got "drop"/],
    ['lmdb:x?full=evict', /needs a size/],
  ])('refuses the address %s', async (address, message) => {
    await expect(makeBackend(address)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', message));
  });

  test('takes the directory that it is given where the address has no path', async () => {
    expect((await makeBackend('lmdb:?size=1gb', { directory: '/data' })).name).toBe('LMDB in /data/store.lmdb');
    expect((await makeBackend('lmdb:///data/x')).name).toBe('LMDB in /data/x');
  });

  test('halts for a file that is not its own, or not to be had, and leaves it as it was', async () => {
    const backend = new LmdbBackend({ path: join(folder, 'garbage') });
    writeFileSync(join(folder, 'garbage'), Buffer.alloc(100_000, 7));
    const error = await backend.open().catch((reason: unknown) => reason);
    expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', /is not a file of LMDB/));
    expect(backend.classify(error)).toBe('halt');
    expect(statSync(join(folder, 'garbage')).size).toBe(100_000);
    for (const bad of [folder, join(folder, 'garbage', 'store')]) {
      const other = new LmdbBackend({ path: bad });
      const reason = await other.open().catch((caught: unknown) => caught);
      expect(reason).toBeInstanceOf(Error);
      expect(other.classify(reason), `${bad}: ${reason}`).toBe('halt');
    }
  });

  test('that is full refuses a batch as a whole, takes deletes, and goes on with a larger limit', async () => {
    fresh();
    const subject = await opened({ limitBytes: LIMIT });
    let number = 0;
    let error: unknown;
    for (; error === undefined && number < 100; number++) {
      error = await subject.write(...batch(number)).then(
        () => undefined,
        (reason: unknown) => reason,
      );
    }
    expect(error).toEqual(withCode('ERR_BACKEND_FULL', /its limit is 4194304 bytes/));
    expect(subject.backend.classify(error)).toBe('halt');
    expect(number).toBeGreaterThan(20);
    expect(number).toBeLessThan(50);
    const refused = batch(number - 1);
    expect((await subject.load(...refused.map(({ key }) => key))).rows.every((row) => row === undefined)).toBe(true);
    expect(await subject.backend.readCursors()).toEqual([subject.cursor]);
    const larger = await opened({ limitBytes: 2 * LIMIT });
    larger.moveTo(subject.cursor);
    await larger.write(...refused);
    subject.moveTo(larger.cursor);
    for (let i = 0; i < 5; i++) await subject.write(...batch(i).map(({ key }) => remove(key)));
    await subject.write(...batch(50));
  });

  test('that evicts stays within its limit, removes expired and older rows first, and keeps the batch', async () => {
    fresh();
    const subject = await opened({ limitBytes: LIMIT, full: 'evict' });
    for (let number = 0; number < 100; number++) {
      await subject.write(...batch(number));
      const { rows } = await subject.load(...batch(number).map(({ key }) => key));
      expect(rows.every((row) => row !== undefined)).toBe(true);
    }
    const { rows } = await subject.scan();
    const total = rows.reduce((sum, { value }) => sum + value.length, 0);
    expect(total).toBeLessThan(LIMIT);
    expect(total).toBeGreaterThan(LIMIT / 2);
    expect(statSync(path).size).toBeLessThan(3 * LIMIT);
    // What has expired makes room before anything else in its neighbourhood.
    await subject.write(
      ...rows.filter((_, i) => i % 2 === 0).map(({ key }) => set(key, 'x', { expiresWallMs: NOW_MS + 1 })),
    );
    subject.nowMs += 1;
    const kept = (await subject.scan()).rows.length;
    expect(kept).toBe(Math.floor(rows.length / 2));
    for (let number = 200; number < 205; number++) await subject.write(...batch(number, 100));
    expect((await subject.scan()).rows.length).toBe(kept + 500);
    // A batch that can never fit is refused whatever is removed.
    await expect(subject.write(set('large', Buffer.alloc(2 * LIMIT)))).rejects.toThrow(withCode('ERR_BACKEND_FULL'));
  });

  test('loses nothing that it has confirmed, and no part of a batch, when its process is killed', async () => {
    fresh();
    const writer = join(folder, 'writer.mjs');
    writeFileSync(writer, WRITER);
    let confirmed = 0n;
    for (let round = 0; round < 8; round++) {
      const child = fork(writer, [path]);
      const from = confirmed;
      await new Promise<void>((resolve) => {
        child.on('message', (position: string) => {
          confirmed = BigInt(position);
          if (confirmed >= from + 5n + BigInt(round)) child.kill('SIGKILL');
        });
        child.on('exit', () => resolve());
      });
      const subject = await opened();
      const [cursor] = await subject.backend.readCursors();
      expect(cursor!.position).toBeGreaterThanOrEqual(confirmed);
      expect(confirmed).toBeGreaterThan(from);
      const keys = Array.from({ length: 50 }, (_, i) => bytes(`key ${i}`));
      const { rows } = await subject.backend.load(keys);
      expect(new Set(rows.map((row) => row?.version))).toEqual(new Set([cursor!.position]));
      await subject.backend.close();
    }
  });
});
