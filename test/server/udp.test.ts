// UDP, beyond what the recorded steps of memcached show: what waits, what is dropped, and where it listens.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
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

test('a datagram that cannot be read is dropped, and so is each of several', async () => {
  const client = await clientOf(portOf(await listen(new Cache({ maxMemory: '16mb' }))));
  const whole = Buffer.from('\x01\x01\0\0\0\x01\0\0mn\r\n', 'latin1');
  for (let bytes = 0; bytes < whole.length; bytes++) client.sendRaw(whole.subarray(0, bytes));
  client.sendRaw(Buffer.from('\x01\x01\0\0\0\x02\0\0mn\r\n', 'latin1'));
  client.sendRaw(Buffer.from('\x01\x01\0\x01\0\x02\0\0mn\r\n', 'latin1'));
  expect(await client.ask('mn\r\n')).toBe('MN\r\n');
  expect(client.has(0x101)).toBe(false);
  client.sendRaw(whole);
  expect(await client.replies(0x101)).toBe('MN\r\n');
});

test('an address has its own protocol, and a cache its own clock', async () => {
  let now = 1_000_000;
  const cache = new Cache({ maxMemory: '16mb', clock: () => now });
  const server = await listen(cache, { host: 'proto[binary]:127.0.0.1' });
  const binary = await clientOf(portOf(server));
  const text = binary.send('mn\r\n');
  const noop = Buffer.from(`800a${'00'.repeat(22)}`, 'hex');
  expect(await binary.ask(noop)).toBe(`\x81\x0a${'\0'.repeat(22)}`);
  expect(binary.has(text)).toBe(false);
  const other = await cache.listen({ port: 0, host: '127.0.0.1', udpPort: -1 });
  cleanUps.push(() => other.destroy());
  const client = await clientOf(portOf(other));
  expect(await client.ask('set a 0 10 1\r\n1\r\n')).toBe('STORED\r\n');
  expect(await client.ask('get a\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n');
  now += 10_000;
  expect(await client.ask('get a\r\n')).toBe('END\r\n');
});

test('no more than 1,024 datagrams wait at a time', async () => {
  const store = plainBackend(new PlainStore(), Date.now);
  const never = { ...store, load: () => new Promise<never>(() => {}) };
  const cache = await Cache.open({ store: never, mode: 'read-through' });
  const server = await listen(cache);
  const socket = await MemcachedSocket.open(portOf(server, false));
  cleanUps.push(() => socket.destroy());
  const client = await clientOf(portOf(server));
  const waiting = async (): Promise<number> =>
    Number(/curr_connections (\d+)/.exec(await socket.ask('stats\r\n', 'END\r\n'))![1]) - 1;
  await vi.waitUntil(async () => {
    for (let i = 0; i < 50; i++) client.send('get a\r\n');
    return (await waiting()) >= 1024;
  }, PATIENCE);
  const unanswered = client.send('mn\r\n');
  for (let i = 0; i < 50; i++) client.send('get a\r\n');
  expect(await waiting()).toBe(1024);
  await server.close({ timeout: 50 });
  expect(client.has(unanswered)).toBe(false);
});

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
    const whole = await Promise.race([client.replies(requestId), setTimeout(2_000, 'lost')]);
    expect(whole === `VALUE a 0 ${value.length}\r\n${value}\r\nEND\r\n`).toBe(true);
  }, PATIENCE);
  // What has left does not count as unsent.
  for (let i = 0; i < 100; i++) {
    client.send('get a\r\n');
    await setTimeout(1);
  }
  await vi.waitUntil(async () => {
    const requestId = client.send('get a\r\n');
    await setTimeout(20);
    return client.has(requestId);
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

test('replies wait for the log', async () => {
  const cache = await directories.open(directories.fresh(), { sync: 'always' });
  const client = await clientOf(portOf(await listen(cache, { ack: 'logged' })));
  const ids = Array.from({ length: 20 }, (_, i) => client.send(`set k${i} 0 0 1\r\n1\r\n`));
  for (const id of ids) expect(await client.replies(id)).toBe('STORED\r\n');
});

test('a server that closes waits for its replies, takes no more requests, and frees its port', async () => {
  const store = plainBackend(new PlainStore(), Date.now);
  let asked = 0;
  const loads: (() => void)[] = [];
  const slow = {
    ...store,
    load: async (keys: readonly Buffer[]) => {
      asked++;
      await new Promise<void>((resolve) => loads.push(resolve));
      return store.load(keys);
    },
  };
  const server = await listen(await Cache.open({ store: slow, mode: 'read-through' }));
  const client = await clientOf(portOf(server));
  const last = client.send('get a\r\n');
  await vi.waitUntil(() => asked === 1, PATIENCE);
  const closed = server.close();
  const late = client.send('mn\r\n');
  await setTimeout(100);
  for (const load of loads) load();
  await closed;
  expect(await client.replies(last)).toBe('END\r\n');
  expect(client.has(late)).toBe(false);
  const next = createSocket('udp4').bind(portOf(server), '127.0.0.1');
  cleanUps.push(() => next.close());
  await once(next, 'listening');
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
