// Private servers of PostgreSQL and MariaDB, for tests and benches: where their programs are, a new data directory, and
// a process that listens on a unix socket only and ends with the process that started it, however that ends.

import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { delimiter, dirname, join } from 'node:path';

const path = (process.env['PATH'] ?? '').split(delimiter);

/** The folder of initdb and postgres; Debian keeps them out of the path. */
function findPostgres() {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [...versions.map((version) => join(debian, version, 'bin')), ...path];
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')));
}

/** Debian keeps the server out of the path of users. */
function findMariadb() {
  const folders = [...path, '/usr/sbin', '/usr/local/sbin'];
  const find = (name) => folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
  const [server, install] = [find('mariadbd'), find('mariadb-install-db')];
  return server === undefined || install === undefined ? undefined : { server, install };
}

export const postgresPrograms = findPostgres();
export const POSTGRES_MISSING = 'PostgreSQL is missing (apt-get install postgresql)';
export const mariadbPrograms = findMariadb();
export const MARIADB_MISSING = 'MariaDB is missing (apt-get install mariadb-server)';

/** Starts a server. `cat` ends when this process does, which may be by kill -9; the server gets the signal then. */
class ServerProcess {
  #child;

  constructor(signal, command, options) {
    const script = `"$@" & child=$!; cat; kill -${signal} $child; wait $child`;
    this.#child = spawn('sh', ['-c', script, 'sh', ...command], { ...options, stdio: ['pipe', 'ignore', 'ignore'] });
  }

  /** Asks the server until it answers. */
  async isUp(ask) {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (this.#child.exitCode !== null) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async end() {
    const child = this.#child;
    if (child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.stdin.end();
    await ended;
  }
}

/** PostgreSQL refuses to run as root. */
function postgresOwner() {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

/** A cluster in a folder, which is made if it is missing. */
export class PostgresCluster {
  folder;
  user;
  #owner = postgresOwner();

  constructor(folder, user) {
    this.folder = folder;
    this.user = user;
  }

  get #data() {
    return join(this.folder, 'data');
  }

  /** The file that clients connect to. */
  get socket() {
    return join(this.folder, '.s.PGSQL.5432');
  }

  /** Without a password, clients need none. `options`: of initdb. */
  make({ password, options = [] } = {}) {
    if (postgresPrograms === undefined) throw new RangeError(POSTGRES_MISSING);
    mkdirSync(this.folder, { recursive: true });
    // The owner of the cluster has to reach it.
    const parent = dirname(this.folder);
    if (this.#owner !== undefined) chmodSync(parent, (statSync(parent).mode & 0o7777) | 0o011);
    this.#give(this.folder);
    const access = ['-A', 'trust'];
    if (password !== undefined) {
      const file = join(this.folder, 'password');
      writeFileSync(file, password);
      this.#give(file);
      access.splice(0, 2, '-A', 'scram-sha-256', '--pwfile', file);
    }
    const all = ['-D', this.#data, '-U', this.user, ...access, '-E', 'UTF8', '--locale=C', ...options];
    execFileSync(join(postgresPrograms, 'initdb'), all, {
      ...this.#owner,
      cwd: this.folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }

  /** Becomes a standby of a running cluster: `socketFolder` is where that listens. */
  async copy({ socketFolder, password }) {
    if (postgresPrograms === undefined) throw new RangeError(POSTGRES_MISSING);
    mkdirSync(this.folder, { recursive: true });
    this.#give(this.folder);
    const args = ['-D', this.#data, '-h', socketFolder, '-U', this.user, '-R', '-c', 'fast', '--no-sync'];
    const child = spawn(join(postgresPrograms, 'pg_basebackup'), args, {
      ...this.#owner,
      cwd: this.folder,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, PGPASSWORD: password },
    });
    const code = await new Promise((resolve) => child.once('exit', resolve));
    if (code !== 0) throw new Error(`pg_basebackup ended with ${code}`);
  }

  #give(file) {
    if (this.#owner !== undefined) chownSync(file, this.#owner.uid, this.#owner.gid);
  }

  /** Starts it, or starts it again with all that it has. `signal`: how it ends. */
  run(signal, settings = {}) {
    const own = { listen_addresses: '', unix_socket_directories: this.folder, log_min_messages: 'fatal' };
    const given = Object.entries({ ...own, ...settings }).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const command = [join(postgresPrograms, 'postgres'), '-D', this.#data, ...given];
    return new ServerProcess(signal, command, { ...this.#owner, cwd: this.folder });
  }
}

/** The data directory of a MariaDB in a folder, which is made if it is missing. Root needs no password. */
export class MariadbData {
  folder;

  constructor(folder) {
    this.folder = folder;
  }

  /** The file that clients connect to. */
  get socket() {
    return join(this.folder, 'socket');
  }

  get #options() {
    return ['--no-defaults', `--user=${userInfo().username}`, `--datadir=${join(this.folder, 'data')}`];
  }

  make() {
    if (mariadbPrograms === undefined) throw new RangeError(MARIADB_MISSING);
    mkdirSync(this.folder, { recursive: true });
    const options = [...this.#options, '--auth-root-authentication-method=normal', '--skip-test-db'];
    execFileSync(mariadbPrograms.install, options, { stdio: ['ignore', 'ignore', 'inherit'] });
  }

  /** Starts it. It ends by SIGKILL. */
  run(options = []) {
    const files = [`--socket=${this.socket}`, `--pid-file=${join(this.folder, 'pid')}`];
    // A server that starts removes the temporary tables that it finds, also those of another server in the same folder.
    const own = [...files, '--skip-networking', `--tmpdir=${this.folder}`];
    return new ServerProcess('KILL', [mariadbPrograms.server, ...this.#options, ...own, ...options], {});
  }
}
