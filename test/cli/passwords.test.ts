// Passwords on the command line: memcached's -Y and -S, their files and variables, what is said of addresses that
// others reach, and that no password is printed.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { packet } from '../support/binary-packets.ts';
import { SERVER_TLS_FLAGS } from '../support/certificates.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { startCli } from '../support/serve-process.ts';
import { ServedFolder } from '../support/served-folder.ts';
import { skipUnless } from '../support/skip.ts';

const SECRET = 'correcthorse';
const TOKEN = `set any 0 0 ${5 + SECRET.length}\r\nuser ${SECRET}\r\n`;
const PLAIN = packet(0x21, { key: 'PLAIN', value: `\0user\0${SECRET}` }).toString('latin1');

const folder = new ServedFolder('passwords');
let file: string;
beforeEach(() => {
  file = join(folder.path, 'passwords');
  writeFileSync(file, `user:${SECRET}\n`);
});

const posixTest = skipUnless(process.platform !== 'win32', 'Windows has no signals', 'platform');
const linuxTest = skipUnless(process.platform === 'linux', 'only Linux shows arguments and variables', 'platform');

describe('clients log in', () => {
  test('to the text protocol, with the file of a flag, a variable or a configuration', async () => {
    const config = join(folder.path, 'cairn.json');
    writeFileSync(config, JSON.stringify({ authFile: file }));
    for (const server of [
      await folder.serve(['-Y', file]),
      await folder.serve([], { CAIRN_AUTH_FILE: file }),
      await folder.serve(['--config', config]),
    ]) {
      const client = await folder.open(server);
      expect(await client.ask('get k\r\n')).toBe('CLIENT_ERROR unauthenticated\r\n');
      expect(await client.ask(TOKEN)).toBe('STORED\r\n');
      expect(await client.ask('mn\r\n')).toBe('MN\r\n');
      expect(server.stderr).toBe('');
    }
  });

  test('to the binary protocol, with the file of a flag, a variable, a configuration or memcached', async () => {
    const config = join(folder.path, 'cairn.json');
    writeFileSync(config, JSON.stringify({ saslFile: file }));
    for (const server of [
      await folder.serve(['-S', '--sasl-file', file]),
      await folder.serve(['--sasl-file', file, '-B', 'binary']),
      await folder.serve(['-S'], { MEMCACHED_SASL_PWDB: file }),
      await folder.serve(['-S'], { CAIRN_SASL_FILE: file, MEMCACHED_SASL_PWDB: '/no/such' }),
      await folder.serve(['--config', config]),
    ]) {
      const client = await folder.open(server);
      expect(await client.ask(PLAIN, 'Authenticated')).toMatch(/Authenticated$/);
      expect(server.stderr).toBe('');
    }
    // As memcached does without -S.
    const other = await folder.open(await folder.serve([], { MEMCACHED_SASL_PWDB: '/no/such' }));
    expect(await other.ask('mn\r\n')).toBe('MN\r\n');
  });

  posixTest('with other passwords after SIGHUP', async () => {
    const server = await folder.serve(['-Y', file, ...SERVER_TLS_FLAGS, '-l', 'notls:127.0.0.1:0']);
    writeFileSync(file, 'user:another\n');
    server.child.kill('SIGHUP');
    await server.printed('The certificates are read again; open connections go on');
    await server.printed('The passwords are read again; clients that have logged in stay so');
    writeFileSync(file, 'another\n');
    server.child.kill('SIGHUP');
    await server.printed(`The passwords stay as they were: Cannot use -Y ${file}: line 1 is not user:password`);
    const client = await MemcachedSocket.open(Number(/and 127\.0\.0\.1:(\d+)/.exec(server.stdout)![1]));
    folder.atEnd(() => client.destroy());
    expect(await client.ask(TOKEN)).toBe('CLIENT_ERROR authentication failure\r\n');
    expect(await client.ask('set any 0 0 12\r\nuser another\r\n')).toBe('STORED\r\n');
  });
});

describe('an address that others reach', () => {
  test('is served with --data, where clients log in', async () => {
    const server = startCli(['serve', '-p', '-1', '-l', '0.0.0.0', '--data', join(folder.path, 'data'), '-Y', file]);
    folder.atEnd(() => server.stop());
    await server.printed(/Listening on 0\.0\.0\.0:\d+/);
    await server.printed(/0\.0\.0\.0:\d+ can be reached from elsewhere, and passwords are sent there as they are: -Z/);
    expect(server.stderr).not.toContain('no client is asked for a password');
  });

  test('has no warning with TLS', async () => {
    const flags = [...SERVER_TLS_FLAGS, '-Y', file];
    const server = startCli(['serve', '-p', '-1', '-l', '0.0.0.0', '--data', join(folder.path, 'data'), ...flags]);
    folder.atEnd(() => server.stop());
    await server.printed(/Listening on 0\.0\.0\.0:\d+/);
    await server.stop();
    expect(server.stderr).not.toContain('Warning');
  });
});

describe('is refused by name', () => {
  test.each<[string, (file: string) => readonly string[], string]>([
    ['-S alone', () => ['-S'], 'Expected --sasl-file FILE or MEMCACHED_SASL_PWDB beside -S: the file of the passwords'],
    ['both', (own) => ['-Y', own, '--sasl-file', own], 'Expected -Y or --sasl-file, got both'],
    ['the binary protocol beside -Y', (own) => ['-Y', own, '-B', 'auto'], 'to be \'ascii\' beside -Y, got "auto"'],
    ['the text protocol beside -S', (own) => ['--sasl-file', own, '-B', 'ascii'], "'binary' beside --sasl-file"],
    [
      'SASL on a plaintext address that others reach',
      (own) => ['--sasl-file', own, '-l', '0.0.0.0', '--allow-open'],
      'Expected -Z or a loopback address beside --sasl-file, got 0.0.0.0: passwords would be sent there as they are',
    ],
    ['a missing file', () => ['-Y', '/no/such'], 'Cannot use -Y /no/such: there is no such file'],
  ])('%s', async (_, flags, message) => {
    const cli = startCli(['serve', '-p', '-1', '--data', join(folder.path, 'data'), ...flags(file)]);
    folder.atEnd(() => cli.stop());
    expect((await cli.ended).code).toBe(1);
    expect(cli.stderr).toContain(message);
    expect(cli.stdout).toBe('');
  });
});

linuxTest('no password is in what is printed, in arguments, in variables or in statistics', async () => {
  const server = await folder.serve(['-vv', '-Y', file], { CAIRN_VERBOSITY: '2' });
  const client = await folder.open(server);
  const wrong = TOKEN.replace(SECRET, SECRET.toUpperCase());
  expect(await client.ask(wrong)).toBe('CLIENT_ERROR authentication failure\r\n');
  expect(await client.ask(TOKEN)).toBe('STORED\r\n');
  const topics = ['', ' settings', ' conns', ' items', ' cairn'];
  const asked: string[] = [];
  for (const topic of topics) asked.push(await client.ask(`stats${topic}\r\n`, 'END\r\n'));
  const config = startCli(['config', '-Y', file]);
  folder.atEnd(() => config.stop());
  await config.ended;
  const { pid } = server.child;
  const told = ['cmdline', 'environ'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'latin1'));
  await server.stop();
  const everything = [...told, ...asked, server.stdout, server.stderr, config.stdout, config.stderr].join('\n');
  expect(everything).toContain(file);
  expect(everything.toLowerCase()).not.toContain(SECRET);
});
