// `cairn serve --data`: what it keeps through ends of every kind, what it says of it, and what it refuses. Long runs of
// crashes, and faults of the disk, are the matter of test/fire.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { Random } from '../support/random.ts';
import { cliFile, type ServeProcess, startCli, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

const posix = process.platform !== 'win32';
const posixTest = skipUnless(posix, 'Windows has no signals', 'platform');

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-kept-'));
  cleanUps.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function serving(folder: string, ...options: string[]): Promise<ServeProcess> {
  const server = await startServe(['--data', folder, ...options]);
  cleanUps.push(() => server.stop());
  return server;
}

async function open(server: ServeProcess): Promise<MemcachedSocket> {
  const client = await MemcachedSocket.open(server.port);
  cleanUps.push(() => client.destroy());
  return client;
}

async function refused(...options: string[]): Promise<string> {
  const cli = startCli(['serve', '-p', '-1', ...options]);
  const { code } = await cli.ended;
  expect({ code, stdout: cli.stdout }).toEqual({ code: 1, stdout: '' });
  return cli.stderr;
}

const set = (key: string, value: string): string => `set ${key} 0 0 ${value.length}\r\n${value}\r\n`;
const hit = (key: string, value: string): string => `VALUE ${key} 0 ${value.length}\r\n${value}\r\nEND\r\n`;

describe('what is kept', () => {
  posixTest('is the clear to come that a client was promised, if the process is killed before', async () => {
    const folder = newFolder();
    let server = await serving(folder);
    let client = await open(server);
    expect(await client.ask(set('a', '1'), 'STORED\r\n')).toBe('STORED\r\n');
    const notBefore = Date.now() + 2000;
    expect(await client.ask('flush_all 2\r\n', '\r\n')).toBe('OK\r\n');
    const notAfter = Date.now() + 2000;
    let gone = 'a';
    for (let kills = 0; kills < 2; kills++) {
      server.child.kill('SIGKILL');
      await server.ended;
      server = await serving(folder);
      client = await open(server);
      await client.ask(set(`life${kills}`, '1'), 'STORED\r\n');
      if (Date.now() < notBefore) gone += ` life${kills}`;
    }
    // Here, or in the time without a process, it comes.
    server.child.kill('SIGKILL');
    await server.ended;
    await vi.waitUntil(() => Date.now() > notAfter, { timeout: 60_000 });
    server = await serving(folder);
    client = await open(server);
    expect(await client.ask(`get ${gone}\r\n`, 'END\r\n')).toBe('END\r\n');
    expect(await client.ask(set('b', '1'), 'STORED\r\n')).toBe('STORED\r\n');
    server.child.kill('SIGKILL');
    await server.ended;
    server = await serving(folder);
    client = await open(server);
    expect(await client.ask(`get ${gone} b\r\n`, 'END\r\n')).toBe(hit('b', '1'));
  });

  posixTest('outlives an orderly end, which takes a snapshot', async () => {
    const folder = join(newFolder(), 'made', 'for-it');
    const first = await serving(folder);
    expect(first.stdout).toContain(`${folder} holds no entries yet\nData is kept in ${folder}, and replies wait until`);
    expect(first.stdout).toMatch(/\(a sync takes [\d.]+ m?s here\)/);
    // The port is open last.
    expect(first.stdout.trim().split('\n').at(-1)).toMatch(/^Listening on /);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const client = await open(first);
    expect(await client.ask(set('a', 'kept') + set('b', 'gone'), 'STORED\r\nSTORED\r\n')).toBe('STORED\r\nSTORED\r\n');
    expect(await client.ask('delete b\r\n')).toBe('DELETED\r\n');
    first.child.kill('SIGTERM');
    expect(await first.ended).toEqual({ code: 0, signal: null });
    expect(first.stdout).toContain(`Stopped: 1 entry is kept in ${folder}\n`);
    expect(first.stderr).toBe('');
    expect(readdirSync(folder).some((name) => name.includes('snapshot'))).toBe(true);

    const second = await serving(folder);
    expect(second.stdout).toMatch(/^Recovered 1 entry from .*: snapshot and log, \d+ records?, .* in [\d.]+ s\n/);
    const again = await open(second);
    expect(await again.ask('get a b\r\n', 'END\r\n')).toBe(hit('a', 'kept'));
  });

  posixTest(
    'outlives kill -9 in the middle of pipelines: every STORED is there, and nothing that was not sent',
    async () => {
      const folder = newFolder();
      const random = new Random();
      // By key: the number of the last write that was sent, and of the last one that was answered.
      const sent = new Map<string, number>();
      const answered = new Map<string, number>();
      let storedCount = 0;

      /** Writes as fast as it is answered, until the connection breaks. */
      async function write(client: MemcachedSocket, name: string): Promise<void> {
        const waiting: [key: string, number: number][] = [];
        let text = '';
        const take = (): void => {
          text += client.take();
          for (; text.startsWith('STORED\r\n'); text = text.slice('STORED\r\n'.length)) {
            answered.set(...waiting.shift()!);
            storedCount++;
          }
        };
        try {
          while (!client.socket.readableEnded) {
            for (let i = 0; i < 20; i++) {
              const key = `${name}-${random.below(50)}`;
              const number = (sent.get(key) ?? 0) + 1;
              sent.set(key, number);
              waiting.push([key, number]);
              client.send(set(key, `${number}:${'v'.repeat(random.below(3000))}`));
            }
            await client.until('replies', () => {
              take();
              return waiting.length < 20 || client.socket.readableEnded;
            });
          }
        } catch {
          take();
        }
        // Half a reply, or none.
        expect('STORED\r\n'.startsWith(text)).toBe(true);
      }

      for (let round = 0; round < 3; round++) {
        const server = await serving(folder);
        const before = storedCount;
        const clients = await Promise.all(Array.from({ length: 4 }, () => open(server)));
        const writers = clients.map((client, i) => write(client, `client${i}`));
        while (storedCount < before + 500) await new Promise((resolve) => setImmediate(resolve));
        server.child.kill('SIGKILL');
        await Promise.all(writers);
        await server.ended;
      }
      const last = await serving(folder);
      expect(last.stdout).toMatch(/^Recovered [\d,]+ entries from/);
      const reader = await open(last);
      for (const [key, number] of sent) {
        const reply = await reader.ask(`get ${key}\r\n`, 'END\r\n');
        const found = Number(/\r\n(\d+):/.exec(reply)?.[1] ?? 0);
        expect(found, `${key}, seed ${random.seed}`).toBeGreaterThanOrEqual(answered.get(key) ?? 0);
        expect(found, `${key}, seed ${random.seed}`).toBeLessThanOrEqual(number);
      }
    },
  );

  posixTest('is discarded with --recover none, also for later starts', async () => {
    const folder = newFolder();
    const first = await serving(folder);
    await (await open(first)).ask(set('a', 'old'));
    first.child.kill('SIGKILL');
    await first.ended;
    const second = await serving(folder, '--recover', 'none');
    expect(second.stdout).toContain(`Began empty: what ${folder} held is discarded\n`);
    const client = await open(second);
    expect(await client.ask('get a\r\n')).toBe('END\r\n');
    await client.ask(set('b', 'new'));
    second.child.kill('SIGKILL');
    await second.ended;
    const third = await serving(folder);
    expect(await (await open(third)).ask('get a b\r\n', 'END\r\n')).toBe(hit('b', 'new'));
  });

  posixTest('--ack memory does not wait, and says what that means', async () => {
    const server = await serving(newFolder(), '--ack', 'memory', '--sync', '50ms');
    expect(server.stdout).toContain('replies do not wait for that');
    expect(server.stdout).toContain('one of the machine also up to the last 50 ms');
    const client = await open(server);
    expect(await client.ask('stats cairn\r\n', 'END\r\n')).toMatch(
      /^STAT version \S+\r\nSTAT ack memory\r\nSTAT log running\r\n/,
    );
  });

  posixTest('a unix socket may be in the directory, which is made with it', async () => {
    const folder = join(newFolder(), 'data');
    const server = startCli(['serve', '--data', folder, '-s', join(folder, 'cairn.sock')]);
    cleanUps.push(() => server.stop());
    await server.printed('Listening on');
    const client = await MemcachedSocket.open(join(folder, 'cairn.sock'));
    cleanUps.push(() => client.destroy());
    expect(await client.ask(set('a', '1'))).toBe('STORED\r\n');
    // Elsewhere it is looked for before.
    const path = join(newFolder(), 'none', 'cairn.sock');
    const cli = startCli(['serve', '--data', join(folder, 'other'), '-s', path]);
    expect((await cli.ended).code).toBe(1);
    expect([cli.stdout, cli.stderr]).toEqual([
      '',
      `cairn serve: Cannot listen on ${path}: its folder does not exist\n`,
    ]);
    expect(existsSync(join(folder, 'other'))).toBe(false);
  });

  posixTest('-l may give an address its own level', async () => {
    const addresses = '127.0.0.1,memory:127.0.0.1,stored:127.0.0.1';
    const server = startCli(['serve', '--data', newFolder(), '--store', 'lmdb:', '-p', '-1', '-l', addresses]);
    cleanUps.push(() => server.stop());
    const listening =
      /^Listening on 127\.0\.0\.1:(\d+) and 127\.0\.0\.1:(\d+) \(its replies do not wait\) and 127\.0\.0\.1:\d+ \(its replies wait for the database\)$/m;
    await server.printed(listening);
    expect(server.stdout).toContain('replies wait until it is on the disk');
    const [, logged, memory] = listening.exec(server.stdout) ?? [];
    for (const [port, level] of [
      [logged, 'logged'],
      [memory, 'memory'],
    ]) {
      const client = await MemcachedSocket.open(Number(port));
      cleanUps.push(() => client.destroy());
      expect(await client.ask('stats cairn\r\n', 'END\r\n')).toMatch(
        new RegExp(`^STAT version \\S+\r\nSTAT ack ${level}\r\n`),
      );
    }
  });

  posixTest('stats cairn says how the log is doing', async () => {
    const folder = newFolder();
    const server = await serving(folder, '--log-limit', '64mb', '--segment-size', '1mb', '--ring', '2mb');
    const client = await open(server);
    for (let i = 0; i < 10; i++) await client.ask(set(`k${i}`, 'value'));
    const statOf = async (name: string): Promise<number> =>
      Number(new RegExp(`STAT ${name} ([\\d.]+)\r\n`).exec(await client.ask('stats cairn\r\n', 'END\r\n'))?.[1]);
    while ((await statOf('records')) !== 10);
    expect(await statOf('log_limit_bytes')).toBe(64 * 2 ** 20);
    expect(await statOf('ring_capacity_bytes')).toBe(2 * 2 ** 20);
    expect(await statOf('replies_held')).toBe(10);
    expect(await statOf('records_waiting')).toBe(0);
    expect(await statOf('syncs')).toBeGreaterThanOrEqual(10);
    expect(await statOf('sync_mean_ms')).toBeGreaterThan(0);
    expect(await statOf('log_bytes')).toBeGreaterThan(0);
    // memcached's own are as they were.
    expect(await client.ask('stats\r\n', 'END\r\n')).not.toContain('log_bytes');
  });
});

describe('recovery', () => {
  // script(1) runs a command in a new terminal, and prints what is drawn there.
  const hasTerminal = process.platform === 'linux' && spawnSync('script', ['--version']).status === 0;
  skipUnless(
    hasTerminal,
    'needs script(1) of util-linux',
    'platform',
  )('is a bar on a terminal', async () => {
    const folder = newFolder();
    const first = await serving(folder);
    const client = await open(first);
    await client.ask(Array.from({ length: 100 }, (_, i) => set(`k${i}`, 'value')).join(''), 'STORED\r\n'.repeat(100));
    first.child.kill('SIGKILL');
    await first.ended;
    const command = [process.execPath, cliFile, 'serve', '-p', '-1', '--data', folder].map((word) => `'${word}'`);
    const terminal = spawn('script', ['-qefc', command.join(' '), '/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, npm_lifecycle_event: '' },
    });
    let drawn = '';
    terminal.stdout.on('data', (chunk) => {
      drawn += chunk;
    });
    const ended = once(terminal, 'close');
    cleanUps.push(() => ended);
    cleanUps.push(() => terminal.stdin.write('\u0003')); // Ctrl-C
    await vi.waitUntil(() => drawn.includes('Listening on') || terminal.exitCode !== null, { timeout: 60_000 });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what erases the rest of a line
    const bar = /\rRecovering \[#{24}\] 100 % of the log: [\d.]+ \w+ of [\d.]+ \w+, 100 records, .*?\/s\x1b\[K/;
    expect(drawn).toMatch(bar);
    // It is taken away, and then the rest is printed.
    expect(drawn.split(bar).at(-1)).toMatch(/^\r.\[KRecovered 100 entries from /);
  });
});

describe('ending', () => {
  posixTest('clients get what was in flight, and the next start has it', async () => {
    const folder = newFolder();
    const server = await serving(folder);
    const client = await open(server);
    const other = await open(server);
    await other.ask('mn\r\n');
    const count = 2000;
    client.send(Array.from({ length: count }, (_, i) => set(`k${i}`, 'v'.repeat(500))).join(''));
    client.socket.end();
    server.child.kill('SIGTERM');
    // What had come was answered; the rest was not executed. Nothing in between.
    const stored = (await client.ending()).split('STORED\r\n').length - 1;
    expect(await server.ended).toEqual({ code: 0, signal: null });
    expect(server.stderr).toBe('');
    const again = await serving(folder);
    const reader = await open(again);
    const keys = Array.from({ length: count }, (_, i) => `k${i}`).join(' ');
    const found = (await reader.ask(`get ${keys}\r\n`, 'END\r\n')).split('VALUE ').length - 1;
    expect(found).toBe(stored);
  });

  posixTest('a signal that comes twice at once is one', async () => {
    const folder = newFolder();
    const server = await serving(folder);
    await (await open(server)).ask(set('a', 'b'));
    for (let i = 0; i < 3; i++) server.child.kill('SIGINT');
    expect(await server.ended).toEqual({ code: 0, signal: null });
    expect(server.stdout).toContain(`Stopped: 1 entry is kept in ${folder}\n`);
    expect(readdirSync(folder).some((name) => name.includes('snapshot'))).toBe(true);
  });

  posixTest('a second signal does not wait for clients', async () => {
    const server = await serving(newFolder(), '--test-commands');
    const parked = await open(server);
    await parked.ask('mn\r\ndebugpark 1\r\n', 'MN\r\n');
    const idle = await open(server);
    await idle.ask(set('a', 'b'));
    server.child.kill('SIGTERM');
    await idle.ending();
    await server.insist();
    expect(await server.ended).toEqual({ code: 0, signal: null });
  });
});

// A disk that is really full needs one that is small.
const DISK_BYTES = 6 * 2 ** 20;
function mounted(): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined;
  const folder = newFolder();
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'none', folder]).status !== 0) return undefined;
  cleanUps.push(() => spawnSync('umount', ['-l', folder]));
  return folder;
}
const probe = mounted();
for (const cleanUp of cleanUps.splice(0).reverse()) cleanUp();

describe('a full disk', () => {
  skipUnless(
    probe,
    'needs root and a small tmpfs',
    'platform',
  )('parks writes, then refuses them, serves reads, and goes on when there is room', async () => {
    const disk = mounted()!;
    const folder = join(disk, 'data');
    const options = ['--segment-size', '64kb', '--ring', '512kb', '--snapshot-every', '0', '-m', '32'];
    const server = await serving(folder, ...options);
    const [writer, other] = [await open(server), await open(server)];
    expect(await other.ask(set('kept', 'here'))).toBe('STORED\r\n');
    // Another file on the disk leaves about a MiB.
    const hog = join(disk, 'hog');
    writeFileSync(hog, Buffer.alloc(DISK_BYTES - 2 ** 20));
    const count = 400; // Several times what disk and ring have room for.
    for (let i = 0; i < count; i++) writer.send(set(`k${i}`, `${i}:${'v'.repeat(8000)}`));
    const stat = async (name: string): Promise<string | undefined> =>
      new RegExp(`STAT ${name} (\\S+)\r\n`).exec(await other.ask('stats cairn\r\n', 'END\r\n'))?.[1];
    while ((await stat('log')) !== 'full');
    expect(await other.ask('get kept\r\n', 'END\r\n')).toBe(hit('kept', 'here'));
    expect(await other.ask(set('x', '1'))).toBe('SERVER_ERROR the log is full\r\n');
    rmSync(hog);
    let replies = '';
    await writer.until('all replies', () => {
      replies += writer.take();
      return replies.endsWith('\r\n') && replies.split('\r\n').length === count + 1;
    });
    expect(replies).toMatch(/^(STORED\r\n)+(SERVER_ERROR the log is full\r\n)+(STORED\r\n)*$/);
    while ((await other.ask(set('x', '2'))) !== 'STORED\r\n');
    server.child.kill('SIGKILL');
    await server.ended;
    const again = await serving(folder, ...options);
    const reader = await open(again);
    expect(await reader.ask('get x\r\n', 'END\r\n')).toBe(hit('x', '2'));
    expect(await reader.ask('get kept\r\n', 'END\r\n')).toBe(hit('kept', 'here'));
    for (const [i, reply] of replies.split('\r\n').slice(0, count).entries()) {
      const text = await reader.ask(`get k${i}\r\n`, 'END\r\n');
      if (reply === 'STORED') expect(text.startsWith(`VALUE k${i} 0 `)).toBe(true);
      else expect(text).toBe('END\r\n');
    }
  });
});

describe('what is refused', () => {
  test('options of a log without one, and the other way round', async () => {
    expect(await refused('--sync', 'none')).toContain('Expected --data DIR beside --sync: without it there is no log');
    expect(await refused('--ack', 'logged')).toContain('Expected --data DIR beside --ack');
    expect(await refused('-l', '127.0.0.1,logged:127.0.0.1:0')).toContain(
      'Expected --data DIR beside -l logged:127.0.0.1:0: without it there is no log',
    );
    expect(await refused('-l', 'stored:127.0.0.1:0')).toContain(
      'Expected --data DIR beside -l stored:127.0.0.1:0: without it there is no log',
    );
    expect(await refused('--data', newFolder(), '-l', 'stored:127.0.0.1:0')).toContain(
      'Expected --store beside -l stored:127.0.0.1:0: without it there is no database',
    );
    expect(await refused('--data', newFolder(), '--no-data', '--ring', '1mb')).toContain('--data DIR beside --ring');
    expect(await refused('--data', '')).toContain('Expected --data to be a directory, got ""');
    const folder = newFolder();
    const wrong: [string[], string][] = [
      [['--sync', 'sometimes'], "Expected --sync to be 'always', 'none' or an interval such as '10ms'"],
      [
        ['--ack', 'stored'],
        "Expected --ack to be 'memory' or 'logged', the levels of a cache without a database, got \"stored\"",
      ],
      [
        ['--recover', 'database'],
        "argument 'database' is invalid. Expected --recover to be 'log' or 'store' or 'none'",
      ],
      [
        ['--log-limit', '1mb', '--segment-size', '1mb'],
        'Expected --log-limit to be at least 4 times --segment-size (4194304 bytes), got "1mb"',
      ],
      [['--log-limit', '5'], 'Expected --log-limit to be at least 16384 bytes, got "5"'],
      [
        ['--log-limit', '25%'],
        'Expected --log-limit to be a positive integer of bytes, or text such as "512mb", got "25%"',
      ],
      [['--segment-size', '1kb'], 'Expected --segment-size to be between 4kb and 1gb'],
      [['--ring', '50mb'], 'Expected --ring to be at most a quarter of -m (67108864), got "50mb"'],
      [['--snapshot-every', 'soon'], 'Expected --snapshot-every to be'],
      [['--snapshot-log-bytes', 'some'], 'Expected --snapshot-log-bytes to be'],
      [['-I', '100m'], 'Expected -I to be at most 64mb where there is a log'],
    ];
    const errors = await Promise.all(wrong.map(([options]) => refused('--data', folder, ...options)));
    for (const [i, error] of errors.entries()) expect(error).toContain(wrong[i]?.[1]);
    expect(existsSync(join(folder, 'log'))).toBe(false);
  });

  test('a port that is taken, before the directory is touched', async () => {
    const busy = createServer().listen(0, '127.0.0.1');
    await once(busy, 'listening');
    cleanUps.push(() => busy.close());
    const { port } = busy.address() as AddressInfo;
    const folder = join(newFolder(), 'data');
    const cli = startCli(['serve', '--data', folder, '-l', '127.0.0.1', '-p', String(port)]);
    expect((await cli.ended).code).toBe(1);
    expect(cli.stdout).toBe('');
    expect(cli.stderr).toBe(
      `cairn serve: Cannot listen on 127.0.0.1:${port}: it is in use. Is another server running there? -p PORT takes another port\n`,
    );
    expect(existsSync(folder)).toBe(false);
  });

  test('a directory that another process has, by the pid of that process', async () => {
    const folder = newFolder();
    const server = await serving(folder);
    const error = await refused('--data', folder);
    expect(error).toContain(String(server.child.pid));
    expect(error).toMatch(/^cairn serve: .*\n$/);
  });

  test('a file where the directory should be, and a log that is damaged, with what to do', async () => {
    const folder = newFolder();
    const file = join(folder, 'file');
    writeFileSync(file, 'x');
    expect(await refused('--data', file)).toMatch(/^cairn serve: .*file.*\n$/);
    const data = join(folder, 'data');
    mkdirSync(data, { mode: 0o700 });
    const server = await serving(data);
    const client = await open(server);
    for (let i = 0; i < 20; i++) await client.ask(set(`k${i}`, 'v'.repeat(100)));
    server.child.kill('SIGKILL');
    await server.ended;
    const [segment] = readdirSync(data).filter((name) => statSync(join(data, name)).size > 1000);
    const path = join(data, segment!);
    const bytes = readFileSync(path);
    bytes[600]! ^= 0x40;
    writeFileSync(path, bytes);
    const error = await refused('--data', data);
    expect(error).toContain('npx cairn-cache log repair ');
  });

  test('listening beyond loopback with data, unless --allow-open', async () => {
    const folder = newFolder();
    for (const listener of [
      '0.0.0.0',
      '0.0.0.0:11999',
      '10.1.2.3',
      '[::]:11999',
      '::',
      'some.host:5',
      'memory:0.0.0.0',
    ]) {
      expect(await refused('--data', folder, '-l', `127.0.0.1,${listener}`)).toContain(
        `${listener} may be reached from elsewhere, and no client is asked for a password`,
      );
    }
    expect(readdirSync(folder)).toEqual([]);
    for (const listener of ['127.0.0.1', 'localhost', '127.0.0.2']) {
      const server = startCli(['serve', '-p', '-1', '--data', folder, '-l', listener]);
      cleanUps.push(() => server.stop());
      await server.printed('Listening on');
      await server.stop();
    }
    const server = startCli(['serve', '-p', '-1', '--data', folder, '-l', '0.0.0.0', '--allow-open']);
    cleanUps.push(() => server.stop());
    await server.printed('can be reached from elsewhere');
  });
});

describe('npm start', () => {
  test('keeps its data in a folder that git ignores', () => {
    const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
    expect(read('scripts/lib/start.mjs')).toContain("['--data', './cairn-data', ");
    expect(read('src/cli/serve-options.ts')).toContain("START_DIRECTORY = './cairn-data'");
    expect(read('.gitignore').split('\n')).toContain('cairn-data/');
    expect(read('README.md')).toContain('`./cairn-data`');
  });

  test('writes to a database in that folder, and says how to name another one', async () => {
    const folder = newFolder();
    const task = fileURLToPath(new URL('../../scripts/task.mjs', import.meta.url));
    const start = async (...args: string[]): Promise<string> => {
      const child = spawn(process.execPath, [task, 'start', '-p', '-1', ...args], {
        env: { ...process.env, npm_lifecycle_event: 'start' },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      cleanUps.push(() => child.kill('SIGKILL'));
      let stdout = '';
      child.stdout.on('data', (chunk) => {
        stdout += chunk;
        if (stdout.includes('Ctrl-C ends it.')) child.kill('SIGTERM');
      });
      await once(child, 'close');
      return stdout;
    };
    const stdout = await start('--data', folder);
    expect(stdout).toContain('Writing to lmdb:\nAny other database: npm start -- --store postgres://');
    expect(stdout).toContain(`\n  npm start -- -p -1 --data ${folder}\n`);
    expect(existsSync(join(folder, 'store.lmdb'))).toBe(true);
    expect(await start('--no-data')).not.toContain('Writing to');
  });

  const has = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

  skipUnless(posix && has('nc'), 'nc is missing (apt-get install netcat-openbsd)')(
    'suggests set, kill -9, npm start, get, and that is how it goes',
    async () => {
      const folder = newFolder();
      const start = (port: number): Promise<ServeProcess> =>
        startServe(['--data', folder, '-p', String(port)], { npm_lifecycle_event: 'start' });
      const server = await start(-1);
      cleanUps.push(() => server.stop());
      await server.printed('Ctrl-C ends it.');
      const lines = server.stdout.split('\n').filter((line) => line.startsWith('  '));
      expect(lines).toHaveLength(6);
      const shell = (line: string): string => spawnSync('sh', ['-c', line], { encoding: 'utf8' }).stdout;
      expect(shell(lines[0]!)).toBe(`STORED\r\n${hit('greeting', 'hello')}`);
      expect(lines[3]?.trim()).toBe(`kill -9 ${server.child.pid}`);
      spawnSync('sh', ['-c', lines[3]!]);
      expect((await server.ended).signal).toBe('SIGKILL');
      expect(lines[4]?.trim()).toMatch(/^npm start -- .*--data /);
      const again = await start(server.port);
      cleanUps.push(() => again.stop());
      expect(again.stdout).toMatch(/^Recovered 1 entry /);
      expect(shell(lines[5]!)).toBe(hit('greeting', 'hello'));
    },
  );
});
