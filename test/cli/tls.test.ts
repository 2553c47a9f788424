// TLS on the command line: memcached's names, files and variables, and what is read again while the server runs.

import { execFile, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { extendedOf } from '../../src/cli/memcached-options.ts';
import { certificateFile, SERVER_TLS, SERVER_TLS_FLAGS } from '../support/certificates.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { startCli } from '../support/serve-process.ts';
import { ServedFolder } from '../support/served-folder.ts';
import { skipUnless } from '../support/skip.ts';

const folder = new ServedFolder('tls');

async function secure(port: number): Promise<MemcachedSocket> {
  const client = await MemcachedSocket.secure(port);
  folder.atEnd(() => client.destroy());
  return client;
}

const serialOf = (client: MemcachedSocket): string => (client.socket as TLSSocket).getPeerCertificate().serialNumber;

const posixTest = skipUnless(process.platform !== 'win32', 'Windows has no signals', 'platform');

test("memcached's options of TLS are ours, by their numbers", () => {
  const { tls } = extendedOf(
    'ssl_chain_cert=c,ssl_key=k,ssl_keyformat=2,ssl_verify_mode=2,ssl_ciphers=AES:!DES,ssl_ca_cert=a,ssl_session_cache,ssl_min_version=3',
  );
  expect(tls).toEqual({
    ...{ cert: 'c', key: 'k', keyFormat: 'der', verify: 'require', ciphers: 'AES:!DES', ca: 'a' },
    ...{ sessionCache: true, minVersion: 'TLSv1.3' },
  });
  expect(extendedOf('ssl_wbuf_size=32,ssl_kernel_tls')).toEqual({ taken: ['ssl_wbuf_size', 'ssl_kernel_tls'] });
  expect(extendedOf('ssl_verify_mode=1', extendedOf('ssl_key=k')).tls).toEqual({ key: 'k', verify: 'request' });
});

describe('a server of TLS', () => {
  test('says where it has TLS, and serves there and elsewhere', async () => {
    const server = await folder.serve([...SERVER_TLS_FLAGS, '-o', 'ssl_wbuf_size=32', '-l', 'notls:127.0.0.1:0']);
    expect(server.stdout).toMatch(/^Listening on 127\.0\.0\.1:\d+ \(TLS\) and 127\.0\.0\.1:\d+$/m);
    await server.printed('Without effect here: -o ssl_wbuf_size');
    expect(await (await secure(server.port)).ask('set k 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
    const plain = await MemcachedSocket.open(Number(/and 127\.0\.0\.1:(\d+)/.exec(server.stdout)![1]));
    expect(await plain.ask('get k\r\n', 'END\r\n')).toBe('VALUE k 0 1\r\n1\r\nEND\r\n');
    plain.destroy();
  });

  test('gets its certificates from variables, or from a file', async () => {
    const config = join(folder.path, 'cairn.json');
    writeFileSync(config, JSON.stringify({ tls: SERVER_TLS }));
    for (const server of [
      await folder.serve([], { CAIRN_TLS_CERT: SERVER_TLS.cert, CAIRN_TLS_KEY: SERVER_TLS.key }),
      await folder.serve(['--config', config]),
      await folder.serve(['-Z', '--config', config, '-o', 'ssl_min_version=3']),
    ]) {
      expect(await (await secure(server.port)).ask('mn\r\n')).toBe('MN\r\n');
    }
  });

  posixTest('reads them again at SIGHUP, also those that cannot be used', async () => {
    const [cert, key] = [join(folder.path, 'cert'), join(folder.path, 'key')];
    const use = (name: string): void => {
      copyFileSync(certificateFile(`${name}.pem`), cert);
      copyFileSync(certificateFile(`${name}.key`), key);
    };
    use('server');
    const server = await folder.serve(['-Z', '-o', `ssl_chain_cert=${cert},ssl_key=${key}`]);
    const before = await secure(server.port);
    use('other');
    server.child.kill('SIGHUP');
    await server.printed('The certificates are read again');
    const after = await secure(server.port);
    expect(serialOf(after)).not.toBe(serialOf(before));
    rmSync(key);
    server.child.kill('SIGHUP');
    await server.printed(`The certificates stay as they were: Cannot read -o ssl_key ${key}: there is no such file`);
    expect(serialOf(await secure(server.port))).toBe(serialOf(after));
    expect(await before.ask('mn\r\n')).toBe('MN\r\n');
  });

  const python = ['/usr/bin/python3', 'python3'].find(
    (program) => spawnSync(program, ['-c', 'import pymemcache']).status === 0,
  );
  const pymemcache = skipUnless(python, 'pymemcache is missing (apt-get install python3-pymemcache)');
  pymemcache('serves pymemcache', async () => {
    const server = await folder.serve([...SERVER_TLS_FLAGS, '-o', 'ssl_session_cache']);
    const script = `
import ssl
from concurrent.futures import ThreadPoolExecutor
from pymemcache.client.base import Client, PooledClient
context = ssl.create_default_context(cafile=${JSON.stringify(certificateFile('ca.pem'))})
c = Client(('localhost', ${server.port}), tls_context=context, default_noreply=False, timeout=10)
assert c.set('a', 'one') and c.get('a') == b'one'
big = b'z' * 1000000
assert c.set('big', big) and c.get('big') == big
assert c.set_many({'k%d' % i: 'v%d' % i for i in range(200)}) == []
assert len(c.get_many(['k%d' % i for i in range(200)])) == 200
pool = PooledClient(('localhost', ${server.port}), tls_context=context, max_pool_size=8, default_noreply=False)
pool.set('count', '0')
with ThreadPoolExecutor(8) as threads:
    list(threads.map(lambda i: pool.incr('count', 1), range(200)))
assert pool.get('count') == b'200'
c.quit()
print('all is well')
`;
    const printed = await new Promise((resolve) => {
      execFile(python!, ['-c', script], { timeout: 60_000 }, (_, stdout, stderr) => resolve(stdout + stderr));
    });
    expect(printed).toBe('all is well\n');
  });
});

describe('is refused, by option and file', () => {
  test('before a log is opened', async () => {
    const data = join(folder.path, 'data');
    const cli = startCli(['serve', '-p', '-1', '--data', data, '-Z', '-o', 'ssl_chain_cert=/no/such']);
    folder.atEnd(() => cli.stop());
    expect((await cli.ended).code).toBe(1);
    expect(cli.stderr).toContain('Cannot read -o ssl_chain_cert /no/such: there is no such file');
    expect(existsSync(data)).toBe(false);
  });

  test.each<[string, readonly string[], string]>([
    ['-Z alone', ['-Z'], "Expected -o ssl_chain_cert=FILE beside -Z: the file of the server's certificate"],
    [
      'a certificate without -Z',
      ['-o', `ssl_chain_cert=${SERVER_TLS.cert}`],
      'Expected -Z beside -o ssl_chain_cert: without it there is no TLS',
    ],
    [
      'a missing file',
      ['-Z', '-o', 'ssl_chain_cert=/no/such'],
      'Cannot read -o ssl_chain_cert /no/such: there is no such file',
    ],
    [
      'a key of another certificate',
      ['-Z', '-o', `ssl_chain_cert=${SERVER_TLS.cert},ssl_key=${certificateFile('other.key')}`],
      `-o ssl_key ${certificateFile('other.key')} is not the key of -o ssl_chain_cert ${SERVER_TLS.cert}`,
    ],
    [
      'clients to verify without a CA',
      [...SERVER_TLS_FLAGS, '-o', 'ssl_verify_mode=2'],
      'Expected -o ssl_ca_cert where clients show certificates',
    ],
    ['a mode that is none', ['-o', 'ssl_verify_mode=4'], 'Expected -o ssl_verify_mode to be 0, 1, 2 or 3, got "4"'],
    ['a form that is none', ['-o', 'ssl_keyformat=3'], 'Expected -o ssl_keyformat to be 1 or 2, got "3"'],
    ['a value too many', ['-o', 'ssl_session_cache=yes'], 'Expected -o ssl_session_cache to have no value, got "yes"'],
    ['a word about TLS without it', ['-l', 'notls:127.0.0.1'], 'Expected -Z beside notls:127.0.0.1'],
    ['the native front', [...SERVER_TLS_FLAGS, '--front', 'native'], "Expected --front to be 'node', since it has TLS"],
  ])('%s', async (_, options, message) => {
    const cli = startCli(['serve', '-p', '-1', ...options]);
    folder.atEnd(() => cli.stop());
    expect((await cli.ended).code).toBe(1);
    expect(cli.stderr).toContain(message);
  });
});
