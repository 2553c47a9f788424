// Options of `cairn serve` from flags, the environment and a file: what each may give, which one counts, and by which
// name a wrong one is refused.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { contradiction, settingsOfFlags, shownArguments } from '../../src/cli/serve-options.ts';
import {
  merge,
  SETTABLE,
  type Settings,
  settingsOfEnvironment,
  settingsOfFile,
  shown,
  variableOf,
} from '../../src/cli/settings.ts';
import { startCli, startServe } from '../support/serve-process.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cairn-config-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

function values(settings: Settings): Record<string, unknown> {
  return Object.fromEntries([...settings].map(([option, { value }]) => [option, value]));
}

function environment(env: NodeJS.ProcessEnv): { values: Record<string, unknown>; warnings: string[] } {
  const warnings: string[] = [];
  const settings = settingsOfEnvironment(env, (message) => warnings.push(message));
  return { values: values(settings), warnings };
}

describe('variables', () => {
  test('have the names of the options, in capitals', () => {
    expect(variableOf('maxMemory')).toBe('CAIRN_MAX_MEMORY');
    expect(variableOf('snapshot.logBytes')).toBe('CAIRN_SNAPSHOT_LOG_BYTES');
    const names = [...SETTABLE.keys()].map(variableOf);
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => /^CAIRN_[A-Z_]+$/.test(name))).toBe(true);
  });

  test('give numbers, truths, lists and texts', () => {
    const given = environment({
      CAIRN_MAX_MEMORY: '512mb',
      CAIRN_MAX_ENTRIES: '1000',
      CAIRN_TTL: '60s',
      CAIRN_TRACK_ACCESS: 'true',
      CAIRN_HOST: '127.0.0.1, memory:[::1]:11212',
      CAIRN_PATH_MODE: '770',
      CAIRN_NAME: '7',
      CAIRN_DATA: '1',
      CAIRN_SNAPSHOT_EVERY: '5m',
    });
    expect(given).toEqual({
      values: {
        maxMemory: '512mb',
        maxEntries: 1000,
        ttl: '60s',
        trackAccess: true,
        host: ['127.0.0.1', 'memory:[::1]:11212'],
        pathMode: 0o770,
        name: '7',
        data: '1',
        'snapshot.every': '5m',
      },
      warnings: [],
    });
  });

  test('of an empty value give nothing', () => {
    expect(environment({ CAIRN_MAX_MEMORY: '' })).toEqual({ values: {}, warnings: [] });
  });

  test('that are wrong are refused by their names', () => {
    expect(() => environment({ CAIRN_MAX_ENTRIES: 'many' })).toThrow(
      /^Expected CAIRN_MAX_ENTRIES to be .*, got "many"$/,
    );
    expect(() => environment({ CAIRN_SHARDS: '3' })).toThrow(/^Expected CAIRN_SHARDS to be a power of two/);
  });

  test('that are no options are named in a warning, unless they are another program’s', () => {
    const { values, warnings } = environment({
      CAIRN_MAXMEMORY: '1',
      CAIRN_NATIVE_PATH: '/x',
      CAIRN_CONFIG: 'x',
      CAIRN_SEED: '1',
      CAIRN_SERVICE_HOST: '10.0.0.1',
      CAIRN_PORT_11211_TCP_ADDR: '10.0.0.1',
      CAIRN: '1',
      PATH: '/bin',
    });
    expect(values).toEqual({});
    expect(warnings).toEqual(['CAIRN_MAXMEMORY is ignored: did you mean CAIRN_MAX_MEMORY?']);
  });

  test('that Kubernetes sets for a service named cairn do not stop the server', () => {
    const { values, warnings } = environment({ CAIRN_PORT: 'tcp://10.0.0.1:11211' });
    expect(values).toEqual({});
    expect(warnings).toEqual([expect.stringMatching(/^CAIRN_PORT is ignored: .*Kubernetes/)]);
  });
});

describe('a file', () => {
  test.each([
    ['a.json', '{ "maxMemory": "1gb", "snapshot": { "every": "5m" }, "allowOpen": true }'],
    ['a.mjs', 'export default { maxMemory: "1gb", snapshot: { every: "5m" }, allowOpen: true, ttl: undefined };'],
    ['b.mjs', 'export default Promise.resolve({ maxMemory: "1gb", snapshot: { every: "5m" }, allowOpen: true });'],
    ['a.js', 'module.exports = { maxMemory: "1gb", snapshot: { every: "5m" }, allowOpen: true };'],
  ])('%s gives options by the names of the API', async (name, text) => {
    const settings = await settingsOfFile(fileOf(name, text));
    expect(values(settings)).toEqual({ maxMemory: '1gb', 'snapshot.every': '5m', allowOpen: true });
  });

  test.each([
    ['wrong.json', '{', /wrong\.json is not JSON: /],
    ['list.json', '[]', /Expected the options in .*list\.json to be an object, got \[\]/],
    ['null.json', 'null', /Expected the options in .*null\.json to be an object, got null/],
    [
      'name.json',
      '{ "maxMemroy": 1 }',
      /Unknown option "maxMemroy" in the options in .*name\.json: did you mean maxMemory\?/,
    ],
    [
      'inner.json',
      '{ "snapshot": { "evry": 1 } }',
      /Unknown option "evry" in snapshot in .*inner\.json: did you mean every\?/,
    ],
    ['nested.json', '{ "snapshot": 5 }', /Expected snapshot in .*nested\.json to be an object, got 5/],
    ['value.json', '{ "maxMemory": "1gx" }', /Expected maxMemory in .*value\.json to be .*, got "1gx"/],
    ['ack.json', '{ "clock": 1 }', /Unknown option "clock"/],
    ['throws.mjs', 'throw new Error("no such host");', /throws\.mjs cannot be loaded: no such host/],
    ['empty.mjs', 'export const maxMemory = 1;', /empty\.mjs exports no default/],
    ['yaml.yaml', 'maxMemory: 1', /to be a file that ends in \.js, \.mjs or \.json, got .*yaml\.yaml/],
  ])('%s is refused, and why', async (name, text, message) => {
    await expect(settingsOfFile(fileOf(name, text))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  test('that is not there is refused by its name', async () => {
    const file = join(folder, 'none.json');
    await expect(settingsOfFile(file)).rejects.toThrow(`There is no file ${file}`);
  });
});

describe('flag, variable, file and default', () => {
  test('count in this order', async () => {
    const flags = settingsOfFlags({ memoryLimit: '100mb' });
    const env = settingsOfEnvironment({ CAIRN_MAX_MEMORY: '200mb', CAIRN_TTL: '2s' }, () => {});
    const file = await settingsOfFile(fileOf('order.json', '{ "maxMemory": "300mb", "ttl": "3s", "shards": 4 }'));
    const all = merge(flags, env, file);
    expect(values(all)).toEqual({ maxMemory: '100mb', ttl: '2s', shards: 4 });
    expect([...all].map(([option, { source, name }]) => [option, source, name.split(' in ')[0]])).toEqual(
      expect.arrayContaining([
        ['maxMemory', 'flag', '-m'],
        ['ttl', 'environment', 'CAIRN_TTL'],
        ['shards', 'file', 'shards'],
      ]),
    );
  });

  test('--no-data sets aside what the file says of the log, and no flag', async () => {
    const file = await settingsOfFile(fileOf('log.json', '{ "data": "./d", "sync": "10ms" }'));
    expect(contradiction(merge(settingsOfFlags({ data: false }), file))).toBeUndefined();
    expect(contradiction(merge(settingsOfFlags({ data: false, sync: 'none' }), file))).toMatch(/beside --sync/);
    const withoutData = await settingsOfFile(fileOf('sync.json', '{ "sync": "10ms" }'));
    expect(contradiction(withoutData)).toMatch(/^Expected --data DIR beside sync in .*sync\.json: without it/);
  });
});

test.each([
  ['postgres://me:secret@host/db?x=1', 'postgres://host/db'],
  ['postgres://me:se@cret@host/db', 'postgres://host/db'],
  ['postgres://:secret@host', 'postgres://host'],
  ['postgres://host/db?password=secret&prefix=a_', 'postgres://host/db?prefix=a_'],
  ['postgres://host:5432/db', 'postgres://host:5432/db'],
  ['postgres:/me:secret@host/db', 'postgres:...'],
  ['postgres://me:sec/ret@host/db', 'postgres://...'],
  ['mysql://me:sec?ret@host/db', 'mysql://...'],
  ['mariadb://me:sec#ret@host/db', 'mariadb://...'],
  ['lmdb:/data/a@b/store.lmdb', 'lmdb:/data/a@b/store.lmdb'],
])('the database %s is shown as %s', (value, seen) => {
  expect(shown('store', { value, source: 'flag', name: '--store' })).toBe(seen);
});

test('a command is shown without the address of its database', () => {
  const args = ['--data', 'd', '--store', 'postgres://me:secret@host', '-m', '64', '--store=postgres://me:secret@host'];
  expect(shownArguments(args)).toEqual(['--data', 'd', '--store', '...', '-m', '64', '--store=...']);
});

describe('the commands', () => {
  test('config prints every option with its value and its source', async () => {
    const file = fileOf('shown.json', '{ "maxEntries": 5, "data": "./d" }');
    const cli = startCli(['config', '--config', file, '-m', '128'], { CAIRN_TTL: '60s' });
    expect((await cli.ended).code).toBe(0);
    expect(cli.stdout).toMatch(/^maxMemory +'128mb' +-m$/m);
    expect(cli.stdout).toMatch(/^ttl +'60s' +CAIRN_TTL$/m);
    expect(cli.stdout).toMatch(/^maxEntries +5 +maxEntries in .*shown\.json$/m);
    expect(cli.stdout).toMatch(/^segmentSize +'64mb' +default$/m);
    expect(cli.stdout.trimEnd().split('\n')).toHaveLength(SETTABLE.size);
  });

  test('config shows no password of a database, whatever it was given as', async () => {
    const address = 'postgres://me:secret@host/db?sslpassword=secret';
    const module = fileOf(
      'object.mjs',
      `const backend = { name: 'mine', level: 'idempotent', password: 'secret', own: null };
       for (const verb of ['open', 'readCursors', 'load', 'scan', 'write', 'classify', 'close']) backend[verb] = async () => {};
       backend.own = backend;
       export default { data: './d', store: backend };`,
    );
    for (const args of [
      ['--data', 'd', '--store', address],
      ['--config', module],
    ]) {
      const cli = startCli(['config', ...args]);
      expect((await cli.ended).code).toBe(0);
      expect(cli.stdout).toMatch(/^store +'(postgres:\/\/host\/db|mine)'/m);
      expect(cli.stdout + cli.stderr).not.toContain('secret');
    }
  });

  test('config shows no password of further databases, and none is repeated of what is no JSON', async () => {
    const stores = '{ "sessions": "postgres://me:secret@host/db" }';
    const cli = startCli(['config', '--data', 'd', '--store', 'lmdb:'], { CAIRN_STORES: stores });
    expect((await cli.ended).code).toBe(0);
    expect(cli.stdout).toMatch(/^stores +\{"sessions":"postgres:\/\/host\/db"\} +CAIRN_STORES$/m);
    const broken = startCli(['config', '--data', 'd', '--store', 'lmdb:'], { CAIRN_STORES: stores.slice(0, -1) });
    expect((await broken.ended).code).toBe(1);
    expect(broken.stderr).toMatch(/^cairn config: Expected CAIRN_STORES to be an object of databases by their names/);
    expect(cli.stdout + cli.stderr + broken.stdout + broken.stderr).not.toContain('secret');
  });

  test.each([
    [['--store', 'postgress://me:secret@host/db'], '"postgress:..."'],
    [['--store=postgress://me:secret@host/db'], '"postgress:..."'],
    [['--store', 'postgres//me:secret@host/db'], '"//..."'],
  ])('no password is repeated of a database that is refused: %j', async (args, seen) => {
    for (const command of ['serve', 'config']) {
      const cli = startCli([command, '--data', 'd', ...args]);
      expect((await cli.ended).code).toBe(1);
      expect(cli.stderr).toMatch(new RegExp(`^cairn ${command}: Expected --store to be the path of a module, or an `));
      expect(cli.stderr).toContain(seen);
      expect(cli.stdout + cli.stderr).not.toContain('secret');
    }
  });

  test('config --json is for programs, and a contradiction is an error after it', async () => {
    const cli = startCli(['config', '--json', '--sync', 'none']);
    expect((await cli.ended).code).toBe(1);
    const printed = JSON.parse(cli.stdout) as Record<string, object>;
    expect(printed['sync']).toEqual({ value: 'none', source: 'flag', name: '--sync' });
    expect(printed['maxMemory']).toEqual({ default: "'64mb'" });
    expect(cli.stderr).toContain('cairn config: Expected --data DIR beside --sync');
  });

  test('serve takes its options from the file, and a wrong one ends it before anything is opened', async () => {
    const server = await startServe(['--config', fileOf('serve.json', '{ "maxMemory": "32mb", "ttl": "1h" }')]);
    try {
      expect(server.stdout).toContain('Listening on');
    } finally {
      await server.stop();
    }
    const cli = startCli(['serve', '--config', fileOf('bad.json', '{ "maxMemory": "1kb" }')]);
    expect((await cli.ended).code).toBe(1);
    expect(cli.stderr).toMatch(/^cairn serve: Expected maxMemory in .*bad\.json to be at least 4mb, got "1kb"/);
  });
});
