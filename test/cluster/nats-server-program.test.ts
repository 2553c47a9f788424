// Where the nats-server of tests and benches comes from. A Go of the test's own stands for the real one.

import { execFile, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { findProgram, root } from '../../scripts/lib/project.mjs';
import { skipUnless } from '../support/skip.ts';

const withShell = skipUnless(process.platform !== 'win32', 'its programs are shell scripts', 'platform');

/** What the scripts of the tests call. This machine's own Go and nats-server must not be found. */
const TOOLS = ['chmod', 'cp', 'mkdir', 'sleep'];

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cairn-program-'));
  mkdirSync(join(folder, 'bin'));
  for (const name of TOOLS) symlinkSync(findProgram(name)!, join(folder, 'bin', name));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const script = join(root, 'scripts/nats-server.mjs');
const built = (): string => join(folder, 'cache/cairn-cache/nats-server-2.15.2/nats-server');
const env = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => {
  const own = { PATH: join(folder, 'bin'), XDG_CACHE_HOME: join(folder, 'cache'), FOLDER: folder };
  return { ...own, ...more };
};

function find(more?: NodeJS.ProcessEnv): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [script], { encoding: 'utf8', env: env(more) });
}

function program(name: string, body: string, place = join(folder, 'bin')): string {
  const file = join(place, name);
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, 0o755);
  return file;
}

const server = (name: string, version: string, place?: string): string =>
  program(name, `echo "nats-server: v${version}"`, place);

/** A Go that writes a server, and a line for each time. */
const go = (version: string, before = ''): string =>
  program(
    'go',
    `case "$1" in
version) echo "go version go${version} linux/amd64" ;;
env) echo '{"GOOS": "linux", "GOARCH": "amd64"}' ;;
mod) mkdir -p "$FOLDER/module/bin" && cp "$0" "$FOLDER/module/bin/go" && chmod 644 "$FOLDER/module/bin/go" &&
  echo "fetched $4" >> "$FOLDER/log" && echo "{\\"Dir\\": \\"$FOLDER/module\\"}" ;;
install) echo "$0 $*" >> "$FOLDER/log"
  ${before}
  printf '#!/bin/sh\\necho "nats-server: v2.15.2"\\n' > "$GOBIN/nats-server" && chmod 755 "$GOBIN/nats-server" ;;
esac`,
  );

const log = (): string[] => readFileSync(join(folder, 'log'), 'utf8').trim().split('\n');

withShell('the one that the variable names is taken, if its version is new enough', () => {
  server('nats-server', '2.15.9');
  const named = server('mine', '2.16.0', folder);
  expect(find({ CAIRN_NATS_SERVER: named }).stdout).toBe(`${named}\n`);
  const old = server('old', '2.14.9', folder);
  expect(find({ CAIRN_NATS_SERVER: old })).toMatchObject({
    status: 1,
    stderr: `Expected ${old} to be nats-server 2.15 or newer, but it is nats-server 2.14.9\n`,
  });
  expect(find({ CAIRN_NATS_SERVER: '/nowhere' }).stderr).toContain('is no nats-server that runs here');
});

withShell('one of the PATH is taken, if it is new enough, and otherwise one is built', () => {
  const file = server('nats-server', '3.0.0');
  expect(find().stdout).toBe(`${file}\n`);
  server('nats-server', '2.9.10');
  go('1.26.8');
  expect(find().stdout).toBe(`${built()}\n`);
  expect(log()).toEqual([`${join(folder, 'bin/go')} install -p 2 github.com/nats-io/nats-server/v2@v2.15.2`]);
});

withShell('it is built once, also by two processes that need it at the same time', async () => {
  // Neither build ends before both processes have begun.
  go('1.27.0', 'while [ ! -e "$FOLDER/proceed" ]; do sleep 0.02; done');
  const both = [1, 2].map(() => promisify(execFile)(process.execPath, [script], { env: env() }));
  await vi.waitUntil(() => existsSync(join(folder, 'log')), { timeout: 60_000 });
  const third = promisify(execFile)(process.execPath, [script], { env: env() });
  writeFileSync(join(folder, 'proceed'), '');
  const answers = await Promise.all([...both, third]);
  expect(answers.map(({ stdout }) => stdout)).toEqual(Array(3).fill(`${built()}\n`));
  expect(log()).toHaveLength(1);
  expect(find().stderr).toBe('');
});

withShell('an old Go fetches a newer one as a module, and builds with that', () => {
  go('1.19.8');
  expect(find().stdout).toBe(`${built()}\n`);
  expect(log()).toEqual([
    'fetched golang.org/toolchain@v0.0.1-go1.26.10.linux-amd64',
    `${join(folder, 'module/bin/go')} install -p 2 github.com/nats-io/nats-server/v2@v2.15.2`,
  ]);
});

withShell('without it and without Go, and when the build fails, the reason is said', () => {
  expect(find()).toMatchObject({
    status: 1,
    stderr: 'nats-server 2.15 or newer is missing, and so is Go, which would build it (apt-get install golang-go)\n',
  });
  go('1.26.0', 'echo "go: dial tcp: no route to host" >&2; exit 1');
  const { status, stderr } = find();
  expect(status).toBe(1);
  expect(stderr).toMatch(/building it failed: go install .*: go: dial tcp: no route to host\n$/);
  // A failure is not remembered.
  go('1.26.0');
  expect(find().stdout).toBe(`${built()}\n`);
});
