// UDP, beyond what the recorded steps of memcached show: what waits, what is dropped, and where it listens.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { Cache, MemcachedServer, type ServeOptions } from '../../src/index.ts';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { SERVER_TLS } from '../support/certificates.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { MemcachedDatagrams } from '../support/memcached-datagrams.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { PlainStore, plainBackend } from '../support/plain-backend.ts';
import { startServe } from '../support/serve-process.ts';

const PATIENCE = { timeout: 60_000 };
const directories = new DataDirectories('udp');
const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function listen(cache: Cache, options: ServeOptions = {}): Promise<MemcachedServer> {
  cleanUps.push(() => cache.close());
  const server = await cache.listen({ port: 0, host: '127.0.0.1', udpPort: -1, ...options });
  cleanUps.push(() => server.destroy());
  return server;
}

function portOf({ addresses }: MemcachedServer, isUdp = true): number {
  const address = addresses.find((each) => 'port' in each && (each.udp ?? false) === isUdp);
  return address !== undefined && 'port' in address ? address.port : 0;
}

async function clientOf(port: number, host?: string): Promise<MemcachedDatagrams> {
  const client = await MemcachedDatagrams.open(port, host);
  cleanUps.push(() => client.close());
  return client;
}

test.each([...(hasNativeFront() ? ['native' as const] : []), 'node' as const])(
  'it is beside TCP, over the same entries: %s front',
  async (front) => {
    const server = await listen(new Cache({ maxMemory: '16mb' }), { front });
    const client = await clientOf(portOf(server));
    expect(await client.ask('set a 0 0 1\r\n1\r\nincr a 1\r\n')).toBe('STORED\r\n2\r\n');
    const socket = await MemcachedSocket.open(portOf(server, false));
    cleanUps.push(() => socket.destroy());
    expect(await socket.ask('get a\r\n', 'END\r\n')).toBe('VALUE a 0 1\r\n2\r\nEND\r\n');
    const settings = await client.ask('stats settings\r\n');
    expect(settings).toContain(`STAT udpport ${portOf(server)}\r\n`);
    expect(settings).toContain(`STAT tcpport ${portOf(server, false)}\r\n`);
    // Its session has ended with the datagram.
    expect(await client.ask('watch\r\n')).toBe('OK\r\n');
    const left = client.send('quit\r\nget a\r\n');
    expect(await client.ask('mn\r\n')).toBe('MN\r\n');
    expect(client.has(left)).toBe(false);
    await server.close();
    expect(server.addresses.map((address) => 'udp' in address)).toEqual([false, true]);
  },
);

test('a reply of a megabyte comes in datagrams whose numbers say their order', async () => {
  const server = await listen(new Cache({ maxMemory: '16mb' }));
  const value = Array.from({ length: 40_000 }, (_, i) => String(i).padStart(6, '0')).join('');
  const socket = await MemcachedSocket.open(portOf(server, false));
  cleanUps.push(() => socket.destroy());
  expect(await socket.ask(`set a 0 0 ${value.length}\r\n${value}\r\n`, '\r\n')).toBe('STORED\r\n');
  const client = await clientOf(portOf(server));
  // Datagrams get lost where there is no room for them: then it is asked again, as any client does.
  await vi.waitFor(async () => {
    const requestId = client.send('get a\r\n');
    const whole = await Promise.race([
      client.replies(requestId),
      new Promise<string>((resolve) => setTimeout(resolve, 2_000, 'lost')),
    ]);
    expect(whole === `VALUE a 0 ${value.length}\r\n${value}\r\nEND\r\n`).toBe(true);
  }, PATIENCE);
});

test('replies of more than 16 MiB are dropped, and the next request is answered', async () => {
  const server = await listen(new Cache({ maxMemory: '64mb' }), { maxItemSize: '2mb' });
  const socket = await MemcachedSocket.open(portOf(server, false));
  cleanUps.push(() => socket.destroy());
  const value = 'v'.repeat(1_000_000);
  expect(await socket.ask(`set a 0 0 ${value.length}\r\n${value}\r\n`, '\r\n')).toBe('STORED\r\n');
  const client = await clientOf(portOf(server));
  const large = client.send('get a\r\n'.repeat(40));
  expect(await client.ask('mn\r\n')).toBe('MN\r\n');
  const conns = async (): Promise<string> => socket.ask('stats conns\r\n', 'END\r\n');
  await vi.waitUntil(async () => !(await conns()).includes('udp:'), PATIENCE);
  expect(client.has(large)).toBe(false);
  expect(await client.ask('mn\r\n')).toBe('MN\r\n');
});

test('replies wait for the log, and a server that closes waits for them', async () => {
  const cache = await directories.open(directories.fresh(), { sync: 'always' });
  const server = await listen(cache, { ack: 'logged' });
  const client = await clientOf(portOf(server));
  const ids = Array.from({ length: 20 }, (_, i) => client.send(`set k${i} 0 0 1\r\n1\r\n`));
  for (const id of ids) expect(await client.replies(id)).toBe('STORED\r\n');
  const last = client.send('set last 0 0 1\r\n1\r\n');
  await vi.waitUntil(() => cache.get('last') !== undefined, PATIENCE);
  await server.close();
  expect(await client.replies(last)).toBe('STORED\r\n');
});

test('a request whose load never ends is dropped after a time, and at the end of its server', async () => {
  const store = plainBackend(new PlainStore(), Date.now);
  let asked = 0;
  const never = {
    ...store,
    load: (keys: readonly Buffer[]) => {
      asked += keys.length;
      return new Promise<never>(() => {});
    },
  };
  const cache = await Cache.open({ store: never, mode: 'read-through' });
  const server = await listen(cache, { stallTimeout: 200 });
  const client = await clientOf(portOf(server));
  const socket = await MemcachedSocket.open(portOf(server, false));
  cleanUps.push(() => socket.destroy());
  const given = client.send('get a\r\n');
  await vi.waitUntil(() => asked === 1, PATIENCE);
  await vi.waitUntil(async () => !(await socket.ask('stats conns\r\n', 'END\r\n')).includes('udp:'), PATIENCE);
  expect(client.has(given)).toBe(false);
  expect(await client.ask('mn\r\n')).toBe('MN\r\n');
  client.send('get b\r\n');
  await vi.waitUntil(() => asked === 2, PATIENCE);
  await server.close({ timeout: 50 });
});

test('it listens where TCP does, at loopback beside a unix socket, and nowhere beside TLS', async () => {
  const cache = new Cache({ maxMemory: '16mb' });
  const server = await listen(cache, { host: ['127.0.0.1', '127.0.0.1:0'] });
  expect(server.addresses.filter((address) => 'udp' in address)).toHaveLength(1);
  if (process.platform !== 'win32') {
    const path = join(directories.fresh(), 'socket');
    mkdirSync(join(path, '..'));
    const local = await cache.listen({ path, udpPort: -1 });
    cleanUps.push(() => local.destroy());
    const hosts = local.addresses.map((address) => ('udp' in address ? address.host : ''));
    expect(hosts).toContain('127.0.0.1');
    expect(existsSync(path)).toBe(true);
    if (hosts.includes('::1')) expect(await (await clientOf(portOf(local), '::1')).ask('mn\r\n')).toBe('MN\r\n');
  }
  await expect(cache.listen({ port: 0, udpPort: -1, tls: SERVER_TLS })).rejects.toEqual(
    withCode('ERR_INVALID_ARGUMENT', /Expected no udpPort beside tls/),
  );
  await expect(cache.listen({ port: 0, udpPort: 65_536 })).rejects.toEqual(withCode('ERR_INVALID_ARGUMENT'));
});

test('a port that is taken is told, beforehand too, and what has listened is closed', async () => {
  const other = createSocket('udp4').bind(0, '127.0.0.1');
  await once(other, 'listening');
  cleanUps.push(() => other.close());
  const { port } = other.address();
  const cache = new Cache({ maxMemory: '16mb' });
  cleanUps.push(() => cache.close());
  const options = { port: 0, host: '127.0.0.1', udpPort: port };
  const refused = withCode('ERR_LISTEN', /^Cannot listen on 127\.0\.0\.1:\d+: it is in use/);
  await expect(MemcachedServer.probe(options)).rejects.toEqual(refused);
  await expect(cache.listen(options)).rejects.toEqual(refused);
});

test('cairn serve says where, also in the file of ports', async () => {
  const file = join(directories.fresh(), 'ports');
  mkdirSync(join(file, '..'));
  const server = await startServe(['-U', '-1'], { MEMCACHED_PORT_FILENAME: file });
  cleanUps.push(() => server.stop());
  const [, port] = /and 127\.0\.0\.1:(\d+) \(UDP\)/.exec(server.stdout) ?? [];
  expect(await (await clientOf(Number(port))).ask('mn\r\n')).toBe('MN\r\n');
  await vi.waitUntil(() => existsSync(file), PATIENCE);
  expect(readFileSync(file, 'latin1')).toBe(`TCP INET: ${server.port}\nUDP INET: ${port}\n`);
});
