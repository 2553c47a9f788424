// A MariaDB server for the bench: a new data directory with the server's own defaults, behind a unix socket.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { userInfo } from 'node:os';
import { delimiter, join } from 'node:path';
import { createConnection } from 'mariadb';

/** Debian keeps the server out of the path of users. */
function program(name) {
  const folders = [...process.env.PATH.split(delimiter), '/usr/sbin', '/usr/local/sbin'];
  const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (found === undefined) throw new Error('MariaDB is missing (apt-get install mariadb-server)');
  return found;
}

export async function startMariadb(folder) {
  const [server, install] = [program('mariadbd'), program('mariadb-install-db')];
  mkdirSync(folder, { recursive: true });
  const socketPath = join(folder, 'socket');
  const options = ['--no-defaults', `--user=${userInfo().username}`, `--datadir=${join(folder, 'data')}`];
  execFileSync(install, [...options, '--auth-root-authentication-method=normal', '--skip-test-db'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const more = [`--socket=${socketPath}`, '--skip-networking', `--pid-file=${join(folder, 'pid')}`];
  // `cat` ends when this process does, which may be by kill -9.
  const script = '"$@" & child=$!; cat; kill -KILL $child; wait $child';
  const child = spawn('sh', ['-c', script, 'sh', server, ...options, ...more], { stdio: ['pipe', 'ignore', 'ignore'] });
  let connection;
  while (connection === undefined) {
    if (child.exitCode !== null) throw new Error('MariaDB did not start');
    await new Promise((resolve) => setTimeout(resolve, 50));
    connection = await createConnection({ socketPath, user: 'root' }).catch(() => undefined);
  }
  await connection.query('CREATE DATABASE bench');
  await connection.query('USE bench');
  return {
    connection,
    target: { socketPath, user: 'root', database: 'bench' },
    async stop() {
      await connection.end();
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin.end();
      await ended;
    },
  };
}
