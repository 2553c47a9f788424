// Debian's memcached, for tests that hold ours against it.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { foreignEnvironment } from './foreign-environment.ts';
import { MemcachedSocket } from './memcached-socket.ts';
import { skipUnless } from './skip.ts';

const [, version] =
  /^memcached (\S+)/.exec(spawnSync('memcached', ['--version'], { encoding: 'utf8' }).stdout ?? '') ?? [];
const MISSING = 'memcached is missing (apt-get install memcached)';

/** `test`, where a memcached is installed. */
export const withMemcached = skipUnless(version !== undefined, MISSING);

/** `test`, where it is the version of which the recordings say what it answers otherwise. */
export const withMemcached1618 = skipUnless(
  version === '1.6.18',
  version === undefined ? MISSING : `memcached is ${version}, not 1.6.18`,
  version === undefined ? 'service' : 'platform',
);

/** `test`, where it is that version, and the library of SASL can have passwords. */
export const withMemcachedOfSasl = skipUnless(
  version === '1.6.18' && spawnSync('saslpasswd2', ['-v']).error === undefined,
  version === '1.6.18' ? 'saslpasswd2 is missing (apt-get install sasl2-bin libsasl2-modules)' : MISSING,
);

/** Runs `body` with the port of a memcached, which then ends. */
export async function whileMemcachedRuns(
  body: (port: number) => Promise<void>,
  flags: readonly string[] = [],
  more: NodeJS.ProcessEnv = {},
): Promise<void> {
  const port = await freePort();
  const child = spawn('memcached', ['-u', 'nobody', '-l', '127.0.0.1', '-p', String(port), ...flags], {
    stdio: 'ignore',
    env: { ...foreignEnvironment(), ...more },
  });
  const ended = once(child, 'exit');
  try {
    let client: MemcachedSocket | undefined;
    while (client === undefined && child.exitCode === null) {
      client = await MemcachedSocket.open(port).catch(() => undefined);
      if (client === undefined) await setTimeout(20);
    }
    if (client === undefined) throw new Error(`Expected memcached to listen, got exit code ${child.exitCode}`);
    client.destroy();
    await body(port);
  } finally {
    child.kill();
    await ended;
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
