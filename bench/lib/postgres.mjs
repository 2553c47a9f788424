// A private PostgreSQL for a benchmark: a new cluster in a folder, with its own defaults for durability, which listens
// on a unix socket only and ends with the benchmark.

import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const USER = 'cairn';

/** The folder of initdb and postgres; Debian keeps them out of the path. */
function findPrograms() {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...versions.map((version) => join(debian, version, 'bin')),
    ...(process.env.PATH ?? '').split(delimiter),
  ];
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')));
}

// PostgreSQL refuses to run as root.
function owner() {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

/** Resolves to `{ url, pid, stop() }`. `folder` must not exist yet. Throws RangeError where there is no PostgreSQL. */
export async function startPostgres(folder) {
  const programs = findPrograms();
  if (programs === undefined) throw new RangeError('PostgreSQL is not installed (apt-get install postgresql)');
  const user = owner();
  mkdirSync(folder, { recursive: true });
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  const data = join(folder, 'data');
  execFileSync(join(programs, 'initdb'), ['-D', data, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--locale=C'], {
    ...user,
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const settings = ['-c', 'listen_addresses=', '-c', `unix_socket_directories=${folder}`];
  const child = spawn(join(programs, 'postgres'), ['-D', data, ...settings], {
    ...user,
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await new Promise((resolve, reject) => {
    child.stderr.on('data', (text) => {
      if (String(text).includes('ready to accept connections')) resolve();
    });
    child.once('close', (code) => reject(new Error(`postgres has ended with code ${code}`)));
  });
  return {
    url: `postgresql://${USER}@${encodeURIComponent(folder)}/postgres`,
    pid: child.pid,
    async stop() {
      const gone = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGINT');
      await gone;
    },
  };
}
