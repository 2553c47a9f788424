// Rules of whole caches with a real database, LMDB.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { Cache, type CacheOptions, type RuleOptions } from '../../src/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { lmdbOfTests } from '../support/databases-of-tests.ts';
import { withCode } from '../support/errors.ts';
import { LMDB_MODULE } from '../support/lmdb.ts';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';

const directories = new DataDirectories('write-back-rules');
const database = lmdbOfTests();
let data: string;
beforeEach(() => {
  data = directories.fresh();
});

const open = (rules: RuleOptions[], options: CacheOptions = {}): Promise<Cache> =>
  directories.open(data, { store: LMDB_MODULE, writeBack: { delay: 5 }, rules, ...options });

const SESSIONS = { prefix: 'session:', skip: true };
/** With changes that are not in the database when the cache is ended. */
const LATE: CacheOptions = { writeBack: { delay: '1h' } };

test('keys of a rule that skips never reach the database, and those of a longer prefix do', async () => {
  const cache = await open([SESSIONS, { prefix: 'session:admin:' }]);
  expect(cache.options.rules).toEqual([
    { ...SESSIONS, deleteOnExpire: false },
    { prefix: 'session:admin:', skip: false, deleteOnExpire: true },
  ]);
  for (let i = 0; i < 100; i++) cache.set(`session:${i}`, i);
  cache.set('session:admin:1', 'root');
  cache.set('user:1', 'Ada');
  cache.touch('session:1', '1h');
  cache.delete('session:2');
  await cache.drain();
  expect((await database.read()).rows).toEqual({ 'session:admin:1': 'root', 'user:1': 'Ada' });
  cache.set('session:3', 'only');
  await cache.drain();
  expect(cache.stats().writeBack).toMatchObject({ state: 'writing', oldestUnwrittenMs: 0, owedRecords: 0 });
  await cache.close();
  const again = await open([SESSIONS, { prefix: 'session:admin:' }]);
  expect([again.get('session:1'), again.get('session:2'), again.get('session:3')]).toEqual([1, undefined, 'only']);
});

test('rules may change when the database has everything', async () => {
  const cache = await open([]);
  cache.set('session:1', 'x');
  await cache.close();
  const second = await open([SESSIONS]);
  second.delete('session:1');
  await second.close();
  expect((await database.read()).rows).toEqual({ 'session:1': 'x' });
  await (await open([])).close();
});

test('a rule that would skip unwritten changes is refused by name', async () => {
  const cache = await open([{ prefix: 'session:' }, { prefix: 'user:' }], LATE);
  cache.set('session:1', 'x');
  await cache.destroy();
  const refusal = open([SESSIONS, { prefix: 'user:' }]);
  await expect(refusal).rejects.toThrow(withCode('ERR_STORE_REFUSED', /the rule for the prefix "session:"/));
  await expect(open([{ prefix: '', skip: true }])).rejects.toThrow(withCode('ERR_STORE_REFUSED'));
  // Others may change: its changes go to the same place.
  await (await open([{ prefix: 'user:', skip: true }])).close();
  expect((await database.read()).rows).toEqual({ 'session:1': 'x' });
});

test('changes without a rule are not lost by one that is new', async () => {
  const cache = await open([{ prefix: 'user:' }], LATE);
  cache.set('session:1', 'x');
  await cache.destroy();
  await expect(open([SESSIONS])).rejects.toThrow(withCode('ERR_STORE_REFUSED', /under no rule/));
  const same = await open([]);
  await same.drain();
  await same.close();
  await (await open([SESSIONS])).close();
});

test('the first rules of a directory are compared with none', async () => {
  const cache = await open([], LATE);
  cache.set('session:1', 'x');
  await cache.destroy();
  await expect(open([SESSIONS])).rejects.toThrow(withCode('ERR_STORE_REFUSED', /under no rule/));
  const same = await open([{ prefix: 'user:', skip: true }]);
  await same.drain();
  await same.close();
  await (await open([SESSIONS])).close();
  expect((await database.read()).rows).toEqual({ 'session:1': 'x' });
});

test('unwritten records of a rule that skipped them are written when it is gone', async () => {
  const cache = await open([SESSIONS], LATE);
  cache.set('session:1', 'x');
  await cache.destroy();
  const second = await open([]);
  await second.drain();
  expect((await database.read()).rows).toEqual({ 'session:1': 'x' });
});

test('a file of rules that cannot be read is refused with its name', async () => {
  await (await open([SESSIONS])).close();
  const path = join(data, 'store-rules.json');
  const text = readFileSync(path, 'utf8');
  writeFileSync(path, text.slice(0, -5));
  await expect(open([SESSIONS])).rejects.toThrow(withCode('ERR_STORE_REFUSED', /store-rules\.json cannot be read/));
  writeFileSync(path, text.replace('"format": 1', '"format": 2'));
  await expect(open([SESSIONS])).rejects.toThrow(withCode('ERR_STORE_REFUSED', /format 2/));
});

test('a second owner joins with equal rules only', async () => {
  const named = (rules: RuleOptions[]): Promise<Cache> => open(rules, { name: 'ruled' });
  await named([SESSIONS]);
  await (await named([{ prefix: 'session:', skip: true }])).close();
  await expect(named([])).rejects.toThrow(withCode('ERR_NAME_TAKEN', /the option rules/));
});

test.each<[string, unknown, RegExp]>([
  ['no array', {}, /Expected rules to be an array of rules/],
  ['no object', ['session:'], /Expected rules\[0\] to be an object/],
  ['no prefix', [{ skip: true }], /Expected rules\[0\]\.prefix to be text that keys begin with/],
  ['a prefix of another type', [{ prefix: 1 }], /rules\[0\]\.prefix/],
  ['the same prefix twice', [{ prefix: 'a' }, { prefix: 'a', skip: true }], /another prefix, got "a" twice/],
  [
    'an option that does not exist',
    [{ prefix: 'a', skipp: true }],
    /Unknown option "skipp" in rules\[0\]: did you mean skip/,
  ],
  ['a table and skip', [{ prefix: 'a', table: 't', key: 'k', skip: true }], /rules\[0\] to have either skip or table/],
  ['a table without a key', [{ prefix: 'a', table: 't' }], /name the key columns of "t"/],
  ['a key without a table', [{ prefix: 'a', key: 'k' }], /rules\[0\]\.key is for a rule with a table/],
  ['no name of a table', [{ prefix: 'a', table: 'a.b.c', key: 'k' }], /rules\[0\]\.table to be the name of a table/],
  ['no columns of a key', [{ prefix: 'a', table: 't', key: [] }], /rules\[0\]\.key to be at least one/],
  [
    'a key of another type',
    [{ prefix: 'a', table: 't', key: ['k', 5] }],
    /rules\[0\]\.key\[1\] to be the name of a column/,
  ],
  ['a value of another kind', [{ prefix: 'a', table: 't', key: 'k', value: 'text' }], /rules\[0\]\.value to be 'json'/],
  [
    'two kinds of values',
    [{ prefix: 'a', table: 't', key: 'k', value: { columns: ['a'], column: 'b' } }],
    /either columns or column/,
  ],
  [
    'a table of another database',
    [{ prefix: 'a', table: 't', key: 'k' }],
    /names a table of yours: that is for mariadb:, mysql:, postgres:, postgresql:, sqlite:/,
  ],
  ['history of what is skipped', [{ prefix: 'a', skip: true, coalesce: false }], /either skip or coalesce: false/],
  [
    'history in another database',
    [{ prefix: 'a', coalesce: false }],
    /keeps every write \(coalesce: false\): that is for lmdb:, mariadb:, mysql:, postgres:, postgresql:, sqlite:/,
  ],
  ['counters of what is skipped', [{ prefix: 'a', skip: true, counter: true }], /either skip or counter/],
  [
    'counters without their column',
    [{ prefix: 'a', table: 't', key: 'k', counter: true }],
    /rules\[0\]\.counter needs the column of the number/,
  ],
  ['a sweep of what is skipped', [{ prefix: 'a', skip: true, deleteOnExpire: true }], /either skip or deleteOnExpire/],
  [
    'a sweep without an expiry',
    [{ prefix: 'a', table: 't', key: 'k', deleteOnExpire: true }],
    /rules\[0\]\.deleteOnExpire needs a column of the expiry/,
  ],
  ['too many', Array.from({ length: 65 }, (_, i) => ({ prefix: `${i}` })), /at most 64 rules/],
])('rules are refused with %s', async (_, rules, message) => {
  await expect(open(rules as RuleOptions[])).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', message));
});

test('a table of the user is written only if the user says so', async () => {
  const rules = [{ prefix: 'user:', table: 'users', key: 'id' }];
  const opening = open(rules, { store: 'postgres://127.0.0.1:1/none' });
  await expect(opening).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /give mode: 'write-back'/));
});

test('counters are for a cache that writes', async () => {
  const opening = Cache.open({ store: LMDB_MODULE, mode: 'read-through', rules: [{ prefix: 'n:', counter: true }] });
  await expect(opening).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /adds to rows \(counter: true\)/));
});

test('counters are refused over a database that could add twice', async () => {
  const store = plainBackend(new PlainStore(), Date.now);
  const opening = open([{ prefix: 'n:', counter: true }], { store });
  await expect(opening).rejects.toThrow(
    withCode('ERR_BACKEND_UNFIT', /the rule for "n:" adds to rows .* a map is of level idempotent/),
  );
});

test('history is for a cache that writes', async () => {
  const opening = Cache.open({
    ...{ store: 'postgres://127.0.0.1:1/none', mode: 'read-through' },
    rules: [{ prefix: 'n:', coalesce: false }],
  });
  await expect(opening).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT', /mode 'read-through' writes nothing/));
});

test('rules need a database', async () => {
  const opening = directories.open(data, { rules: [SESSIONS] });
  await expect(opening).rejects.toThrow(
    withCode('ERR_INVALID_ARGUMENT', /The option rules is for a cache with a database/),
  );
});
