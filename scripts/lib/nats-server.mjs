// The program nats-server, which tests and benches of a cluster run: an installed one, or one built by Go from the
// module proxy, once per user. It is kept outside of the tree, so that every clone finds it.

import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join, relative } from 'node:path';
import { unlessDone } from './inputs.mjs';
import { BuildError, findProgram, root } from './project.mjs';

/** The version that is built. */
export const NATS_SERVER_VERSION = '2.15.2';
const LEAST = '2.15';
/** What that version needs, and the one that an older Go fetches for it. */
const GO_LEAST = '1.26';
const GO_VERSION = '1.26.10';
const WANTED = `nats-server ${LEAST} or newer`;

const program = process.platform === 'win32' ? 'nats-server.exe' : 'nats-server';

/** Whether the first two numbers of a version are at least those of another. */
function isAtLeast(version, least) {
  const [[major, minor], [leastMajor, leastMinor]] = [version, least].map((text) => text.split('.').map(Number));
  return major > leastMajor || (major === leastMajor && minor >= leastMinor);
}

/** What `file` says of itself, such as 2.15.2; undefined: it is not a nats-server that runs. */
export function natsServerVersion(file) {
  const { stdout } = spawnSync(file, ['--version'], { encoding: 'utf8' });
  return /^nats-server: v(\d+\.\d+\.\d+)/.exec(stdout ?? '')?.[1];
}

/** The nats-servers of the PATH. */
export function installedNatsServers(env = process.env) {
  const folders = [...new Set((env.PATH ?? '').split(delimiter))];
  const files = folders.map((folder) => findProgram(program, folder)).filter((file) => file !== undefined);
  return files
    .map((file) => ({ file, version: natsServerVersion(file) }))
    .filter(({ version }) => version !== undefined);
}

function cacheFolder(env) {
  if (env.XDG_CACHE_HOME) return env.XDG_CACHE_HOME;
  if (process.platform === 'darwin') return join(homedir(), 'Library/Caches');
  return process.platform === 'win32' && env.LOCALAPPDATA ? env.LOCALAPPDATA : join(homedir(), '.cache');
}

/**
 * The path of a nats-server that a cluster can stand on: `given` (the variable CAIRN_NATS_SERVER), one of the PATH, the
 * one that was built before, or one that is built now, which takes minutes. Throws a BuildError that says why there is
 * none.
 */
export function findNatsServer({ env = process.env, given = env.CAIRN_NATS_SERVER } = {}) {
  if (given) {
    const version = natsServerVersion(given);
    if (version !== undefined && isAtLeast(version, LEAST)) return given;
    const got = version === undefined ? 'is no nats-server that runs here' : `is nats-server ${version}`;
    throw new BuildError(`Expected ${given} to be ${WANTED}, but it ${got}`);
  }
  const installed = installedNatsServers(env).find(({ version }) => isAtLeast(version, LEAST));
  if (installed !== undefined) return installed.file;
  const folder = join(cacheFolder(env), 'cairn-cache', `nats-server-${NATS_SERVER_VERSION}`);
  const file = join(folder, program);
  const outputs = [relative(root, file)];
  unlessDone({ stamp: relative(root, join(folder, 'built')), inputs: [], outputs }, () => build(folder, file, env));
  return file;
}

function build(folder, file, env) {
  const installed = findProgram('go', env.PATH);
  const version = installed && /^go version go(\d+\.\d+)/.exec(goOutput(installed, ['version'], env))?.[1];
  if (!version) {
    throw new BuildError(`${WANTED} is missing, and so is Go, which would build it (apt-get install golang-go)`);
  }
  console.error(`> Building nats-server ${NATS_SERVER_VERSION} with Go, for ${folder}`);
  mkdirSync(folder, { recursive: true });
  const place = mkdtempSync(join(folder, 'build-'));
  try {
    const isNew = isAtLeast(version, GO_LEAST);
    const go = isNew ? installed : fetchGo(installed, place, env);
    // A Go that was fetched must not look for another one.
    const own = isNew ? {} : { GOTOOLCHAIN: 'local', GOROOT: '' };
    goOutput(go, ['install', '-p', '2', `github.com/nats-io/nats-server/v2@v${NATS_SERVER_VERSION}`], {
      ...env,
      ...own,
      GOBIN: place,
      CGO_ENABLED: '0',
    });
    renameSync(join(place, program), file);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/**
 * A newer Go, as a module from the proxy: Debian 12 has Go 1.19, which can fetch it though it cannot yet use it. Go
 * checks it as any other module. The files of a module are not executable.
 */
function fetchGo(go, place, env) {
  const { GOOS, GOARCH } = JSON.parse(goOutput(go, ['env', '-json', 'GOOS', 'GOARCH'], env));
  const module = `golang.org/toolchain@v0.0.1-go${GO_VERSION}.${GOOS}-${GOARCH}`;
  const own = { ...env, GOMODCACHE: join(place, 'modules'), GOFLAGS: '-modcacherw', GOTOOLCHAIN: 'local' };
  const { Dir: folder } = JSON.parse(goOutput(go, ['mod', 'download', '-json', module], own));
  const tools = join(folder, 'pkg/tool', `${GOOS}_${GOARCH}`);
  for (const programs of [join(folder, 'bin'), tools].filter(existsSync)) {
    for (const name of readdirSync(programs)) chmodSync(join(programs, name), 0o755);
  }
  return join(folder, 'bin', process.platform === 'win32' ? 'go.exe' : 'go');
}

function goOutput(go, args, env) {
  const { status, stdout, stderr, error } = spawnSync(go, args, { encoding: 'utf8', env, cwd: root });
  if (status === 0) return stdout;
  // What a failed download says is in its JSON.
  const lines = `${stdout ?? ''}\n${stderr ?? ''}`.trim().split('\n');
  const said = /"Error": (".*")/.exec(stdout ?? '')?.[1] ?? lines.at(-1);
  throw new BuildError(`${WANTED} is missing, and building it failed: go ${args.join(' ')}: ${error?.message ?? said}`);
}
