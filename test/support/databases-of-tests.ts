// Databases that are there while the tests of a file, or of a `describe`, run. Call each function where those tests are
// declared.

import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { CuttingProxy, type Wire } from './cutting-proxy.ts';
import { LmdbDirectory } from './lmdb.ts';
import { MariadbServer } from './mariadb.ts';
import { PostgresServer } from './postgres.ts';

/** An empty one for each test. */
export function lmdbOfTests(): LmdbDirectory {
  const directory = new LmdbDirectory();
  beforeEach(() => void directory.make());
  afterEach(() => directory.remove());
  return directory;
}

/** One for all tests. */
export function postgresOfTests(): PostgresServer {
  return whileTestsRun(new PostgresServer());
}

/** One for all tests. */
export function mariadbOfTests(): MariadbServer {
  return whileTestsRun(new MariadbServer());
}

function whileTestsRun<T extends { begin(): Promise<void>; stop(): Promise<void> }>(server: T): T {
  beforeAll(() => server.begin());
  afterAll(() => server.stop());
  return server;
}

/** One before a server of tests. */
export function proxyOfTests(server: { readonly socket: string }, wire: Wire): CuttingProxy {
  const proxy = new CuttingProxy(wire);
  beforeAll(() => proxy.begin(server.socket));
  afterAll(() => proxy.stop());
  return proxy;
}
