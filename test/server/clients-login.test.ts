// Programs that others wrote, which speak the binary protocol or log in: as they are against a server that asks for
// nothing, and with right and wrong passwords against one that asks, in the protocol of each.

import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { foreignEnvironment } from '../support/foreign-environment.ts';
import { type ServeProcess, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const PATIENCE = 90_000;

let folder: string;
let open: ServeProcess;
let sasl: ServeProcess;
let text: ServeProcess;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cairn-clients-'));
  const file = join(folder, 'passwords');
  writeFileSync(file, 'user:correct horse\nother:pass\n');
  [open, sasl, text] = await Promise.all([startServe(), startServe(['--sasl-file', file]), startServe(['-Y', file])]);
});
afterAll(async () => {
  await Promise.all([open, sasl, text].map((server) => server.stop()));
  rmSync(folder, { recursive: true });
});

function execute(program: string, ...args: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { timeout: 60_000, env: foreignEnvironment() }, (_, stdout, stderr) => {
      resolve({ code: child.exitCode ?? -1, output: stdout + stderr });
    });
  });
}
const WELL = { code: 0, output: 'all is well\n' };

const runs = (program: string, ...args: string[]): boolean =>
  spawnSync(program, args, { env: foreignEnvironment() }).status === 0;

// ---- Node.js ----

interface MemjsClient {
  set(key: string, value: string | Buffer, options: { expires?: number }): Promise<boolean>;
  add(key: string, value: string, options: { expires?: number }): Promise<boolean>;
  get(key: string): Promise<{ value: Buffer | null }>;
  increment(key: string, by: number, options: { initial?: number }): Promise<{ success: boolean; value: number }>;
  append(key: string, value: string): Promise<boolean>;
  delete(key: string): Promise<boolean>;
  close(): void;
}
interface Memjs {
  Client: { create(servers: string, options: object): MemjsClient };
}
const require = createRequire(import.meta.url);
const memjs = ((): Memjs | undefined => {
  try {
    return require('memjs') as Memjs;
  } catch {
    return undefined;
  }
})();
const withMemjs = skipUnless(memjs !== undefined, 'memjs is missing (npm ci)');
const silent = { log() {} };
const memjsOf = ({ port }: ServeProcess, options: object = {}): MemjsClient =>
  memjs!.Client.create(`127.0.0.1:${port}`, { retries: 1, timeout: 20, conntimeout: 20, logger: silent, ...options });

async function useMemjs(client: MemjsClient): Promise<void> {
  expect(await client.set('a', 'one', { expires: 100 })).toBe(true);
  expect((await client.get('a')).value?.toString()).toBe('one');
  expect(await client.add('a', 'two', {})).toBe(false);
  expect((await client.get('none')).value).toBeNull();
  expect(await client.append('a', '!')).toBe(true);
  expect((await client.get('a')).value?.toString()).toBe('one!');
  expect(await client.increment('memjs', 5, { initial: 7 })).toEqual({ success: true, value: 7 });
  expect(await client.increment('memjs', 5, {})).toEqual({ success: true, value: 12 });
  const big = Buffer.alloc(500_000, 'z');
  expect(await client.set('big', big, {})).toBe(true);
  expect((await client.get('big')).value?.equals(big)).toBe(true);
  expect(await client.delete('a')).toBe(true);
  expect(await client.delete('memjs')).toBe(true);
}

describe('memjs', () => {
  withMemjs('is served', async () => {
    const client = memjsOf(open);
    await useMemjs(client);
    client.close();
  });

  withMemjs('logs in by SASL', async () => {
    const client = memjsOf(sasl, { username: 'user', password: 'correct horse' });
    await useMemjs(client);
    client.close();
  });

  withMemjs('is refused with a wrong password, and without one', async () => {
    const wrong = memjsOf(sasl, { username: 'user', password: 'wrong', retries: 0, timeout: 2 });
    await expect(wrong.get('a')).rejects.toThrow();
    wrong.close();
    const without = memjsOf(sasl, { retries: 0, timeout: 2 });
    await expect(without.get('a')).rejects.toThrow();
    without.close();
  });
});

// ---- PHP ----

const php = skipUnless(
  runs('php', '-r', 'exit(class_exists("Memcached") ? 0 : 1);'),
  'php-memcached is missing (apt-get install php-cli php-memcached)',
);
const PHP = `
function check($yes, $what) { if (!$yes) { echo "$what\\n"; exit(1); } }
function client($port, $binary) {
  $m = new Memcached();
  $m->setOption(Memcached::OPT_BINARY_PROTOCOL, $binary);
  $m->setOption(Memcached::OPT_CONNECT_TIMEOUT, 10000);
  $m->addServer('127.0.0.1', $port);
  return $m;
}
function work($m) {
  check($m->set('php', ['list' => [1, 2, 3]]), 'set: ' . $m->getResultMessage());
  check($m->get('php') === ['list' => [1, 2, 3]], 'get');
  check(!$m->add('php', 1), 'add');
  $got = $m->get('php', null, Memcached::GET_EXTENDED);
  check($m->cas($got['cas'], 'php', 'new') && !$m->cas($got['cas'], 'php', 'newer'), 'cas');
  $many = [];
  for ($i = 0; $i < 100; $i++) $many["php$i"] = "v$i";
  check($m->setMulti($many) && $m->getMulti(array_keys($many)) == $many, 'many');
  check($m->increment('phpn', 1, 7) === 7 && $m->increment('phpn', 5) === 12, 'increment: ' . $m->getResultMessage());
  check($m->touch('php', 100) && $m->delete('php') && $m->get('php') === false, 'delete');
  check($m->delete('phpn'), 'delete of a number');
}
`;

describe('php-memcached', () => {
  php('speaks the binary protocol', async () => {
    const script = `${PHP} work(client(${open.port}, true)); echo "all is well\\n";`;
    expect(await execute('php', '-r', script)).toEqual(WELL);
  });

  php('logs in by SASL, and is refused with a wrong password', async () => {
    const script = `${PHP}
$m = client(${sasl.port}, true);
$m->setSaslAuthData('user', 'correct horse');
work($m);
$wrong = client(${sasl.port}, true);
$wrong->setSaslAuthData('user', 'wrong');
check(!$wrong->set('php', 1) && $wrong->get('php') === false, 'a wrong password');
check($wrong->getResultCode() !== Memcached::RES_NOTFOUND, 'a wrong password is a miss');
check(!client(${sasl.port}, true)->set('php', 1), 'no password');
echo "all is well\\n";`;
    expect(await execute('php', '-r', script)).toEqual(WELL);
  });
});

describe("sessions of PHP's extension", () => {
  const session = (port: number, ...more: readonly string[]): ReturnType<typeof execute> => {
    const settings = ['save_handler=memcached', `save_path=127.0.0.1:${port}`, 'use_cookies=0', 'use_strict_mode=0'];
    const options = [...settings.map((each) => `session.${each}`), 'session.cache_limiter=', ...more];
    const script = `
foreach ([1, 2] as $round) {
  session_id('login' . ${port});
  session_start();
  $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;
  $n = $_SESSION['n'];
  session_write_close();
}
echo $n === 2 ? "all is well\\n" : "n is $n\\n";`;
    return execute('php', ...options.flatMap((each) => ['-d', each]), '-r', script);
  };

  php('are kept over the binary protocol, their default, and log in', async () => {
    expect(await session(open.port)).toEqual(WELL);
    const login = ['memcached.sess_sasl_username=user', 'memcached.sess_sasl_password=correct horse'];
    expect(await session(sasl.port, ...login)).toEqual(WELL);
  });
});

// ---- Ruby ----

const ruby = skipUnless(runs('ruby', '-e', 'require "dalli"'), 'Dalli is missing (apt-get install ruby ruby-dalli)');
const RUBY = `
require 'dalli'
require 'logger'
Dalli.logger = Logger.new(IO::NULL)
def check(yes, what) = yes ? nil : abort(what)
def work(c)
  check(c.set('ruby', { list: [1, 2, 3] }), 'set')
  check(c.get('ruby') == { list: [1, 2, 3] }, 'get')
  check(!c.add('ruby', 1), 'add')
  check(c.cas('ruby') { |old| old[:list].size } && c.get('ruby') == 3, 'cas')
  c.multi { 100.times { |i| c.set("ruby#{i}", i) } }
  check(c.get_multi(*(0...100).map { |i| "ruby#{i}" }).size == 100, 'many')
  check(c.incr('rubyn', 5, 100, 7) == 7 && c.incr('rubyn', 5) == 12, 'incr')
  check(c.touch('ruby', 100) && c.delete('ruby') && c.get('ruby').nil?, 'delete')
  c.delete('rubyn')
  c.close
end
`;

describe('Dalli', () => {
  ruby('speaks the binary protocol', async () => {
    const script = `${RUBY} work(Dalli::Client.new('127.0.0.1:${open.port}')); puts 'all is well'`;
    expect(await execute('ruby', '-e', script)).toEqual(WELL);
  });

  ruby('logs in by SASL, and is refused with a wrong password', async () => {
    const script = `${RUBY}
work(Dalli::Client.new('127.0.0.1:${sasl.port}', username: 'user', password: 'correct horse'))
[{ username: 'user', password: 'wrong' }, {}].each do |options|
  begin
    Dalli::Client.new('127.0.0.1:${sasl.port}', **options).get('ruby')
    abort 'not refused'
  rescue Dalli::DalliError
  end
end
puts 'all is well'`;
    expect(await execute('ruby', '-e', script)).toEqual(WELL);
  });
});

// ---- Python ----

const PYTHON = '/usr/bin/python3';
const withPython = (module: string) =>
  skipUnless(runs(PYTHON, '-c', `import ${module}`), `${module} is missing (apt-get install python3-${module})`);
const pymemcache = withPython('pymemcache');
const pylibmc = withPython('pylibmc');

pylibmc(
  'pylibmc speaks the binary protocol, logs in by SASL, and is refused with a wrong password',
  async () => {
    const script = `
import pylibmc
def work(c):
    assert c.set('py', [1, 2, 3]) and c.get('py') == [1, 2, 3]
    assert not c.add('py', 1) and c.replace('py', 'x') and c.append('py', 'y') and c.get('py') == 'xy'
    assert c.set_multi({'py%d' % i: i for i in range(100)}) == []
    assert len(c.get_multi(['py%d' % i for i in range(100)])) == 100
    c.set('pyn', 7)
    assert c.incr('pyn', 5) == 12 and c.delete('py') and c.get('py') is None
work(pylibmc.Client(['127.0.0.1:${open.port}'], binary=True))
work(pylibmc.Client(['127.0.0.1:${sasl.port}'], binary=True, username='user', password='correct horse'))
try:
    pylibmc.Client(['127.0.0.1:${sasl.port}'], binary=True, username='user', password='wrong').set('py', 1)
    assert False, 'not refused'
except pylibmc.Error:
    pass
print('all is well')
`;
    expect(await execute(PYTHON, '-c', script)).toEqual(WELL);
  },
  PATIENCE,
);

pymemcache(
  'pymemcache logs in to the text protocol by a set',
  async () => {
    const script = `
from pymemcache.client.base import Client
def client():
    return Client(('127.0.0.1', ${text.port}), default_noreply=False, timeout=10)
c = client()
assert c.set('auth', 'user correct horse') is True
assert c.set('a', 'one') and c.get('a') == b'one' and c.get('auth') is None
for token in ('user wrong', None):
    other = client()
    try:
        other.set('auth', token) if token else other.get('a')
        assert False, 'not refused'
    except Exception as e:
        assert 'authentic' in str(e), e
print('all is well')
`;
    expect(await execute(PYTHON, '-c', script)).toEqual(WELL);
  },
  PATIENCE,
);
