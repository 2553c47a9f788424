// A server of TLS, as programs make it. What it answers is the business of the transcripts, which are played over TLS
// too; here it is which clients are let in, and that no other notices those that are not.

import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Cache, type DisconnectReason, type MemcachedServer, type ServeOptions } from '../../src/index.ts';
import { certificateFile, credentials, SERVER_TLS } from '../support/certificates.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';

const CA = certificateFile('ca.pem');
const PATIENCE = { timeout: 60_000 };

let cache: Cache;
let server: MemcachedServer;
let folder: string;
let warnings: string[];
let ended: DisconnectReason[];
const sockets: { destroy(): void }[] = [];

beforeEach(() => {
  cache = new Cache({ maxMemory: '32mb' });
  folder = mkdtempSync(join(tmpdir(), 'cairn-tls-'));
  warnings = [];
  ended = [];
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await cache.close();
  rmSync(folder, { recursive: true });
});

async function listen(tls: Partial<NonNullable<ServeOptions['tls']>> = {}, more: ServeOptions = {}): Promise<void> {
  server = await cache.listen({ port: 0, host: '127.0.0.1', tls: { ...SERVER_TLS, ...tls }, ...more });
  server.on('warning', (message) => warnings.push(message));
  server.on('disconnect', (_, reason) => ended.push(reason));
}

function portOf(index = 0): number {
  const address = server.addresses[index];
  return address !== undefined && 'port' in address ? address.port : 0;
}

async function open(options: ConnectionOptions = {}, index = 0): Promise<MemcachedSocket> {
  const client = await MemcachedSocket.secure(portOf(index), options);
  sockets.push(client);
  return client;
}

/** A client that says so much, and whatever it is told. */
function plain(index = 0): Promise<MemcachedSocket> {
  return MemcachedSocket.open(portOf(index)).then((client) => {
    sockets.push(client);
    return client;
  });
}

function silent(): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: portOf() }, () => resolve(socket));
    socket.on('error', () => {});
    sockets.push(socket);
  });
}

const stat = async (client: MemcachedSocket, name: string, topic = ''): Promise<string | undefined> => {
  const text = await client.ask(`stats${topic && ` ${topic}`}\r\n`, 'END\r\n');
  return new RegExp(`^STAT ${name} (.*)\r$`, 'm').exec(text)?.[1];
};

const commonNameOf = (client: MemcachedSocket): string =>
  (client.socket as TLSSocket).getPeerCertificate().serialNumber;

describe('a client', () => {
  test('is served, for itself, in both protocols, with values of any size', async () => {
    await listen();
    const [a, b] = [await open(), await open()];
    expect(await a.ask('set k 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
    expect(await b.ask('get k\r\n', 'END\r\n')).toBe('VALUE k 0 1\r\n1\r\nEND\r\n');
    const value = 'v'.repeat(900_000);
    expect(await a.ask(`set large 0 0 ${value.length}\r\n${value}\r\n`)).toBe('STORED\r\n');
    expect(await b.ask(`${'get large\r\n'.repeat(6)}mn\r\n`, 'MN\r\n')).toBe(
      `${`VALUE large 0 ${value.length}\r\n${value}\r\nEND\r\n`.repeat(6)}MN\r\n`,
    );
    const noop = await open();
    noop.send(Buffer.from('800a0000000000000000000000000000' + '0000000000000000', 'hex'));
    await noop.until('a reply of 24 bytes', () => noop.receivedBytes === 24);
    expect(cache.get('k')).toEqual(Buffer.from('1'));
    expect(server.connectionCount).toBe(3);
    expect(server.addresses[0]).toMatchObject({ tls: true });
  });

  test('sends in pieces of any size', async () => {
    await listen();
    const client = await open();
    for (const byte of 'set k 0 0 5\r\nvalue\r\nget k\r\n') {
      await new Promise((resolve) => client.socket.write(byte, resolve));
    }
    await client.until('both replies', () => client.receivedBytes === 8 + 'VALUE k 0 5\r\nvalue\r\nEND\r\n'.length);
    expect(client.take()).toBe('STORED\r\nVALUE k 0 5\r\nvalue\r\nEND\r\n');
  });

  test('that ends its side is answered first', async () => {
    await listen();
    const client = await open();
    client.socket.end('set k 0 0 1\r\n1\r\nget k\r\n');
    expect(await client.ending()).toBe('STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n');
    await vi.waitUntil(() => server.connectionCount === 0, PATIENCE);
  });

  test('is answered what it has sent when the server closes', async () => {
    await listen();
    const client = await open();
    await client.ask('mn\r\n');
    const closing = server.close();
    expect(await client.ending()).toBe('');
    client.destroy();
    await closing;
  });

  test('that does not read its replies is disconnected, and others are served meanwhile', async () => {
    await listen({}, { stallTimeout: '100ms' });
    const [slow, other] = [await open(), await open()];
    await other.ask(`set large 0 0 900000\r\n${'v'.repeat(900_000)}\r\n`);
    slow.socket.pause();
    slow.send('get large\r\n'.repeat(100));
    await vi.waitUntil(() => ended.includes('stalled'), PATIENCE);
    expect(await other.ask('mn\r\n')).toBe('MN\r\n');
  });

  test('that sends nothing is disconnected after the time for that', async () => {
    await listen({}, { idleTimeout: '50ms' });
    const client = await open();
    expect(await client.ending()).toBe('');
    await vi.waitUntil(() => ended.includes('idle'), PATIENCE);
  });

  test('counts for the limit of connections, from its handshake on', async () => {
    await listen({}, { maxConnections: 1 });
    const first = await silent();
    await vi.waitUntil(() => server.connectionCount === 1, PATIENCE);
    await expect(open()).rejects.toThrow();
    await vi.waitUntil(() => ended.includes('rejected'), PATIENCE);
    const unencrypted = await plain();
    expect(await unencrypted.ending()).toBe('');
    first.destroy();
    await vi.waitUntil(() => server.connectionCount === 0, PATIENCE);
    const second = await open();
    expect(await stat(second, 'rejected_connections')).toBe('2');
    expect(await stat(second, 'curr_connections')).toBe('1');
  });
});

describe('a handshake', () => {
  test('is not begun again by a client that is served', async () => {
    await listen();
    const client = await open({ maxVersion: 'TLSv1.2' });
    expect(await client.ask('set k 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
    const refusal = await new Promise<Error | null>((resolve) => {
      client.socket.once('error', resolve);
      (client.socket as TLSSocket).renegotiate({}, resolve);
    });
    expect(refusal?.message).toMatch(/no renegotiation/i);
  });

  test('that fails is told once for its kind, and holds up no other', async () => {
    await listen({ minVersion: 'TLSv1.3', handshakeTimeout: '100ms' });
    const client = await open();
    await silent(); // which says nothing
    await vi.waitUntil(() => ended.length === 1, PATIENCE);
    await expect(open({ maxVersion: 'TLSv1.2' })).rejects.toThrow(/protocol version/);
    await vi.waitUntil(() => ended.length === 2, PATIENCE);
    expect(ended).toEqual(['handshake', 'handshake']);
    expect(warnings).toEqual([expect.stringContaining('its handshake took too long')]);
    expect(await client.ask('mn\r\n')).toBe('MN\r\n');
    expect(await stat(client, 'ssl_handshake_errors')).toBe('2');
    expect(server.connectionCount).toBe(1);
  });

  test('is not begun by a client of plaintext, which is disconnected and told once', async () => {
    await listen();
    for (const text of ['get a\r\nget b\r\n', 'GET / HTTP/1.0\r\n\r\n', `mn\r\n${'x'.repeat(100)}`]) {
      const client = await plain();
      client.send(text);
      expect(await client.ending()).not.toContain('\r\n');
    }
    const binary = await plain();
    binary.send(Buffer.from('800a0000000000000000000000000000' + '0000000000000000', 'hex'));
    await binary.ending();
    await vi.waitUntil(() => ended.length === 4, PATIENCE);
    expect(ended).toEqual(Array(4).fill('plaintext'));
    expect(warnings).toEqual([expect.stringContaining('does not speak TLS')]);
    expect(await (await open()).ask('mn\r\n')).toBe('MN\r\n');
  });

  test('of a client that leaves is no fault', async () => {
    await listen();
    (await silent()).destroy();
    await vi.waitUntil(() => ended.length === 1, PATIENCE);
    expect([ended, warnings]).toEqual([['ended'], []]);
  });

  test('is over when the server closes', async () => {
    await listen({ handshakeTimeout: '1h' });
    const socket = await silent();
    await vi.waitUntil(() => server.connectionCount === 1, PATIENCE);
    const gone = new Promise((resolve) => socket.once('close', resolve));
    await server.close();
    socket.resume();
    await gone;
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('resumes a session of %s if there are tickets', async (version) => {
    await listen({ sessionCache: true });
    const versions: ConnectionOptions = { minVersion: version, maxVersion: version };
    const sessionOf = async (client: MemcachedSocket): Promise<Buffer> => {
      const session = new Promise<Buffer>((resolve) => client.socket.once('session', resolve));
      await client.ask('mn\r\n');
      return version === 'TLSv1.3' ? session : (client.socket as TLSSocket).getSession()!;
    };
    const first = await open(versions);
    expect((first.socket as TLSSocket).isSessionReused()).toBe(false);
    const session = await sessionOf(first);
    const second = await open({ ...versions, session });
    expect((second.socket as TLSSocket).isSessionReused()).toBe(true);
    expect(await stat(second, 'ssl_new_sessions')).toBe('1');
    // Who was let in by the former certificates is looked at again.
    server.reloadCertificates();
    const third = await open({ ...versions, session });
    expect((third.socket as TLSSocket).isSessionReused()).toBe(false);
    expect(await third.ask('mn\r\n')).toBe('MN\r\n');
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('resumes no session of %s if there are no tickets', async (version) => {
    await listen();
    const versions: ConnectionOptions = { minVersion: version, maxVersion: version };
    const first = await open(versions);
    await first.ask('mn\r\n');
    const second = await open({ ...versions, session: (first.socket as TLSSocket).getSession()! });
    expect((second.socket as TLSSocket).isSessionReused()).toBe(false);
    expect(await stat(second, 'ssl_new_sessions')).toBeUndefined();
  });
});

describe('a certificate of a client', () => {
  // Under TLS 1.3 a client is done before the server has looked at what it shows.
  const isServed = async (name: 'client' | 'stranger' | undefined, index = 0): Promise<boolean> => {
    try {
      const client = await open(name === undefined ? {} : credentials(name), index);
      return (await client.ask('mn\r\n')) === 'MN\r\n';
    } catch {
      return false;
    }
  };

  test.each([
    ['require', true, false, false],
    ['request', true, false, true],
    ['none', true, true, true],
  ] as const)('under `%s`', async (verify, client, stranger, bare) => {
    await listen({ verify, ca: CA });
    expect(await isServed('client')).toBe(client);
    expect(await isServed('stranger')).toBe(stranger);
    expect(await isServed(undefined)).toBe(bare);
    await vi.waitUntil(
      () => ended.filter((reason) => reason === 'handshake').length === Number(!stranger) + Number(!bare),
      PATIENCE,
    );
    if (!stranger) expect(warnings[0]).toMatch(/its certificate is not accepted \(.+\)/);
  });

  test('may be asked for by one address and not by another', async () => {
    await listen({ ca: CA }, { host: ['127.0.0.1', 'mtls:127.0.0.1', 'notls:127.0.0.1', 'btls:127.0.0.1'] });
    expect([await isServed(undefined, 0), await isServed(undefined, 1), await isServed(undefined, 3)]).toEqual([
      true,
      false,
      true,
    ]);
    expect(await isServed('client', 1)).toBe(true);
    expect(await (await plain(2)).ask('mn\r\n')).toBe('MN\r\n');
    expect(server.addresses.map((address) => 'tls' in address)).toEqual([true, true, false, true]);
    // A client of TLS at an address without it.
    await expect(open({}, 2)).rejects.toThrow();
    await vi.waitUntil(() => warnings.some((text) => text.includes('speaks TLS, which is not served there')), PATIENCE);
  });
});

describe('the certificates', () => {
  const own = (name: string): string => join(folder, name);
  const use = (name: 'server' | 'other'): void => {
    copyFileSync(certificateFile(`${name}.pem`), own('cert'));
    copyFileSync(certificateFile(`${name}.key`), own('key'));
  };

  test('are read again, by the program and by refresh_certs, and open connections go on', async () => {
    use('server');
    await listen({ cert: own('cert'), key: own('key') });
    const first = await open();
    use('other');
    server.reloadCertificates();
    const second = await open();
    expect(commonNameOf(second)).not.toBe(commonNameOf(first));
    expect(await first.ask('mn\r\n')).toBe('MN\r\n');
    use('server');
    expect(await first.ask('refresh_certs\r\nmn\r\n', 'MN\r\n')).toBe('OK\r\nMN\r\n');
    expect(await first.ask('refresh_certs noreply\r\nmn\r\n', 'MN\r\n')).toBe('MN\r\n');
    expect(commonNameOf(await open())).toBe(commonNameOf(first));
    expect(await stat(second, 'time_since_server_cert_refresh')).toMatch(/^\d+$/);
  });

  test('stay as they were if others cannot be used', async () => {
    use('server');
    await listen({ cert: own('cert'), key: own('key'), ca: CA });
    const first = await open();
    rmSync(own('key'));
    expect(() => server.reloadCertificates()).toThrow(`Cannot read tls.key ${own('key')}: there is no such file`);
    expect(await first.ask('refresh_certs\r\n')).toBe(`Error loading the key: ${own('key')}\r\n`);
    expect(warnings).toEqual([expect.stringContaining('The certificates stay as they were: Cannot read tls.key')]);
    copyFileSync(certificateFile('other.key'), own('key'));
    expect(await first.ask('refresh_certs noreply\r\n')).toBe('Error validating the certificate\r\n');
    writeFileSync(own('cert'), 'nothing');
    expect(await first.ask('refresh_certs\r\n')).toBe(`Error loading the certificate chain: ${own('cert')}\r\n`);
    expect(commonNameOf(await open())).toBe(commonNameOf(first));
  });

  test('of a server without TLS: refresh_certs says so', async () => {
    server = await cache.listen({ port: 0, host: '127.0.0.1' });
    const client = await plain();
    expect(await client.ask('refresh_certs\r\n')).toBe('Error TLS not enabled\r\n');
    expect(() => server.reloadCertificates()).toThrow('Expected a server with the option tls, got one without');
    expect(await stat(client, 'ssl_handshake_errors')).toBeUndefined();
    expect(await stat(client, 'ssl_enabled', 'settings')).toBe('no');
  });

  test('have their words in the settings', async () => {
    await listen({ ca: CA, verify: 'request', sessionCache: true, minVersion: 'TLSv1.3' });
    const text = await (await open()).ask('stats settings\r\n', 'END\r\n');
    const ssl = text.split('\r\n').filter((line) => line.startsWith('STAT ssl_'));
    expect(ssl).toEqual([
      'STAT ssl_enabled yes',
      `STAT ssl_chain_cert ${SERVER_TLS.cert}`,
      `STAT ssl_key ${SERVER_TLS.key}`,
      'STAT ssl_verify_mode 1',
      'STAT ssl_keyformat 1',
      'STAT ssl_ciphers NULL',
      `STAT ssl_ca_cert ${CA}`,
      'STAT ssl_wbuf_size 0',
      'STAT ssl_session_cache yes',
      'STAT ssl_kernel_tls no',
      'STAT ssl_min_version tlsv1.3',
    ]);
  });

  test('may have their key in DER, or in one file with the certificate', async () => {
    await listen({ key: certificateFile('server.der'), keyFormat: 'der' });
    expect(await (await open()).ask('mn\r\n')).toBe('MN\r\n');
    await server.close();
    const { readFileSync } = await import('node:fs');
    writeFileSync(own('both'), Buffer.concat([readFileSync(SERVER_TLS.cert), readFileSync(SERVER_TLS.key)]));
    server = await cache.listen({ port: 0, host: '127.0.0.1', tls: { cert: own('both') } });
    expect(await (await open()).ask('mn\r\n')).toBe('MN\r\n');
  });

  const { cert, key } = SERVER_TLS;
  const text = certificateFile('make.sh');
  test.each<[string, object, string]>([
    ['a missing file', { cert: '/no/such', key }, 'Cannot read tls.cert /no/such: there is no such file'],
    ['a directory', { cert, key: '/' }, 'Cannot read tls.key /: it is a directory'],
    ['no certificate', { cert: text, key }, `Expected tls.cert to be a file with certificates in PEM, got ${text}`],
    ['no key', { cert }, `Expected tls.key to be a file with a private key in PEM, got ${cert}`],
    [
      'no key in DER',
      { cert, key, keyFormat: 'der' },
      `Expected tls.key to be a file with a private key in DER, got ${key}`,
    ],
    [
      'a key of another certificate',
      { cert, key: certificateFile('other.key') },
      `tls.key ${certificateFile('other.key')} is not the key of tls.cert ${cert}`,
    ],
    ['no CA', { cert, key, ca: text }, `Expected tls.ca to be a file with certificates in PEM, got ${text}`],
    [
      'no ciphers',
      { cert, key, ciphers: 'none such' },
      'Expected tls.ciphers to be a list of ciphers, got "none such"',
    ],
    ['no certificate at all', {}, 'Expected tls.cert to be the path of a file, got undefined'],
    [
      'clients to verify without a CA',
      { cert, key, verify: 'require' },
      'Expected tls.ca where clients show certificates: the file of those that may sign them',
    ],
    ['a version that is none', { cert, key, minVersion: 'SSLv3' }, /^Expected tls.minVersion to be/],
  ] as [string, object, string][])('are refused by option and file: %s', async (_, tls, message) => {
    await expect(cache.listen({ port: 0, tls } as never)).rejects.toThrow(message as never);
    await expect(cache.listen({ port: 0, tls } as never)).rejects.toSatisfy(
      (error: { code?: string }) => error.code === 'ERR_INVALID_ARGUMENT',
    );
  });

  test('need node:tls, and words about TLS need certificates', async () => {
    await expect(cache.listen({ port: 0, tls: SERVER_TLS, front: 'native' })).rejects.toThrow(
      "Expected front to be 'node', since",
    );
    await expect(cache.listen({ port: 0, host: 'notls:127.0.0.1' })).rejects.toThrow(
      'Expected tls beside notls:127.0.0.1: without it no address has TLS',
    );
    await expect(cache.listen({ host: 'notls:mtls:127.0.0.1', tls: SERVER_TLS })).rejects.toThrow(
      'one prefix of a kind',
    );
  });
});
