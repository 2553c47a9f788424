// A PostgreSQL server for the bench: a new cluster with its own defaults, fsync included, behind a unix socket.

import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import pg from 'pg';

/** Debian keeps initdb and postgres out of the path. */
function programs() {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [...versions.map((version) => join(debian, version, 'bin')), ...process.env.PATH.split(delimiter)];
  const found = folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')));
  if (found === undefined) throw new Error('PostgreSQL is missing (apt-get install postgresql)');
  return found;
}

export async function startPostgres(folder) {
  const bin = programs();
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  let owner = {};
  if (process.getuid?.() === 0) {
    // It refuses to run as root.
    const id = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
    owner = { uid: id('-u'), gid: id('-g') };
    for (const path of [folder, join(folder, '..')]) chownSync(path, owner.uid, owner.gid);
  }
  const data = join(folder, 'data');
  const options = ['-D', data, '-U', 'bench', '-A', 'trust', '-E', 'UTF8', '--locale=C'];
  execFileSync(join(bin, 'initdb'), options, { ...owner, cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  const settings = [
    '-c',
    'listen_addresses=',
    '-c',
    `unix_socket_directories=${folder}`,
    '-c',
    'log_min_messages=fatal',
  ];
  // `cat` ends when this process does, which may be by kill -9.
  const script = '"$@" & child=$!; cat; kill -INT $child; wait $child';
  const child = spawn('sh', ['-c', script, 'sh', join(bin, 'postgres'), '-D', data, ...settings], {
    ...owner,
    cwd: folder,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const url = `postgresql://bench@${encodeURIComponent(folder)}/postgres`;
  for (let isUp = false; !isUp; ) {
    if (child.exitCode !== null) throw new Error('PostgreSQL did not start');
    await new Promise((resolve) => setTimeout(resolve, 20));
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    isUp = await client.connect().then(
      () => true,
      () => false,
    );
    if (isUp) await client.end();
  }
  return {
    url,
    async stop() {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin.end();
      await ended;
    },
  };
}
