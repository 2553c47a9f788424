// Programs that others wrote to talk to memcached: they know nothing of Cairn and need not.

import { execFile, spawnSync } from 'node:child_process';
import { afterAll, beforeAll, expect } from 'vitest';
import { type ServeProcess, startServe } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

let server: ServeProcess;
beforeAll(async () => {
  server = await startServe();
});
afterAll(() => server.stop());

function execute(program: string, ...args: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { timeout: 60_000 }, (_, stdout, stderr) => {
      resolve({ code: child.exitCode ?? -1, output: stdout + stderr });
    });
  });
}

const has = (program: string, ...args: string[]): boolean => spawnSync(program, args).error === undefined;
const python = ['/usr/bin/python3', 'python3'].find(
  (program) => spawnSync(program, ['-c', 'import pymemcache']).status === 0,
);

const memccapable = skipUnless(has('memccapable', '-V'), 'memccapable is missing (apt-get install libmemcached-tools)');

// What it looks for. With `delete` it wants an error for a bad third word, which memcached 1.6.45 takes, as we do: two
// of its tests fail on both.
const TAKEN_BY_MEMCACHED = ['delete', 'delete noreply'];
const COMMANDS = ['set', 'flush', 'add', 'replace', 'cas', 'incr', 'decr', 'append', 'prepend'].flatMap((name) => [
  name,
  `${name} noreply`,
]);
const PASSING = ['version', 'quit', 'verbosity', 'get', 'gets', 'mget', 'stat', ...COMMANDS];

memccapable(
  'memccapable -a finds the whole text protocol',
  async () => {
    const { output } = await execute('memccapable', '-h', '127.0.0.1', '-p', String(server.port), '-t', '10', '-a');
    for (const name of PASSING) expect(output).toMatch(new RegExp(`ascii ${name} +\\[pass\\]`));
    for (const name of TAKEN_BY_MEMCACHED) expect(output).not.toMatch(new RegExp(`ascii ${name} +\\[pass\\]`));
    expect(output).toContain('2 of 27 tests failed');
    expect(PASSING.length + TAKEN_BY_MEMCACHED.length).toBe(27);
  },
  90_000,
);

memccapable(
  'memccapable -b finds the whole binary protocol',
  async () => {
    const { code, output } = await execute(
      'memccapable',
      '-h',
      '127.0.0.1',
      '-p',
      String(server.port),
      '-t',
      '10',
      '-b',
    );
    expect(output).toContain('All tests passed');
    expect(output.match(/^binary \w+ +\[pass\]$/gm), output).toHaveLength(27);
    expect(code).toBe(0);
  },
  90_000,
);

const pymemcache = skipUnless(python, 'pymemcache is missing (apt-get install python3-pymemcache)');

pymemcache('pymemcache: every verb', async () => {
  const script = `
from pymemcache.client.base import Client
from pymemcache import serde
import time
c = Client(('127.0.0.1', ${server.port}), default_noreply=False, timeout=10)
assert c.flush_all()
assert c.version() == b'1.6.45'
assert c.set('a', 'one') and c.get('a') == b'one'
assert c.get('none') is None and c.get('none', 'otherwise') == 'otherwise'
assert c.add('a', 'x') is False and c.add('b', 'two') is True
assert c.replace('a', 'uno') is True and c.replace('none', 'x') is False
assert c.append('a', '!') and c.prepend('a', '?') and c.get('a') == b'?uno!'
value, cas = c.gets('a')
assert value == b'?uno!' and c.cas('a', 'new', cas) is True and c.cas('a', 'newer', cas) is False
assert c.cas('none', 'x', b'1') is None
c.set('n', '10')
assert c.incr('n', 5) == 15 and c.decr('n', 20) == 0 and c.incr('none', 1) is None
assert c.set_many({'k%d' % i: 'v%d' % i for i in range(200)}) == []
got = c.get_many(['k%d' % i for i in range(0, 200, 2)] + ['missing'])
assert got == {'k%d' % i: b'v%d' % i for i in range(0, 200, 2)}
assert set(c.gets_many(['k1', 'k3'])) == {'k1', 'k3'}
assert c.touch('a', 100) is True and c.touch('none', 100) is False
if hasattr(c, 'gat'): assert c.gat('a', expire=0) == b'new' and c.gats('a', expire=0)[0] == b'new'
assert c.delete('a') is True and c.delete('a') is False
c.set('gone', 'x', expire=-1)
assert c.get('gone') is None
c.set('f', 'x', flags=77, noreply=True)
assert c.get('f') == b'x'
big = b'z' * 1000000
assert c.set('big', big) and c.get('big') == big
stats = c.stats()
assert stats[b'curr_items'] > 100 and stats[b'threads'] >= 1
assert c.stats('settings')[b'maxconns'] == 1024
p = Client(('127.0.0.1', ${server.port}), serde=serde.pickle_serde, default_noreply=False)
p.set('py', {'list': [1, 2, 3]})
assert p.get('py') == {'list': [1, 2, 3]}
try:
    c.incr('f', 1)
    assert False, 'a word is no number'
except Exception as e:
    assert 'non-numeric' in str(e)
try:
    c.set('big', b'z' * 2000000)
    assert False, 'too large'
except Exception as e:
    assert 'too large' in str(e)
assert c.get('n') == b'0 '
c.quit()
print('all is well')
`;
  expect(await execute(python!, '-c', script)).toEqual({ code: 0, output: 'all is well\n' });
});

pymemcache('pymemcache: pools and hashes of servers', async () => {
  const script = `
from concurrent.futures import ThreadPoolExecutor
from pymemcache.client.base import PooledClient
from pymemcache.client.hash import HashClient
pool = PooledClient(('127.0.0.1', ${server.port}), max_pool_size=8, default_noreply=False)
pool.set('count', '0')
with ThreadPoolExecutor(8) as threads:
    list(threads.map(lambda i: pool.incr('count', 1), range(400)))
assert pool.get('count') == b'400'
client = HashClient(['127.0.0.1:${server.port}'], default_noreply=False)
client.set_many({'h%d' % i: str(i) for i in range(100)})
assert len(client.get_many(['h%d' % i for i in range(100)])) == 100
print('all is well')
`;
  expect(await execute(python!, '-c', script)).toEqual({ code: 0, output: 'all is well\n' });
});
