// Servers whose clients have to log in, as programs make them. What clients may say before is the business of the
// transcripts (auth, binary-sasl); here it is which files are taken, what changes them, and where a password stays.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Cache, type MemcachedServer, type ServeOptions } from '../../src/index.ts';
import { readAccounts } from '../../src/server/accounts.ts';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { packet as packetOf } from '../support/binary-packets.ts';
import { SERVER_TLS } from '../support/certificates.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

let cache: Cache;
let folder: string;
let file: string;
const sockets: MemcachedSocket[] = [];

beforeEach(() => {
  cache = new Cache({ maxMemory: '32mb' });
  folder = mkdtempSync(join(tmpdir(), 'cairn-passwords-'));
  file = join(folder, 'passwords');
  writeFileSync(file, 'user:secret\n');
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await cache.close();
  rmSync(folder, { recursive: true });
});

const listen = (options: ServeOptions): Promise<MemcachedServer> =>
  cache.listen({ port: 0, host: '127.0.0.1', ...options });

async function open(server: MemcachedServer): Promise<MemcachedSocket> {
  const [address] = server.addresses;
  const socket = await MemcachedSocket.open('port' in address! ? address.port : 0);
  sockets.push(socket);
  return socket;
}

const token = (user: string, password: string): string => {
  const text = `${user} ${password}`;
  return `set any 0 0 ${text.length}\r\n${text}\r\n`;
};

const packet = (opcode: number, key = '', value = ''): string => packetOf(opcode, { key, value }).toString('latin1');
const plain = (user: string, password: string): string => packet(0x21, 'PLAIN', `\0${user}\0${password}`);

describe.each(hasNativeFront() ? (['native', 'node'] as const) : (['node'] as const))('the %s front', (front) => {
  test('has each client of the text protocol log in, and counts them', async () => {
    const server = await listen({ authFile: file, front });
    const [a, b] = [await open(server), await open(server)];
    expect(await a.ask('get k\r\n')).toBe('CLIENT_ERROR unauthenticated\r\n');
    expect(await a.ask(token('user', 'secre'))).toBe('CLIENT_ERROR authentication failure\r\n');
    expect(await a.ask(token('user', 'secret'))).toBe('STORED\r\n');
    expect(await a.ask('set k 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
    expect(await b.ask('get k\r\n')).toBe('CLIENT_ERROR unauthenticated\r\n');
    const stats = await a.ask('stats\r\n', 'END\r\n');
    expect(stats).toContain('STAT auth_cmds 2\r\n');
    expect(stats).toContain('STAT auth_errors 1\r\n');
    const settings = await a.ask('stats settings\r\n', 'END\r\n');
    expect(settings).toContain(`STAT auth_enabled_ascii ${file}\r\n`);
    expect(settings).toContain('STAT auth_enabled_sasl no\r\n');
    expect(settings).toContain('STAT binding_protocol ascii\r\n');
    expect(stats + settings).not.toContain('secret');
    expect(cache.get('any')).toBeUndefined();
  });

  test('has each client of the binary protocol log in, and counts them', async () => {
    const server = await listen({ saslFile: file, front });
    const client = await open(server);
    expect(await client.ask(packet(0x20), 'PLAIN')).toMatch(/PLAIN$/);
    expect(await client.ask(plain('user', 'wrong'), 'failure.')).toMatch(/Auth failure\.$/);
    expect(await client.ask(plain('user', 'secret'), 'Authenticated')).toMatch(/Authenticated$/);
    const settings = await client.ask(packet(0x10, 'settings') + packet(0x00, 'none'), 'Not found');
    expect(settings).toContain('auth_enabled_saslyes');
    expect(settings).toContain('auth_enabled_asciino');
    expect(settings).toContain('binding_protocolbinary');
    const stats = await client.ask(packet(0x10) + packet(0x00, 'none'), 'Not found');
    expect(stats).toContain('auth_cmds2');
    expect(stats).toContain('auth_errors1');
  });

  test('takes other passwords while it serves, and keeps those that can still be used', async () => {
    const server = await listen({ authFile: file, front });
    const before = await open(server);
    expect(await before.ask(token('user', 'secret'))).toBe('STORED\r\n');
    writeFileSync(file, 'user:new\n');
    server.reloadPasswords();
    expect(await before.ask('mn\r\n')).toBe('MN\r\n');
    const after = await open(server);
    expect(await after.ask(token('user', 'secret'))).toBe('CLIENT_ERROR authentication failure\r\n');
    writeFileSync(file, 'user:newest\nuser\n');
    expect(() => server.reloadPasswords()).toThrow(`Cannot use authFile ${file}: line 2 is not user:password`);
    expect(await after.ask(token('user', 'newest'))).toBe('CLIENT_ERROR authentication failure\r\n');
    expect(await after.ask(token('user', 'new'))).toBe('STORED\r\n');
  });

  test('a client of the other protocol is disconnected, and told what to do', async () => {
    for (const [options, bytes] of [
      [{ authFile: file }, packet(0x0a)],
      [{ saslFile: file }, 'set k 0 0 5\r\nvalue\r\n'],
    ] as const) {
      const server = await listen({ ...options, front });
      const warnings: string[] = [];
      server.on('warning', (text) => warnings.push(text));
      const client = await open(server);
      client.send(bytes);
      await client.ending();
      expect(cache.size).toBe(0);
      if ('authFile' in options) {
        await vi.waitUntil(() => warnings.length > 0, { timeout: 60_000 });
        expect(warnings[0]).toContain('have clients log in to the binary protocol (-S, saslFile)');
      }
      await server.close();
    }
  });
});

test('a password of any bytes is taken, from a file with any line ends', async () => {
  writeFileSync(file, Buffer.from('\n\r\na:b\r\n\nuser:p\xe4ss: word \nlast:line', 'latin1'));
  expect(readAccounts({ option: 'authFile', file }).toString('latin1')).toBe('a:b\nuser:p\xe4ss: word \nlast:line\n');
  const server = await listen({ authFile: file });
  for (const [user, password] of [
    ['a', 'b'],
    ['user', 'p\xe4ss: word '],
    ['last', 'line'],
  ] as const) {
    expect(await (await open(server)).ask(token(user, password))).toBe('STORED\r\n');
  }
});

test('SASL beyond loopback needs TLS', async () => {
  const host = '0.0.0.0';
  await expect(listen({ saslFile: file, host })).rejects.toThrow(
    'Expected tls or a loopback address beside saslFile, got 0.0.0.0: passwords would be sent there as they are',
  );
  await expect(listen({ saslFile: file, host: `notls:${host}`, tls: SERVER_TLS })).rejects.toThrow(host);
  await listen({ saslFile: file, host, tls: SERVER_TLS });
});

describe('is refused', () => {
  test.each<[string, string | Buffer, string]>([
    ['a line without a colon', 'user:secret\nsecret\n', 'line 2 is not user:password'],
    ['a blank', '\n \n', 'line 2 is not user:password'],
    ['a line without a user', ':secret\n', 'line 1 has no user'],
    ['a line without a password', 'a:b\n\nsecret:\n', 'line 3 has no password'],
    ['a zero', 'user:sec\0ret\n', 'line 1 has a zero byte'],
    ['a line that is too long', `user:${'secret'.repeat(100)}\n`, 'line 1 is longer than 513 bytes'],
    ['an empty file', '\n\n', 'it is empty, and no client could log in'],
    ['too many users', 'secret:secret\n'.repeat(257), 'it has 257 names, more than 256'],
    ['a file that is far too large', Buffer.alloc(300_000), 'it is larger than 263680 bytes'],
  ])('%s, by file and line, without a word of it', async (_, content, message) => {
    writeFileSync(file, content);
    const error = await listen({ authFile: file }).catch((each: Error) => each);
    expect(error).toEqual(withCode('ERR_INVALID_ARGUMENT', /./));
    expect((error as Error).message).toBe(`Cannot use authFile ${file}: ${message}`);
    expect((error as Error).message.replace(file, '')).not.toContain('secret');
  });

  test('a user with a blank, except for SASL', () => {
    writeFileSync(file, 'a b:secret\n');
    expect(() => readAccounts({ option: 'authFile', file })).toThrow('line 1 has a user with a blank');
    expect(readAccounts({ option: 'saslFile', file }).toString()).toBe('a b:secret\n');
  });

  test('a file that is not there, or none', async () => {
    await expect(listen({ authFile: join(folder, 'none') })).rejects.toThrow('none: there is no such file');
    await expect(listen({ saslFile: folder })).rejects.toThrow(`Cannot use saslFile ${folder}: it is a directory`);
  });

  test.each<[ServeOptions, string]>([
    [
      { authFile: 'f', saslFile: 'f' },
      'Expected authFile or saslFile, got both: a server has one protocol to log in to',
    ],
    [{ authFile: 'f', protocol: 'binary' }, `Expected protocol to be 'ascii' beside authFile, got "binary"`],
    [{ authFile: 'f', protocol: 'auto' }, `Expected protocol to be 'ascii' beside authFile, got "auto"`],
    [{ saslFile: 'f', protocol: 'ascii' }, `Expected protocol to be 'binary' beside saslFile, got "ascii"`],
    [
      { authFile: 'f', host: ['127.0.0.1', 'proto[binary]:127.0.0.2'] },
      'Expected the text protocol at 127.0.0.2, where authFile has clients log in, got proto[binary]',
    ],
    [
      { saslFile: 'f', host: 'proto[auto]:127.0.0.1' },
      'Expected the binary protocol at 127.0.0.1, where saslFile has clients log in, got proto[auto]',
    ],
  ])('%o', async (options, message) => {
    await expect(listen(options)).rejects.toThrow(message);
  });

  test('other passwords for a server that has none', async () => {
    const server = await listen({});
    expect(() => server.reloadPasswords()).toThrow(
      'Expected a server with the option authFile or saslFile, got one without',
    );
  });
});
