// The command `cairn-cache torture` on each kind of database: what it finds, what it leaves alone and what it leaves
// behind. What happens in a campaign is in src/torture/campaign.ts; write-back.test.ts has the longer ones.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LMDB_MODULE } from '../support/lmdb.ts';
import { MARIADB_MISSING, MariadbServer, mariadbPrograms } from '../support/mariadb.ts';
import { PASSWORD, POSTGRES_MISSING, PostgresServer, postgresPrograms } from '../support/postgres.ts';
import { Random } from '../support/random.ts';
import { type CliProcess, startCli } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const scratch = mkdtempSync(join(tmpdir(), 'cairn-torture-test-'));
// What is left behind in the folder for temporary files is counted there.
const temporary = join(scratch, 'tmp');
mkdirSync(temporary);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function torture(args: readonly string[], env: NodeJS.ProcessEnv = {}): CliProcess {
  const seed = String(new Random().seed);
  return startCli(['torture', '--seed', seed, ...args], { TMPDIR: temporary, ...env });
}

async function ended(cli: CliProcess): Promise<{ code: number | null; output: string }> {
  const { code } = await cli.ended;
  return { code, output: cli.stdout + cli.stderr };
}

function countOf(output: string, name: string): number {
  const [, count = ''] = new RegExp(`^${name} +([\\d,]+)`, 'm').exec(output) ?? [];
  return Number(count.replaceAll(',', ''));
}

/** Nothing was wrong in LIVES, and something happened. One life does not suffice: it may end before it is served. */
function expectRight({ code, output }: { code: number | null; output: string }): void {
  for (const name of ['lost', 'stale', 'duplicated', 'by zombies', 'failed']) {
    expect(countOf(output, name), output).toBe(0);
  }
  expect(code, output).toBe(0);
  expect(countOf(output, 'acknowledged')).toBeGreaterThan(0);
  expect(countOf(output, 'effects')).toBeGreaterThan(0);
  if (process.platform !== 'win32') expect(countOf(output, 'zombies fenced')).toBe(1);
}

const hasProc = process.platform === 'linux';

/** The second ends as a zombie's. */
const LIVES = ['--lives', '2'];
const ONE_LIFE = ['--lives', '1'];
const FAILOVER = ['--db-failover', '--back', '1'];

describe('nothing is lost, stale or repeated, and nothing is left behind, with', { timeout: 120_000 }, () => {
  test.each(['lmdb:', 'sqlite:'])('%s', async (store) => {
    const found = await ended(torture(['--store', store, ...LIVES, ...FAILOVER]));
    expectRight(found);
    expect(countOf(found.output, 'database gone back')).toBeGreaterThan(0);
    expect(countOf(found.output, 'effects taken by that')).toBeGreaterThan(0);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test('a module, and a file and folders that are named', async () => {
    const data = join(scratch, 'logs');
    const path = join(scratch, 'module.lmdb');
    expectRight(await ended(torture(['--store', LMDB_MODULE, ...LIVES, '--data', data], { CAIRN_TEST_LMDB: path })));
    expect(readdirSync(data)).toEqual([]);
    const file = join(scratch, 'named.lmdb');
    expectRight(await ended(torture(['--store', `lmdb:${file}`, ...LIVES, '--keep'])));
    expect(existsSync(file)).toBe(true);
    const again = await ended(torture(['--store', `lmdb:${file}`, ...ONE_LIFE]));
    expect(again).toMatchObject({ code: 1, output: expect.stringContaining('exists') });
    expect(existsSync(file)).toBe(true);
    for (const name of readdirSync(temporary)) rmSync(join(temporary, name), { recursive: true });
  });
});

skipUnless(postgresPrograms, POSTGRES_MISSING).describe('PostgreSQL', () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await PostgresServer.start();
  });
  afterAll(() => server.stop());

  const content = "SELECT string_agg(key::text, ',') AS keys FROM public.cairn_entries";

  test('other tables stay as they are, also those that the address names', { timeout: 120_000 }, async () => {
    await server.query(
      "CREATE TABLE public.cairn_entries (key text); INSERT INTO public.cairn_entries VALUES ('of another')",
    );
    const store = `${server.url()}?schema=public&prefix=cairn_`;
    const found = await ended(torture([...LIVES, ...FAILOVER], { CAIRN_STORE: store }));
    expectRight(found);
    expect(countOf(found.output, 'database gone back')).toBeGreaterThan(0);
    expect(found.output).not.toContain(PASSWORD);
    expect(found.output).not.toContain(encodeURIComponent(PASSWORD));
    expect(await server.query(content)).toEqual([{ keys: 'of another' }]);
    const schemas = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cairn%'";
    expect(await server.query(schemas)).toEqual([]);
    const tables = "SELECT count(*)::int AS count FROM pg_tables WHERE schemaname = 'public'";
    expect(await server.query(tables)).toEqual([{ count: 1 }]);
  });

  test('a wrong password is an error without the password', async () => {
    const store = server.url().replace(encodeURIComponent(PASSWORD), 'wrong-horse');
    const { code, output } = await ended(torture(['--store', store, ...LIVES]));
    expect(code).toBe(1);
    expect(output).toMatch(/cairn torture: .*password authentication failed/);
    expect(output).not.toContain('wrong-horse');
  });

  test('Ctrl-C ends all processes and removes all that was made', { timeout: 60_000 }, async () => {
    const data = join(scratch, 'interrupted');
    const cli = torture(['--store', server.url(), '--verbose', '--data', data]);
    await cli.printed('round 0');
    cli.child.kill('SIGINT');
    expect(await ended(cli)).toMatchObject({ code: 130, output: expect.stringContaining('interrupted') });
    expect(readdirSync(data)).toEqual([]);
    expect(await server.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cairn%'")).toEqual([]);
    expect(processesOf(data)).toEqual([]);
  });
});

skipUnless(mariadbPrograms, MARIADB_MISSING).describe('MariaDB', () => {
  let server: MariadbServer;
  beforeAll(async () => {
    server = await MariadbServer.start();
  }, 60_000);
  afterAll(() => server.stop());

  const names = async (): Promise<unknown> =>
    server.query("SELECT table_schema, table_name FROM information_schema.tables WHERE table_name LIKE 'cairn%'");

  test('a database is made and removed', { timeout: 120_000 }, async () => {
    const store = `mariadb://root@localhost/app?socket=${server.socket}`;
    const found = await ended(torture(['--store', store, ...LIVES, ...FAILOVER]));
    expectRight(found);
    expect(found.output).toMatch(/^In MariaDB at .* \(cairn_torture_\w+\)$/m);
    expect(countOf(found.output, 'database gone back')).toBeGreaterThan(0);
    expect(await names()).toEqual([]);
  });

  test('tables are made and removed where the user may make no database', { timeout: 120_000 }, async () => {
    const password = encodeURIComponent(server.target.password!);
    const store = `mariadb://cairn:${password}@localhost/app?socket=${server.socket}`;
    const found = await ended(torture(['--store', store, ...LIVES, ...FAILOVER]));
    expectRight(found);
    expect(found.output).toMatch(/^In MariaDB at .* \(app\), tables cairn_torture_\w+_\*$/m);
    expect(found.output).not.toContain(password);
    expect(await names()).toEqual([]);
  });
});

describe('an interrupted torture', () => {
  skipUnless(hasProc, 'needs /proc', 'platform')(
    'ends also while a server is stopped',
    async () => {
      const data = join(scratch, 'interrupted-with-zombie');
      const cli = torture(['--store', 'lmdb:', '--data', data]);
      await until(() => processesOf(data).some(isStopped));
      cli.child.kill('SIGINT');
      expect((await ended(cli)).code).toBe(130);
      expect(readdirSync(data)).toEqual([]);
      await until(() => processesOf(data).length === 0);
    },
    120_000,
  );
});

describe('a planted mistake of the database is found:', { timeout: 120_000 }, () => {
  test.each([
    ['it forgets the changes of a key', 'forgets', 'lost'],
    ['it commits the batch of a key without its cursor', 'forgetful-cursor', 'duplicated'],
    ['it lets a server write from which another has taken over', 'unfenced', 'by zombies'],
  ])('%s', async (_, mistake, found) => {
    const directory = mkdtempSync(join(scratch, 'mistaken-'));
    const env = { CAIRN_TEST_LMDB: directory, CAIRN_TEST_LMDB_MISTAKE: mistake };
    const cli = torture(['--store', LMDB_MODULE, ...LIVES, '--peace', '2'], env);
    const { code, output } = await ended(cli);
    expect(countOf(output, found), output).toBeGreaterThan(0);
    expect(code).toBe(1);
    const [, folder = ''] = /^Kept: lmdb:.* and (.*)$/m.exec(output) ?? [];
    expect(existsSync(folder), output).toBe(true);
    rmSync(folder, { recursive: true });
  });
});

describe('it is refused by name', () => {
  test.each<[string, readonly string[], RegExp]>([
    ['without a database', [], /Expected --store to name a database/],
    ['with half of the commands', ['--store', 'lmdb:', '--stop-command', 'x'], /and --start-command together/],
    [
      'with a failover of a module',
      ['--store', LMDB_MODULE, '--db-failover'],
      /Expected no --db-failover for a module/,
    ],
    ['with a database that evicts', ['--store', 'lmdb:?size=10mb&full=evict'], /Expected no full=evict/],
    ['with a folder that has something in it', ['--store', 'lmdb:', '--data', scratch], /is not empty/],
    ['with a number that is none', ['--store', 'lmdb:', '--minutes', 'two'], /Expected a number above 0/],
  ])('%s', async (_, args, message) => {
    const { code, output } = await ended(startCli(['torture', ...args], { CAIRN_TEST_LMDB: join(scratch, 'unused') }));
    expect(output).toMatch(message);
    expect(code).toBe(1);
  });

  test('with the database of a module that is not empty', { timeout: 60_000 }, async () => {
    const env = { CAIRN_TEST_LMDB: join(scratch, 'used.lmdb') };
    expectRight(await ended(torture(['--store', LMDB_MODULE, ...LIVES], env)));
    const { code, output } = await ended(torture(['--store', LMDB_MODULE, ...ONE_LIFE], env));
    expect(output).toMatch(/is not empty/);
    expect(code).toBe(1);
  });
});
/** Pids of those whose command names this folder. */
function processesOf(folder: string): string[] {
  if (!hasProc) return [];
  const isOne = (name: string): boolean => /^\d+$/.test(name) && ofProcess(name, 'cmdline').includes(`${folder}/`);
  return readdirSync('/proc').filter(isOne);
}

function isStopped(pid: string): boolean {
  return /^State:\tT/m.test(ofProcess(pid, 'status'));
}

/** What `/proc` has of a process; nothing once it has ended. */
function ofProcess(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setTimeout(20);
}

skipUnless(hasProc, 'needs /proc', 'platform').describe('a torture that is killed with kill -9', () => {
  test('leaves no server running', { timeout: 60_000 }, async () => {
    const data = join(scratch, 'killed');
    const cli = torture(['--store', 'lmdb:', '--data', data]);
    await until(() => processesOf(data).length > 0);
    cli.child.kill('SIGKILL');
    await cli.ended;
    await until(() => processesOf(data).length === 0);
  });

  test('leaves none that is stopped, either', { timeout: 120_000 }, async () => {
    const data = join(scratch, 'killed-with-zombie');
    const cli = torture(['--store', 'lmdb:', '--data', data]);
    await until(() => processesOf(data).some(isStopped));
    cli.child.kill('SIGKILL');
    await cli.ended;
    await until(() => processesOf(data).length === 0);
  });
});

skipUnless(hasProc, 'needs a shell', 'platform').describe('a database that is stopped by commands', () => {
  test('is started again, whatever happens', { timeout: 60_000 }, async () => {
    const log = join(scratch, 'commands');
    writeFileSync(log, '');
    const args = ['--stop-command', `echo stop >> ${log}`, '--start-command', `echo start >> ${log}`];
    const store = ['--store', LMDB_MODULE, ...LIVES];
    const found = await ended(startCli(['torture', ...store, ...args], { CAIRN_TEST_LMDB: join(scratch, 'stopped') }));
    expectRight(found);
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    expect(lines.length).toBe(2 * countOf(found.output, 'database stopped'));
    expect(lines.every((line, i) => line === (i % 2 === 0 ? 'stop' : 'start'))).toBe(true);
    expect(lines.length).toBeGreaterThan(0);
  });
});
