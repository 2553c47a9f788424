// LMDB behind a cache.

import { fork, spawnSync } from 'node:child_process';
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

// Writes on a thread until the process is told to end, which it does in the middle of that.
const ENDING = `
  import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
  import { LmdbBackend } from '${dist}backend/lmdb.js';
  import { Subject, set } from '${dist}testing/harness.js';
  if (isMainThread) {
    const worker = new Worker(new URL(import.meta.url), { workerData: process.argv[2] });
    worker.on('message', () => process.send('writes'));
    process.on('message', () => process.exit(0));
  } else {
    const subject = new Subject((clock) => new LmdbBackend({ path: workerData, clock }));
    await subject.backend.open();
    subject.moveTo((await subject.backend.readCursors())[0]);
    for (let round = 0; ; round++) {
      const version = subject.next().position;
      await subject.write(...Array.from({ length: 1000 }, (_, i) => set('key ' + i, String(version), { version })));
      if (round === 3) parentPort.postMessage('writes');
    }
  }`;

// Writes until a batch fails, and tells which, why, and what is there then.
const LIMITED = `
  import { LmdbBackend } from '${dist}backend/lmdb.js';
  import { Subject, set } from '${dist}testing/harness.js';
  const subject = new Subject((clock) => new LmdbBackend({ path: process.argv[2], clock }));
  await subject.backend.open();
  for (let number = 0; number < 100; number++) {
    try {
      await subject.write(set('key ' + number, Buffer.alloc(200_000)));
    } catch (error) {
      const [cursor] = await subject.backend.readCursors();
      const [value] = await subject.texts('key ' + number);
      console.log(number, typeof error.code, subject.backend.classify(error), String(cursor.position), value);
      break;
    }
  }
  await subject.backend.close();`;

describeBackend('LMDB', {
  async reset() {
    fresh();
  },
  make: (clock) => new LmdbBackend({ path, clock }),
  sweeps: true,
});

test('a sweep of LMDB leaves the rows of a rule that keeps them, also of long keys', async () => {
  fresh();
  const prefix = 'k'.repeat(1500);
  const rules = [{ prefix, skip: false, deleteOnExpire: false }];
  const subject = new Subject((clock) => new LmdbBackend({ path, clock, rules }));
  await subject.backend.open();
  try {
    const more = { expiresWallMs: NOW_MS + 1 };
    await subject.write(set(`${prefix} 1`, 'x', more), set('k', 'x', more), set('j'.repeat(1501), 'x', more));
    const piece = { at: [subject.cursor!], expiredAtMs: NOW_MS + 1, place: undefined, rows: 10 };
    expect(await subject.backend.sweep!(piece)).toEqual({ removed: 2, place: undefined });
    expect(await subject.texts(`${prefix} 1`, 'k')).toEqual(['x', undefined]);
  } finally {
    await subject.backend.close();
  }
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

  test('fails a batch that the disk does not take, as a whole, and goes on', async () => {
    fresh();
    const program = join(folder, 'limited.mjs');
    writeFileSync(program, LIMITED);
    // The shell limits files to 2,000 blocks, which are of 512 or 1,024 bytes.
    const { status, stdout, stderr } = spawnSync(
      'sh',
      ['-c', 'ulimit -f 2000; exec "$0" "$@"', process.execPath, program, path],
      {
        encoding: 'utf8',
      },
    );
    expect(status, stderr).toBe(0);
    const [failed, of, kind, position, found] = stdout.trim().split(' ');
    expect(Number(failed)).toBeGreaterThan(1);
    expect([of, kind, found]).toEqual(['number', 'transient', 'undefined']);
    expect(position).toBe(failed);
    const subject = await opened();
    subject.moveTo((await subject.backend.readCursors())[0]);
    await subject.write(set('later', 'value'));
    expect(await subject.texts('later')).toEqual(['value']);
  });

  test('lets the process end while its thread writes', { timeout: 120_000 }, async () => {
    fresh();
    const program = join(folder, 'ending.mjs');
    writeFileSync(program, ENDING);
    for (let round = 0; round < 20; round++) {
      const child = fork(program, [path]);
      const signal = await new Promise((resolve) => {
        child.on('message', () => {
          // At another moment of a batch each time.
          setTimeout(() => child.send('end'), round * 3);
          setTimeout(() => child.kill('SIGKILL'), 60_000).unref();
        });
        child.on('exit', (_, by) => resolve(by));
      });
      // The package aborts the process if its thread is ended at the edge of a call, which is rare.
      expect(signal, `round ${round}`).not.toBe('SIGKILL');
      const subject = await opened();
      const [cursor] = await subject.backend.readCursors();
      const { rows } = await subject.backend.load(Array.from({ length: 1000 }, (_, i) => bytes(`key ${i}`)));
      expect(new Set(rows.map((row) => row?.version))).toEqual(new Set([cursor!.position]));
      await subject.backend.close();
    }
  });

  test('of writers of one file at once each moves its own lane, and none moves a cursor twice', async () => {
    fresh();
    const lanes = [await opened(), await opened(), await opened()];
    const key = 'key of all';
    const outcomes = await Promise.all(
      lanes.map((subject, lane) =>
        subject.backend.write({
          changes: [set(key, `${lane}`), set(`key ${lane}`, 'own')],
          from: undefined,
          to: { ...subject.next(), lane, laneCount: 3 },
        }),
      ),
    );
    expect(outcomes.map(({ kind }) => kind)).toEqual(['committed', 'committed', 'committed']);
    const cursors = await lanes[0]!.backend.readCursors();
    expect(cursors.map(({ lane }) => lane)).toEqual([0, 1, 2]);
    const from = cursors[0]!;
    const same = await Promise.all(
      lanes.map(({ backend }, i) =>
        backend.write({
          changes: [set('raced', `${i}`)],
          from,
          to: { ...from, position: from.position + BigInt(i + 1) },
        }),
      ),
    );
    expect(same.filter(({ kind }) => kind === 'committed')).toHaveLength(1);
    expect(same.filter(({ kind }) => kind === 'moved')).toHaveLength(2);
    const winner = same.findIndex(({ kind }) => kind === 'committed');
    expect(await lanes[0]!.texts('raced', 'key 2')).toEqual([`${winner}`, 'own']);
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
