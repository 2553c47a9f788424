// memcached's command line starts `cairn serve`, or is told by name what is not here.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { extendedOf, memcachedFlags } from '../../src/cli/memcached-options.ts';
import { serveFlags } from '../../src/cli/serve-options.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { startCli, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const cleanUps: (() => unknown)[] = [];
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cairn-cli-'));
});
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  rmSync(folder, { recursive: true, force: true });
});

const help = spawnSync('memcached', ['-h'], { encoding: 'utf8' });
const ofMemcached = skipUnless(help.status === 0, 'memcached is missing (apt-get install memcached)');
const posixTest = skipUnless(process.platform !== 'win32', 'Windows has no signals and no users', 'platform');
const rootTest = skipUnless(
  process.platform === 'linux' && process.getuid?.() === 0,
  'only root of Linux becomes another user',
  'platform',
);

async function serveWith(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const cli = startCli(['serve', '-p', '-1', ...args]);
  cleanUps.push(() => cli.stop());
  const { code } = await cli.ended;
  return { code, stdout: cli.stdout, stderr: cli.stderr };
}

async function ask(port: number, text: string, end = '\r\n'): Promise<string> {
  const client = await MemcachedSocket.open(port);
  try {
    return await client.ask(text, end);
  } finally {
    client.destroy();
  }
}

describe('an option of memcached', () => {
  ofMemcached('is known, by its short and its long name', () => {
    const known = new Set(
      [...serveFlags.map(({ names }) => names), ...memcachedFlags().map(({ flags }) => flags)].flatMap(
        (names) => names.match(/--?[\w-]+/g)!,
      ),
    );
    // Those of the command itself.
    for (const name of ['-h', '--help']) known.add(name);
    const names = help.stdout.split('\n').flatMap((line) => {
      const [, short, long] = /^(-\w),? +(--[\w-]+)?/.exec(line) ?? [];
      return [short, long].filter((name) => name !== undefined);
    });
    expect(names.length).toBeGreaterThan(50);
    expect(names.filter((name) => !known.has(name))).toEqual([]);
  });

  ofMemcached('behind -o is known', () => {
    const names = [...help.stdout.matchAll(/^ +- (\w+):/gm)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(40);
    const unknown = names.filter((name) => {
      try {
        extendedOf(name === 'idle_timeout' ? 'idle_timeout=1' : name);
        return false;
      } catch (error) {
        // Refused, or known and in need of a value.
        return !/asks for what is not here\.$|^Expected (a value behind )?-o /.test((error as Error).message);
      }
    });
    expect(unknown).toEqual([]);
  });

  test('that tunes what is not here is taken, and all of them are named in one line', async () => {
    const taken = ['-r', '-k', '-L', '-f', '1.5', '-n', '64', '-R', '10', '-U', '0'];
    const server = await startServe([...taken, '-o', 'hashpower=20,no_lru_crawler', '-o', 'idle_timeout=60,modern']);
    cleanUps.push(() => server.stop());
    expect(server.stderr).toBe(
      'Without effect here: -r, -k, -L, -f, -n, -R, -o hashpower, -o no_lru_crawler, -o modern\n',
    );
    expect(await ask(server.port, 'stats settings\r\n', 'END\r\n')).toContain('STAT idle_timeout 60\r\n');
  });

  test('behind -o that means the same here has its effect', async () => {
    const server = await startServe(['-o', 'track_sizes,idle_timeout=60']);
    cleanUps.push(() => server.stop());
    expect(server.stderr).toBe('');
    expect(await ask(server.port, 'stats sizes\r\n')).toBe('END\r\n');
    const settings = await ask(server.port, 'stats settings\r\n', 'END\r\n');
    expect(settings).toContain('STAT track_sizes yes\r\n');
    expect(settings).toContain('STAT idle_timeout 60\r\n');
  });

  test('asks for the version and the license', async () => {
    expect((await serveWith('-V')).stdout).toMatch(/^\d+\.\d+\.\d+\S*\n$/);
    expect((await serveWith('-i')).stdout).toMatch(/^MIT License\n/);
  });

  test('that would change what clients see is refused by name', async () => {
    const refused: [string[], string][] = [
      [['-M'], '-M asks for what is not here: errors in place of evictions'],
      [['-e', '/dev/shm/x'], '-e asks for what is not here: a warm restart'],
      [['-o', 'modern,ext_path=/x:1G'], '-o ext_path asks for what is not here'],
      [['-o', 'proxy_config=x'], '-o proxy_config asks for what is not here'],
      [['-o', 'idle_timeot=5'], '-o idle_timeot is no option of memcached: did you mean idle_timeout?'],
      [['-o', 'idle_timeout=soon'], 'Expected -o idle_timeout to be whole seconds, got "soon"'],
    ];
    const runs = await Promise.all(refused.map(([args]) => serveWith(...args)));
    for (const [i, { code, stdout, stderr }] of runs.entries()) {
      expect(stderr).toContain(refused[i]![1]);
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    }
  });

  test('-F keeps clients from clearing the cache, and -X from listing its keys', async () => {
    const server = await startServe(['-F', '-X']);
    cleanUps.push(() => server.stop());
    const client = await MemcachedSocket.open(server.port);
    cleanUps.push(() => client.destroy());
    expect(await client.ask('set a 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
    for (const line of ['flush_all', 'flush_all 10'])
      expect(await client.ask(`${line}\r\n`)).toBe('CLIENT_ERROR flush_all not allowed\r\n');
    expect(await client.ask('flush_all noreply\r\nget a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
    expect(await client.ask('lru_crawler metadump all\r\n')).toBe('ERROR metadump not allowed\r\n');
    expect(await client.ask('lru_crawler mgdump all\r\n')).toBe('ERROR key dump not allowed\r\n');
    expect(await client.ask('stats cachedump 1 1\r\n')).toBe('CLIENT_ERROR stats cachedump not allowed\r\n');
    // A flush, and a quiet one, whose error is sent too.
    for (const opcode of ['08', '18']) {
      const binary = await MemcachedSocket.open(server.port);
      cleanUps.push(() => binary.destroy());
      const request = `80${opcode}${'00'.repeat(22)}`;
      const refused = `81${opcode}${'00'.repeat(5)}20${'00'.repeat(3)}0d${'00'.repeat(12)}`;
      const reply = await binary.ask(Buffer.from(request, 'hex').toString('latin1'), 'Auth failure.');
      expect(reply).toBe(`${Buffer.from(refused, 'hex').toString('latin1')}Auth failure.`);
    }
    expect(await client.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
    const settings = await client.ask('stats settings\r\n', 'END\r\n');
    expect(settings).toContain('STAT flush_enabled no\r\n');
    expect(settings).toContain('STAT dump_enabled no\r\n');
  });
});

describe('-d', () => {
  posixTest('runs in the background, where -P and MEMCACHED_PORT_FILENAME lead to it', async () => {
    const pidFile = join(folder, 'pid');
    const portFile = join(folder, 'ports');
    const args = ['serve', '-d', '-p', '-1', '-l', '127.0.0.1', '-P', pidFile];
    const cli = startCli(args, { MEMCACHED_PORT_FILENAME: portFile });
    // Its output ends too: nothing keeps a pipe open.
    expect(await cli.ended).toEqual({ code: 0, signal: null });
    const pid = Number(readFileSync(pidFile, 'utf8'));
    cleanUps.push(() => existsSync(pidFile) && process.kill(pid, 'SIGKILL'));
    expect(cli.stdout).toMatch(/^Listening on 127\.0\.0\.1:/);
    expect(pid).not.toBe(cli.child.pid);
    const [, port] = /^TCP INET: (\d+)\n$/.exec(readFileSync(portFile, 'utf8'))!;
    expect(await ask(Number(port), 'mn\r\n')).toBe('MN\r\n');
    process.kill(pid, 'SIGTERM');
    await vi.waitUntil(() => !existsSync(pidFile), { timeout: 60_000 });
    expect(readdirSync(folder)).toEqual(['ports']);
  });

  posixTest('ends with the error that keeps the server from listening', async () => {
    const busy = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => busy.once('listening', resolve));
    cleanUps.push(() => busy.close());
    const { port } = busy.address() as { port: number };
    const cli = startCli(['serve', '-d', '-l', '127.0.0.1', '-p', String(port)]);
    expect(await cli.ended).toEqual({ code: 1, signal: null });
    expect(cli.stderr).toContain(`Cannot listen on 127.0.0.1:${port}: it is in use`);
  });
});

describe('-u', () => {
  rootTest('drops the rights of root before anything is opened', async () => {
    const server = await startServe(['-u', 'daemon']);
    cleanUps.push(() => server.stop());
    const status = readFileSync(`/proc/${server.child.pid}/status`, 'utf8');
    const uid = /^daemon:[^:]*:(\d+):(\d+)/m.exec(readFileSync('/etc/passwd', 'utf8'))!;
    expect(/^Uid:\s+(.*)$/m.exec(status)![1]!.split(/\s+/)).toEqual(Array(4).fill(uid[1]));
    expect(/^Gid:\s+(.*)$/m.exec(status)![1]!.split(/\s+/)).toEqual(Array(4).fill(uid[2]));
    expect(/^Groups:\s+(.*)$/m.exec(status)![1]!.trim().split(/\s+/)).not.toContain('0');
    expect(await ask(server.port, 'mn\r\n')).toBe('MN\r\n');
  });

  rootTest('that the system does not have is an error', async () => {
    const { code, stderr } = await serveWith('-u', 'no-such-user');
    expect(stderr).toBe('cairn serve: Expected -u to be a user of this system, got "no-such-user"\n');
    expect(code).toBe(1);
  });
});
