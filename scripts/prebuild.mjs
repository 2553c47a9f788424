// `npm run prebuilds [-- TARGET...]`: builds prebuilds/<platform>-<arch>.node as they go into the package: for this
// machine, and for the others whose cross compiler is installed (lib/targets.mjs). (It is not called "prebuild", which
// npm would run by itself before "build".)
//
// On Linux with glibc the addon is linked against the libraries of glibc 2.17, with libstdc++ inside, so that one file
// loads wherever Node's own builds do (glibc 2.28) and on musl; `checkPortable` is the guard. The old libraries come
// from an npm package that holds a cross compiler's system root.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { buildAddon, fetchTool, isMusl, nativeRoot } from '../native/build.mjs';
import { BuildError, findProgram, main, root, run } from './lib/project.mjs';
import { ensurePackages } from './lib/steps.mjs';
import { cmakeJsArguments, otherTargets, ownTarget, packagesFor, toolsOf } from './lib/targets.mjs';

const glibcMax = '2.28'; // what the official builds of Node 22 and later need themselves
const sysroots = {
  x64: ['@napi-rs/cross-toolchain-x64-target-x86_64', '1.0.0'],
  arm64: ['@napi-rs/cross-toolchain-x64-target-aarch64', '1.0.3'],
};

// Younger than the libraries we link against, and still old enough: left without a version, they bind to the default.
const younger = { getentropy: '2.25', getrandom: '2.25', memfd_create: '2.27', mlock2: '2.27' };

/** Unpacks the old libraries and returns the folder that holds their lib/. */
function fetchSysroot(arch) {
  const [name, version] = sysroots[arch];
  const folder = join(fetchTool(name, version), name);
  const unpacked = join(folder, 'unpacked');
  if (!existsSync(join(unpacked, '.done'))) {
    if (!findProgram('xz'))
      throw new BuildError('xz is missing, which unpacks the old libraries (apt-get install xz-utils)');
    const archive = readdirSync(folder).find((file) => file.endsWith('.tar.xz'));
    mkdirSync(unpacked, { recursive: true });
    run('tar', ['xJf', join(folder, archive), '-C', unpacked, '--wildcards', '*/sysroot/*']);
    run('touch', [join(unpacked, '.done')]);
  }
  const sysroot = findFolder(unpacked, 'sysroot', 3);
  if (sysroot === undefined) throw new BuildError(`No sysroot folder in ${unpacked}`);
  return sysroot;
}

function findFolder(folder, name, depth) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const path = join(folder, entry.name);
    const found = entry.name === name ? path : depth > 0 ? findFolder(path, name, depth - 1) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Throws unless the addon needs nothing newer than `glibcMax`: of what it takes from outside, whatever has a version is
 * old enough, and whatever has none is Node's. Returns the newest version that it needs.
 */
export function checkPortable(file, objdump = 'objdump') {
  const { stdout, status } = spawnSync(objdump, ['-T', file], { encoding: 'utf8', maxBuffer: 64 << 20 });
  if (status !== 0) throw new BuildError(`${objdump} cannot read ${file}`);
  const compare = (a, b) => {
    const [[a1, a2], [b1, b2]] = [a, b].map((version) => version.split('.').map(Number));
    return a1 - b1 || a2 - b2;
  };
  let newest = '2.0';
  const strange = [];
  for (const line of stdout.split('\n').filter((text) => text.includes('*UND*'))) {
    const [, version, symbol] = /\*UND\*\s+[0-9a-f]+\s+(?:\(?([A-Za-z0-9_.]+)\)?\s+)?(\S+)$/.exec(line) ?? [];
    const weak = /^[0-9a-f]+\s+w/.test(line);
    if (symbol in younger) {
      if (compare(younger[symbol], newest) > 0) newest = younger[symbol];
    } else if (version === undefined || version === 'Base') {
      // __tls_get_addr is the dynamic loader's own, in every C library; its file has another name in each.
      if (!weak && !/^(napi_|node_api_|__tls_get_addr$)/.test(symbol ?? '')) strange.push(symbol ?? line);
    } else if (/^GLIBC_[0-9]/.test(version)) {
      const number = version.slice('GLIBC_'.length);
      if (compare(number, glibcMax) > 0) strange.push(`${symbol} (${version})`);
      if (compare(number, newest) > 0) newest = number;
    } else {
      strange.push(`${symbol} (${version})`);
    }
  }
  if (strange.length > 0) {
    throw new BuildError(`${file} needs what glibc ${glibcMax} and Node do not have:\n  ${strange.join('\n  ')}`);
  }
  return newest;
}

/**
 * Throws unless the addon for Windows needs nothing but Node and Windows itself: no library of the compiler's.
 */
export function checkWindows(file, objdump) {
  const { stdout } = spawnSync(objdump, ['-p', file], { encoding: 'utf8' });
  const needs = [...stdout.matchAll(/DLL Name: (\S+)/g)].map(([, name]) => name.toLowerCase());
  const strange = needs.filter(
    (name) => !/^(node\.exe|kernel32\.dll|msvcrt\.dll|bcrypt\.dll|ws2_32\.dll|api-ms-win-.*)$/.test(name),
  );
  if (needs.length === 0 || strange.length > 0) {
    throw new BuildError(`${file} should need only Node and Windows, but needs: ${needs.join(', ')}`);
  }
}

/**
 * Builds prebuilds/`target`.node and returns its path. `target` is this machine's own (default) or one of
 * `otherTargets()` whose compiler is installed.
 */
export function prebuild(target = ownTarget, { args = [] } = {}) {
  const [platform, arch] = target.split('-');
  const { objdump, strip } = toolsOf(target);
  const musl = target === ownTarget && isMusl();
  const portable = platform === 'linux' && !musl && arch in sysroots;
  const all = [...cmakeJsArguments(target), ...args];
  if (portable) all.push(`--CDPORTABLE_SYSROOT=${fetchSysroot(arch)}`);
  const out = join(nativeRoot, target === ownTarget ? 'build-portable' : `build-portable-${target}`);
  const built = buildAddon({ out, args: all });
  const name = `${target}${musl ? '-musl' : ''}.node`;
  const file = join(root, 'prebuilds', name);
  mkdirSync(join(root, 'prebuilds'), { recursive: true });
  copyFileSync(built, file);
  // A build by Microsoft's compiler has its symbols in another file.
  if (strip !== undefined) run(strip, platform === 'darwin' ? ['-x', file] : ['--strip-unneeded', file]);
  if (platform === 'win32' && objdump !== undefined) checkWindows(file, objdump);
  const needs = platform === 'linux' && !musl ? `, needs glibc ${checkPortable(file, objdump)}` : '';
  // Standard error: `npm pack --json` writes its answer to the other.
  console.error(`prebuilds/${name}: ${Math.round(statSync(file).size / 1024)} KiB${needs}`);
  return file;
}

/**
 * Builds the prebuilt addons of all platforms that this machine can build for, and says which it cannot. Older ones go:
 * the package must not hold an addon of another version.
 */
export function prebuildAll() {
  rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
  prebuild();
  for (const target of otherTargets()) {
    if (toolsOf(target) !== undefined) prebuild(target);
    else console.error(`prebuilds/${target}.node is left out: apt-get install ${packagesFor(target)[0]}`);
  }
}

if (process.argv[1] === join(root, 'scripts', 'prebuild.mjs')) {
  await main(() => {
    ensurePackages();
    const targets = process.argv.slice(2);
    const known = [ownTarget, ...otherTargets()];
    for (const target of targets) {
      if (!known.includes(target)) throw new BuildError(`Expected one of ${known.join(', ')}, got "${target}"`);
      if (toolsOf(target) === undefined)
        throw new BuildError(`The compiler for ${target} is missing: apt-get install ${packagesFor(target)[0]}`);
    }
    if (targets.length === 0) prebuildAll();
    else for (const target of targets) prebuild(target);
  });
}
