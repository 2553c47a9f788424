// The history in LMDB: what every database with a history does, its room, and how a program reads it.

import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { DeleteChange, HistoryRow, SetChange, TouchChange } from '../../src/backend/index.ts';
import { LmdbBackend, type LmdbOptions } from '../../src/backend/lmdb.ts';
import { Codec } from '../../src/request/codec.ts';
import { NOW_MS, remove, Subject, set, touch } from '../../src/testing/harness.ts';
import { describeHistory } from '../conformance/history.ts';
import { withCode } from '../support/errors.ts';
import { readLmdbHistory } from '../support/lmdb-history.ts';
import { installedFolder, markedSnippet, paste, runIn } from '../support/snippets.ts';

const folder = mkdtempSync(join(tmpdir(), 'cairn-lmdb-history-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
let path = '';
const subjects: Subject[] = [];
afterEach(() => Promise.all(subjects.splice(0).map(({ backend }) => backend.close())));

const RULES = [{ prefix: 'kept:', skip: false, deleteOnExpire: true, history: true }] as const;

const opened = async (options: Partial<LmdbOptions> = {}): Promise<Subject> => {
  const subject = new Subject((clock) => new LmdbBackend({ path, clock, rules: RULES, ...options }));
  subjects.push(subject);
  await subject.backend.open();
  return subject;
};
const fresh = (options?: Partial<LmdbOptions>): Promise<Subject> => {
  path = join(folder, `${++count}`, 'store.lmdb');
  return opened(options);
};

/** The changes, each also as a row of history. */
const keep = async (subject: Subject, changes: readonly HistoryRow[]): Promise<void> => {
  const to = subject.next();
  const outcome = await subject.backend.write({ changes, history: changes, from: subject.cursor, to });
  expect(outcome).toEqual({ kind: 'committed', deadLetters: [] });
  subject.moveTo(to);
};
const at = (change: SetChange | DeleteChange | TouchChange, loggedWallMs: number): HistoryRow => ({
  ...change,
  loggedWallMs,
});

describeHistory('LMDB', {
  open: (rules) => fresh({ rules }),
  async rows() {
    return (await readLmdbHistory(path)).sort((a, b) => (a.version < b.version ? -1 : 1));
  },
});

describe('the history in LMDB', () => {
  test('has the writes of a key one behind the other, also beside longer keys that begin with it', async () => {
    const subject = await fresh();
    const keys = ['kept:1', 'kept:1\0', `kept:1${'\0'.repeat(8)}`, 'kept:10', `kept:${'x'.repeat(1500)}`];
    for (let i = 0; i < 3; i++)
      await keep(
        subject,
        keys.toReversed().map((key) => at(set(key, `${i}`), i)),
      );
    const found = await readLmdbHistory(path);
    const name = ({ key, value }: { key: Buffer; value: Buffer | undefined }): string => `${key} ${value}`;
    const expected = keys.map((key) => [0, 1, 2].map((i) => `${key} ${i}`));
    for (const own of expected) expect(found.map(name).filter((each) => own.includes(each))).toEqual(own);
    expect(found).toHaveLength(15);
  });

  test('stays over an end, and keeps the first of a write that the log has twice', async () => {
    const subject = await fresh();
    const change = set('kept:1', 'a');
    await keep(subject, [at(change, 5), at(change, 6)]);
    await subject.backend.close();
    const later = await opened();
    later.moveTo((await later.backend.readCursors())[0]);
    await keep(later, [at(change, 7)]);
    expect((await readLmdbHistory(path)).map(({ loggedMs }) => loggedMs)).toEqual([5n]);
  });

  test('is refused, with its batch, by a file that was opened without such a rule', async () => {
    const subject = await fresh({ rules: [] });
    const error = await keep(subject, [at(set('kept:1', 'a'), 1)]).catch((reason: unknown) => reason);
    expect(error).toEqual(withCode('ERR_BACKEND_UNFIT', /without a rule that keeps history/));
    expect(subject.backend.classify(error)).toBe('halt');
    expect(await subject.backend.readCursors()).toEqual([]);
    expect(await subject.texts('kept:1')).toEqual([undefined]);
  });

  const LIMIT = 4 * 2 ** 20;
  const VALUE = Buffer.alloc(900, 1);

  test('counts for the limit: a batch without room for its rows is refused as a whole, a delete too', async () => {
    const subject = await fresh({ limitBytes: LIMIT });
    let rounds = 0;
    let error: unknown;
    // The row of the entry is always the same one, so it is the history that grows.
    for (; error === undefined && rounds < 100; rounds++) {
      const writes = Array.from({ length: 100 }, (_, i) => at(set('kept:1', VALUE), i));
      error = await keep(subject, writes).then(
        () => undefined,
        (reason: unknown) => reason,
      );
    }
    expect(error).toEqual(withCode('ERR_BACKEND_FULL', /its limit is 4194304 bytes/));
    expect(rounds).toBeGreaterThan(20);
    const deletes = Array.from({ length: 2000 }, (_, i) => at(remove('kept:1'), i));
    await expect(keep(subject, deletes)).rejects.toThrow(withCode('ERR_BACKEND_FULL'));
    expect(await readLmdbHistory(path)).toHaveLength((rounds - 1) * 100);
    expect((await subject.texts('kept:1'))[0]).toBe(VALUE.toString());
    expect(await subject.backend.readCursors()).toEqual([subject.cursor]);
  });

  test('is never evicted: entries give way to it, until it has all of the room', async () => {
    const subject = await fresh({ limitBytes: LIMIT, full: 'evict' });
    const entries = Array.from({ length: 2000 }, (_, i) => set(`key ${i}`, VALUE));
    await subject.write(...entries);
    const left = async (): Promise<number> => {
      const { rows } = await subject.load(...entries.map(({ key }) => key));
      return rows.filter((row) => row !== undefined).length;
    };
    let rounds = 0;
    let error: unknown;
    for (; error === undefined && rounds < 100; rounds++) {
      const writes = Array.from({ length: 100 }, (_, i) => at(set('kept:1', VALUE), i));
      error = await keep(subject, writes).then(
        () => undefined,
        (reason: unknown) => reason,
      );
    }
    expect(error).toEqual(withCode('ERR_BACKEND_FULL', /its limit is 4194304 bytes/));
    expect(await left()).toBeLessThan(1000);
    expect(await readLmdbHistory(path)).toHaveLength((rounds - 1) * 100);
  });

  test('is read by a program as the document says', async () => {
    path = join(installedFolder(), 'cache.lmdb');
    const app = join(path, '..');
    symlinkSync(
      fileURLToPath(new URL('../../node_modules/lmdb', import.meta.url)),
      join(app, 'node_modules/lmdb'),
      'junction',
    );
    const subject = await opened({ rules: [{ ...RULES[0], prefix: 'account:' }] });
    const text = { codec: Codec.ascii };
    await keep(subject, [
      at(set('account:1', '10', text), NOW_MS),
      at(set('account:10', 'another', text), NOW_MS),
      at(set('account:1', '20', text), NOW_MS + 1),
      at(touch('account:1', NOW_MS + 5000), NOW_MS + 2),
      at(remove('account:1'), NOW_MS + 3),
    ]);
    await subject.backend.close();
    const script = paste(app, 'read.mjs', markedSnippet('docs/backends.md', 'lmdb-history').code);
    const time = (more: number): string => new Date(NOW_MS + more).toISOString();
    expect(await runIn(app, process.execPath, [script])).toEqual({
      code: 0,
      stdout: `set 10 ${time(0)}\nset 20 ${time(1)}\ntouch  ${time(2)}\ndelete  ${time(3)}\n`,
      stderr: '',
    });
    rmSync(app, { recursive: true });
  });
});
