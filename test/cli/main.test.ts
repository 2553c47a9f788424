// The command line as users meet it: what it prints, what it refuses, how it ends.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { startCli, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

const posix = process.platform !== 'win32';
const posixTest = skipUnless(posix, 'Windows has no unix sockets, signals or sh', 'platform');

async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const cli = startCli(args);
  const { code } = await cli.ended;
  return { code, stdout: cli.stdout, stderr: cli.stderr };
}

async function serving(options: string[] = [], env: NodeJS.ProcessEnv = {}) {
  const server = await startServe(options, env);
  cleanUps.push(() => server.stop());
  return server;
}

describe('cairn', () => {
  test('--version prints the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await run('--version')).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
    expect((await run('-V')).stdout).toBe(`${version}\n`);
  });

  test('help lists the commands, and each has its own', async () => {
    const help = await run('help');
    expect(help.code).toBe(0);
    expect(help.stdout).toMatch(/serve .*memcached clients/s);
    expect(help.stdout).toMatch(/torture .*database/s);
    expect(help.stdout).toMatch(/build .*addon/s);
    expect((await run('help', 'serve')).stdout).toContain('--memory-limit <num>');
  });

  test('serve -h has the short and long names of memcached', async () => {
    const { code, stdout } = await run('serve', '-h');
    expect(code).toBe(0);
    for (const names of [
      '-p, --port <num>',
      '-l, --listen <addr>',
      '-s, --unix-socket <file>',
      '-a, --unix-mask <mask>',
      '-m, --memory-limit <num>',
      '-t, --threads <num>',
      '--front <kind>',
      '-c, --conn-limit <num>',
      '-I, --max-item-size <num>',
      '-b, --listen-backlog <num>',
      '-B, --protocol <name>',
      '-v, --verbose',
      '--test-commands',
      '--data <dir>',
      '--sync <policy>',
      '--ack <level>',
      '--recover <source>',
      '--log-limit <size>',
      '--ring <size>',
      '--snapshot-every <time>',
      '--allow-open',
    ]) {
      expect(stdout).toContain(names);
    }
  });

  test('serve -h is right for npm start too, which passes --data before it', async () => {
    const { stdout } = await run('serve', '--data', './cairn-data', '-h');
    expect(stdout.replace(/\s+/g, ' ')).toContain('(npm start: ./cairn-data)');
    expect(stdout.replace(/\s+/g, ' ')).toContain('memory only, even if a script gives --data');
  });

  test('what does not exist is refused with a hint', async () => {
    const command = await run('servex');
    expect(command.code).toBe(1);
    expect(command.stderr).toContain("unknown command 'servex'");
    expect(command.stderr).toContain('Did you mean serve?');
    const option = await run('serve', '--prot', '1');
    expect(option.code).toBe(1);
    expect(option.stderr).toContain("unknown option '--prot'");
  });

  test('what is wrong is refused by the name of its option', async () => {
    const wrong: [string[], string][] = [
      [
        ['-p', '70000'],
        "'-p, --port <num>' argument '70000' is invalid. Expected -p to be an integer between 0 and 65535, got 70000",
      ],
      [['-p', '0'], 'Expected -p to be a port where no -s is given, got 0'],
      [['-c', '0'], "'-c, --conn-limit <num>' argument '0' is invalid"],
      [['-m', '3'], "'-m, --memory-limit <num>' argument '3' is invalid. Expected -m to be at least 4mb"],
      [
        ['-m', '0'],
        "'-m, --memory-limit <num>' argument '0' is invalid. Expected -m to be a positive integer of bytes",
      ],
      [['-m', '3mb'], "'-m, --memory-limit <num>' argument '3mb' is invalid. Expected -m to be at least 4mb"],
      [
        ['-m', 'lots'],
        "'lots' is invalid. Expected -m to be megabytes, such as 512, a size such as 2gb, or a share such as 25%",
      ],
      [['-m', '150%'], "'150%' is invalid. Expected -m to be a positive integer of bytes, or text such as"],
      [
        ['-m', '1000tb'],
        'cairn serve: Expected -m to be at most 4398046511104, at most 17179869184 in each of 256 shards, got 1099511627776000',
      ],
      [
        ['-m', '99999999'],
        'cairn serve: Expected -m to be at most 4398046511104, at most 17179869184 in each of 256 shards, got 104857598951424',
      ],
      [
        ['-I', 'lots'],
        "'-I, --max-item-size <num>' argument 'lots' is invalid. Expected -I to be bytes, such as 1048576",
      ],
      [['-I', '500'], 'Expected -I to be between 1kb and 1gb, got 500'],
      [['-I', '2g'], 'Expected -I to be between 1kb and 1gb, got "2g"'],
      [['-l', 'a b'], 'Expected -l to be an address'],
      [
        ['-a', '999'],
        "'-a, --unix-mask <mask>' argument '999' is invalid. Expected -a to be an octal number up to 777",
      ],
      [
        ['-a', '7777'],
        "'-a, --unix-mask <mask>' argument '7777' is invalid. Expected -a to be an octal number up to 777",
      ],
      [['-I', '100m', '-m', '64'], 'Expected -I to be at most 32915456, half of what one of the shards'],
      [['-o', 'mdern'], '-o mdern is no option of memcached: did you mean modern?'],
    ];
    const runs = await Promise.all(wrong.map(([options]) => run('serve', '-p', '-1', ...options)));
    for (const [i, { code, stderr, stdout }] of runs.entries()) {
      expect(stderr).toContain(wrong[i]?.[1]);
      expect(stdout).toBe('');
      expect(code).toBe(1);
    }
  });
});

describe('cairn serve', () => {
  test('listens on loopback unless told otherwise, and says so', async () => {
    const server = startCli(['serve', '-p', '-1']);
    cleanUps.push(() => server.stop());
    await server.printed('Listening on 127.0.0.1:');
    expect(server.stdout).toMatch(/^Listening on 127\.0\.0\.1:\d+( and \[::1\]:\d+)? \(this machine only; .*\)\n$/);
    expect(server.stderr).toBe('');
  });

  test('warns of what is open to others', async () => {
    const server = startCli(['serve', '-p', '-1', '-l', '0.0.0.0', '--test-commands', '-t', '4', '--front', 'node']);
    cleanUps.push(() => server.stop());
    await server.printed('one thread');
    expect(server.stderr).toMatch(
      /Warning: 0\.0\.0\.0:\d+ can be reached from elsewhere, and no client is asked for a pass/,
    );
    expect(server.stderr).toContain('Warning: test commands are on');
    expect(server.stderr).toContain('Warning: -t 4');
  });

  test('warns where the machine has less memory than -m', async () => {
    const server = startCli(['serve', '-p', '-1', '-m', '1tb']);
    cleanUps.push(() => server.stop());
    await server.printed('Listening on ');
    await server.printed('Warning: ');
    expect(server.stderr).toMatch(/^Warning: -m is 1099511627776 bytes, and this process may use \d+: .*\n$/);
  });

  skipUnless(
    process.platform === 'linux',
    'others do not say how many files may be open',
    'platform',
  )('warns where the system gives fewer files than there may be connections', async () => {
    const stderrOf = async (connections: string): Promise<string> => {
      const cli = startCli(['serve', '-p', '-1', '-c', connections], {}, 'ulimit -n 100');
      cleanUps.push(() => cli.stop());
      await cli.printed('Listening');
      await cli.stop();
      return cli.stderr;
    };
    expect(await stderrOf('69')).toMatch(/^Warning: this process may open 100 files .* for 69 connections .*\n$/);
    expect(await stderrOf('68')).toBe('');
  });

  test('a busy port is an error that names -p', async () => {
    const busy = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => busy.once('listening', resolve));
    cleanUps.push(() => busy.close());
    const { port } = busy.address() as { port: number };
    const { code, stdout, stderr } = await run('serve', '-l', '127.0.0.1', '-p', String(port));
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toBe(
      `cairn serve: Cannot listen on 127.0.0.1:${port}: it is in use. Is another server running there? -p PORT takes another port\n`,
    );
  });

  posixTest('-s listens on a unix socket alone, -a says who may use it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cairn-cli-'));
    cleanUps.push(() => rmSync(folder, { recursive: true, force: true }));
    const path = join(folder, 'cairn.sock');
    const server = startCli(['serve', '-s', path, '-a', '770']);
    cleanUps.push(() => server.stop());
    await server.printed(`Listening on ${path}`);
    expect(statSync(path).mode & 0o777).toBe(0o770);
    const client = await MemcachedSocket.open(path);
    expect(await client.ask('mn\r\n')).toBe('MN\r\n');
    client.destroy();
  });

  test('options reach the server', async () => {
    const server = await serving([
      '-m',
      '100',
      '-c',
      '5',
      '-I',
      '2m',
      '-t',
      '2',
      '-b',
      '77',
      '-o',
      'idle_timeout=60',
      '-v',
    ]);
    const client = await MemcachedSocket.open(server.port);
    cleanUps.push(() => client.destroy());
    const settings = await client.ask('stats settings\r\n', 'END\r\n');
    for (const line of [
      `maxbytes ${100 * 2 ** 20}`,
      'maxconns 5',
      'item_size_max 2097152',
      'num_threads 2',
      'tcp_backlog 77',
      'idle_timeout 60',
      'verbosity 1',
      `tcpport ${server.port}`,
    ]) {
      expect(settings).toContain(`STAT ${line}\r\n`);
    }
    const value = 'v'.repeat(2_000_000);
    expect(await client.ask(`set a 0 0 ${value.length}\r\n${value}\r\n`)).toBe('STORED\r\n');
  });

  test('-vv says who comes and goes', async () => {
    const server = await serving(['-vv']);
    const client = await MemcachedSocket.open(server.port);
    const { localPort } = client.socket;
    await client.ask('mn\r\n');
    client.destroy();
    await server.printed(`tcp:127.0.0.1:${localPort} closed: ended`);
    expect(server.stderr).toContain(`tcp:127.0.0.1:${localPort} opened`);
  });

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    posixTest(`${signal} ends it: clients get their replies, the exit code is 0`, async () => {
      const server = await serving();
      const client = await MemcachedSocket.open(server.port);
      cleanUps.push(() => client.destroy());
      const value = 'v'.repeat(1_000_000);
      await client.ask(`set a 0 0 ${value.length}\r\n${value}\r\n`);
      client.socket.pause();
      client.send('get a\r\n'.repeat(10));
      const other = await MemcachedSocket.open(server.port);
      while (!/STAT cmd_get [1-9]/.test(await other.ask('stats\r\n', 'END\r\n')));
      server.child.kill(signal);
      expect(await other.ending()).toBe('');
      client.socket.resume();
      const replies = await client.ending();
      expect(replies.length).toBe(10 * `VALUE a 0 1000000\r\n${value}\r\nEND\r\n`.length);
      client.destroy();
      expect(await server.ended).toEqual({ code: 0, signal: null });
      expect(server.stderr).toBe('');
    });
  }

  posixTest('a second signal does not wait for clients', async () => {
    const server = await serving(['--test-commands']);
    const client = await MemcachedSocket.open(server.port);
    cleanUps.push(() => client.destroy());
    await client.ask('mn\r\ndebugpark 1\r\n', 'MN\r\n');
    const idle = await MemcachedSocket.open(server.port);
    await idle.ask('mn\r\n');
    server.child.kill('SIGTERM');
    // It has begun to end: idle connections are closed, the parked one is not.
    await idle.ending();
    await server.insist();
    expect(await server.ended).toEqual({ code: 0, signal: null });
  });

  test('goes on when the readers of its output are gone', async () => {
    const server = await serving(['-vv']);
    server.child.stdout?.destroy();
    server.child.stderr?.destroy();
    for (let i = 0; i < 3; i++) {
      const client = await MemcachedSocket.open(server.port);
      expect(await client.ask('mn\r\n')).toBe('MN\r\n');
      client.destroy();
    }
  });
});

test('no message names a command that npx would fetch from a stranger', async () => {
  const texts = await Promise.all([
    run('help'),
    run('serve', '-h'),
    run('log', '-h'),
    run('servex'),
    run('serve', '-x'),
  ]);
  for (const { stdout, stderr } of texts) {
    expect(`${stdout}${stderr}`).not.toMatch(/(?<!npx )\bcairn(-cache)? (?=help|serve -|log (verify|repair))/);
  }
});

describe('the commands that npm start suggests', () => {
  const suggestions = async () => {
    const server = await serving([], { npm_lifecycle_event: 'start' });
    await server.printed('Ctrl-C ends it.');
    const lines = server.stdout.split('\n').filter((line) => line.startsWith('  '));
    expect(lines).toHaveLength(3);
    return { server, lines };
  };
  const shell = (line: string, path = process.env['PATH']): Promise<string> =>
    new Promise((resolve) => {
      const child = spawn('/bin/sh', ['-c', line], { env: { ...process.env, PATH: path } });
      let output = '';
      child.stdout.on('data', (chunk) => {
        output += chunk;
      });
      child.stderr.on('data', (chunk) => {
        output += chunk;
      });
      child.on('close', () => resolve(output));
    });
  const has = (program: string, ...args: string[]): boolean => spawnSync(program, args).status === 0;

  test('are printed for npm start, not for a server that something else starts', async () => {
    expect((await serving()).stdout).not.toContain('Try');
    await suggestions();
  });

  posixTest('node alone: the first sets and gets', async () => {
    const { lines } = await suggestions();
    expect(lines[0]).toMatch(/^ {2}node -e /);
    expect(await shell(lines[0]!)).toBe('STORED\r\nVALUE greeting 0 5\r\nhello\r\nEND\r\n');
    expect(await shell(lines[1]!)).toMatch(/^STAT pid \d+\r\n(STAT .*\r\n)+END\r\n$/);
  });

  test('are printed for npx as well', async () => {
    const server = await serving([], { npm_lifecycle_event: 'npx' });
    await server.printed('Ctrl-C ends it.');
    expect(server.stdout).toContain('Try, in another terminal:\n  node -e ');
  });

  skipUnless(
    posix && has('/usr/bin/python3', '-c', 'import pymemcache'),
    'pymemcache is missing (apt-get install python3-pymemcache)',
  )('pymemcache', async () => {
    const { lines } = await suggestions();
    expect(await shell(lines[2]!, `/usr/bin:${process.env['PATH']}`)).toBe("b'v'\n");
  });
});
