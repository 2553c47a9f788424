// The steps before the real work: packages, addon, native tests, TypeScript. Each is skipped when nothing it depends on
// has changed, so that the second `npm start` or `npm test` begins at once.

import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildAddon,
  buildEnvironment,
  checkCompiler,
  dropForeignBuild,
  isMusl,
  nativeRoot,
} from '../../native/build.mjs';
import { unlessDone } from './inputs.mjs';
import { bin, checkNode, findProgram, npm, root, run } from './project.mjs';

const say = (line) => console.error(`> ${line}`);
const machine = [process.platform, process.arch, isMusl() ? 'musl' : '', process.env.CXX ?? ''];

/** Whether node_modules has the packages of package-lock.json. */
function packagesInstalled() {
  const mark = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(mark)) return false;
  const installed = JSON.parse(readFileSync(mark, 'utf8')).packages;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    const found = installed[path];
    // An optional package may be for another platform; one that is there must still be of the right version.
    return found === undefined ? Boolean(entry.optional || entry.peer) : found.version === entry.version;
  });
}

/** Installs the packages of package-lock.json, after a look for the compiler that will be needed next. */
export function ensurePackages() {
  checkNode();
  if (packagesInstalled()) return;
  checkCompiler();
  say('Installing packages');
  npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root, quiet: true });
}

/** native/build/Release/cairn.node, for the Node and the machine at hand. */
export function ensureAddon() {
  const job = {
    stamp: 'native/build/.inputs',
    inputs: ['native'],
    facts: machine,
    outputs: ['native/build/Release/cairn.node'],
  };
  unlessDone(job, () => {
    checkCompiler();
    say('Building the native addon (once; later runs build what changed)');
    buildAddon({ log: say });
  });
}

/**
 * Configures native/`folder` with `options` of CMake's, builds `targets` there (default: the core with all its test
 * programs) and returns that folder.
 */
export function buildNativeTests(folder, options = [], targets = []) {
  const out = join(nativeRoot, folder);
  const env = buildEnvironment(say);
  dropForeignBuild(out);
  const generator = existsSync(join(out, 'CMakeCache.txt')) || !findProgram('ninja', env.PATH) ? [] : ['-G', 'Ninja'];
  run('cmake', ['-S', nativeRoot, '-B', out, ...generator, '-DCAIRN_TESTS_ONLY=ON', ...options], { env, quiet: true });
  run('cmake', ['--build', out, ...targets.flatMap((target) => ['--target', target])], {
    env,
    quiet: true,
    progress: true,
  });
  return out;
}

/** native/build-test/native_tests; returns its path, or undefined on Windows, where only the addon is built. */
export function ensureNativeTests() {
  if (process.platform === 'win32') return undefined;
  const program = 'native/build-test/native_tests';
  const job = {
    stamp: 'native/build-test/.inputs',
    inputs: ['native', 'test/native'],
    facts: machine,
    outputs: [program],
  };
  unlessDone(job, () => {
    checkCompiler();
    say('Building the native tests');
    buildNativeTests('build-test', [], ['native_tests']);
  });
  return join(root, program);
}

/** dist/, without files whose source is gone. */
export function ensureTypeScript() {
  const inputs = ['src', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'];
  unlessDone({ stamp: 'dist/.inputs', inputs, outputs: ['dist'] }, () => {
    say('Compiling TypeScript');
    bin('typescript', 'bin/tsc', ['-p', 'tsconfig.build.json']);
    removeOrphans('');
  });
}

// dist/ is not emptied before compiling: something may be running from it.
function removeOrphans(folder) {
  for (const entry of readdirSync(join(root, 'dist', folder), { withFileTypes: true })) {
    if (entry.name.startsWith('.')) continue; // what unlessDone() keeps there
    const path = join(folder, entry.name);
    const source = entry.isDirectory() ? path : path.replace(/(\.d\.ts|\.js|\.js\.map)$/, '.ts');
    if (!existsSync(join(root, 'src', source))) rmSync(join(root, 'dist', path), { recursive: true });
    else if (entry.isDirectory()) removeOrphans(path);
  }
}

/** All that `npm start` and `npm run build` need. */
export function ensureBuilt() {
  ensurePackages();
  ensureAddon();
  ensureTypeScript();
}
